//! DMARC aggregate reports: whatever is read can be written, and is read again as the same.

use mox_reports::dmarc::{parse, xml};

/// Reads XML.
pub fn run(input: &[u8]) {
    let Ok(report) = parse(input) else { return };
    if report.rows.is_empty() {
        // A record that is larger than all that is kept.
        return;
    }
    let again = parse(xml(&report).as_bytes()).expect("what is written is a report");
    assert_eq!(again.rows.len(), report.rows.len());
    assert_eq!((again.begin, again.end), (report.begin, report.end));
}
