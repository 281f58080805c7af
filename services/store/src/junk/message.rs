//! From a message to tokens.

use mox_junk::{Grams, Tokenizer, Tokens};
use mox_proto::mail::v1::Part;

/// Header fields that tell something about the message, and not about who gets it or how it travelled.
const FIELDS: [&str; 8] = [
    "From",
    "Reply-To",
    "Subject",
    "List-Id",
    "X-Mailer",
    "User-Agent",
    "Content-Type",
    "Organization",
];

/// The tokens of a message: of some header fields, and of all text that is no attachment.
#[must_use]
pub fn tokens(message: &[u8], grams: Grams) -> Tokens {
    let mut tokenizer = Tokenizer::new(grams);
    for field in mox_message::headers(message) {
        if let Some(name) = FIELDS.iter().find(|name| field.is(name)) {
            tokenizer.header(name, &field.text());
        }
    }
    let computed = mox_message::computed(message);
    if let Some(structure) = &computed.structure {
        add(message, structure, &mut tokenizer);
    }
    tokenizer.finish()
}

/// Recursion is bounded by the depth of a structure.
fn add(message: &[u8], part: &Part, tokenizer: &mut Tokenizer) {
    if tokenizer.is_full() || part.disposition.as_deref() == Some("attachment") {
        return;
    }
    if part.media_type == "text" {
        let text = mox_message::decode_part(message, part);
        if part.media_subtype == "html" {
            tokenizer.html(&text);
        } else {
            tokenizer.text(&text);
        }
    }
    for inner in part.parts.iter().chain(part.message.as_deref()) {
        add(message, inner, tokenizer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(message: &str) -> Tokens {
        tokens(message.as_bytes(), Grams::from_bits(1))
    }

    #[test]
    fn the_same_text_has_the_same_tokens_in_every_form() {
        let plain = words(
            "Subject: hi\r\n\r\ncheap pills f=C3=BCr you\r\n"
                .replace("=C3=BC", "ü")
                .as_str(),
        );
        let encoded = words(
            "Subject: =?utf-8?q?hi?=\r\nMIME-Version: 1.0\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\ncheap =\r\npills f=C3=BCr you\r\n",
        );
        assert_eq!(plain, encoded);
        let html = words(
            "Subject: hi\r\nContent-Transfer-Encoding: 8bit\r\nMIME-Version: 1.0\r\nContent-Type: text/html; charset=utf-8\r\n\r\n<p>cheap <b>pills</b> f&uuml;r you</p>",
        );
        for token in plain.as_slice() {
            assert!(html.as_slice().contains(token));
        }
    }

    #[test]
    fn attachments_and_addresses_of_recipients_say_nothing() {
        let message = "To: somebody@example.org\r\nSubject: hi\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\
             Content-Type: text/plain\r\n\r\nhello\r\n--b\r\nContent-Type: text/plain\r\n\
             Content-Disposition: attachment\r\n\r\nsecret\r\n--b--\r\n";
        let without = message.replace("secret", "").replace("somebody", "another");
        assert_eq!(words(message), words(&without));
    }
}
