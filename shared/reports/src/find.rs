//! Finding the report in a message.
//!
//! Senders disagree on structures, media types and file names, so all of these only say what is worth a look: it is the
//! content that says what it is.

use mox_proto::mail::v1::Part;
use mox_proto::report::v1::{DmarcReport, TlsReport};

use crate::dmarc::{self, DmarcError};
use crate::limits;
use crate::tls::{self, TlsError};
use crate::unpack::{UnpackError, unpack};

/// What a message carries.
#[derive(Debug, Clone, PartialEq)]
pub enum Found {
    /// A DMARC aggregate report.
    Dmarc(DmarcReport),
    /// A TLS report.
    Tls(TlsReport),
}

/// Why what looks like a report is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FindError {
    /// It is in an archive that can't be read.
    #[error(transparent)]
    Unpack(#[from] UnpackError),
    /// It is no DMARC report.
    #[error(transparent)]
    Dmarc(#[from] DmarcError),
    /// It is no TLS report.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// It is neither XML nor JSON.
    #[error("attachment {0:?} is neither XML nor JSON")]
    Neither(String),
}

/// The first report in a message; nothing if there is no part that could be one.
///
/// # Errors
/// If there are parts that could be one, and none is. Of the first of them it says why.
pub fn find(message: &[u8]) -> Result<Option<Found>, FindError> {
    let structure = mox_message::computed(message).structure.unwrap_or_default();
    let mut candidates = Vec::new();
    collect(&structure, &mut candidates);
    let mut first = None;
    for part in candidates {
        let Some(data) = mox_message::decode_octets(message, part, limits::PACKED) else {
            first.get_or_insert(FindError::Unpack(UnpackError::Packed(
                (part.end_offset - part.body_offset) as usize,
            )));
            continue;
        };
        match look(part, &data) {
            Ok(found) => return Ok(Some(found)),
            Err(error) => _ = first.get_or_insert(error),
        }
    }
    first.map_or(Ok(None), Err)
}

/// The report in a file, which may be packed.
///
/// # Errors
/// If it is none.
pub fn read(data: &[u8]) -> Result<Found, FindError> {
    look(&Part::default(), data)
}

fn look(part: &Part, data: &[u8]) -> Result<Found, FindError> {
    let unpacked = unpack(data)?;
    let content = unpacked.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&unpacked);
    match content.iter().find(|byte| !byte.is_ascii_whitespace()) {
        Some(b'<') => Ok(Found::Dmarc(dmarc::parse(content)?)),
        Some(b'{') => Ok(Found::Tls(tls::parse(content)?)),
        _ => Err(FindError::Neither(name(part))),
    }
}

fn collect<'a>(part: &'a Part, candidates: &mut Vec<&'a Part>) {
    if candidates.len() >= limits::PARTS {
        return;
    }
    if part.parts.is_empty() && part.message.is_none() && is_candidate(part) {
        candidates.push(part);
    }
    // Not what is within a message within: a report that somebody forwards is not from who sent it.
    for inner in &part.parts {
        collect(inner, candidates);
    }
}

/// RFC 9990 §2.6.2: application/gzip, text/xml. RFC 7489 §7.2.1.1: application/gzip, and what the file's name says.
/// RFC 8460 §6.4 and §6.5: application/tlsrpt+gzip and +json. Zip is what many send.
fn is_candidate(part: &Part) -> bool {
    let subtype = part.media_subtype.as_str();
    match part.media_type.as_str() {
        "application" => {
            let known = [
                "gzip",
                "x-gzip",
                "zip",
                "x-zip",
                "x-zip-compressed",
                "xml",
                "json",
                "tlsrpt+gzip",
                "tlsrpt+json",
            ];
            known.contains(&subtype) || is_name_of_report(&name(part))
        }
        "text" => matches!(subtype, "xml" | "json") || is_name_of_report(&name(part)),
        _ => false,
    }
}

fn is_name_of_report(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    [".xml", ".xml.gz", ".json", ".json.gz", ".zip", ".gz"]
        .iter()
        .any(|extension| name.ends_with(extension))
}

