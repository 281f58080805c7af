//! How much is kept. What strangers make us record is cut to size before it is kept.

use mox_proto::report::v1::{DmarcPolicyPublished, DmarcRow, TlsResult};

/// Rows of one bundle: a report with more is larger than what destinations take.
pub const ROWS: u32 = 1000;
/// Encoded bytes of the rows of one bundle.
pub const BUNDLE_BYTES: u64 = 1 << 20;
/// Bundles: of so many domains mail can come in a day, or anybody could fill the disk by mail from ever new domains.
pub const BUNDLES: u64 = 50_000;
/// Encoded bytes of all rows.
pub const BYTES: u64 = 1 << 30;
/// Reports of others that are kept.
pub const RECEIVED: u64 = 100_000;
/// Reports that are kept of one organization in a day: big ones send one for each of our domains.
pub const RECEIVED_OF_SENDER: u32 = 500;
/// Evaluations, or results, in one call.
pub const RECORDED: usize = 1000;
/// Octets of names.
const NAME: usize = 255;
/// Octets of texts for people.
const TEXT: usize = 300;
/// Results of signatures in a row. RFC 9990 §2.1.2 allows 100; those that matter come first.
const SIGNATURES: usize = 20;
/// Reasons in a row.
const REASONS: usize = 5;
/// Lines of a policy, and patterns of hosts.
const LINES: usize = 50;
/// Kinds of failures that are kept apart.
pub const FAILURES: usize = 100;

fn cut(text: &mut String, max: usize) {
    if text.len() > max {
        text.truncate(text.floor_char_boundary(max));
    }
}

/// Cuts a row to size.
pub fn row(row: &mut DmarcRow) {
    for name in [
        &mut row.source_ip,
        &mut row.header_from,
        &mut row.envelope_from,
        &mut row.envelope_to,
    ] {
        cut(name, NAME);
    }
    row.reasons.truncate(REASONS);
    for reason in &mut row.reasons {
        cut(&mut reason.r#type, NAME);
        cut(&mut reason.comment, TEXT);
    }
    row.dkim.truncate(SIGNATURES);
    for dkim in &mut row.dkim {
        cut(&mut dkim.domain, NAME);
        cut(&mut dkim.selector, NAME);
        cut(&mut dkim.result, NAME);
        cut(&mut dkim.human_result, TEXT);
    }
    row.spf.truncate(2);
    for spf in &mut row.spf {
        cut(&mut spf.domain, NAME);
        cut(&mut spf.scope, NAME);
        cut(&mut spf.result, NAME);
        cut(&mut spf.human_result, TEXT);
    }
}

/// Cuts a policy to size.
pub fn policy(policy: &mut DmarcPolicyPublished) {
    for text in [
        &mut policy.domain,
        &mut policy.adkim,
        &mut policy.aspf,
        &mut policy.p,
        &mut policy.sp,
        &mut policy.np,
        &mut policy.fo,
        &mut policy.discovery_method,
    ] {
        cut(text, NAME);
    }
}

/// Cuts a result to size.
pub fn result(result: &mut TlsResult) {
    cut(&mut result.recipient_domain, NAME);
    cut(&mut result.policy_domain, NAME);
    for lines in [&mut result.policy_strings, &mut result.mx_host_patterns] {
        lines.truncate(LINES);
        lines.iter_mut().for_each(|line| cut(line, TEXT));
    }
    result.failures.truncate(FAILURES);
    for failure in &mut result.failures {
        for text in [
            &mut failure.sending_mta_ip,
            &mut failure.receiving_mx_hostname,
            &mut failure.receiving_mx_helo,
            &mut failure.receiving_ip,
            &mut failure.additional_information,
            &mut failure.failure_reason_code,
        ] {
            cut(text, TEXT);
        }
    }
}
