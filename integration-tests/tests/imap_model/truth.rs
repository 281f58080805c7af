//! A session that looks at all there is, after each step, and compares with the model.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use mox_integration_tests::client::Imap;

use crate::model::{Mailbox, Touched};
use crate::session::{code_number, fetched, told_number};

/// The session.
pub struct Truth {
    pub imap: Imap,
}

impl Truth {
    /// Compares one mailbox, and takes what the model does not say: modification sequences.
    pub fn check(&mut self, name: &str, mailbox: &mut Mailbox) -> Result<()> {
        let opened = self.imap.command(&format!("EXAMINE {name} (CONDSTORE)"))?;
        let number = |code: &str| opened.iter().find_map(|r| code_number(r, code));
        let exists = opened.iter().find_map(|r| told_number(r, "EXISTS"));
        ensure!(
            exists == Some(mailbox.messages.len()),
            "{name} has {exists:?} messages, and should have {}",
            mailbox.messages.len()
        );
        let uidnext = number("UIDNEXT").context("no UIDNEXT")?;
        ensure!(
            uidnext == u64::from(mailbox.uidnext),
            "UIDNEXT of {name} is {uidnext}, not {}",
            mailbox.uidnext
        );
        let validity = u32::try_from(number("UIDVALIDITY").context("no UIDVALIDITY")?)?;
        if mailbox.uidvalidity == 0 {
            mailbox.uidvalidity = validity;
        }
        ensure!(
            validity == mailbox.uidvalidity,
            "UIDVALIDITY of {name} is {validity}, not {}",
            mailbox.uidvalidity
        );
        let highest = number("HIGHESTMODSEQ").context("no HIGHESTMODSEQ")?;
        self.check_messages(name, mailbox, highest)?;
        self.check_status(name, mailbox)
    }

    fn check_messages(&mut self, name: &str, mailbox: &mut Mailbox, highest: u64) -> Result<()> {
        let before = mailbox.highest_modseq;
        let mut is = BTreeMap::new();
        for response in self.imap.command("UID FETCH 1:* (FLAGS MODSEQ)")? {
            if let Some(fetched) = fetched(&response)? {
                is.insert(fetched.uid.context("no UID")?, fetched);
            }
        }
        ensure!(
            is.keys().copied().eq(mailbox.messages.keys().copied()),
            "{name} has {:?}, and should have {:?}",
            is.keys().collect::<Vec<_>>(),
            mailbox.uids()
        );
        let (mut largest, mut changed) = (0, mailbox.shrunk);
        for (uid, message) in &mut mailbox.messages {
            let is = &is[uid];
            let flags = is.flags.clone().context("no FLAGS")?;
            ensure!(
                flags == message.flags,
                "flags of {uid} in {name} are {flags:?}, and should be {:?}",
                message.flags
            );
            let modseq = is.modseq.context("no MODSEQ")?;
            let right = match message.touched {
                Touched::No => modseq == message.modseq,
                Touched::Perhaps => modseq == message.modseq || modseq > before,
                Touched::Yes => modseq > before,
            };
            ensure!(
                right,
                "MODSEQ of {uid} in {name} was {} and is {modseq}, with {before} the highest before: touched {:?}",
                message.modseq,
                message.touched
            );
            changed |= modseq != message.modseq;
            message.modseq = modseq;
            message.touched = Touched::No;
            largest = largest.max(modseq);
        }
        ensure!(
            highest >= largest,
            "HIGHESTMODSEQ of {name} is {highest}, with a message of {largest}"
        );
        ensure!(
            if changed { highest > before } else { highest >= before },
            "HIGHESTMODSEQ of {name} was {before} and is {highest}: changed {changed}"
        );
        mailbox.highest_modseq = highest;
        mailbox.shrunk = false;
        Ok(())
    }

    fn check_status(&mut self, name: &str, mailbox: &Mailbox) -> Result<()> {
        let is = self.imap.command(&format!(
            "STATUS {name} (MESSAGES UIDNEXT UIDVALIDITY UNSEEN SIZE HIGHESTMODSEQ)"
        ))?;
        let unseen = mailbox.messages.values().filter(|m| !m.flags.contains("\\Seen"));
        let size: usize = mailbox.messages.values().map(|m| m.size).sum();
        let should = format!(
            "* STATUS {name} (MESSAGES {} UIDNEXT {} UIDVALIDITY {} UNSEEN {} SIZE {size} HIGHESTMODSEQ {})",
            mailbox.messages.len(),
            mailbox.uidnext,
            mailbox.uidvalidity,
            unseen.count(),
            mailbox.highest_modseq,
        );
        ensure!(is.contains(&should), "{is:?}, and should be {should:?}");
        Ok(())
    }
}
