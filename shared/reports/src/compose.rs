//! Messages that carry reports.

use std::io::Write as _;
use std::time::SystemTime;

use flate2::Compression;
use flate2::write::GzEncoder;
use mox_message::compose::{Header, Part, date};
use mox_proto::report::v1::{DmarcReport, TlsReport};

use crate::{dmarc, tls};

/// Who sends a report, and to whom.
#[derive(Debug, Clone)]
pub struct Letter<'a> {
    /// Address that it is from.
    pub from: &'a str,
    /// Addresses that it is for.
    pub to: &'a [String],
    /// Our host: who received the messages, or sent them.
    pub submitter: &'a str,
    /// Now.
    pub at: SystemTime,
    /// With brackets.
    pub message_id: &'a str,
}

/// A message with a report.
#[derive(Debug, Clone)]
pub struct Composed {
    /// All of it.
    pub message: Vec<u8>,
    /// Its Subject.
    pub subject: String,
    /// Octets of the attachment as it is sent, for destinations that bound them.
    pub attachment: usize,
}

/// RFC 9990 §2.6.2 and RFC 8460 §5.1: who, about whom, from when, to when, and what tells it from others. An identifier
/// in the file name has letters and digits only.
fn file_name(submitter: &str, domain: &str, begin: i64, end: i64, id: &str, extension: &str) -> String {
    let id: String = id.chars().filter(char::is_ascii_alphanumeric).take(64).collect();
    let id = if id.is_empty() { id } else { format!("!{id}") };
    format!("{submitter}!{domain}!{begin}!{end}{id}.{extension}")
}

fn packed(data: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    // Into memory: it can't fail.
    let _ = encoder.write_all(data);
    encoder.finish().unwrap_or_default()
}

fn header(letter: &Letter<'_>, subject: &str) -> Header {
    let mut header = Header::new(!letter.to.iter().all(|to| to.is_ascii()));
    let to: Vec<(&str, &str)> = letter.to.iter().map(|address| ("", address.as_str())).collect();
    header
        .addresses("From", &[("", letter.from)])
        .addresses("To", &to)
        .text("Subject", subject)
        .field("Date", &date(letter.at))
        .field("Message-ID", letter.message_id)
        // RFC 3834 §5: nobody answers it.
        .field("Auto-Submitted", "auto-generated");
    header
}

/// The message of an aggregate report (RFC 9990 §2.6.2).
#[must_use]
pub fn dmarc_message(report: &DmarcReport, letter: &Letter<'_>) -> Composed {
    let domain = report.policy.as_ref().map_or("", |policy| policy.domain.as_str());
    let (submitter, id) = (letter.submitter, &report.report_id);
    let subject = format!("Report Domain: {domain} Submitter: {submitter} Report-ID: <{id}>");
    let data = packed(dmarc::xml(report).as_bytes());
    let name = file_name(submitter, domain, report.begin, report.end, id, "xml.gz");
    let text = format!(
        "This is a DMARC aggregate report (RFC 9990) about mail from {domain} that {submitter} received.\n\
         It is attached. You get it because the DMARC record of {domain} asks for it.\n"
    );
    let attachment = Part::attachment("application/gzip", &name, &data);
    let body = Part::multipart("mixed", "", vec![Part::text(&text), attachment]);
    Composed {
        message: header(letter, &subject).message(&body),
        subject,
        attachment: encoded(data.len()),
    }
}

/// The message of a TLS report about a domain (RFC 8460 §5.3).
#[must_use]
pub fn tls_message(report: &TlsReport, domain: &str, letter: &Letter<'_>) -> Composed {
    let (submitter, id) = (letter.submitter, &report.report_id);
    let subject = format!("Report Domain: {domain} Submitter: {submitter} Report-ID: <{id}>");
    let data = tls_file(report);
    let name = file_name(submitter, domain, report.start, report.end, id, "json.gz");
    let text = format!(
        "This is a report about TLS (RFC 8460) when {submitter} delivered mail to {domain}.\n\
         It is attached. You get it because the TLSRPT record of {domain} asks for it.\n"
    );
    let attachment = Part::attachment(TLS_FILE_TYPE, &name, &data);
    let body = Part::multipart("report", "report-type=\"tlsrpt\"", vec![Part::text(&text), attachment]);
    let mut header = header(letter, &subject);
    // RFC 8460 §5.3: for filters. RFC 8689 §5: a report about broken TLS arrives in spite of it.
    header
        .field("TLS-Report-Domain", domain)
        .field("TLS-Report-Submitter", submitter)
        .field("TLS-Required", "No");
    Composed {
        message: header.message(&body),
        subject,
        attachment: encoded(data.len()),
    }
}

/// The media type of [`tls_file`] (RFC 8460 §6.5).
pub const TLS_FILE_TYPE: &str = "application/tlsrpt+gzip";

/// A TLS report as application/tlsrpt+gzip, which is what is posted to HTTPS URIs (RFC 8460 §5.4).
#[must_use]
pub fn tls_file(report: &TlsReport) -> Vec<u8> {
    packed(tls::json(report).as_bytes())
}

/// Octets in base64, with its line ends.
fn encoded(octets: usize) -> usize {
    let characters = octets.div_ceil(3) * 4;
    characters + 2 * characters.div_ceil(76)
}
