//! Reading.

use mox_proto::report::v1::{Disposition, DkimResult, DmarcReason, DmarcReport, DmarcRow, SpfResult};
use prost::Message as _;
use quick_xml::Reader;
use quick_xml::events::Event;

use super::DmarcError;
use crate::{limits, text};

/// Reads a report. Elements that are not known are passed over, and so are names' spaces: RFC 7489 has none, RFC 9990 has
/// its own, and some senders have others.
///
/// # Errors
/// If it is not well-formed, or lacks what a report must have.
pub fn parse(xml: &[u8]) -> Result<DmarcReport, DmarcError> {
    // What senders declare and what they send differ now and then; all that matters is ASCII.
    let xml = String::from_utf8_lossy(xml);
    let mut reader = Reader::from_str(&xml);
    reader.config_mut().allow_dangling_amp = true;
    let mut parser = Parser::default();
    loop {
        let event = reader.read_event().map_err(|e| DmarcError::Xml {
            at: reader.buffer_position(),
            cause: text::clean(&e.to_string()),
        })?;
        match event {
            Event::Start(element) => parser.open(element.local_name().as_ref())?,
            Event::End(_) => parser.close()?,
            Event::Empty(element) => {
                parser.open(element.local_name().as_ref())?;
                parser.close()?;
            }
            Event::Text(part) => parser.add(&part),
            Event::CData(part) => parser.add(&part),
            Event::GeneralRef(reference) => match (reference.resolve_char_ref(), &*reference) {
                (Ok(Some(character)), _) => parser.add(character.encode_utf8(&mut [0; 4])),
                (_, "lt") => parser.add("<"),
                (_, "gt") => parser.add(">"),
                (_, "amp") => parser.add("&"),
                (_, "quot") => parser.add("\""),
                (_, "apos") => parser.add("'"),
                // Entities can be declared only by what is refused below.
                _ => {}
            },
            // Whatever could refer to files or make much of little.
            Event::DocType(_) => return Err(DmarcError::Refused("a document type declaration")),
            Event::Decl(_) | Event::PI(_) | Event::Comment(_) => {}
            Event::Eof => return parser.finish(),
        }
    }
}

#[derive(Default)]
struct Parser {
    path: Vec<String>,
    text: String,
    report: DmarcReport,
    /// Encoded octets of the rows.
    kept: usize,
    seen: usize,
    row: DmarcRow,
    reason: DmarcReason,
    dkim: DkimResult,
    spf: SpfResult,
    begin: Option<i64>,
    end: Option<i64>,
}

impl Parser {
    fn open(&mut self, name: &str) -> Result<(), DmarcError> {
        if self.path.is_empty() && name != "feedback" {
            return Err(DmarcError::Lacks("root element, which is feedback"));
        }
        if self.path.len() >= limits::DEPTH {
            return Err(DmarcError::Refused("elements nested too deep"));
        }
        self.path.push(name[..name.floor_char_boundary(64)].to_owned());
        self.text.clear();
        let path: Vec<&str> = self.path.iter().map(String::as_str).collect();
        match path.as_slice() {
            [_, "record"] => self.row = DmarcRow::default(),
            [_, "record", "row", "policy_evaluated", "reason"] => self.reason = DmarcReason::default(),
            [_, "record", "auth_results", "dkim"] => self.dkim = DkimResult::default(),
            [_, "record", "auth_results", "spf"] => self.spf = SpfResult::default(),
            _ => {}
        }
        Ok(())
    }

    fn add(&mut self, part: &str) {
        // One text more than is kept at most, so that spaces at its start make no difference.
        let room = (2 * limits::TEXT).saturating_sub(self.text.len());
        self.text.push_str(&part[..part.floor_char_boundary(room)]);
    }

    fn close(&mut self) -> Result<(), DmarcError> {
        let value = text::clean(&self.text);
        let mut names = std::mem::take(&mut self.path);
        let path: Vec<&str> = names.iter().map(String::as_str).collect();
        let report = &mut self.report;
        match path.get(1..).unwrap_or_default() {
            ["version"] => report.version = value,
            ["report_metadata", name] => match *name {
                "org_name" => report.org_name = value,
                "email" => report.email = value,
                "extra_contact_info" => report.extra_contact_info = value,
                "report_id" => report.report_id = value,
                "generator" => report.generator = value,
                "error" if report.errors.len() < limits::ERRORS => report.errors.push(value),
                _ => {}
            },
            ["report_metadata", "date_range", "begin"] => self.begin = seconds(&value),
            ["report_metadata", "date_range", "end"] => self.end = seconds(&value),
            ["policy_published", name] => {
                let policy = report.policy.get_or_insert_default();
                match *name {
                    "domain" => policy.domain = text::domain(&value).ok_or(DmarcError::Lacks("domain"))?,
                    "adkim" => policy.adkim = value,
                    "aspf" => policy.aspf = value,
                    "p" => policy.p = value,
                    "sp" => policy.sp = value,
                    "np" => policy.np = value,
                    "fo" => policy.fo = value,
                    "testing" => policy.testing = value.eq_ignore_ascii_case("y"),
                    "pct" => policy.pct = value.parse().ok().filter(|pct| *pct <= 100).unwrap_or_default(),
                    "discovery_method" => policy.discovery_method = value,
                    _ => {}
                }
            }
            ["record"] => self.keep(),
            ["record", rest @ ..] => self.field(rest, value),
            _ => {}
        }
        names.pop();
        self.path = names;
        self.text.clear();
        Ok(())
    }

