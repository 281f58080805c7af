//! Maildirs: a folder with `new`, `cur` and `tmp`, one file a message, flags in the names of files.
//!
//! Dovecot keeps keywords as lower-case letters in the names, which a file `dovecot-keywords` beside the folders
//! explains: a number, 0 for "a", and a name on each line.

use mox_proto::mail::v1::{Flag, Flags};

use super::flags::{add_keyword, keyword_names, letters, set_letters};

/// The file with the names of keywords.
pub const KEYWORDS_FILE: &str = "dovecot-keywords";
/// The folders of a maildir.
pub const FOLDERS: [&str; 3] = ["cur", "new", "tmp"];
/// Keywords that there are letters for.
pub const KEYWORDS_MAX: usize = 26;
/// Most bytes of a file of keywords that are looked at.
pub const KEYWORDS_FILE_MAX: u64 = 64 << 10;

/// Letters of flags, in the order in which they are written.
const LETTERS: [(u8, Flag); 6] = [
    (b'D', Flag::Draft),
    (b'F', Flag::Flagged),
    (b'P', Flag::Forwarded),
    (b'R', Flag::Answered),
    (b'S', Flag::Seen),
    (b'T', Flag::Deleted),
];

/// The names of keywords, by letter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Keywords([Option<String>; KEYWORDS_MAX]);

impl Keywords {
    /// Reads the file. Lines that are not understood are passed over; also told, by number.
    #[must_use]
    pub fn parse(file: &[u8]) -> (Self, Vec<usize>) {
        let mut keywords = Self::default();
        let mut bad = Vec::new();
        for (n, line) in String::from_utf8_lossy(file).lines().enumerate() {
            let line = line.trim();
            if line.is_empty() {
                continue;
            }
            let entry = line.split_once(' ').and_then(|(number, name)| {
                let place = keywords.0.get_mut(number.parse::<usize>().ok()?)?;
                let name = name.trim();
                (place.is_none() && !name.is_empty()).then(|| *place = Some(name.to_owned()))
            });
            if entry.is_none() {
                bad.push(n + 1);
            }
        }
        (keywords, bad)
    }

    /// The letter of a keyword, a new one if it has none; none if all are taken.
    pub fn letter(&mut self, name: &str) -> Option<char> {
        let known = self.0.iter().position(|k| k.as_deref() == Some(name));
        let at = known.or_else(|| self.0.iter().position(Option::is_none))?;
        self.0[at].get_or_insert_with(|| name.to_owned());
        char::from_u32(u32::from(b'a') + u32::try_from(at).ok()?)
    }

    /// As the file has it; empty if there are none.
    #[must_use]
    pub fn to_file(&self) -> String {
        let named = self.0.iter().enumerate().filter_map(|(n, k)| Some((n, k.as_ref()?)));
        named.map(|(n, name)| format!("{n} {name}\n")).collect()
    }
}

/// Flags that the name of a file says.
#[must_use]
pub fn flags(name: &[u8], keywords: &Keywords) -> Flags {
    let mut flags = Flags::default();
    let Some(at) = memchr::memmem::rfind(name, b":2,") else {
        return flags;
    };
    let info = &name[at + 3..];
    // Whatever follows another comma is somebody's extension.
    let info = &info[..memchr::memchr(b',', info).unwrap_or(info.len())];
    set_letters(&mut flags, info.iter().copied(), &LETTERS);
    for letter in info.iter().filter(|b| b.is_ascii_lowercase()) {
        if let Some(Some(name)) = keywords.0.get(usize::from(letter - b'a')) {
            add_keyword(&mut flags, name);
        }
    }
    flags
}

/// The time of delivery that the name of a file begins with, in seconds since 1970.
#[must_use]
pub fn delivered(name: &[u8]) -> Option<i64> {
    let digits = name.iter().take_while(|b| b.is_ascii_digit()).count();
    if !(9..=11).contains(&digits) || name.get(digits) != Some(&b'.') {
        return None;
    }
    std::str::from_utf8(&name[..digits]).ok()?.parse().ok()
}

