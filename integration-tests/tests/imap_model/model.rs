//! What is true: mailboxes and their messages.

use std::collections::{BTreeMap, BTreeSet};

/// Flags of a message.
pub type Flags = BTreeSet<String>;

/// What is known of a message's modification sequence before it is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Touched {
    /// It must be as it was.
    No,
    /// A change that changed nothing: it may be as it was, or new.
    Perhaps,
    /// It must be larger than any before.
    Yes,
}

/// A message.
#[derive(Debug, Clone)]
pub struct Message {
    pub flags: Flags,
    pub modseq: u64,
    pub touched: Touched,
    /// In its subject, and in its text.
    pub number: u32,
    pub size: usize,
    /// Its INTERNALDATE is on this day of January 2020.
    pub day: u32,
}

impl Message {
    pub fn subject(&self) -> String {
        format!("n{}", self.number)
    }

    /// As it is appended.
    pub fn content(&self) -> String {
        content(self.number)
    }
}

/// The message of a number. Sizes differ.
pub fn content(number: u32) -> String {
    format!(
        "From: someone@example.org\r\nSubject: n{number}\r\n\r\ntext of n{number}{}\r\n",
        " filler".repeat(number as usize % 50)
    )
}

/// A mailbox.
#[derive(Debug, Clone, Default)]
pub struct Mailbox {
    /// 0 until it is known.
    pub uidvalidity: u32,
    pub uidnext: u32,
    pub messages: BTreeMap<u32, Message>,
    pub highest_modseq: u64,
    /// Whether something was removed since the highest modification sequence was asked for.
    pub shrunk: bool,
}

impl Mailbox {
    pub fn new() -> Self {
        Self {
            uidnext: 1,
            ..Self::default()
        }
    }

    pub fn uids(&self) -> Vec<u32> {
        self.messages.keys().copied().collect()
    }

    /// Adds a message, and gives its UID.
    pub fn add(&mut self, number: u32, flags: Flags, day: u32) -> u32 {
        let uid = self.uidnext;
        self.uidnext += 1;
        let message = Message {
            flags,
            modseq: 0,
            touched: Touched::Yes,
            number,
            size: content(number).len(),
            day,
        };
        self.messages.insert(uid, message);
        uid
    }

    pub fn remove(&mut self, uids: &[u32]) {
        for uid in uids {
            self.shrunk |= self.messages.remove(uid).is_some();
        }
    }

    /// Changes the flags of a message, if it is there.
    pub fn store(&mut self, uid: u32, mode: Mode, flags: &Flags) {
        let Some(message) = self.messages.get_mut(&uid) else {
            return;
        };
        let after: Flags = match mode {
            Mode::Set => flags.clone(),
            Mode::Add => message.flags.union(flags).cloned().collect(),
            Mode::Remove => message.flags.difference(flags).cloned().collect(),
        };
        if after != message.flags {
            message.flags = after;
            message.touched = Touched::Yes;
        } else if message.touched == Touched::No {
            message.touched = Touched::Perhaps;
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Set,
    Add,
    Remove,
}
