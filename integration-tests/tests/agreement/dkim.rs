//! DKIM: python3-dkim and libopendkim.

use std::path::Path;
use std::sync::Arc;

use mox_dns::ZoneResolver;
use mox_mailauth::dkim::Outcome;
use mox_mailauth::sign::{Key, Signer};
use mox_mailauth::{message, spf};

use super::{Exception, Tally, compile, json, python, text, texts};

const TOOLS: [&str; 2] = ["python3-dkim", "opendkim"];

const EXCEPTIONS: &[Exception] = &[
    Exception {
        tool: "opendkim",
        cases: "no line end",
        why: "libopendkim wants messages that end a line, as those that come by SMTP do (RFC 6376 §3.4.3 adds the end)",
    },
    Exception {
        tool: "python3-dkim",
        cases: "key is for mail among others",
        why: "python3-dkim takes s= for one word (RFC 6376 §3.6.1: a list)",
    },
    Exception {
        tool: "python3-dkim",
        cases: "key is for SHA-1 only",
        why: "python3-dkim does not look at h= of keys (RFC 6376 §3.6.1)",
    },
    Exception {
        tool: "python3-dkim",
        cases: "i=joe@sub.example.org with t=s",
        why: "python3-dkim does not look at t=s of keys (RFC 6376 §3.6.1)",
    },
];

/// Our verdict on a message with one signature.
async fn verdict(zone: &Arc<ZoneResolver>, message: Vec<u8>) -> Outcome {
    let verdicts = message::verify(zone.clone(), message.into(), "", &spf::Verdict::default()).await;
    verdicts.unwrap().dkim.first().map(|v| v.outcome).unwrap_or_default()
}

#[tokio::test]
async fn we_agree_on_signatures() {
    let dir = tempfile::tempdir().unwrap();
    let driver = compile("opendkim", dir.path());
    python("dkim_cases.py", &[Path::new("make"), dir.path(), &driver]);
    let made = json(&dir.path().join("cases.json"));
    let zone = Arc::new(texts(&made["keys"]));
    let mut tally = Tally::new(EXCEPTIONS);
    let cases = made["cases"].as_array().unwrap();
    assert!(cases.len() >= 300, "{} messages", cases.len());
    for case in cases {
        let (name, file) = (text(&case["name"]), text(&case["file"]));
        let message = std::fs::read(dir.path().join(file)).unwrap();
        let ours = verdict(&zone, message).await;
        let (expected, why) = (text(&case["ours"]), text(&case["why"]));
        assert!(
            expected.is_empty() || expected == ours.as_str(),
            "{name}: {}",
            ours.as_str()
        );
        for tool in TOOLS {
            let theirs = case[tool].as_bool().unwrap();
            let told = format!(
                "we say {}, it says {}",
                ours.as_str(),
                if theirs { "pass" } else { "fail" }
            );
            tally.count(tool, name, theirs == (ours == Outcome::Pass), &told, why);
        }
    }
    tally.finish("their signatures", 600);
    they_agree_on_ours(dir.path(), &driver, &made["keys"]);
}

/// Messages that we sign, all ways, and what the others say of them, also when they were changed.
fn they_agree_on_ours(made: &Path, driver: &Path, keys: &serde_json::Value) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("keys.json"), keys.to_string()).unwrap();
    let mut names = Vec::new();
    let mut unsigned: Vec<_> = std::fs::read_dir(made)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    unsigned.retain(|path| path.extension().is_some_and(|e| e == "unsigned"));
    unsigned.sort();
    for path in &unsigned {
        let message = std::fs::read(path).unwrap();
        for selector in ["rsa", "ed"] {
            let pem = std::fs::read_to_string(made.join(format!("{selector}.pem"))).unwrap();
            let n = names.len();
            let signer = Signer {
                domain: "example.org".into(),
                selector: selector.into(),
                key: Key::from_pem(&pem).unwrap(),
                headers: Vec::new(),
                seal: n % 3 > 0,
                header_relaxed: n / 2 % 2 == 0,
                body_relaxed: n / 4 % 2 == 0,
                expiration: Some(std::time::Duration::from_secs(3600)),
            };
            let signed = [signer.sign(&[&message]).unwrap().as_bytes(), &message].concat();
            let canonical = |relaxed| if relaxed { "relaxed" } else { "simple" };
            let stem = path.file_stem().unwrap().to_string_lossy();
            let name = format!(
                "{selector} {}/{}, sealed {}: {stem}",
                canonical(signer.header_relaxed),
                canonical(signer.body_relaxed),
                signer.seal
            );
            let changed = [&signed[..], b"more\r\n"].concat();
            for (what, message, valid) in [("as sent", signed, true), ("changed", changed, false)] {
                std::fs::write(dir.path().join(format!("{:04}.eml", names.len())), message).unwrap();
                names.push((format!("{name}, {what}"), valid));
            }
        }
    }
    let output = python("dkim_cases.py", &[Path::new("verify"), dir.path(), driver]);
    let verdicts: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let mut tally = Tally::new(EXCEPTIONS);
    for (n, (name, valid)) in names.iter().enumerate() {
        for tool in TOOLS {
            let theirs = verdicts[format!("{n:04}.eml")][tool].as_bool().unwrap();
            tally.count(tool, name, theirs == *valid, &format!("it says {theirs}"), "");
        }
    }
    tally.finish("our signatures", 380);
}
