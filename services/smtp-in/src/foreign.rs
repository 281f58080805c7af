//! Header fields that only we may write: a remote that sends them wants to be believed (RFC 8601 §5).

use bytes::Bytes;
use mox_message::Field;

/// Fields about the delivery here, which is yet to come.
const OURS: [&str; 2] = ["Return-Path", "Delivered-To"];
/// Fields that this server means something by.
const PREFIX: &[u8] = b"x-mox-";

/// The message without header fields that say what only we can know: trace fields of our delivery, results in our name,
/// and our own extensions; and without what would continue the last of those that we put above it. It comes in order, as
/// slices of what was received. `hostnames` are all that we write results under.
pub(crate) fn remove(message: &Bytes, hostnames: &[String]) -> Vec<Bytes> {
    let fields = message.slice(continuation(message)..);
    mox_message::without_fields(&fields, |field| is_foreign(field, hostnames))
}

/// Octets of lines at the start that continue a field where there is none (RFC 5322 §2.2.3), if fields follow: without,
/// it is all text.
fn continuation(message: &[u8]) -> usize {
    let mut end = 0;
    while let Some(b' ' | b'\t') = message.get(end) {
        let line = message[end..].iter().position(|b| *b == b'\n');
        end = line.map_or(message.len(), |at| end + at + 1);
    }
    match mox_message::headers(message).next() {
        Some(_) => end,
        None => 0,
    }
}

fn is_foreign(field: &Field<'_>, hostnames: &[String]) -> bool {
    if OURS.iter().any(|name| field.is(name)) {
        return true;
    }
    let prefix = field.name.get(..PREFIX.len());
    if prefix.is_some_and(|p| p.eq_ignore_ascii_case(PREFIX)) {
        return true;
    }
    let text = || String::from_utf8_lossy(field.raw);
    field.is("Authentication-Results")
        && hostnames
            .iter()
            .any(|name| mox_mailauth::results::is_from(&text(), name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_ours_is_removed() {
        let message = Bytes::from_static(
            b"Return-Path: <x@y>\r\nAuthentication-Results: mail.example.net; spf=pass\r\nSubject: a\r\n\
              AUTHENTICATION-RESULTS:\r\n (c) mail.EXAMPLE.net;\r\n dkim=pass\r\nAuthentication-Results: other; spf=pass\r\n\
              Authentication-Results : mail2.example.net; spf=pass\r\nX-Mox-Reason: known\r\nX-Other: y\r\ndelivered-to: a@b\r\nTo: b\r\n\r\nReturn-Path: body\r\n",
        );
        let hostnames = ["mail.example.net".to_owned(), "mail2.example.net".to_owned()];
        assert_eq!(
            remove(&message, &hostnames).concat(),
            b"Subject: a\r\nAuthentication-Results: other; spf=pass\r\nX-Other: y\r\nTo: b\r\n\r\nReturn-Path: body\r\n"
        );
        for plain in ["Subject: a\r\n\r\nb\r\n", " text\r\n more\r\n", "", " "] {
            let plain = Bytes::from_static(plain.as_bytes());
            assert_eq!(remove(&plain, &hostnames), [plain]);
        }
    }

    #[test]
    fn nothing_continues_what_we_put_above() {
        for message in [
            &b" dkim=pass\r\n\t\r\nSubject: a\r\n b\r\n\r\n c\r\n"[..],
            b"\tx\r\nReturn-Path: x\r\n y\r\nSubject: a\r\n b\r\n\r\n c\r\n",
        ] {
            let left = remove(&Bytes::from_static(message), &[]);
            assert_eq!(left.concat(), b"Subject: a\r\n b\r\n\r\n c\r\n", "{message:?}");
        }
    }
}
