//! Flags as files of other programs write them: letters, and names of keywords.

use mox_proto::mail::v1::{Flag, Flags};

/// Keywords that are flags of ours, by the name that we write.
const NAMES: [(Flag, &str); 6] = [
    (Flag::Forwarded, "$Forwarded"),
    (Flag::Junk, "$Junk"),
    (Flag::Notjunk, "$NotJunk"),
    (Flag::Phishing, "$Phishing"),
    (Flag::Mdnsent, "$MDNSent"),
    (Flag::Important, "$Important"),
];

/// Adds a keyword by its name. Clients have several for the same: "Junk" and "$Junk", "NonJunk" and "$NotJunk".
pub fn add_keyword(flags: &mut Flags, name: &str) {
    let lower = name.to_lowercase();
    let plain = lower.strip_prefix('$').unwrap_or(&lower);
    let bit = match plain {
        "forwarded" => Flag::Forwarded,
        "junk" => Flag::Junk,
        "notjunk" | "nonjunk" => Flag::Notjunk,
        "phishing" => Flag::Phishing,
        "mdnsent" => Flag::Mdnsent,
        "important" if lower.starts_with('$') => Flag::Important,
        _ => {
            if !lower.is_empty() && !flags.keywords.contains(&lower) {
                flags.keywords.push(lower);
            }
            return;
        }
    };
    flags.bits |= bit as u32;
}

/// The names of all flags that have no letter, and of all keywords.
pub fn keyword_names(flags: &Flags) -> impl Iterator<Item = &str> {
    NAMES
        .iter()
        .filter(|(flag, _)| flags.bits & *flag as u32 != 0)
        .map(|(_, name)| *name)
        .chain(flags.keywords.iter().map(String::as_str))
}

/// Sets the flags of letters, by a table.
pub(super) fn set_letters(flags: &mut Flags, letters: impl IntoIterator<Item = u8>, table: &[(u8, Flag)]) {
    for letter in letters {
        if let Some((_, flag)) = table.iter().find(|(known, _)| *known == letter) {
            flags.bits |= *flag as u32;
        }
    }
}

/// The letters of flags, in the order of a table.
pub(super) fn letters(flags: &Flags, table: &[(u8, Flag)]) -> String {
    let set = table.iter().filter(|(_, flag)| flags.bits & *flag as u32 != 0);
    set.map(|(letter, _)| char::from(*letter)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keywords_of_clients_are_flags_of_ours() {
        let mut flags = Flags::default();
        for name in ["NonJunk", "$Forwarded", "Work", "work", "important", ""] {
            add_keyword(&mut flags, name);
        }
        assert_eq!(flags.bits, Flag::Notjunk as u32 | Flag::Forwarded as u32);
        assert_eq!(flags.keywords, ["work", "important"]);
        let names: Vec<&str> = keyword_names(&flags).collect();
        assert_eq!(names, ["$Forwarded", "$NotJunk", "work", "important"]);
    }
}
