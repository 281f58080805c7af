//! Message-IDs as threading compares them (RFC 5256 §3), and how those of a message are kept in one text: an octet that
//! says whether it is a reply, its own id or nothing, and the ids that it refers to, each behind a NUL.

/// What a message says of itself and of others.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ids<'a> {
    /// The subject says that it is a reply, or forwarded.
    pub reply: bool,
    /// Its own, if it has a valid one.
    pub own: Option<&'a [u8]>,
    /// Oldest first.
    pub references: Vec<&'a [u8]>,
}

/// Writes a message's ids.
pub fn encode(
    reply: bool,
    message_id: Option<&[u8]>,
    references: Option<&[u8]>,
    in_reply_to: Option<&[u8]>,
    out: &mut Vec<u8>,
) {
    out.push(u8::from(reply));
    out.extend(message_id.and_then(|m| parse(m).next()).unwrap_or_default());
    let mut any = false;
    for id in references.into_iter().flat_map(parse) {
        out.push(0);
        out.extend(id);
        any = true;
    }
    // Without valid references, the first id of In-Reply-To is the only one.
    if !any && let Some(id) = in_reply_to.and_then(|m| parse(m).next()) {
        out.push(0);
        out.extend(id);
    }
}

/// Reads what [`encode`] wrote.
pub fn decode(text: &[u8]) -> Ids<'_> {
    let Some((reply, rest)) = text.split_first() else {
        return Ids::default();
    };
    let mut ids = rest.split(|b| *b == 0);
    let own = ids.next().filter(|id| !id.is_empty());
    Ids {
        reply: *reply != 0,
        own,
        references: ids.collect(),
    }
}

/// The valid ids of a field, without brackets, comments and quoting. Their case matters.
fn parse(value: &[u8]) -> impl Iterator<Item = Vec<u8>> + '_ {
    let mut rest = value;
    std::iter::from_fn(move || {
        loop {
            let start = memchr::memchr(b'<', rest)?;
            rest = &rest[start + 1..];
            if let Some((id, length)) = one(rest) {
                rest = &rest[length..];
                return Some(id);
            }
        }
    })
}

/// One id up to its closing bracket, and how long it is.
fn one(text: &[u8]) -> Option<(Vec<u8>, usize)> {
    let mut id = Vec::new();
    let mut quoted = false;
    let mut at = None;
    let mut octets = text.iter().enumerate();
    while let Some((n, octet)) = octets.next() {
        match octet {
            b'"' => quoted = !quoted,
            b'\\' if quoted => id.extend(octets.next().map(|o| *o.1)),
            b'>' if !quoted => {
                // RFC 5322 §3.6.4: something on either side of the sign.
                let valid = at.is_some_and(|at| at > 0 && at + 1 < id.len()) && !id.contains(&0);
                return valid.then_some((id, n + 1));
            }
            b'<' if !quoted => return None,
            b' ' | b'\t' | b'\r' | b'\n' if !quoted => {}
            octet => {
                if *octet == b'@' && !quoted {
                    at = Some(id.len());
                }
                id.push(*octet);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(value: &str) -> Vec<String> {
        parse(value.as_bytes())
            .map(|id| String::from_utf8(id).unwrap())
            .collect()
    }

    #[test]
    fn quoting_does_not_matter_and_case_does() {
        // RFC 5256 §3's example.
        assert_eq!(
            list("<\"01KF8JCEOCBS0045PS\"@xxx.yyy.com>"),
            list("<01KF8JCEOCBS0045PS@xxx.yyy.com>")
        );
        assert_ne!(list("<A@b>"), list("<a@b>"));
        assert_eq!(
            list("<a@b> (said) <c\r\n@d>, x <e@[1.2.3.4]> \"<f\\\"@g>\""),
            ["a@b", "c@d", "e@[1.2.3.4]"]
        );
        for bad in ["", "a@b", "<a>", "<@b>", "<a@>", "<a@b", "<<a@b", "<\"a@b>", "<a\0@b>"] {
            assert!(list(bad).is_empty(), "{bad:?}");
        }
        assert_eq!(list("<<a@b>"), ["a@b"]);
    }

    #[test]
    fn ids_survive() {
        let mut out = Vec::new();
        encode(true, Some(b"<m@x>"), Some(b"<a@x> <b@x>"), Some(b"<c@x>"), &mut out);
        let want = Ids {
            reply: true,
            own: Some(b"m@x"),
            references: vec![b"a@x", b"b@x"],
        };
        assert_eq!(decode(&out), want);
        out.clear();
        encode(false, None, Some(b"none"), Some(b"<c@x> <d@x>"), &mut out);
        let want = Ids {
            references: vec![b"c@x"],
            ..Ids::default()
        };
        assert_eq!(decode(&out), want);
        assert_eq!(decode(b""), Ids::default());
    }
}
