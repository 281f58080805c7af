//! What nobody should send, in full or in small, while ordinary mail is timed and memory is looked at.

use anyhow::Result;
use mox_integration_tests::abuse::{Abuse, Sizes, bombs, internet};
use mox_integration_tests::{Mox, Shape, USER};

use crate::table::{Row, Table};

/// Sends it all to a new mox, and says how that went.
pub(crate) fn measure(short: bool, at: &dyn Fn(&str)) -> Result<Table> {
    let sizes = if short { Sizes::short() } else { Sizes::long() };
    at("starting");
    let mut mox = Mox::start(Shape::Single)?;
    let processes: Vec<u32> = mox.processes().map(|process| process.id()).collect();
    let abuse = Abuse {
        smtp: mox.smtp(),
        processes: &processes,
        ordinary: ("a@sender.example".into(), USER.into()),
        abusive: ("b@abuser.example".into(), USER.into()),
        sizes: sizes.clone(),
    };
    at("abusing");
    let mut outcomes = abuse.run()?;
    drop(mox);
    at("starting a host");
    let (mut mox, _dns) = internet(Shape::Single)?;
    let processes: Vec<u32> = mox.processes().map(|process| process.id()).collect();
    let abuse = Abuse {
        smtp: mox.smtp(),
        processes: &processes,
        ordinary: ("joe@sender.example".into(), USER.into()),
        abusive: (bombs::SENDER.into(), bombs::DMARC.into()),
        sizes,
    };
    at("abusing it from the internet");
    outcomes.extend(abuse.run_from_internet()?);
    let mut rows = Vec::new();
    for outcome in outcomes {
        let memory = outcome.memory as f64 / f64::from(1 << 20);
        rows.push(Row::figure(&format!("{}: memory, MiB", outcome.what), memory, 0).under(300.0));
        let slowest = Row::seconds(
            &format!("  slowest of {} ordinary messages, s", outcome.probes),
            outcome.slowest,
        );
        rows.push(slowest.under(1.0));
        rows.push(Row::figure(&format!("  {}", outcome.answer), 0.0, 0));
    }
    Ok(Table {
        title: "abuse".into(),
        others: "",
        rows,
    })
}
