//! Limits on what one address and its two wider networks may send, as they are set: by connections at once and new ones
//! in a minute, messages and bytes. Clients are on this host's own networks below 127.

use std::net::{IpAddr, Ipv4Addr};

use anyhow::{Context, Result, ensure};
use mox_integration_tests::client::{Lines, Smtp};
use mox_integration_tests::{Mox, Shape, USER, free_ip, wait};

in_both_shapes!(networks_have_limits);

const RECORDS: &str = "
sender.example TXT v=spf1 ip4:127.0.0.0/8 -all
sender.example MX 10 mx.sender.example
mx.sender.example A 127.0.0.1
";

/// For a /32, its /26 and its /21. The networks of the tests differ in their second octet.
const LIMITS: [(&str, [i64; 3]); 6] = [
    ("connections", [3, 5, 7]),
    ("new_connections_per_minute", [NEW, 0, 0]),
    ("messages_per_minute", [3, 4, 5]),
    ("bytes_per_minute", [20_000, 25_000, 30_000]),
    ("messages_per_day", [0, 0, 0]),
    ("bytes_per_day", [0, 50_000, 0]),
];
/// New connections of an address in a minute.
const NEW: i64 = 40;
const TOO_MANY: &str = "421 4.7.0 too many connections from your network, try again later";
/// How often a part is tried: a new minute may begin within it. Each time in another network.
const TRIES: u8 = 3;

fn networks_have_limits(shape: Shape) -> Result<()> {
    let (mut mox, _dns) = Mox::prepare_host(shape, free_ip(), RECORDS)?;
    mox.edit_config(|config| {
        for (name, tiers) in LIMITS {
            config["limits"]["smtp-in"][name] = toml_edit::value(toml_edit::Array::from_iter(tiers));
        }
    })?;
    mox.start_first()?;
    connections_at_once(&mox)?;
    for (part, what) in [
        (new_connections as Part, "new connections"),
        (messages, "messages"),
        (bytes, "bytes"),
    ] {
        within_a_minute(&mox, part).with_context(|| format!("{what}\n{}", mox.log_tails()))?;
    }
    Ok(())
}

/// A part, in the network of an octet.
type Part = fn(&Mox, u8) -> Result<()>;

fn within_a_minute(mox: &Mox, part: Part) -> Result<()> {
    for octet in 1..TRIES {
        if part(mox, 100 + octet).is_ok() {
            return Ok(());
        }
    }
    part(mox, 100 + TRIES)
}

fn ip(b: u8, c: u8, d: u8) -> IpAddr {
    Ipv4Addr::new(127, b, c, d).into()
}

/// The first line that a connection gets.
fn greeting(mox: &Mox, from: IpAddr) -> Result<(Lines, String)> {
    let mut lines = Lines::connect_from(from, mox.smtp())?;
    let line = lines.line()?;
    Ok((lines, line))
}

fn connections_at_once(mox: &Mox) -> Result<()> {
    let mut open = Vec::new();
    // So many of each are taken, and then no more.
    for (from, many) in [
        (ip(100, 0, 1), 3),
        (ip(100, 0, 2), 2),
        (ip(100, 0, 3), 0),
        (ip(100, 1, 1), 2),
        (ip(100, 7, 255), 0),
        (ip(100, 8, 1), 1),
    ] {
        for n in 0..many {
            let (lines, line) = greeting(mox, from)?;
            ensure!(line.starts_with("220 "), "{n} from {from}: {line}");
            open.push(lines);
        }
        if many != 1 {
            let (mut lines, line) = greeting(mox, from)?;
            ensure!(line == TOO_MANY, "one more from {from}: {line}");
            ensure!(lines.rest()?.is_empty(), "it stays open");
        }
    }
    // Whoever leaves makes room, in all three networks.
    drop(open.remove(0));
    wait::until("room for another connection", wait::DEADLINE, || {
        let (_, line) = greeting(mox, ip(100, 0, 3))?;
        Ok(line.starts_with("220 ").then_some(()))
    })
}

