//! Random search keys, and what they find.

use rand::Rng as _;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;

use crate::model::{Mailbox, Message};

/// Whether a message matches: its sequence number, its UID, and itself.
type Test = Box<dyn Fn(u32, u32, &Message) -> bool>;

/// A key as it is sent, and what it means.
pub struct Key {
    pub text: String,
    test: Test,
}

/// Flags that may be set, and how they are searched for.
pub const FLAGS: [(&str, &str, &str); 6] = [
    ("\\Seen", "SEEN", "UNSEEN"),
    ("\\Flagged", "FLAGGED", "UNFLAGGED"),
    ("\\Deleted", "DELETED", "UNDELETED"),
    ("\\Answered", "ANSWERED", "UNANSWERED"),
    ("work", "KEYWORD work", "UNKEYWORD work"),
    ("play", "KEYWORD play", "UNKEYWORD play"),
];

fn new(text: String, test: impl Fn(u32, u32, &Message) -> bool + 'static) -> Key {
    Key {
        text,
        test: Box::new(test),
    }
}

impl Key {
    pub fn random(random: &mut StdRng, mailbox: &Mailbox, numbers: bool, condstore: bool, depth: u32) -> Self {
        let largest = mailbox.uidnext;
        let kind = random.random_range(0..if depth > 0 { 16 } else { 12 });
        match kind {
            0..=3 => {
                let (flag, set, unset) = *FLAGS.choose(random).unwrap_or(&FLAGS[0]);
                let wanted = random.random_bool(0.5);
                let text = if wanted { set } else { unset };
                new(text.to_owned(), move |_, _, m| m.flags.contains(flag) == wanted)
            }
            4 => {
                let (a, b) = (random.random_range(1..=largest), random.random_range(1..=largest));
                let range = a.min(b)..=a.max(b);
                new(format!("UID {a}:{b}"), move |_, uid, _| range.contains(&uid))
            }
            5 if numbers && !mailbox.messages.is_empty() => {
                let count = u32::try_from(mailbox.messages.len()).unwrap_or(u32::MAX);
                let (a, b) = (random.random_range(1..=count), random.random_range(1..=count));
                let range = a.min(b)..=a.max(b);
                new(format!("{a}:{b}"), move |n, _, _| range.contains(&n))
            }
            6 => {
                let what = format!("N{}", random.random_range(0..100));
                let small = what.to_lowercase();
                new(format!("SUBJECT {what}"), move |_, _, m| m.subject().contains(&small))
            }
            7 => {
                let what = format!("n{}", random.random_range(0..100));
                new(format!("BODY \"text of {what}\""), move |_, _, m| {
                    m.content().contains(&format!("text of {what}"))
                })
            }
            8 => {
                let size = random.random_range(50..300usize);
                if random.random_bool(0.5) {
                    new(format!("LARGER {size}"), move |_, _, m| m.size > size)
                } else {
                    new(format!("SMALLER {size}"), move |_, _, m| m.size < size)
                }
            }
            9 => {
                let day = random.random_range(1..29);
                match random.random_range(0..3) {
                    0 => new(format!("SINCE {day}-Jan-2020"), move |_, _, m| m.day >= day),
                    1 => new(format!("BEFORE {day}-Jan-2020"), move |_, _, m| m.day < day),
                    _ => new(format!("ON {day}-Jan-2020"), move |_, _, m| m.day == day),
                }
            }
            10 if condstore => {
                let least = random.random_range(0..=mailbox.highest_modseq + 1);
                new(format!("MODSEQ {least}"), move |_, _, m| m.modseq >= least)
            }
            5 | 10 | 11 => new("ALL".to_owned(), |_, _, _| true),
            12 => {
                let key = Self::random(random, mailbox, numbers, condstore, depth - 1);
                new(format!("NOT {}", key.text), move |n, u, m| !(key.test)(n, u, m))
            }
            13 | 14 => {
                let a = Self::random(random, mailbox, numbers, condstore, depth - 1);
                let b = Self::random(random, mailbox, numbers, condstore, depth - 1);
                new(format!("OR {} {}", a.text, b.text), move |n, u, m| {
                    (a.test)(n, u, m) || (b.test)(n, u, m)
                })
            }
            _ => {
                let a = Self::random(random, mailbox, numbers, condstore, depth - 1);
                let b = Self::random(random, mailbox, numbers, condstore, depth - 1);
                new(format!("({} {})", a.text, b.text), move |n, u, m| {
                    (a.test)(n, u, m) && (b.test)(n, u, m)
                })
            }
        }
    }

    /// What it finds: sequence number and UID.
    pub fn find(&self, mailbox: &Mailbox) -> Vec<(u32, u32)> {
        (1..)
            .zip(&mailbox.messages)
            .filter(|(n, (uid, message))| (self.test)(*n, **uid, message))
            .map(|(n, (uid, _))| (n, *uid))
            .collect()
    }
}
