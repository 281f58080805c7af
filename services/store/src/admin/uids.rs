//! UIDs and UIDVALIDITY: giving others, and putting right what is next.

use mox_proto::admin::v1::Level;
use mox_types::MailboxId;
use tonic::Status;

use super::report::Reporter;
use super::{Named, StoreAdmin};
use crate::account::ops::{BumpUidValidity, RaiseUids, Renumber};
use crate::account::{AccountError, Mailbox, State, canonical};
use crate::engine::{Limit, Order};
use crate::keys;

impl StoreAdmin {
    /// `mox bumpuidvalidity`.
    pub(super) async fn do_bump_uid_validity(
        &self,
        account: &Named,
        mailbox: &str,
        reporter: &Reporter,
    ) -> Result<(), Status> {
        let state = self.parts.accounts.state(account.id, 0).await?;
        let mailboxes = chosen(&state, mailbox)?.iter().map(|m| m.id).collect();
        let answer = self
            .parts
            .accounts
            .submit(account.id, None, BumpUidValidity { mailboxes })
            .await?;
        for mailbox in answer.mailboxes {
            let text = format!("UIDVALIDITY is now {}", mailbox.uid_validity);
            let numbers = [("uidvalidity", i64::from(mailbox.uid_validity))];
            reporter
                .say(Level::Info, &account.name, &mailbox.name, text, &numbers)
                .await?;
        }
        Ok(())
    }

    /// `mox reassignuids`.
    pub(super) async fn do_reassign_uids(
        &self,
        account: &Named,
        mailbox: &str,
        reporter: &Reporter,
    ) -> Result<(), Status> {
        let state = self.parts.accounts.state(account.id, 0).await?;
        let mailboxes = chosen(&state, mailbox)?;
        let total = mailboxes.iter().map(|m| u64::from(m.counts.messages)).sum();
        let mut done = 0;
        reporter.progress("messages", 0, total);
        for mailbox in mailboxes {
            let (mut from, mut next) = (1, 1);
            let uid_validity = loop {
                let op = Renumber {
                    mailbox: mailbox.id,
                    from,
                    next,
                };
                let answer = match self.parts.accounts.submit(account.id, None, op).await {
                    // Deleted meanwhile.
                    Err(AccountError::NoMailbox) => break None,
                    other => other?,
                };
                let given = answer.destination_uids.first().copied().unwrap_or(next);
                done += u64::from(given - next);
                next = given;
                reporter.progress("messages", done, total);
                if answer.next_uid == 0 {
                    break Some(answer.uid_validity);
                }
                from = answer.next_uid;
            };
            let Some(uid_validity) = uid_validity else { continue };
            let text = format!("UIDs are 1 to {} now, UIDVALIDITY is {uid_validity}", next - 1);
            let numbers = [
                ("messages", i64::from(next - 1)),
                ("uidvalidity", i64::from(uid_validity)),
            ];
            let text = if next == 1 {
                format!("no messages, UIDVALIDITY is {uid_validity}")
            } else {
                text
            };
            reporter
                .say(Level::Info, &account.name, &mailbox.name, text, &numbers)
                .await?;
        }
        Ok(())
    }

    /// `mox fixuidmeta`.
    pub(super) async fn do_fix_uids(&self, account: &Named, reporter: &Reporter) -> Result<(), Status> {
        let state = self.parts.accounts.state(account.id, 0).await?;
        let mut raise = RaiseUids { mailboxes: Vec::new() };
        let mut found = Vec::new();
        reporter.progress("mailboxes", 0, state.mailboxes.size() as u64);
        for mailbox in sorted(&state) {
            let rows = keys::rows(account.id, mailbox.id, 0, u32::MAX);
            let last = self.parts.db.scan(rows, Limit::rows(1), Order::Descending).await?;
            let last = last.rows.first().and_then(|(key, _)| keys::parse_row(key)).unwrap_or(0);
            if last >= mailbox.uid_next {
                let next = last.saturating_add(1);
                raise.mailboxes.push((mailbox.id, next));
                let text = format!(
                    "UIDNEXT {} → {next}: there is a message with UID {last}",
                    mailbox.uid_next
                );
                found.push((mailbox.name.to_string(), text, ("uidnext", i64::from(next))));
            }
            reporter.advance(1);
        }
        let highest = state.mailboxes.values().map(|m| m.uid_validity).max().unwrap_or(0);
        let next = state.record.next_uid_validity;
        if next <= highest {
            let right = highest.saturating_add(1);
            let text = format!("next UIDVALIDITY {next} → {right}: a mailbox has UIDVALIDITY {highest}");
            found.push((String::new(), text, ("next_uidvalidity", i64::from(right))));
        }
        if found.is_empty() {
            return reporter
                .say(
                    Level::Info,
                    &account.name,
                    "",
                    "UIDNEXT and UIDVALIDITY are right",
                    &[("fixed", 0)],
                )
                .await;
        }
        self.parts.accounts.submit(account.id, None, raise).await?;
        for (mailbox, text, number) in found {
            reporter
                .say(Level::Fixed, &account.name, &mailbox, text, &[number])
                .await?;
        }
        Ok(())
    }
}

/// Mailboxes by name.
pub(super) fn sorted(state: &State) -> Vec<Mailbox> {
    let by_name = state.names.values().filter_map(|id| state.mailboxes.get(id));
    by_name.map(|m| Mailbox::clone(m)).collect()
}

/// One mailbox by its name or id, or all for the empty text.
fn chosen(state: &State, wanted: &str) -> Result<Vec<Mailbox>, Status> {
    if wanted.is_empty() {
        return Ok(sorted(state));
    }
    let by_name = canonical(wanted).ok().and_then(|name| state.named(&name));
    let found = by_name.or_else(|| state.mailboxes.get(&parse_id(wanted)?));
    match found {
        Some(mailbox) => Ok(vec![Mailbox::clone(mailbox)]),
        None => {
            let names: Vec<String> = sorted(state).iter().map(|m| m.name.to_string()).collect();
            Err(Status::not_found(format!(
                "account {} has no mailbox {wanted:?}: there are {}",
                state.record.name,
                names.join(", ")
            )))
        }
    }
}

/// The id of a mailbox: 32 hexadecimal digits, with dashes or a letter in front as IMAP shows it (RFC 8474).
fn parse_id(text: &str) -> Option<MailboxId> {
    let digits: Vec<u8> = text.bytes().filter(|b| *b != b'-').collect();
    let digits = match digits.len() {
        32 => &digits[..],
        33 => &digits[1..],
        _ => return None,
    };
    let mut bytes = [0u8; 16];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    MailboxId::try_from(&bytes[..]).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_in_all_spellings() {
        let id = MailboxId::new();
        let hex: String = id.as_bytes().iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(parse_id(&hex), Some(id));
        assert_eq!(parse_id(&format!("F{hex}")), Some(id));
        assert_eq!(parse_id(&id.to_string()), Some(id));
        assert_eq!(parse_id("Inbox"), None);
    }
}
