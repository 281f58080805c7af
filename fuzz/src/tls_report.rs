//! TLS reports and TLSRPT records.

use mox_reports::tls::{counts, json, parse};
use mox_reports::uris;

/// Reads JSON, and a record.
pub fn run(input: &[u8]) {
    if let Ok(report) = parse(input)
        && !report.policies.is_empty()
    {
        let again = parse(json(&report).as_bytes()).expect("what is written is a report");
        assert_eq!(counts(&again), counts(&report));
    }
    let text = String::from_utf8_lossy(input);
    let _ = uris::tls_record(&text);
    let _ = uris::destination(&text);
}
