//! Archives that unpack to far more than they are, and documents that grow while they are read, come as DMARC and TLS
//! reports to the addresses where reports are expected, from who may send them. They are kept as the mail that they are,
//! cost little memory, and hold up no other mail; a report that is only large is read.

use anyhow::{Context, Result, ensure};
use mox_integration_tests::abuse::bombs::{self, Bomb, LARGE, SENDER};
use mox_integration_tests::abuse::{Abuse, Sizes, internet};
use mox_integration_tests::{Shape, USER};

in_both_shapes_alone!(bombs_do_not_go_off);

/// The most that a process may use.
const MEMORY: u64 = 300 << 20;
/// The longest that ordinary mail may take, in a debug build.
const SLOWEST: std::time::Duration = std::time::Duration::from_secs(5);

fn bombs_do_not_go_off(shape: Shape) -> Result<()> {
    let (mut mox, _dns) = internet(shape)?;
    let all = bombs::all()?;
    ensure!(all.len() == 10, "{}", all.len());
    let processes: Vec<u32> = mox.processes().map(|process| process.id()).collect();
    let abuse = Abuse {
        smtp: mox.smtp(),
        processes: &processes,
        ordinary: ("joe@sender.example".into(), USER.into()),
        abusive: (SENDER.into(), bombs::DMARC.into()),
        sizes: Sizes::short(),
    };
    // Those of a kind at the same time, and different ones at the same time.
    let outcome = abuse.watched("bombs as reports", &|abuse| {
        std::thread::scope(|scope| {
            let (first, second): (Vec<&Bomb>, Vec<&Bomb>) = all.iter().partition(|bomb| bomb.name.contains(".xml"));
            let sending = [first, second]
                .map(|bombs| scope.spawn(move || bombs.into_iter().try_for_each(|b| abuse.bomb(b).map(drop))));
            for thread in sending {
                thread.join().map_err(|_| anyhow::anyhow!("a thread panicked"))??;
            }
            Ok("250".to_owned())
        })
    });
    let outcome = outcome.with_context(|| mox.log_tails())?;
    println!("{outcome:?}");
    ensure!(outcome.memory < MEMORY, "{outcome:?}");
    ensure!(outcome.slowest < SLOWEST && outcome.probes > 0, "{outcome:?}");

    let count = |result: &str| {
        let figure = mox.figure("smtp-in", &format!("mox_smtp_in_reports_total{{result=\"{result}\"}}"))?;
        Ok::<usize, anyhow::Error>(figure.unwrap_or_default().parse().unwrap_or(0))
    };
    let times = abuse.sizes.at_once;
    let (large, unreadable) = (count("dmarc")?, count("unreadable")?);
    ensure!(
        large == times && unreadable == (all.len() - 1) * times,
        "{large} reports, {unreadable} bombs\n{}",
        mox.log_tails()
    );
    // All of it is mail, in the mailboxes of those addresses; what is a report says so.
    let mut imap = mox.login()?;
    let mut recognized = Vec::new();
    for (mailbox, address) in [("DMARC", bombs::DMARC), ("TLSRPT", bombs::TLS)] {
        let many = imap.examine(mailbox)?;
        let sent = all.iter().filter(|bomb| bomb.to == address).count() * times;
        ensure!(many == sent, "{many} messages in {mailbox}, {sent} were sent");
        for n in 1..=many {
            let header = imap.command(&format!("FETCH {n} BODY.PEEK[HEADER]"))?.concat();
            if header.contains("X-Mox-Reason: dmarc-report") {
                recognized.push(header);
            }
        }
    }
    ensure!(recognized.len() == times, "{} are taken for reports", recognized.len());
    ensure!(recognized.iter().all(|header| header.contains(LARGE)), "{recognized:?}");
    Ok(())
}