/// The name of a part's file.
fn name(part: &Part) -> String {
    mox_message::parameter(&part.disposition_parameters, "filename")
        .or_else(|| mox_message::parameter(&part.parameters, "name"))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use mox_proto::report::v1::{DmarcPolicyPublished, DmarcRow, TlsPolicyType, TlsResult};

    use super::*;
    use crate::compose::{Letter, dmarc_message, tls_message};
    use crate::unpack::tests::{gzip, zip_of};

    fn dmarc_report() -> DmarcReport {
        DmarcReport {
            org_name: "receiver.example".into(),
            report_id: "20260401.a-b@receiver.example".into(),
            begin: 1_775_001_600,
            end: 1_775_087_999,
            policy: Some(DmarcPolicyPublished {
                domain: "example.org".into(),
                p: "reject".into(),
                ..DmarcPolicyPublished::default()
            }),
            rows: vec![DmarcRow {
                source_ip: "192.0.2.1".into(),
                count: 1,
                header_from: "example.org".into(),
                ..DmarcRow::default()
            }],
            version: "1.0".into(),
            ..DmarcReport::default()
        }
    }

    fn letter(to: &[String]) -> Letter<'_> {
        Letter {
            from: "postmaster@mail.receiver.example",
            to,
            submitter: "mail.receiver.example",
            at: SystemTime::UNIX_EPOCH,
            message_id: "<x@mail.receiver.example>",
        }
    }

    #[test]
    fn our_messages_carry_their_reports() {
        let to = ["reports@example.org".to_owned()];
        let report = dmarc_report();
        let composed = dmarc_message(&report, &letter(&to));
        assert_eq!(find(&composed.message).unwrap(), Some(Found::Dmarc(report)));
        assert_eq!(
            composed.subject,
            "Report Domain: example.org Submitter: mail.receiver.example Report-ID: <20260401.a-b@receiver.example>"
        );
        let text = String::from_utf8(composed.message).unwrap();
        let name = "mail.receiver.example!example.org!1775001600!1775087999!20260401abreceiverexample.xml.gz";
        assert!(text.contains(&format!("filename=\"{name}\"")), "{text}");
        let body = text.split("base64").nth(1).unwrap();
        assert!(
            composed.attachment <= body.len() && composed.attachment + 300 > body.len(),
            "{}",
            composed.attachment
        );

        let report = TlsReport {
            organization_name: "receiver.example".into(),
            report_id: "1".into(),
            start: 1_775_001_600,
            end: 1_775_087_999,
            policies: vec![TlsResult {
                policy_type: TlsPolicyType::NoPolicyFound.into(),
                policy_domain: "example.org".into(),
                failure_count: 3,
                ..TlsResult::default()
            }],
            ..TlsReport::default()
        };
        let composed = tls_message(&report, "example.org", &letter(&to));
        assert_eq!(find(&composed.message).unwrap(), Some(Found::Tls(report)));
        let text = String::from_utf8(composed.message).unwrap();
        for field in [
            "TLS-Report-Domain: example.org\r\n",
            "TLS-Required: No\r\n",
            "report-type=\"tlsrpt\"",
            "!1.json.gz\"",
        ] {
            assert!(text.contains(field), "{field} in {text}");
        }
    }

    fn with_attachment(fields: &str, data: &[u8]) -> Vec<u8> {
        use mox_message::compose::{Header, Part};
        let mut header = Header::new(false);
        header.field("From", "a@b.example");
        let attachment = Part::attachment("x/y", "z", data);
        let mixed = Part::multipart(
            "mixed",
            "",
            vec![Part::text("<feedback>is not in the text"), attachment],
        );
        let message = String::from_utf8(header.message(&mixed)).unwrap();
        let (before, rest) = message.split_once("Content-Type: x/y\r\n").unwrap();
        let rest = rest.replace("Content-Disposition: attachment; filename=\"z\"\r\n", "");
        format!("{before}{fields}\r\n{rest}").into_bytes()
    }

    #[test]
    fn reports_are_found_by_type_or_name() {
        let xml = dmarc::xml(&dmarc_report()).into_bytes();
        let gz = gzip(&xml);
        let zip = zip_of(&[("x.xml", &xml)], true);
        for (fields, data) in [
            ("Content-Type: application/gzip", &gz),
            ("Content-Type: application/x-zip-compressed; name=x.zip", &zip),
            ("Content-Type: application/zip", &gz),
            ("Content-Type: text/xml", &xml),
            (
                "Content-Type: application/octet-stream\r\nContent-Disposition: attachment; filename=\"A!B!1!2.XML.GZ\"",
                &gz,
            ),
            ("Content-Type: text/plain; name=\"report.xml\"", &xml),
        ] {
            let found = find(&with_attachment(fields, data)).unwrap();
            assert!(matches!(found, Some(Found::Dmarc(_))), "{fields}");
        }
        assert_eq!(find(&with_attachment("Content-Type: image/png", &gz)).unwrap(), None);
        assert_eq!(find(b"Subject: x\r\n\r\n<feedback/>\r\n").unwrap(), None);
        // All of the message is the report.
        let whole = [b"Content-Type: application/xml\r\n\r\n".to_vec(), xml.clone()].concat();
        assert!(find(&whole).unwrap().is_some());
        let error = find(&with_attachment("Content-Type: application/zip", b"PK\x03\x04 no")).unwrap_err();
        assert!(error.to_string().contains("zip"), "{error}");
        let error = find(&with_attachment("Content-Type: text/xml; name=a.xml", b"hello")).unwrap_err();
        assert_eq!(error, FindError::Neither("a.xml".into()));
    }
}