fn new_connections(mox: &Mox, octet: u8) -> Result<()> {
    let from = ip(octet, 0, 1);
    let mut taken = 0;
    loop {
        let (mut lines, line) = greeting(mox, from)?;
        if line == TOO_MANY {
            break;
        }
        ensure!(line.starts_with("220 "), "{line}");
        taken += 1;
        ensure!(taken <= NEW, "{taken} connections");
        lines.send("QUIT\r\n")?;
        lines.rest()?;
    }
    ensure!(taken == NEW, "{taken} connections");
    let (_, line) = greeting(mox, ip(octet, 0, 2))?;
    ensure!(line.starts_with("220 "), "another address: {line}");
    Ok(())
}

/// What MAIL gets.
fn mail(mox: &Mox, from: IpAddr, parameter: &str) -> Result<(Smtp, String)> {
    let mut session = Smtp::connect_from(from, mox.smtp())?;
    session
        .lines
        .send(format!("MAIL FROM:<joe@sender.example>{parameter}\r\n"))?;
    let reply = session.reply()?;
    Ok((session, format!("{} {}", reply.code, reply.lines.concat())))
}

/// Sends a message of about so many bytes, or says what MAIL got.
fn message(mox: &Mox, from: IpAddr, bytes: usize) -> Result<String> {
    let (mut session, reply) = mail(mox, from, "")?;
    if !reply.starts_with("250 ") {
        session.command("QUIT", 221)?;
        return Ok(reply);
    }
    session.command(&format!("RCPT TO:<{USER}>"), 250)?;
    session.command("DATA", 354)?;
    let line = format!("{}\r\n", "x".repeat(98));
    session.lines.send(format!(
        "From: <joe@sender.example>\r\nSubject: limits\r\n\r\n{}.\r\n",
        line.repeat(bytes / line.len())
    ))?;
    let reply = session.reply()?;
    session.command("QUIT", 221)?;
    Ok(format!("{} {}", reply.code, reply.lines.concat()))
}

fn messages(mox: &Mox, octet: u8) -> Result<()> {
    const OVER: &str = "451 4.4.5 too many messages from your network, try again later";
    for (from, many) in [
        (ip(octet, 16, 1), 3),
        (ip(octet, 16, 2), 1),
        (ip(octet, 16, 3), 0),
        (ip(octet, 17, 1), 1),
        (ip(octet, 18, 1), 0),
    ] {
        for n in 0..many {
            let reply = message(mox, from, 100)?;
            ensure!(reply.starts_with("250 "), "{n} from {from}: {reply}");
        }
        let reply = message(mox, from, 100)?;
        ensure!(reply == OVER, "one more from {from}: {reply}");
    }
    let reply = message(mox, ip(octet, 24, 1), 100)?;
    ensure!(reply.starts_with("250 "), "another network: {reply}");
    Ok(())
}

fn bytes(mox: &Mox, octet: u8) -> Result<()> {
    const OVER: &str = "451 4.4.5 too many bytes from your network, try again later";
    let (address, neighbour) = (ip(octet, 32, 1), ip(octet, 32, 2));
    let reply = message(mox, address, 15_000)?;
    ensure!(reply.starts_with("250 "), "{reply}");
    // What is announced counts.
    for (from, size, refused) in [
        (address, 3_000, false),
        (address, 8_000, true),
        (neighbour, 8_000, false),
        (neighbour, 12_000, true),
        (ip(octet, 33, 1), 12_000, false),
        (ip(octet, 33, 1), 18_000, true),
        (ip(octet, 40, 1), 18_000, false),
    ] {
        let (_, reply) = mail(mox, from, &format!(" SIZE={size}"))?;
        ensure!((reply == OVER) == refused, "{size} from {from}: {reply}");
    }
    // So does what was not.
    let reply = message(mox, address, 8_000)?;
    ensure!(reply == OVER, "{reply}");
    Ok(())
}
