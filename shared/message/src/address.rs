//! Address lists (RFC 5322 §3.4 with the obsolete forms of §4.4), as raw octets.

/// What an address list is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Item {
    GroupStart(Vec<u8>),
    GroupEnd,
    Mailbox(Mailbox),
}

/// One mailbox. Quotes and comments are removed, encoded words are left as they are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Mailbox {
    pub(crate) name: Option<Vec<u8>>,
    pub(crate) route: Option<Vec<u8>>,
    pub(crate) localpart: Vec<u8>,
    pub(crate) domain: Vec<u8>,
    /// The localpart was a quoted string.
    pub(crate) quoted: bool,
}

/// Reads an unfolded address list, and gives at most `max` items. What can't be understood is given as well as it can
/// be: a localpart without domain has an empty domain.
pub(crate) fn list(value: &[u8], max: usize) -> Vec<Item> {
    let mut parser = Parser {
        rest: value,
        comment: None,
    };
    let mut items = Vec::new();
    let mut in_group = false;
    while !parser.rest.is_empty() && items.len() < max {
        let words = parser.words();
        match parser.next() {
            Some(b'<') => {
                let mut mailbox = parser.angle_address();
                mailbox.name = phrase(&words);
                items.push(Item::Mailbox(mailbox));
                parser.skip_to_separator();
            }
            Some(b':') if !in_group => {
                parser.comment = None;
                in_group = true;
                items.push(Item::GroupStart(phrase(&words).unwrap_or_default()));
            }
            end => {
                if let Some(mut mailbox) = address(&words) {
                    // RFC 5322 §A.6.3: the name in a comment behind the address.
                    mailbox.name = parser.comment.take().filter(|c| !c.is_empty());
                    items.push(Item::Mailbox(mailbox));
                }
                parser.comment = None;
                if end == Some(b';') && in_group {
                    in_group = false;
                    items.push(Item::GroupEnd);
                }
            }
        }
    }
    if in_group {
        items.push(Item::GroupEnd);
    }
    items
}

#[derive(Debug, PartialEq)]
enum Word {
    Atom(Vec<u8>),
    Quoted(Vec<u8>),
    At,
}

struct Parser<'a> {
    rest: &'a [u8],
    comment: Option<Vec<u8>>,
}

impl Parser<'_> {
    fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    /// Words until what separates: one of `,;:<`, or the end. It is left in place.
    fn words(&mut self) -> Vec<Word> {
        let mut words = Vec::new();
        while let Some(first) = self.rest.first() {
            match first {
                b',' | b';' | b':' | b'<' => break,
                b'"' => words.push(Word::Quoted(self.delimited(b'"'))),
                b'(' => {
                    let comment = self.comment();
                    self.comment = Some(comment);
                }
                b'[' => {
                    // A domain literal is one word, colons and all.
                    let mut literal = vec![b'['];
                    literal.extend(self.delimited(b']'));
                    literal.push(b']');
                    words.push(Word::Atom(literal));
                }
                b'@' => {
                    self.next();
                    words.push(Word::At);
                }
                b'>' | b' ' | b'\t' => {
                    self.next();
                }
                _ => words.push(Word::Atom(self.atom())),
            }
        }
        words
    }

    fn atom(&mut self) -> Vec<u8> {
        let is_end = |b: &u8| {
            matches!(
                b,
                b',' | b';' | b':' | b'<' | b'>' | b'"' | b'(' | b'[' | b'@' | b' ' | b'\t'
            )
        };
        let end = self.rest.iter().position(is_end).unwrap_or(self.rest.len()).max(1);
        let (atom, rest) = self.rest.split_at(end);
        self.rest = rest;
        atom.to_vec()
    }

    /// What stands between the delimiter that is next and the closing one, with quoted pairs resolved.
    fn delimited(&mut self, close: u8) -> Vec<u8> {
        self.next();
        let mut out = Vec::new();
        while let Some(b) = self.next() {
            match b {
                b'\\' => out.extend(self.next()),
                _ if b == close => break,
                _ => out.push(b),
            }
        }
        out
    }

    /// A comment with those inside of it (RFC 5322 §3.2.2), without the outer parentheses.
    fn comment(&mut self) -> Vec<u8> {
        self.next();
        let (mut out, mut depth) = (Vec::new(), 1u32);
        while let Some(b) = self.next() {
            match b {
                b'\\' => {
                    out.extend(self.next());
                    continue;
                }
                b'(' => depth += 1,
                b')' => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                break;
            }
            out.push(b);
        }
        out.trim_ascii().to_vec()
    }

    /// After the "<": an optional route, the address, and the ">".
    fn angle_address(&mut self) -> Mailbox {
        self.comment = None;
        let mut route = None;
        let mut words = self.words();
        // RFC 5322 §4.4, obs-route: "@a,@b:".
        if words.first() == Some(&Word::At) {
            let mut domains = text(&words, b"");
            while self.rest.first() == Some(&b',') {
                self.next();
                words = self.words();
                domains.push(b',');
                domains.extend(text(&words, b""));
            }
            if self.rest.first() == Some(&b':') {
                self.next();
                words = self.words();
                route = Some(domains);
            }
        }
        // words() passes over ">": everything up to the next separator belongs to the address.
        let mut mailbox = address(&words).unwrap_or_default();
        mailbox.route = route;
        self.comment = None;
        mailbox
    }

    /// Up to and with the next comma; a semicolon is left, as it ends a group.
    fn skip_to_separator(&mut self) {
        loop {
            drop(self.words());
            match self.rest.first() {
                Some(b';') | None => break,
                Some(b',') => {
                    self.next();
                    break;
                }
                Some(_) => {
                    self.next();
                }
            }
        }
        self.comment = None;
    }
}

