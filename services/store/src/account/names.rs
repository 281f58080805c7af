//! Names of mailboxes: "/" between levels, NFC, and the Inbox in any case.

use unicode_normalization::UnicodeNormalization;

use super::AccountError;

/// The mailbox that every account has (RFC 9051 §5.1: its name is case-insensitive).
pub const INBOX: &str = "Inbox";
/// Between the levels of a name.
pub const SEPARATOR: char = '/';
/// Most octets of a name: clients show names, and keys of the store contain them.
pub const NAME_BYTES_MAX: usize = 1000;
/// Most levels of a name: each may become a mailbox of its own.
pub const LEVELS_MAX: usize = 50;

/// The name in its one form.
///
/// # Errors
/// If it is empty, too long, or has empty levels or characters that lists cannot ask for or show.
pub fn canonical(name: &str) -> Result<String, AccountError> {
    let invalid = |why: &str| Err(AccountError::Invalid(format!("mailbox name {}: {why}", shown(name))));
    if name.len() > NAME_BYTES_MAX {
        return invalid("longer than 1000 octets");
    }
    // RFC 9051 §5.1: names are Net-Unicode, that is NFC.
    let name: String = name.nfc().collect();
    if name.is_empty() {
        return invalid("empty");
    }
    if name.len() > NAME_BYTES_MAX {
        return invalid("longer than 1000 octets");
    }
    // RFC 9051 §5.1: control characters (RFC 5198 §2) and line separators do not belong into names; "*" and "%" could
    // not be asked for in LIST; "#" at the start is reserved for namespaces.
    if name
        .chars()
        .any(|c| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}'))
    {
        return invalid("has control characters");
    }
    if name.contains(['*', '%']) {
        return invalid("has \"*\" or \"%\", which stand for any text in lists");
    }
    if name.starts_with('#') {
        return invalid("starts with \"#\", which is reserved");
    }
    let mut levels: Vec<&str> = name.split(SEPARATOR).collect();
    if levels.len() > LEVELS_MAX {
        return invalid("more than 50 levels");
    }
    if levels.iter().any(|l| l.is_empty()) {
        return invalid("has an empty level");
    }
    if levels.iter().any(|l| *l == "." || *l == "..") {
        return invalid("has \".\" or \"..\" as a level");
    }
    if levels[0].eq_ignore_ascii_case(INBOX) {
        levels[0] = INBOX;
    }
    Ok(levels.join("/"))
}

fn shown(name: &str) -> String {
    let mut shown: String = name.chars().take(60).collect();
    if shown.len() < name.len() {
        shown.push('…');
    }
    format!("{shown:?}")
}

/// The names of the levels above, the highest first.
pub fn parents(name: &str) -> impl Iterator<Item = &str> {
    name.match_indices(SEPARATOR).map(|(at, _)| &name[..at])
}

/// Whether `name` lies below `parent`.
#[must_use]
pub fn is_below(name: &str, parent: &str) -> bool {
    name.strip_prefix(parent)
        .is_some_and(|rest| rest.starts_with(SEPARATOR))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_get_their_one_form() {
        for (given, canon) in [
            ("INBOX", "Inbox"),
            ("inbox/Sub", "Inbox/Sub"),
            ("inboxes", "inboxes"),
            ("a/INBOX", "a/INBOX"),
            ("e\u{301}", "é"),
        ] {
            assert_eq!(canonical(given).unwrap(), canon);
        }
        for bad in [
            "",
            "/",
            "a/",
            "/a",
            "a//b",
            "a\nb",
            "a*",
            "%",
            "#x",
            "a/../b",
            &"x".repeat(1001),
            &"a/".repeat(60),
        ] {
            assert!(canonical(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn parents_come_highest_first() {
        assert_eq!(parents("a/b/c").collect::<Vec<_>>(), ["a", "a/b"]);
        assert_eq!(parents("a").count(), 0);
        assert!(is_below("a/b", "a") && !is_below("ab", "a") && !is_below("a", "a"));
    }

    proptest! {
        #[test]
        fn canonical_is_stable(name in ".{0,40}") {
            if let Ok(once) = canonical(&name) {
                prop_assert_eq!(canonical(&once).unwrap(), once);
            }
        }
    }
}
