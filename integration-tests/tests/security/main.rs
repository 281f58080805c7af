//! How mail travels between servers: in the clear, with TLS, and with TLS that DANE, MTA-STS or the message demands.
//!
//! Every cell is a domain of a test DNS (signed zones, which unbound validates) and a message to it: from mox to mox and
//! to Postfix, and from Postfix to mox. What became of it is printed as a table: outcome, action and status of the DSN
//! (after five attempts, where mail waits), and what the TLS report said that arrived the next day. Hosts have the usual
//! ports (25, 53, 443) on loopback addresses of their own, for which root is needed: without it, nothing is tested.
//!
//! Run it with `cargo test -p mox-integration-tests --test security -- --nocapture`.

mod afterwards;
mod between;
mod cases;
mod cells;
mod certificates;
mod commands;
mod dialing;
mod dns;
mod keeping;
mod mox;
mod policies;
mod postfix;
mod posting;
mod seen;

use std::fmt::Write as _;

use anyhow::{Context as _, Result, ensure};
use mox_integration_tests::{Shape, lock};

use crate::cells::{Cell, From, To};
use crate::mox::World;

#[test]
fn mail_is_as_secure_as_domains_and_messages_demand() -> Result<()> {
    every_cell(Shape::Single)
}

#[test]
fn separate_processes_demand_the_same() -> Result<()> {
    every_cell(Shape::Pieces)
}

fn every_cell(shape: Shape) -> Result<()> {
    let _lock = lock::alone()?;
    if !rustix::process::geteuid().is_root() {
        eprintln!("not tested: the ports 25, 53 and 443 need root");
        return Ok(());
    }
    let cells = cells::all();
    let mut world = World::start(&cells, shape)?;
    world.commands_see_the_same()?;
    world.take_away_tls(&cells)?;
    world.gets_mail()?;
    for cell in &cells {
        world.send(cell)?;
    }
    let seen = world.watch(&cells).with_context(|| world.logs())?;
    let mut table = Vec::new();
    let mut wrong = Vec::new();
    for (place, cell) in cells.iter().enumerate() {
        let got = seen.of(place, cell);
        if got != cell.expected() {
            wrong.push(format!("{}: expected {}, got {got}", cell.title(), cell.expected()));
        }
        table.push((cell, got));
    }
    println!("{}", shown(&table));
    ensure!(wrong.is_empty(), "{}\n{}", wrong.join("\n"), world.logs());
    world.dmarc_reports_heed_dane()?;
    world.forgets_tls(&cells)
}

fn shown(rows: &[(&Cell, String)]) -> String {
    let mut text = String::new();
    let mut line = |way: &str, case: &str, got: &str, mark: &str| {
        let mut parts = got.split("; ").chain(std::iter::repeat(""));
        let [outcome, dsn, report] = [(); 3].map(|()| parts.next().unwrap_or_default());
        let _ = writeln!(text, "{way:<14} {case:<48} {outcome:<33} {dsn:<14} {report}{mark}");
    };
    line("from → to", "case", "outcome; DSN; TLS report, in sessions", "");
    for (cell, got) in rows {
        let way = format!("{} → {}", name(cell.from == From::Mox), name(cell.to == To::Mox));
        let mark = if got == cell.expected() { "" } else { "   ← WRONG" };
        line(&way, cell.case.title, got, mark);
    }
    text
}

fn name(is_mox: bool) -> &'static str {
    if is_mox { "mox" } else { "Postfix" }
}