/// Words of an addr-spec. None if there are none.
fn address(words: &[Word]) -> Option<Mailbox> {
    if words.is_empty() {
        return None;
    }
    let at = words.iter().rposition(|w| *w == Word::At).unwrap_or(words.len());
    let (local, domain) = (&words[..at], words.get(at + 1..).unwrap_or_default());
    Some(Mailbox {
        name: None,
        route: None,
        localpart: text(local, if at == words.len() { b" " } else { b"" }),
        domain: text(domain, b""),
        quoted: matches!(local, [Word::Quoted(_)]),
    })
}

/// A display name.
fn phrase(words: &[Word]) -> Option<Vec<u8>> {
    (!words.is_empty()).then(|| text(words, b" "))
}

fn text(words: &[Word], between: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for (n, word) in words.iter().enumerate() {
        if n > 0 {
            out.extend_from_slice(between);
        }
        match word {
            Word::Atom(t) | Word::Quoted(t) => out.extend_from_slice(t),
            Word::At => out.push(b'@'),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(value: &str) -> String {
        let s = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
        list(value.as_bytes(), 100)
            .iter()
            .map(|item| match item {
                Item::GroupStart(name) => format!("{{{}", s(name)),
                Item::GroupEnd => "}".into(),
                Item::Mailbox(m) => format!(
                    "{}{}<{}|{}>",
                    m.name.as_deref().map(s).unwrap_or_default(),
                    m.route.as_deref().map(|r| format!(" {} ", s(r))).unwrap_or_default(),
                    s(&m.localpart),
                    s(&m.domain)
                ),
            })
            .collect::<Vec<_>>()
            .join(" ")
    }

    #[test]
    fn address_lists_are_read_in_all_their_forms() {
        for (given, expected) in [
            ("a@b", "<a|b>"),
            ("a@b, c@d,, e@f ", "<a|b> <c|d> <e|f>"),
            (
                "Joe Q. Public <john.q.public@example.com>",
                "Joe Q. Public<john.q.public|example.com>",
            ),
            ("\"Giant; \\\"Big\\\" Box\" <x@y>", "Giant; \"Big\" Box<x|y>"),
            (
                "Pete(A nice \\) chap) <pete(his account)@silly.test(his host)>",
                "Pete<pete|silly.test>",
            ),
            ("john.doe@example (John (x) Doe)", "John (x) Doe<john.doe|example>"),
            (
                "A Group(Some people) : Chris <c@h.t>, joe@e.o; , last@x",
                "{A Group Chris<c|h.t> <joe|e.o> } <last|x>",
            ),
            ("Undisclosed recipients:;", "{Undisclosed recipients }"),
            ("g: a@b", "{g <a|b> }"),
            (
                "Mary <@node.test,@b : mary@ex.test>, x@y",
                "Mary @node.test,@b <mary|ex.test> <x|y>",
            ),
            ("\"a b\"@c", "<a b|c>"),
            ("a@[IPv6:::1]", "<a|[IPv6:::1]>"),
            ("jdoe @ one . test", "<jdoe|one.test>"),
            ("nobody", "<nobody|>"),
            ("<>", "<|>"),
            ("x <>", "x<|>"),
            ("=?utf-8?q?a?= <a@b>", "=?utf-8?q?a?=<a|b>"),
            ("a@b@c", "<a@b|c>"),
            ("x <a@b", "x<a|b>"),
            ("\"x <a@b", "<x <a@b|>"),
            ("(only a comment)", ""),
            ("", ""),
        ] {
            assert_eq!(shown(given), expected, "{given}");
        }
    }

    #[test]
    fn nesting_and_numbers_are_bounded() {
        assert_eq!(list(&b"a,".repeat(10_000), 50).len(), 50);
        assert!(list(&b"(".repeat(1_000_000), 50).is_empty());
        assert!(list(&b"<@a,".repeat(100_000), 50).len() <= 51);
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(s in "[a-c@<>:;,.()\\\\\" \\[\\]\u{e4}]{0,60}") {
            let items = list(s.as_bytes(), 20);
            let starts = items.iter().filter(|i| matches!(i, Item::GroupStart(_))).count();
            let ends = items.iter().filter(|i| **i == Item::GroupEnd).count();
            proptest::prop_assert_eq!(starts, ends);
        }
    }
}
