//! How mail travels between servers: in the clear, with TLS, and with TLS that DANE, MTA-STS or the message demands.
//!
//! Every cell is a domain of a test DNS (signed zones, which unbound validates) and a message to it: from mox to mox and
//! to Postfix, and from Postfix to mox. What became of it is printed as a table: outcome, code of the DSN or of the
//! deferral, and what a TLS report will say. Hosts have the usual ports (25, 53, 443) on loopback addresses of their
//! own, for which root is needed: without it, nothing is tested.
//!
//! Run it with `cargo test -p mox-integration-tests --test security -- --nocapture`.

mod cells;
mod certificates;
mod dns;
mod mox;
mod policies;
mod postfix;

use std::fmt::Write as _;

use anyhow::{Result, ensure};
use mox_integration_tests::lock;

use crate::cells::{Cell, From, To};
use crate::mox::World;

#[test]
fn mail_is_as_secure_as_domains_and_messages_demand() -> Result<()> {
    let _lock = lock::alone()?;
    if !rustix::process::geteuid().is_root() {
        eprintln!("not tested: the ports 25, 53 and 443 need root");
        return Ok(());
    }
    let cells = cells::all();
    let world = World::start(&cells)?;
    for cell in &cells {
        world.send(cell)?;
    }
    let mut table = Vec::new();
    let mut wrong = Vec::new();
    for cell in &cells {
        let got = world.outcome(cell);
        let (got, good) = match got {
            Ok(got) => {
                let good = got == cell.expected();
                (got, good)
            }
            Err(error) => (format!("{error:#}"), false),
        };
        if !good {
            wrong.push(format!("{}: expected {}, got {got}", cell.title(), cell.expected()));
        }
        table.push((cell, got, good));
    }
    println!("{}", shown(&table));
    ensure!(wrong.is_empty(), "{}\n{}", wrong.join("\n"), world.logs());
    Ok(())
}

fn shown(rows: &[(&Cell, String, bool)]) -> String {
    let mut text = String::new();
    let _ = writeln!(
        text,
        "{:<20} {:<44} outcome; DSN or deferral; TLS report",
        "from → to", "case"
    );
    for (cell, got, good) in rows {
        let way = format!("{} → {}", name(cell.from == From::Mox), name(cell.to == To::Mox));
        let mark = if *good { "" } else { "   ← WRONG" };
        let _ = writeln!(text, "{way:<18} {:<44} {got}{mark}", cell.case.title);
    }
    text
}

fn name(is_mox: bool) -> &'static str {
    if is_mox { "mox" } else { "Postfix" }
}
