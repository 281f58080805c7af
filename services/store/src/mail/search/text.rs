//! Looking for text in messages: anywhere, without regard to case, in any charset and encoding.

use std::borrow::Cow;

use memchr::memmem::Finder;
use unicode_normalization::UnicodeNormalization as _;

/// What is looked for.
#[derive(Debug)]
pub struct Needle {
    place: Place,
    /// Folded. Empty is in everything.
    finder: Finder<'static>,
}

#[derive(Debug, PartialEq, Eq)]
enum Place {
    /// In fields of this name.
    Header(String),
    Body,
    /// In the header or the body.
    Text,
}

impl Needle {
    pub fn header(name: &str, value: &str) -> Self {
        Self::new(Place::Header(name.to_owned()), value)
    }

    pub fn body(text: &str) -> Self {
        Self::new(Place::Body, text)
    }

    pub fn text(text: &str) -> Self {
        Self::new(Place::Text, text)
    }

    fn new(place: Place, text: &str) -> Self {
        Self {
            place,
            finder: Finder::new(fold(text).as_bytes()).into_owned(),
        }
    }

    /// Whether the header of a message is enough.
    pub fn needs_body(&self) -> bool {
        !matches!(self.place, Place::Header(_))
    }

    fn found_in(&self, folded: &str) -> bool {
        self.finder.find(folded.as_bytes()).is_some()
    }
}

/// The form in which texts are compared: composed, and in lower case.
fn fold(text: &str) -> Cow<'_, str> {
    if text.is_ascii() {
        return match text.bytes().any(|b| b.is_ascii_uppercase()) {
            true => text.to_ascii_lowercase().into(),
            false => text.into(),
        };
    }
    text.nfc().flat_map(char::to_lowercase).collect::<String>().into()
}

/// Looks for needles in a header, which may be followed by anything.
pub fn search_header(needles: &[Needle], header: &[u8], found: &mut [Option<bool>]) {
    for (needle, found) in needles.iter().zip(found.iter_mut()) {
        if let Place::Header(_) = needle.place {
            *found = Some(false);
        }
    }
    for field in mox_message::headers(header) {
        let mut value: Option<String> = None;
        for (needle, found) in needles.iter().zip(found.iter_mut()) {
            let Place::Header(name) = &needle.place else { continue };
            if *found == Some(true) || !field.is(name) {
                continue;
            }
            let value = value.get_or_insert_with(|| fold(&field.text()).into_owned());
            *found = Some(needle.found_in(value));
        }
    }
}

/// Looks for all needles in a whole message.
pub fn search_message(needles: &[Needle], message: &[u8], found: &mut [Option<bool>]) {
    search_header(needles, message, found);
    for (needle, found) in needles.iter().zip(found.iter_mut()) {
        if needle.needs_body() {
            *found = Some(false);
        }
    }
    let mut look = |place: Place, text: &str| {
        let mut folded: Option<Cow<'_, str>> = None;
        for (needle, found) in needles.iter().zip(found.iter_mut()) {
            let here = needle.place == place || (needle.place == Place::Text && place == Place::Body);
            if here && *found != Some(true) {
                let folded = folded.get_or_insert_with(|| fold(text));
                *found = Some(needle.found_in(folded));
            }
        }
    };
    if needles.iter().any(|n| n.place == Place::Text) {
        for field in mox_message::headers(message) {
            look(
                Place::Text,
                &format!("{}: {}", String::from_utf8_lossy(field.name), field.text()),
            );
        }
    }
    if needles.iter().any(Needle::needs_body) {
        mox_message::decoded_body(message, &mut |text| look(Place::Body, text));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MESSAGE: &[u8] = b"Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?= from\r\n afar\r\nTo: a@b\r\nTo: c@d\r\n\
        Content-Type: text/plain; charset=iso-8859-1\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n\
        Einen sch=F6nen T=\r\nag\r\n";

    fn search(needles: &[Needle]) -> Vec<bool> {
        let mut found = vec![None; needles.len()];
        search_message(needles, MESSAGE, &mut found);
        found.into_iter().map(Option::unwrap).collect()
    }

    #[test]
    fn text_is_found_decoded_and_in_any_case() {
        assert_eq!(
            search(&[
                Needle::header("subject", "GRÜ"),
                Needle::header("Subject", "from afar"),
                Needle::header("to", "c@"),
                Needle::header("to", ""),
                Needle::header("cc", ""),
                Needle::body("SCHO\u{308}NEN TAG"),
                Needle::body("grüße"),
                Needle::text("grüße"),
                Needle::text("schönen"),
                Needle::text("missing"),
                Needle::text("subject: gr"),
                Needle::body(""),
            ]),
            [
                true, true, true, true, false, true, false, true, true, false, true, true
            ]
        );
    }

    #[test]
    fn a_header_leaves_the_rest_unknown() {
        let needles = [Needle::header("to", "a"), Needle::body("x")];
        let mut found = vec![None; 2];
        search_header(&needles, MESSAGE, &mut found);
        assert_eq!(found, [Some(true), None]);
    }
}
