//! What a reader sees of HTML, and where its links lead.

/// Most octets of a tag that are looked at: of a longer one, the rest is skipped unread.
const TAG_MAX: usize = 8192;
/// Most octets of a character reference: the longest name has 31 (HTML §13.5).
const REFERENCE_MAX: usize = 33;

/// The text of HTML: without tags, comments, scripts and styles, character references decoded; each link followed by the
/// host that it leads to. Tolerant of everything, linear in the length.
#[must_use]
pub fn html_to_text(html: &str) -> String {
    let mut out = String::with_capacity(html.len() / 2);
    let mut rest = html;
    while let Some(at) = rest.find(['<', '&']) {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        if rest.starts_with('&') {
            rest = reference(rest, &mut out);
        } else if let Some(comment) = rest.strip_prefix("<!--") {
            rest = comment.find("-->").map_or("", |end| &comment[end + 3..]);
        } else if rest[1..].starts_with(|c: char| c.is_ascii_alphabetic() || matches!(c, '/' | '!' | '?')) {
            rest = tag(rest, &mut out);
        } else {
            out.push('<');
            rest = &rest[1..];
        }
    }
    out.push_str(rest);
    out
}

/// Goes past a tag, and past what belongs to it and nobody sees.
fn tag<'a>(html: &'a str, out: &mut String) -> &'a str {
    let (inner, rest) = match tag_end(html) {
        Some(end) => (&html[1..end], &html[end + 1..]),
        None => (&html[1..], ""),
    };
    let name_end = inner[1..]
        .find(|c: char| !c.is_ascii_alphanumeric())
        .map_or(inner.len(), |at| at + 1);
    let name = inner[..name_end].to_ascii_lowercase();
    match name.as_str() {
        // Words are not parted by these.
        "b" | "i" | "u" | "em" | "strong" | "span" | "font" | "/b" | "/i" | "/u" | "/em" | "/strong" | "/span"
        | "/font" | "/a" | "wbr" => {}
        "script" | "style" => {
            out.push(' ');
            return past_end_of(&name, rest);
        }
        "a" => link(inner, out),
        _ => out.push(' '),
    }
    rest
}

/// Where a tag ends: at a `>` that is not in quotes. Of one that never does, at the first `>`.
fn tag_end(html: &str) -> Option<usize> {
    let mut quote = None;
    for (at, b) in html.bytes().enumerate().take(TAG_MAX) {
        match (quote, b) {
            (None, b'>') => return Some(at),
            (None, b'"' | b'\'') => quote = Some(b),
            (Some(q), b) if q == b => quote = None,
            _ => {}
        }
    }
    html.find('>')
}

/// Behind the end tag of an element whose content is no text.
fn past_end_of<'a>(name: &str, html: &'a str) -> &'a str {
    let mut rest = html;
    while let Some(at) = rest.find("</") {
        rest = &rest[at + 2..];
        if rest
            .get(..name.len())
            .is_some_and(|found| found.eq_ignore_ascii_case(name))
        {
            return rest.find('>').map_or("", |end| &rest[end + 1..]);
        }
    }
    ""
}

/// The host of a link is a word of the text.
fn link(inner: &str, out: &mut String) {
    let inner = &inner[..inner.floor_char_boundary(TAG_MAX)];
    let lower = inner.to_ascii_lowercase();
    let Some(at) = lower.find("href") else { return };
    let value = inner[at + 4..].trim_start().trim_start_matches('=').trim_start();
    let value = value.trim_start_matches(['"', '\'']);
    let Some((scheme, rest)) = value.split_once("://") else {
        return;
    };
    if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
        return;
    }
    let authority = rest
        .split(['/', '?', '#', '"', '\'', '>', ' '])
        .next()
        .unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    out.push(' ');
    out.push_str(host.split(':').next().unwrap_or_default());
    out.push(' ');
}

/// Decodes a character reference; what is none stays as it is.
fn reference<'a>(html: &'a str, out: &mut String) -> &'a str {
    let end = html.bytes().take(REFERENCE_MAX).position(|b| b == b';');
    let decoded = end.and_then(|end| decode(&html[1..end]).map(|c| (c, end)));
    match decoded {
        Some((c, end)) => {
            out.push(c);
            &html[end + 1..]
        }
        None => {
            out.push('&');
            &html[1..]
        }
    }
}

fn decode(name: &str) -> Option<char> {
    if let Some(number) = name.strip_prefix('#') {
        let code = match number.strip_prefix(['x', 'X']) {
            Some(hex) => u32::from_str_radix(hex, 16),
            None => number.parse(),
        };
        return char::from_u32(code.ok()?);
    }
    // Those that letters have.
    Some(match name {
        "amp" => '&',
        "lt" => '<',
        "gt" => '>',
        "quot" => '"',
        "apos" | "rsquo" | "lsquo" => '\'',
        "nbsp" => ' ',
        "auml" => 'ä',
        "ouml" => 'ö',
        "uuml" => 'ü',
        "Auml" => 'Ä',
        "Ouml" => 'Ö',
        "Uuml" => 'Ü',
        "szlig" => 'ß',
        "eacute" => 'é',
        "egrave" => 'è',
        "agrave" => 'à',
        "ccedil" => 'ç',
        "ntilde" => 'ñ',
        "euro" => '€',
        "pound" => '£',
        // Within words, for hyphenation: nobody sees it.
        "shy" | "zwnj" | "zwj" => '\u{ad}',
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(html: &str) -> String {
        html_to_text(html).split_whitespace().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn what_is_seen_stays() {
        assert_eq!(
            text(
                "<html><head><style>p { color: red }</style></head><p>Buy<br>n<b>o</b>w &amp; s&auml;ve</p><!-- x > y -->!"
            ),
            "Buy now & säve !"
        );
        assert_eq!(text("a <script>if (a<b) { '</scrip>' }</SCRIPT > b"), "a b");
        assert_eq!(text("1 < 2 &unknown; &#8364;&#x41; & c"), "1 < 2 &unknown; €A & c");
        assert_eq!(text("<p title=\"a > b\">c</p>"), "c");
    }

    #[test]
    fn links_are_followed_by_their_host() {
        assert_eq!(
            text("<A class=x HREF = 'https://user@Evil.example:8080/path?q'>click</a>"),
            "Evil.example click"
        );
        assert_eq!(text("<a href=mailto:a@b>mail</a> <a>none</a>"), "mail none");
    }

    #[test]
    fn what_never_ends_takes_no_longer_than_it_is_long() {
        for open in ["<", "<a ", "<!--", "&", "<script>", "<p title=\"", "</"] {
            let html = open.repeat(200_000);
            assert!(html_to_text(&html).len() <= html.len());
        }
    }

    proptest! {
        #[test]
        fn anything_is_taken(html in "(<|>|&|;|\"|'|a|b|#|x|é|!|-|/|script|href=|https://| ){0,60}") {
            let _ = html_to_text(&html);
        }
    }
}
