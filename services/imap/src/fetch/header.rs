//! Fields of a header by their names (RFC 9051 §6.4.5.1, HEADER.FIELDS).

/// The fields of `header` whose name is among `names`, or, `without`, those whose is not; with an empty line at the end.
pub(crate) fn filter(header: &[u8], names: &[String], without: bool) -> Vec<u8> {
    let mut out = Vec::new();
    let mut keep = false;
    for line in header.split_inclusive(|&b| b == b'\n') {
        if line.iter().all(|b| matches!(b, b'\r' | b'\n')) {
            break;
        }
        // A folded line belongs to the field before it.
        if !matches!(line.first(), Some(b' ' | b'\t')) {
            keep = match memchr(b':', line) {
                Some(colon) => {
                    let name = line[..colon].trim_ascii_end();
                    names.iter().any(|n| n.as_bytes().eq_ignore_ascii_case(name)) != without
                }
                // What is no field has no name.
                None => without,
            };
        }
        if keep {
            out.extend_from_slice(line);
        }
    }
    if out.last().is_some_and(|&b| b != b'\n') {
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"\r\n");
    out
}

fn memchr(needle: u8, haystack: &[u8]) -> Option<usize> {
    haystack.iter().position(|&b| b == needle)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEADER: &[u8] = b"From: a\r\nSubject: b\r\n folded\r\nX-A : c\r\nnothing\r\nTo: d\r\n\r\nBody: e\r\n";

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|&n| n.to_owned()).collect()
    }

    #[test]
    fn fields_are_kept_whole() {
        let with = filter(HEADER, &names(&["subject", "x-a", "Body"]), false);
        assert_eq!(with, b"Subject: b\r\n folded\r\nX-A : c\r\n\r\n");
        let without = filter(HEADER, &names(&["subject", "x-a"]), true);
        assert_eq!(without, b"From: a\r\nnothing\r\nTo: d\r\n\r\n");
        assert_eq!(filter(HEADER, &names(&["none"]), false), b"\r\n");
        assert_eq!(filter(b"To: x", &names(&["to"]), false), b"To: x\r\n\r\n");
    }

    proptest! {
        #[test]
        fn every_line_is_on_one_side(header in "([A-C]: x\r\n( y\r\n)?){0,6}") {
            let wanted = names(&["a"]);
            let with = filter(header.as_bytes(), &wanted, false);
            let without = filter(header.as_bytes(), &wanted, true);
            prop_assert_eq!(with.len() + without.len(), header.len() + 4);
        }

        #[test]
        fn no_bytes_make_it_panic(header in proptest::collection::vec(any::<u8>(), 0..100), without: bool) {
            filter(&header, &names(&["a"]), without);
        }
    }
}
