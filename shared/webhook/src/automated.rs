//! Whether a message was written by a program, so that no program should answer it.

use mox_message::headers;
use mox_proto::mail::v1::Part;

/// Fields of what is sent to many: lists (RFC 2919, RFC 2369, RFC 8058), and bulk mail by old custom.
const OF_MANY: [&str; 4] = ["list-id", "list-unsubscribe", "list-unsubscribe-post", "precedence"];

/// From its envelope (RFC 5321 §4.5.5: no reverse-path is that of notifications), its header (RFC 3834 §5) and its
/// media type (RFC 6522: reports).
pub(crate) fn automated(message: &[u8], structure: &Part, mail_from: &str) -> bool {
    let report = structure.media_type == "multipart" && structure.media_subtype == "report";
    mail_from.is_empty()
        || report
        || headers(message).any(|field| {
            let value = field.value();
            let value = value.trim_ascii();
            let submitted = field.is("auto-submitted") && !keyword(value).eq_ignore_ascii_case(b"no");
            !value.is_empty() && (submitted || OF_MANY.iter().any(|name| field.is(name)))
        })
}

/// RFC 3834 §5: parameters and comments may follow.
fn keyword(value: &[u8]) -> &[u8] {
    let end = value.iter().position(|b| b";( \t".contains(b)).unwrap_or(value.len());
    &value[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_programs_write_is_told_from_the_header() {
        let is = |header: &str, from: &str| automated(format!("{header}\r\n\r\nb").as_bytes(), &Part::default(), from);
        assert!(!is("Subject: a", "a@b"));
        assert!(is("Subject: a", ""));
        assert!(is("List-Id: <a.b>", "a@b"));
        assert!(is("precedence: bulk", "a@b"));
        assert!(!is("Precedence: ", "a@b"));
        assert!(is("Auto-Submitted: auto-replied (vacation)", "a@b"));
        assert!(!is("Auto-Submitted: No; owner=x", "a@b"));
        let report = Part {
            media_type: "multipart".into(),
            media_subtype: "report".into(),
            ..Part::default()
        };
        assert!(automated(b"Subject: a\r\n\r\n", &report, "a@b"));
    }
}
