//! Creating, deleting, renaming and subscribing mailboxes.

use std::sync::Arc;

use mox_proto::mail::v1::{CreateMailboxResponse, DeleteMailboxResponse, RenameMailboxResponse, SetSubscribedResponse};

use crate::account::names::{self, INBOX};
use crate::account::{AccountError, AccountTx, Op, State};

/// Makes a mailbox, and its missing parents. Names are canonical, here and below.
pub struct CreateMailbox {
    /// Of the mailbox.
    pub name: String,
    /// "\\Sent", …
    pub special_use: Vec<String>,
    /// Subscribe what is made.
    pub subscribe: bool,
}

impl Op for CreateMailbox {
    type Output = CreateMailboxResponse;

    async fn plan(&self, accounts: &mut [AccountTx]) -> Result<Self::Output, AccountError> {
        let tx = &mut accounts[0];
        if tx.state().named(&self.name).is_some() {
            return Err(AccountError::Exists(self.name.clone()));
        }
        // RFC 6154 §3: a use that cannot be given makes CREATE fail. A use marks one mailbox.
        for used in tx.state().mailboxes.values().flat_map(|m| &m.special_use) {
            if self.special_use.iter().any(|wanted| wanted.eq_ignore_ascii_case(used)) {
                return Err(AccountError::Invalid(format!(
                    "useattr: another mailbox is {used} already"
                )));
            }
        }
        let (id, created) = tx.ensure_mailbox(&self.name)?;
        if !self.special_use.is_empty() {
            tx.edit_mailbox(id, |m| m.special_use.clone_from(&self.special_use))?;
        }
        if self.subscribe {
            for name in &created {
                tx.set_subscribed(name, true)?;
            }
        }
        let modseq = tx.modseq();
        let mailbox = tx.state().mailbox(id)?;
        Ok(CreateMailboxResponse {
            mailbox: Some(tx.state().shown(mailbox)),
            created,
            modseq,
        })
    }
}

/// Deletes a mailbox with its messages.
pub struct DeleteMailbox {
    /// Of the mailbox.
    pub name: String,
}

impl Op for DeleteMailbox {
    type Output = DeleteMailboxResponse;

    async fn plan(&self, accounts: &mut [AccountTx]) -> Result<Self::Output, AccountError> {
        let tx = &mut accounts[0];
        if self.name == INBOX {
            // RFC 9051 §6.3.5.
            return Err(AccountError::Inbox("the Inbox cannot be deleted"));
        }
        let id = tx.state().named(&self.name).ok_or(AccountError::NoMailbox)?.id;
        // RFC 9051 §6.3.5 lets a server refuse (HASCHILDREN), or keep the name as \Noselect. Refusing is simpler to
        // understand, and every mailbox of ours can be selected.
        if tx.state().has_children(&self.name) {
            return Err(AccountError::HasChildren);
        }
        super::metadata::remove_all(tx, id).await?;
        // RFC 9051 §6.3.7: the name stays subscribed, if it was.
        tx.remove_mailbox(id)?;
        Ok(DeleteMailboxResponse { modseq: tx.modseq() })
    }

    fn frees(&self) -> bool {
        true
    }
}

/// Renames a mailbox and those below it.
pub struct RenameMailbox {
    /// What it is called.
    pub from: String,
    /// What it is to be called.
    pub to: String,
}

impl Op for RenameMailbox {
    type Output = RenameMailboxResponse;

    async fn plan(&self, accounts: &mut [AccountTx]) -> Result<Self::Output, AccountError> {
        let tx = &mut accounts[0];
        let (from, to) = (self.from.as_str(), self.to.as_str());
        let id = tx.state().named(from).ok_or(AccountError::NoMailbox)?.id;
        if tx.state().named(to).is_some() {
            return Err(AccountError::Exists(to.to_owned()));
        }
        if from == INBOX {
            return rename_inbox(tx, to);
        }
        if names::is_below(to, from) {
            return Err(AccountError::Invalid("a mailbox cannot be moved below itself".into()));
        }
        let mut moved = vec![(id, to.to_owned())];
        for below in tx.state().below(from) {
            let name = names::canonical(&format!("{to}{}", &below.name[from.len()..]))?;
            if tx.state().named(&name).is_some() {
                return Err(AccountError::Exists(name));
            }
            moved.push((below.id, name));
        }
        // Parents before the rest, as they are in the list of names.
        if let Some(parent) = names::parents(to).last() {
            tx.ensure_mailbox(parent)?;
        }
        for (id, name) in moved {
            let old = tx.state().mailbox(id)?.name.clone();
            let subscribed = tx.state().subscriptions.contains(&old);
            tx.edit_mailbox(id, |m| m.name = Arc::from(name.as_str()))?;
            // The client that renames a mailbox wants to go on seeing it; the old name would only show as missing.
            if subscribed {
                tx.set_subscribed(&old, false)?;
                tx.set_subscribed(&name, true)?;
            }
        }
        Ok(RenameMailboxResponse { modseq: tx.modseq() })
    }
}

/// RFC 9051 §6.3.6: the messages of the Inbox move to a new mailbox, the Inbox stays and is empty, and mailboxes below it
/// are left alone. The mailbox takes the new name with all that is in it, and a new one becomes the Inbox, whose
/// UIDVALIDITY says so: that costs the same for any number of messages.
fn rename_inbox(tx: &mut AccountTx, to: &str) -> Result<RenameMailboxResponse, AccountError> {
    let inbox = |state: &State| state.named(INBOX).map(|m| m.id).ok_or(AccountError::NoMailbox);
    let old = inbox(tx.state())?;
    if let Some(parent) = names::parents(to).last() {
        tx.ensure_mailbox(parent)?;
    }
    let special_use = tx.state().mailbox(old)?.special_use.clone();
    tx.edit_mailbox(old, |m| {
        m.name = Arc::from(to);
        m.special_use.clear();
    })?;
    tx.create_mailbox(INBOX, special_use)?;
    Ok(RenameMailboxResponse { modseq: tx.modseq() })
}

/// Subscribes a name, or no longer.
pub struct SetSubscribed {
    /// Need not exist.
    pub name: String,
    /// Whether it is to be.
    pub subscribed: bool,
}

impl Op for SetSubscribed {
    type Output = SetSubscribedResponse;

    async fn plan(&self, accounts: &mut [AccountTx]) -> Result<Self::Output, AccountError> {
        let tx = &mut accounts[0];
        tx.set_subscribed(&self.name, self.subscribed)?;
        Ok(SetSubscribedResponse {
            modseq: tx.state().modseq(),
        })
    }
}