/// The name of a file in `cur`. `unique` is among those of one second; `size` is that of the file. Answers also with the
/// keywords that there was no letter for.
pub fn file_name(
    received: i64,
    unique: &str,
    size: u64,
    flags: &Flags,
    keywords: &mut Keywords,
) -> (String, Vec<String>) {
    let mut info = letters(flags, &LETTERS);
    let mut lost = Vec::new();
    let mut lower = Vec::new();
    for name in keyword_names(flags).filter(|name| *name != "$Forwarded") {
        match keywords.letter(name) {
            Some(letter) => lower.push(letter),
            None => lost.push(name.to_owned()),
        }
    }
    lower.sort_unstable();
    info.extend(lower);
    (format!("{}.{unique},S={size}:2,{info}", received.max(0)), lost)
}

/// The path of a mailbox among others: its levels as folders. A level that would be taken for a folder of its parent's
/// maildir, or be hidden, or be too long for a file system gets another name.
#[must_use]
pub fn path(mailbox: &str) -> String {
    let level = |level: &str| {
        let reserved = FOLDERS.contains(&level) || level == KEYWORDS_FILE || level.starts_with('.');
        let mut safe = String::new();
        if reserved {
            safe.push('_');
        }
        for c in level.chars() {
            // Names of files have at most 255 bytes, and something may be added to this one.
            if safe.len() > 230 {
                break;
            }
            safe.push(if c.is_control() { '_' } else { c });
        }
        safe
    };
    mailbox.split('/').map(level).collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_of_others_are_read() {
        let (keywords, bad) = Keywords::parse(b"0 $Junk\n1 Work\n\nx y\n99 no\n1 again\n");
        assert_eq!(bad, [4, 5, 6]);
        let read = flags(b"1700000000.M1P2.host,S=5,W=6:2,FSabz", &keywords);
        assert_eq!(read.bits, Flag::Flagged as u32 | Flag::Seen as u32 | Flag::Junk as u32);
        assert_eq!(read.keywords, ["work"]);
        assert_eq!(delivered(b"1700000000.M1P2.host"), Some(1_700_000_000));
        for none in [&b"cur"[..], b"17.x", b"99999999999999.x", b"1700000000x"] {
            assert_eq!(delivered(none), None);
        }
        assert_eq!(flags(b"1700000000.x", &keywords), Flags::default());
        assert_eq!(flags(b"1700000000.x:2,S,T", &keywords).bits, Flag::Seen as u32);
        assert_eq!(path("Work/new/.x"), "Work/_new/_.x");
        assert!(path(&"ü".repeat(500)).len() < 255);
    }

    #[test]
    fn there_are_26_letters() {
        let mut keywords = Keywords::default();
        let flags = Flags {
            bits: 0,
            keywords: (0..30).map(|n| format!("k{n:02}")).collect(),
        };
        let (name, lost) = file_name(5, "u", 1, &flags, &mut keywords);
        assert!(name.ends_with(":2,abcdefghijklmnopqrstuvwxyz"), "{name}");
        assert_eq!(lost, ["k26", "k27", "k28", "k29"]);
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(name in prop::collection::vec(any::<u8>(), 0..80), file in prop::collection::vec(any::<u8>(), 0..80)) {
            let (keywords, _) = Keywords::parse(&file);
            let _ = (flags(&name, &keywords), delivered(&name), path(&String::from_utf8_lossy(&name)));
        }

        #[test]
        fn flags_come_back(bits in 0u32..0x7ff, words in prop::collection::btree_set("[b-z][0-9]", 0..9), at in 100_000_000i64..4_000_000_000) {
            let given = Flags { bits, keywords: words.into_iter().collect() };
            let mut keywords = Keywords::default();
            let (name, lost) = file_name(at, "1.host", 77, &given, &mut keywords);
            prop_assert!(lost.is_empty());
            let (read, bad) = Keywords::parse(keywords.to_file().as_bytes());
            prop_assert!(bad.is_empty());
            prop_assert_eq!(&read, &keywords);
            prop_assert_eq!(flags(name.as_bytes(), &read), given);
            prop_assert_eq!(delivered(name.as_bytes()), Some(at));
        }
    }
}
