//! Looking for text in messages: anywhere, without regard to case, in any charset and encoding.

use std::borrow::Cow;

use memchr::memmem::Finder;

use crate::search::{Place, fold};

/// What is looked for.
#[derive(Debug)]
pub struct Needle {
    place: Place,
    /// Folded. Empty is in everything.
    text: String,
    finder: Finder<'static>,
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
        let text = fold(text).into_owned();
        Self {
            place,
            finder: Finder::new(text.as_bytes()).into_owned(),
            text,
        }
    }

    /// Where it is looked for, and what, folded.
    pub fn wanted(&self) -> (&Place, &str) {
        (&self.place, &self.text)
    }

    /// Whether the header of a message is enough.
    pub fn needs_body(&self) -> bool {
        !matches!(self.place, Place::Header(_))
    }

    fn found_in(&self, folded: &str) -> bool {
        self.finder.find(folded.as_bytes()).is_some()
    }
}

/// Looks for needles in a header, which may be followed by anything. What is known of a needle stays.
pub fn search_header(needles: &[Needle], header: &[u8], found: &mut [Option<bool>]) {
    let mut open: Vec<(&str, &Needle, &mut Option<bool>)> = needles
        .iter()
        .zip(found)
        .filter(|(_, found)| found.is_none())
        .filter_map(|(needle, found)| match &needle.place {
            Place::Header(name) => Some((name.as_str(), needle, found)),
            _ => None,
        })
        .collect();
    if open.is_empty() {
        return;
    }
    open.iter_mut().for_each(|(.., found)| **found = Some(false));
    for field in mox_message::headers(header) {
        let mut value: Option<String> = None;
        for (_, needle, found) in open
            .iter_mut()
            .filter(|(name, _, found)| **found == Some(false) && field.is(name))
        {
            let value = value.get_or_insert_with(|| fold(&field.text()).into_owned());
            **found = Some(needle.found_in(value));
        }
    }
}

/// Looks for all needles in a whole message. What is known of a needle stays.
pub fn search_message(needles: &[Needle], message: &[u8], found: &mut [Option<bool>]) {
    search_header(needles, message, found);
    let mut open: Vec<(&Needle, &mut Option<bool>)> =
        needles.iter().zip(found).filter(|(_, found)| found.is_none()).collect();
    if open.is_empty() {
        return;
    }
    open.iter_mut().for_each(|(_, found)| **found = Some(false));
    let any_text = open.iter().any(|(needle, _)| needle.place == Place::Text);
    let mut look = |header: bool, text: &str| {
        let mut folded: Option<Cow<'_, str>> = None;
        for (needle, found) in open.iter_mut().filter(|(_, found)| **found == Some(false)) {
            if !header || needle.place == Place::Text {
                let folded = folded.get_or_insert_with(|| fold(text));
                **found = Some(needle.found_in(folded));
            }
        }
    };
    if any_text {
        for field in mox_message::headers(message) {
            look(
                true,
                &format!("{}: {}", String::from_utf8_lossy(field.name), field.text()),
            );
        }
    }
    mox_message::decoded_body(message, &mut |text| look(false, text));
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
