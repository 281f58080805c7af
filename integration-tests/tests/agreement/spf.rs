//! SPF: python3-spf, and the test suite of RFC 7208 that comes with it.

use std::collections::HashSet;

use mox_dns::{Mx, Record, ZoneResolver};
use mox_mailauth::spf::{Query, check_host};
use serde_json::Value;

use super::{Exception, Tally, Zone, json, python, text};

const EXCEPTIONS: &[Exception] = &[];

fn zone(map: &Value) -> Zone {
    let (mut records, mut silent) = (ZoneResolver::new(), HashSet::new());
    for (name, entry) in map.as_object().unwrap() {
        if entry["timeout"].as_bool().unwrap() {
            silent.insert(name.clone());
        }
        for record in entry["records"].as_array().unwrap() {
            let parts: Vec<&str> = record[1].as_array().unwrap().iter().map(text).collect();
            let first = parts.first().copied().unwrap_or_default();
            let host = |name: &str| name.trim_end_matches('.').to_ascii_lowercase();
            let record = match text(&record[0]) {
                "TXT" => Record::Txt(parts.concat().into_bytes()),
                "A" => Record::A(first.parse().unwrap()),
                "AAAA" => Record::Aaaa(first.parse().unwrap()),
                "CNAME" => Record::Cname(host(first)),
                "PTR" => Record::Ptr(host(first)),
                "MX" => Record::Mx(Mx {
                    preference: first.parse().unwrap(),
                    host: host(parts[1]),
                }),
                other => panic!("{name} has a record of type {other}"),
            };
            records.add(name, record);
        }
    }
    Zone { records, silent }
}

/// As `smtp-in` asks: for MAIL FROM, or the name in EHLO if that is null (RFC 7208 §2.4).
async fn ask(zone: &Zone, case: &Value) -> &'static str {
    let (mail_from, helo) = (text(&case["mail_from"]), text(&case["helo"]));
    let (localpart, domain) = match mail_from.rsplit_once('@') {
        Some(("", domain)) => ("postmaster", domain),
        Some((localpart, domain)) => (localpart, domain),
        None => ("postmaster", helo),
    };
    let query = Query {
        ip: text(&case["ip"]).parse().unwrap(),
        helo,
        localpart,
        domain,
        receiver: "mx.example.net",
        now: 1_800_000_000,
    };
    check_host(zone, &query).await.outcome.as_str()
}

#[tokio::test]
async fn we_agree_on_policies_of_hosts() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("spf.json");
    python("spf_cases.py", &[&file]);
    let made = json(&file);
    let mut tally = Tally::new(EXCEPTIONS);
    for scenario in made["suite"].as_array().unwrap() {
        let zone = zone(&scenario["zone"]);
        for case in scenario["cases"].as_array().unwrap() {
            let ours = ask(&zone, case).await;
            let name = format!("{}: {}", text(&scenario["name"]), text(&case["name"]));
            let wanted = case["wanted"].as_array().unwrap();
            let told = format!("we say {ours}, it wants {wanted:?}");
            tally.count("suite of RFC 7208", &name, wanted.iter().any(|w| w == ours), &told, "");
        }
    }
    let zone = zone(&made["made_up"]["zone"]);
    for case in made["made_up"]["cases"].as_array().unwrap() {
        let ours = ask(&zone, case).await;
        let theirs = text(&case["theirs"]);
        let told = format!("we say {ours}, it says {theirs}");
        let why = match theirs {
            "permerror: void" => {
                "python3-spf counts every look-up of an address that finds nothing; RFC 7208 §4.6.4 counts terms, and we \
                 leave out those for the names of an address"
            }
            _ => "",
        };
        let same = Some(ours) == theirs.split(':').next();
        tally.count("python3-spf", text(&case["name"]), same, &told, why);
    }
    tally.finish("SPF", 450);
}
