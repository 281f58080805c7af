//! Abuse gets its replies, costs little memory, and holds up no other mail. Briefly; `mox-bench abuse` does it in full.

use std::time::Duration;

use anyhow::{Result, ensure};
use mox_integration_tests::abuse::{Abuse, Sizes};
use mox_integration_tests::{Mox, Shape, USER};

in_both_shapes_alone!(abuse_holds_up_nobody);

/// The most that a process may use.
const MEMORY: u64 = 300 << 20;
/// The longest that ordinary mail may take. A second is what the benchmark shows; this is a debug build on a machine
/// that may do other things.
const SLOWEST: Duration = Duration::from_secs(5);

fn abuse_holds_up_nobody(shape: Shape) -> Result<()> {
    let mut mox = Mox::start(shape)?;
    let processes: Vec<u32> = mox.processes().map(|process| process.id()).collect();
    let abuse = Abuse {
        smtp: mox.smtp(),
        processes: &processes,
        ordinary: ("a@sender.example".into(), USER.into()),
        abusive: ("b@abuser.example".into(), USER.into()),
        sizes: Sizes::short(),
    };
    for outcome in abuse.run()? {
        println!("{outcome:?}");
        ensure!(outcome.memory < MEMORY, "{outcome:?}");
        ensure!(outcome.slowest < SLOWEST && outcome.probes > 0, "{outcome:?}");
    }
    // The message of many parts can be read.
    mox.wait_for_subject("INBOX", "nested")?;
    Ok(())
}
