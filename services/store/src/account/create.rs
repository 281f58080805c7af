//! A new account.

use bytes::Bytes;
use mox_proto::config::v1::InitialMailboxes;
use mox_proto::record::v1 as record;
use mox_proto::record::v1::change::MailboxChange;
use mox_types::{AccountId, MailboxId};
use prost::Message as _;
use tonic::Status;

use super::names::{self, INBOX, canonical};
use crate::engine::Commit;
use crate::keys;

/// Adds what a new account begins with: its record, and its mailboxes, all subscribed. `created` is in seconds since
/// 1970; the UIDVALIDITYs begin from there, so that an account that is made again has others.
///
/// # Errors
/// If a mailbox has no valid name.
pub fn init(
    commit: &mut Commit,
    id: AccountId,
    name: &str,
    initial: &InitialMailboxes,
    created: i64,
) -> Result<(), Status> {
    let mut mailboxes: Vec<(String, Vec<String>)> = vec![(INBOX.to_owned(), Vec::new())];
    let uses = initial
        .special_use
        .iter()
        .map(|(special_use, name)| (name, Some(special_use)));
    let mut named: Vec<_> = uses.chain(initial.regular.iter().map(|name| (name, None))).collect();
    named.sort();
    for (name, special_use) in named {
        let name = canonical(name)?;
        for needed in names::parents(&name).chain([name.as_str()]) {
            if !mailboxes.iter().any(|(name, _)| name == needed) {
                mailboxes.push((needed.to_owned(), Vec::new()));
            }
        }
        if let Some((_, uses)) = mailboxes.iter_mut().find(|(n, _)| *n == name) {
            uses.extend(special_use.cloned());
        }
    }
    let modseq = 1;
    let mut uid_validity = u32::try_from(created).unwrap_or(1).max(1);
    let mut change = record::Change::default();
    for (name, special_use) in mailboxes {
        let mailbox = MailboxId::new();
        let value = record::Mailbox {
            id: mailbox.to_bytes(),
            name: name.clone(),
            uid_validity,
            uid_next: 1,
            create_modseq: modseq,
            modseq,
            special_use,
            counts: Some(record::Counts::default()),
            ..record::Mailbox::default()
        };
        uid_validity = uid_validity.saturating_add(1);
        commit.put(keys::mailbox(id, mailbox), value.encode_to_vec());
        commit.put(keys::subscription(id, &name), Bytes::new());
        let id = mailbox.to_bytes();
        change.mailboxes.push(MailboxChange {
            mailbox_id: id,
            mailbox_changed: true,
            ..MailboxChange::default()
        });
    }
    commit.put(keys::change(id, modseq), change.encode_to_vec());
    let account = record::Account {
        id: id.to_bytes(),
        name: name.to_owned(),
        modseq,
        next_uid_validity: uid_validity,
        created,
        ..record::Account::default()
    };
    commit.put(keys::account(id), account.encode_to_vec());
    Ok(())
}