    /// A value within a record.
    fn field(&mut self, path: &[&str], value: String) {
        let row = &mut self.row;
        match path {
            ["row", "source_ip"] => {
                row.source_ip = value
                    .parse::<std::net::IpAddr>()
                    .map(|ip| ip.to_string())
                    .unwrap_or(value);
            }
            ["row", "count"] => row.count = value.parse().unwrap_or_default(),
            ["row", "policy_evaluated", "disposition"] => {
                row.disposition = match value.to_ascii_lowercase().as_str() {
                    "quarantine" => Disposition::Quarantine,
                    "reject" => Disposition::Reject,
                    "pass" => Disposition::Pass,
                    _ => Disposition::None,
                }
                .into();
            }
            ["row", "policy_evaluated", "dkim"] => row.dkim_aligned = value.eq_ignore_ascii_case("pass"),
            ["row", "policy_evaluated", "spf"] => row.spf_aligned = value.eq_ignore_ascii_case("pass"),
            ["row", "policy_evaluated", "reason", "type"] => self.reason.r#type = value,
            ["row", "policy_evaluated", "reason", "comment"] => self.reason.comment = value,
            ["row", "policy_evaluated", "reason"] => push(&mut row.reasons, std::mem::take(&mut self.reason)),
            ["identifiers", "header_from"] => row.header_from = value,
            ["identifiers", "envelope_from"] => row.envelope_from = value,
            ["identifiers", "envelope_to"] => row.envelope_to = value,
            ["auth_results", "dkim"] => push(&mut row.dkim, std::mem::take(&mut self.dkim)),
            ["auth_results", "spf"] => push(&mut row.spf, std::mem::take(&mut self.spf)),
            ["auth_results", "dkim", name] => match *name {
                "domain" => self.dkim.domain = value,
                "selector" => self.dkim.selector = value,
                "result" => self.dkim.result = value,
                "human_result" => self.dkim.human_result = value,
                _ => {}
            },
            ["auth_results", "spf", name] => match *name {
                "domain" => self.spf.domain = value,
                "scope" => self.spf.scope = value,
                "result" => self.spf.result = value,
                "human_result" => self.spf.human_result = value,
                _ => {}
            },
            _ => {}
        }
    }

    fn keep(&mut self) {
        self.seen += 1;
        let row = std::mem::take(&mut self.row);
        let size = row.encoded_len() + 8;
        if self.report.rows.len() < limits::RECORDS && self.kept + size <= limits::KEPT {
            self.kept += size;
            self.report.rows.push(row);
        } else {
            self.report.rows_omitted = self.report.rows_omitted.saturating_add(1);
        }
    }

    fn finish(mut self) -> Result<DmarcReport, DmarcError> {
        if !self.path.is_empty() {
            return Err(DmarcError::Lacks("end"));
        }
        if self.seen > limits::RECORDS_READ {
            return Err(DmarcError::Refused("too many records"));
        }
        let (Some(begin), Some(end)) = (self.begin, self.end) else {
            return Err(DmarcError::Lacks("date_range"));
        };
        if begin > end || end - begin > limits::PERIOD {
            return Err(DmarcError::Lacks(
                "date_range: it must end after it begins, and within a month",
            ));
        }
        (self.report.begin, self.report.end) = (begin, end);
        if self
            .report
            .policy
            .as_ref()
            .is_none_or(|policy| policy.domain.is_empty())
        {
            return Err(DmarcError::Lacks("policy_published with a domain"));
        }
        if self.seen == 0 {
            // RFC 9990 §2.1.1: at least one.
            return Err(DmarcError::Lacks("record"));
        }
        Ok(self.report)
    }
}

fn push<T>(list: &mut Vec<T>, item: T) {
    if list.len() < limits::RESULTS {
        list.push(item);
    }
}

/// Seconds since 1970, which some senders give a fraction.
fn seconds(value: &str) -> Option<i64> {
    let whole = value.split_once('.').map_or(value, |(whole, _)| whole);
    whole.parse().ok().filter(|seconds| (0..1 << 40).contains(seconds))
}
