//! Policies of hosts: whatever a domain publishes, evaluating it ends, with a bounded answer.

use mox_dns::{Record, ZoneResolver};
use mox_mailauth::spf::{Query, Record as Policy, check_host};

/// What a domain can make an answer of.
const EXPLANATION: usize = 4096;

/// See the top. Each line is the policy of a domain, a.example and so on, so that they can refer to each other.
pub fn run(input: &[u8]) {
    let _ = Policy::parse(input);
    let mut zone = ZoneResolver::new();
    for (letter, line) in ('a'..='f').zip(input.split(|b| *b == b'\n')) {
        zone.add(&format!("{letter}.example"), Record::Txt(line.to_vec()));
    }
    for name in ["a.example", "mail.a.example"] {
        zone.add(name, Record::A([192, 0, 2, 1].into()));
    }
    let query = Query {
        ip: "192.0.2.1".parse().expect("an address"),
        helo: "mail.a.example",
        localpart: "joe",
        domain: "a.example",
        receiver: "mx.example.net",
        now: 1_800_000_000,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let verdict = runtime.expect("a runtime").block_on(check_host(&zone, &query));
    assert!(verdict.explanation.is_none_or(|text| text.len() <= EXPLANATION));
}
