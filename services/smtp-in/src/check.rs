//! Messages that are refused for what they are, whoever they are for.

use mox_message::HeaderSummary;
use mox_smtp::{Body, Reply};

use crate::limits;
use crate::transaction::Transaction;

/// Looks at a message that was received.
///
/// # Errors
/// Why it is refused.
pub(crate) fn message(message: &[u8], transaction: &Transaction, pedantic: bool) -> Result<(), Reply> {
    let header = &message[..mox_message::header_end(message)];
    if header.len() > limits::HEADER_BYTES {
        let text = format!(
            "the header of a message may have at most {} bytes",
            limits::HEADER_BYTES
        );
        return Err(Reply::new(552, (3, 4), text));
    }
    if mox_message::received_count(header) > limits::HOPS {
        // RFC 3463 §3.5: X.4.6, routing loop detected.
        return Err(Reply::new(
            554,
            (4, 6),
            "the message was passed on too often, it seems to go in circles",
        ));
    }
    match pedantic.then(|| violation(message, header, transaction)).flatten() {
        Some(text) => Err(Reply::new(554, (6, 0), text)),
        None => Ok(()),
    }
}

/// What is tolerated, unless one is pedantic.
fn violation(message: &[u8], header: &[u8], transaction: &Transaction) -> Option<&'static str> {
    let params = &transaction.params;
    if !header.is_ascii() && !params.smtputf8 {
        // RFC 6532 §3.
        return Some("the header has octets outside of ASCII, without the parameter SMTPUTF8");
    }
    if !message.is_ascii() && params.body != Some(Body::EightBitMime) && !params.smtputf8 {
        // RFC 6152 §2.
        return Some("the message has octets outside of ASCII, without the parameter BODY=8BITMIME");
    }
    if message.contains(&0) {
        // RFC 5322 §4.1.
        return Some("the message has a NUL");
    }
    if message.split(|b| *b == b'\n').any(|line| line.len() > limits::LINE) {
        // RFC 5321 §4.5.3.1.6.
        return Some("the message has a line of more than 998 octets");
    }
    let count = |name: &str| mox_message::headers(header).filter(|field| field.is(name)).count();
    if count("From") != 1 || HeaderSummary::of(header).from.is_empty() {
        // RFC 5322 §3.6.
        return Some("the message must have one From field with an address");
    }
    if count("Date") != 1 {
        return Some("the message must have one Date field");
    }
    let single = [
        "Sender",
        "Reply-To",
        "To",
        "Cc",
        "Bcc",
        "Message-ID",
        "In-Reply-To",
        "References",
        "Subject",
    ];
    if single.iter().any(|name| count(name) > 1) {
        return Some("the message has a field twice that may be there once");
    }
    None
}

#[cfg(test)]
mod tests {
    use mox_smtp::MailParams;

    use super::*;

    fn code(text: &str, params: MailParams, pedantic: bool) -> u16 {
        let transaction = Transaction::new(None, params);
        message(text.as_bytes(), &transaction, pedantic)
            .err()
            .map_or(250, |r| r.code)
    }

    #[test]
    fn headers_are_bounded() {
        let header = |bytes: usize| format!("X: {}\r\n\r\nbody\r\n", "x".repeat(bytes));
        assert_eq!(
            code(&header(limits::HEADER_BYTES - 10), MailParams::default(), false),
            250
        );
        assert_eq!(code(&header(limits::HEADER_BYTES), MailParams::default(), false), 552);
        let endless = "a: b\r\n".repeat(limits::HEADER_BYTES / 6 + 1);
        assert_eq!(code(&endless, MailParams::default(), false), 552);
    }

    #[test]
    fn violations_are_refused_where_one_is_pedantic() {
        let good = "From: a@b\r\nDate: Mon, 5 Jan 2026 00:00:00 +0000\r\n";
        let utf8 = || MailParams {
            smtputf8: true,
            ..MailParams::default()
        };
        let eight_bit = || MailParams {
            body: Some(Body::EightBitMime),
            ..MailParams::default()
        };
        for (text, params, refused) in [
            (format!("{good}\r\nhi\r\n"), MailParams::default(), false),
            (format!("{good}Subject: é\r\n\r\nhi\r\n"), MailParams::default(), true),
            (format!("{good}Subject: é\r\n\r\nhi\r\n"), utf8(), false),
            (format!("{good}\r\né\r\n"), MailParams::default(), true),
            (format!("{good}\r\né\r\n"), eight_bit(), false),
            (format!("{good}\r\na\0b\r\n"), MailParams::default(), true),
            (
                format!("{good}\r\n{}\r\n", "x".repeat(998)),
                MailParams::default(),
                false,
            ),
            (
                format!("{good}\r\n{}\r\n", "x".repeat(999)),
                MailParams::default(),
                true,
            ),
            (format!("{good}From: c@d\r\n\r\nhi\r\n"), MailParams::default(), true),
            (
                format!("{good}To: c@d\r\nTo: e@f\r\n\r\nhi\r\n"),
                MailParams::default(),
                true,
            ),
            ("From: a@b\r\n\r\nhi\r\n".to_owned(), MailParams::default(), true),
            ("Subject: a\r\n\r\nhi\r\n".to_owned(), MailParams::default(), true),
        ] {
            assert_eq!(
                code(&text, params.clone(), true),
                if refused { 554 } else { 250 },
                "{text}"
            );
            assert_eq!(code(&text, params, false), 250, "{text}");
        }
    }
}
