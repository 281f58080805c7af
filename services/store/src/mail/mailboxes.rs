//! Mailboxes: listing, and changing them.

use mox_proto::mail::v1 as mail;
use mox_types::AccountId;
use prost::Message as _;
use tonic::Status;

use super::{Mail, digest, listing, mailbox_id, step_key};
use crate::account::ops::{CreateMailbox, DeleteMailbox, RenameMailbox, SetSubscribed};
use crate::account::{AccountError, canonical};

/// Bytes of mailboxes in one answer: a page of 1 MiB, with room for one more of them.
const PAGE_BYTES: usize = 700 << 10;
/// RFC 6154 §2, and RFC 8457 §3.
const SPECIAL_USES: [&str; 8] = [
    "\\All",
    "\\Archive",
    "\\Drafts",
    "\\Flagged",
    "\\Junk",
    "\\Sent",
    "\\Trash",
    "\\Important",
];

impl Mail {
    pub(super) async fn do_list_mailboxes(
        &self,
        account: AccountId,
        request: &mail::ListMailboxesRequest,
    ) -> Result<mail::ListMailboxesResponse, Status> {
        let state = self.accounts.state(account, 0).await?;
        let mut list = state.list().into_iter().peekable();
        let token = &request.page_token;
        if !token.is_empty() {
            // The Inbox is first, whatever its name sorts like.
            while list
                .next_if(|m| m.name == crate::account::INBOX || m.name.as_str() <= token.as_str())
                .is_some()
            {}
        }
        let mut answer = mail::ListMailboxesResponse::default();
        let mut bytes = 0;
        for mailbox in list {
            if bytes > PAGE_BYTES {
                answer.next_page_token = answer.mailboxes.last().map_or_else(String::new, |m| m.name.clone());
                break;
            }
            bytes += mailbox.encoded_len() + 4;
            answer.mailboxes.push(mailbox);
        }
        Ok(answer)
    }

    pub(super) async fn do_get_mailbox(
        &self,
        account: AccountId,
        request: mail::GetMailboxRequest,
    ) -> Result<mail::Mailbox, Status> {
        use mail::get_mailbox_request::Which;
        let state = self.accounts.state(account, 0).await?;
        let mailbox = match request.which {
            Some(Which::Name(name)) => state.named(&canonical(&name)?).ok_or(AccountError::NoMailbox)?,
            Some(Which::Id(id)) => state.mailbox(mailbox_id(&id)?)?,
            None => return Err(Status::invalid_argument("neither name nor id of a mailbox")),
        };
        if !request.with_uids {
            return Ok(state.shown(mailbox));
        }
        let (state, index) = self.accounts.view(account, mailbox.id, request.seen_modseq).await?;
        let mailbox = state.mailbox(mailbox.id)?;
        let mut shown = state.shown(mailbox);
        shown.uids =
            listing::uids(&index, mailbox.uid_next, shown.unseen).map(|(ranges, first_unseen)| mail::MailboxUids {
                ranges,
                modseq: state.modseq(),
                first_unseen,
            });
        Ok(shown)
    }

    pub(super) async fn do_create_mailbox(
        &self,
        account: AccountId,
        request: mail::CreateMailboxRequest,
    ) -> Result<mail::CreateMailboxResponse, Status> {
        let key = step_key(account, &request.key, &digest!(request), 0)?;
        let mut special_use = Vec::new();
        for wanted in &request.special_use {
            let known = SPECIAL_USES.iter().find(|u| u.eq_ignore_ascii_case(wanted));
            let known = known.ok_or_else(|| Status::invalid_argument(format!("useattr: {wanted:?} is not known")))?;
            if !special_use.iter().any(|u| u == known) {
                special_use.push((*known).to_owned());
            }
        }
        // RFC 9051 §6.3.4: a name that ends in the separator says that others are to come below it.
        let name = canonical(request.name.strip_suffix('/').unwrap_or(&request.name))?;
        let op = CreateMailbox {
            name,
            special_use,
            subscribe: request.subscribe,
        };
        Ok(self.accounts.submit(account, Some(key), op).await?)
    }

    pub(super) async fn do_delete_mailbox(
        &self,
        account: AccountId,
        request: mail::DeleteMailboxRequest,
    ) -> Result<mail::DeleteMailboxResponse, Status> {
        let key = step_key(account, &request.key, &digest!(request), 0)?;
        let op = DeleteMailbox {
            name: canonical(&request.name)?,
        };
        let answer = self.accounts.submit(account, Some(key), op).await?;
        self.accounts.purge_soon();
        Ok(answer)
    }

    pub(super) async fn do_rename_mailbox(
        &self,
        account: AccountId,
        request: mail::RenameMailboxRequest,
    ) -> Result<mail::RenameMailboxResponse, Status> {
        let key = step_key(account, &request.key, &digest!(request), 0)?;
        let to = canonical(request.to.strip_suffix('/').unwrap_or(&request.to))?;
        let op = RenameMailbox {
            from: canonical(&request.from)?,
            to,
        };
        Ok(self.accounts.submit(account, Some(key), op).await?)
    }

    pub(super) async fn do_set_subscribed(
        &self,
        account: AccountId,
        request: mail::SetSubscribedRequest,
    ) -> Result<mail::SetSubscribedResponse, Status> {
        let key = step_key(account, &request.key, &digest!(request), 0)?;
        let op = SetSubscribed {
            name: canonical(&request.name)?,
            subscribed: request.subscribed,
        };
        Ok(self.accounts.submit(account, Some(key), op).await?)
    }
}
