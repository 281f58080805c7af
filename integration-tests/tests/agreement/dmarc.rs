//! DMARC: libopendmarc.

use std::path::Path;
use std::sync::Arc;

use mox_dns::Record;
use mox_mailauth::{dmarc, message, spf};

use super::{Tally, compile, json, python, text, texts};

/// Of Debian's package.
const SUFFIXES: &str = "/usr/share/publicsuffix/public_suffix_list.dat";

#[tokio::test]
async fn we_agree_on_policies_of_authors() {
    let dir = tempfile::tempdir().unwrap();
    let driver = compile("opendmarc", dir.path());
    python("dmarc_cases.py", &[dir.path(), &driver, Path::new(SUFFIXES)]);
    let mut tally = Tally::new(&[]);
    for case in json(&dir.path().join("cases.json")).as_array().unwrap() {
        let message = std::fs::read(dir.path().join(text(&case["file"]))).unwrap();
        let mut zone = texts(&case["zone"]);
        // All names are there, so that "np" has no part in it.
        for name in ["example.com", "sub.example.com", "deep.sub.example.com"] {
            zone.add(name, Record::A("192.0.2.1".parse().unwrap()));
        }
        let spf = spf::Verdict {
            outcome: match text(&case["spf"]) {
                "pass" => spf::Outcome::Pass,
                _ => spf::Outcome::Fail,
            },
            ..spf::Verdict::default()
        };
        let mail_from = text(&case["mail_from"]);
        let verdicts = message::verify(Arc::new(zone), message.into(), mail_from, &spf)
            .await
            .unwrap();
        let ours = verdicts.dmarc;
        let apply = match ours.outcome {
            dmarc::Outcome::Fail => ours.policy.as_str(),
            _ => "none",
        };
        let theirs = &case["theirs"];
        let same = ours.outcome.as_str() == text(&theirs["verdict"])
            && apply == text(&theirs["apply"])
            && ours.dkim_aligned == theirs["dkim"]
            && ours.spf_aligned == theirs["spf"];
        let told = format!(
            "we say {} {apply} dkim {} spf {}, it says {theirs}",
            ours.outcome.as_str(),
            ours.dkim_aligned,
            ours.spf_aligned
        );
        tally.count("opendmarc", text(&case["name"]), same, &told, text(&case["why"]));
    }
    tally.finish("DMARC", 130);
}
