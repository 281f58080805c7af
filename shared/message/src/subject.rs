//! Base subjects, by which replies are kept together (RFC 5256 §2.1).

/// The base subject of a decoded subject, and whether it says that the message replies or forwards.
///
/// In lower case, white space as single spaces; without leading "Re:", "Fwd:", "Fw:" and bracketed tags, without
/// trailing "(fwd)", and without an enclosing "[fwd: …]".
#[must_use]
pub fn base_subject(subject: &str) -> (String, bool) {
    let whole = collapse(
        &subject
            .chars()
            .take(crate::limits::VALUE)
            .collect::<String>()
            .to_lowercase(),
    );
    let mut is_reply = false;
    let mut s = whole.as_str();
    loop {
        while let Some(rest) = s.strip_suffix("(fwd)") {
            is_reply = true;
            s = rest.trim_end();
        }
        // Leaders, and blobs as long as something is left behind them.
        loop {
            if let Some(rest) = leader(s) {
                is_reply = true;
                s = rest;
            } else if let Some(rest) = blob(s).filter(|rest| !rest.is_empty()) {
                s = rest;
            } else {
                break;
            }
        }
        match s.strip_prefix("[fwd:").and_then(|s| s.strip_suffix(']')) {
            Some(inner) => {
                is_reply = true;
                s = inner.trim();
            }
            None if s.ends_with("(fwd)") => {}
            None => return (s.to_owned(), is_reply),
        }
    }
}

fn collapse(s: &str) -> String {
    let mut out = String::with_capacity(s.len());
    for word in s
        .split(|c: char| c.is_whitespace() || c.is_control())
        .filter(|w| !w.is_empty())
    {
        if !out.is_empty() {
            out.push(' ');
        }
        out.push_str(word);
    }
    out
}

/// `[tag]` and what follows.
fn blob(s: &str) -> Option<&str> {
    let inner = s.strip_prefix('[')?;
    let end = inner.find(['[', ']'])?;
    inner[end..].strip_prefix(']').map(str::trim_start)
}

/// `re:`, `fw:`, `fwd:`, with a tag before the colon: `re [2]: rest`.
fn leader(s: &str) -> Option<&str> {
    let s = s
        .strip_prefix("re")
        .or_else(|| s.strip_prefix("fwd"))
        .or_else(|| s.strip_prefix("fw"))?
        .trim_start();
    let s = blob(s).unwrap_or(s);
    s.strip_prefix(':').map(str::trim_start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_replies_and_lists_add_is_removed() {
        for (given, base, reply) in [
            ("Hello", "hello", false),
            ("Re: Hello", "hello", true),
            (
                "RE: re[2]: Fwd : [List]  Hello \t World (fwd) (FWD)",
                "hello world",
                true,
            ),
            ("[list] Hello", "hello", false),
            ("[list] [b] Re: Hello", "hello", true),
            ("[list]", "[list]", false),
            ("[a] [b]", "[b]", false),
            ("[Fwd: Re: Hello]", "hello", true),
            ("Re:", "", true),
            ("Reply: x", "reply: x", false),
            ("regarding", "regarding", false),
            ("(fwd)", "", true),
            ("[fwd: a", "[fwd: a", false),
            ("", "", false),
            ("Ä\u{a0}Ö", "ä ö", false),
        ] {
            assert_eq!(base_subject(given), (base.to_owned(), reply), "{given}");
        }
    }

    proptest::proptest! {
        #[test]
        fn a_base_subject_is_its_own(s in "(re|fwd?|Re|\\[|\\]|:| |\\(fwd\\)|x|fwd:){0,12}") {
            let (base, _) = base_subject(&s);
            proptest::prop_assert_eq!(base_subject(&base).0, base);
        }
    }
}
