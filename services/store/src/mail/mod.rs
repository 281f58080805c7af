//! [`MailService`]: the mail of the account that a session belongs to.
//!
//! Reads take one snapshot, or the account's state and index of one moment, and say which modification sequence it has.
//! Changes go to the account's writer with the caller's key. What concerns more messages than one commit should is done
//! in steps, each with a key derived from the caller's, so that a repeated call goes through the same steps.

mod batches;
mod changing;
mod computed;
mod contents;
mod listing;
mod mailboxes;
mod messages;
mod metadata;
mod search;
mod sort;
mod thread;
mod watch;

#[cfg(test)]
pub(crate) mod tests;

use std::pin::Pin;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use futures::Stream;
use mox_proto::mail::v1 as mail;
use mox_proto::mail::v1::mail_service_server::MailService;
use mox_rpc::Identity;
use mox_types::{AccountId, MailboxId};
use tonic::{Request, Response, Status, Streaming};

use crate::account::{Accounts, Key};
use crate::auth::{SessionInfo, Sessions};
use crate::content::Contents;
pub(crate) use changing::of_content;
pub(crate) use contents::UPLOAD_MAX;

/// Bytes of an idempotency key.
pub(crate) const KEY_BYTES: usize = 16;

/// The service.
#[derive(Clone)]
pub struct Mail {
    accounts: Accounts,
    contents: Contents,
    sessions: Sessions,
    columns: Arc<sort::Columns>,
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl Mail {
    /// Over the accounts, with who may see which.
    #[must_use]
    pub fn new(accounts: Accounts, contents: Contents, sessions: Sessions) -> Self {
        Self {
            accounts,
            contents,
            sessions,
            columns: Arc::default(),
        }
    }

    async fn session(&self, caller: &Identity, token: &Bytes) -> Result<SessionInfo, Status> {
        self.sessions.check(token, caller).await
    }

    /// The account of a request's session.
    async fn account<T>(&self, request: &Request<T>, token: &Bytes) -> Result<AccountId, Status> {
        let caller = mox_rpc::caller(request)?;
        Ok(self.session(&caller, token).await?.account)
    }
}

/// The key of one step of a change; a change of one step has step 0.
fn step_key(account: AccountId, key: &Bytes, digest: &Bytes, step: u32) -> Result<Key, Status> {
    if key.len() != KEY_BYTES {
        return Err(Status::invalid_argument("idempotency key must be 16 bytes"));
    }
    let mut scope = BytesMut::with_capacity(17);
    scope.put_u8(b'm');
    scope.extend_from_slice(account.as_bytes());
    let mut stepped = BytesMut::with_capacity(KEY_BYTES + 4);
    stepped.extend_from_slice(key);
    stepped.put_u32(step);
    Ok(Key {
        scope: scope.freeze(),
        key: stepped.freeze(),
        digest: digest.clone(),
    })
}

fn mailbox_id(bytes: &Bytes) -> Result<MailboxId, Status> {
    MailboxId::try_from(bytes).map_err(|error| Status::invalid_argument(error.to_string()))
}

/// What a request is recognized by: a repeated one may carry another session's token.
macro_rules! digest {
    ($request:expr) => {{
        let mut request = $request.clone();
        request.session.clear();
        crate::idempotency::digest(&request)
    }};
}
use digest;

#[tonic::async_trait]
impl MailService for Mail {
    type ReadContentsStream = Answers<mail::ReadContentsResponse>;
    type SortStream = Answers<mail::SortResponse>;
    type ThreadStream = Answers<mail::ThreadResponse>;
    type WatchStream = Answers<mail::WatchResponse>;

    async fn upload(
        &self,
        request: Request<Streaming<mail::UploadRequest>>,
    ) -> Result<Response<mail::UploadResponse>, Status> {
        self.do_upload(request).await.map(Response::new)
    }

    async fn list_mailboxes(
        &self,
        request: Request<mail::ListMailboxesRequest>,
    ) -> Result<Response<mail::ListMailboxesResponse>, Status> {
        let account = self.account(&request, &request.get_ref().session).await?;
        self.do_list_mailboxes(account, request.get_ref())
            .await
            .map(Response::new)
    }

    async fn get_mailbox(&self, request: Request<mail::GetMailboxRequest>) -> Result<Response<mail::Mailbox>, Status> {
        let account = self.account(&request, &request.get_ref().session).await?;
        self.do_get_mailbox(account, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn create_mailbox(
        &self,
        request: Request<mail::CreateMailboxRequest>,
    ) -> Result<Response<mail::CreateMailboxResponse>, Status> {
        let account = self.account(&request, &request.get_ref().session).await?;
        self.do_create_mailbox(account, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn delete_mailbox(
        &self,
        request: Request<mail::DeleteMailboxRequest>,
    ) -> Result<Response<mail::DeleteMailboxResponse>, Status> {
        let account = self.account(&request, &request.get_ref().session).await?;
        self.do_delete_mailbox(account, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn rename_mailbox(
        &self,
        request: Request<mail::RenameMailboxRequest>,
    ) -> Result<Response<mail::RenameMailboxResponse>, Status> {
        let account = self.account(&request, &request.get_ref().session).await?;
        self.do_rename_mailbox(account, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn set_subscribed(
        &self,
        request: Request<mail::SetSubscribedRequest>,
    ) -> Result<Response<mail::SetSubscribedResponse>, Status> {
        let account = self.account(&request, &request.get_ref().session).await?;
        self.do_set_subscribed(account, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn get_quota(
        &self,
        request: Request<mail::GetQuotaRequest>,
    ) -> Result<Response<mail::GetQuotaResponse>, Status> {
        let account = self.account(&request, &request.get_ref().session).await?;
        let state = self.accounts.state(account, 0).await?;
        let limit = self.accounts.quota(&state.record.name);
        Ok(Response::new(mail::GetQuotaResponse {
            used: state.record.size,
            limit,
        }))
    }

    async fn list_rows(
        &self,
        request: Request<mail::ListRowsRequest>,
    ) -> Result<Response<mail::ListRowsResponse>, Status> {
        let account = self.account(&request, &request.get_ref().session).await?;
        self.do_list_rows(account, request.get_ref()).await.map(Response::new)
    }

    async fn list_changes(
        &self,
        request: Request<mail::ListChangesRequest>,
    ) -> Result<Response<mail::ListChangesResponse>, Status> {
        let account = self.account(&request, &request.get_ref().session).await?;
        self.do_list_changes(account, request.get_ref())
            .await
            .map(Response::new)
    }

    async fn get_messages(
        &self,
        request: Request<mail::GetMessagesRequest>,
    ) -> Result<Response<mail::GetMessagesResponse>, Status> {
        let account = self.account(&request, &request.get_ref().session).await?;
        self.do_get_messages(account, request.get_ref())
            .await
            .map(Response::new)
    }

    async fn read_contents(
        &self,
        request: Request<mail::ReadContentsRequest>,
    ) -> Result<Response<Self::ReadContentsStream>, Status> {
        let account = self.account(&request, &request.get_ref().session).await?;
        self.do_read_contents(account, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn search(&self, request: Request<mail::SearchRequest>) -> Result<Response<mail::SearchResponse>, Status> {
        let account = self.account(&request, &request.get_ref().session).await?;
        self.do_search(account, request.into_inner()).await.map(Response::new)
    }

    async fn sort(&self, request: Request<mail::SortRequest>) -> Result<Response<Self::SortStream>, Status> {
        let account = self.account(&request, &request.get_ref().session).await?;
        self.do_sort(account, request.into_inner()).map(Response::new)
    }

    async fn thread(&self, request: Request<mail::ThreadRequest>) -> Result<Response<Self::ThreadStream>, Status> {
        let account = self.account(&request, &request.get_ref().session).await?;
        self.do_thread(account, request.into_inner()).map(Response::new)
    }

    async fn list_account_changes(
        &self,
        request: Request<mail::ListAccountChangesRequest>,
    ) -> Result<Response<mail::ListAccountChangesResponse>, Status> {
        let account = self.account(&request, &request.get_ref().session).await?;
        self.do_list_account_changes(account, request.get_ref())
            .await
            .map(Response::new)
    }

    async fn append(&self, request: Request<mail::AppendRequest>) -> Result<Response<mail::AppendResponse>, Status> {
        let account = self.account(&request, &request.get_ref().session).await?;
        self.do_append(account, request.into_inner()).await.map(Response::new)
    }

    async fn store_flags(
        &self,
        request: Request<mail::StoreFlagsRequest>,
    ) -> Result<Response<mail::StoreFlagsResponse>, Status> {
        let account = self.account(&request, &request.get_ref().session).await?;
        self.do_store_flags(account, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn copy(&self, request: Request<mail::CopyRequest>) -> Result<Response<mail::CopyResponse>, Status> {
        let account = self.account(&request, &request.get_ref().session).await?;
        self.do_copy(account, request.into_inner(), false)
            .await
            .map(Response::new)
    }

    async fn r#move(&self, request: Request<mail::CopyRequest>) -> Result<Response<mail::CopyResponse>, Status> {
        let account = self.account(&request, &request.get_ref().session).await?;
        self.do_copy(account, request.into_inner(), true)
            .await
            .map(Response::new)
    }

    async fn expunge(&self, request: Request<mail::ExpungeRequest>) -> Result<Response<mail::ExpungeResponse>, Status> {
        let account = self.account(&request, &request.get_ref().session).await?;
        self.do_expunge(account, request.into_inner()).await.map(Response::new)
    }

    async fn get_metadata(
        &self,
        request: Request<mail::GetMetadataRequest>,
    ) -> Result<Response<mail::GetMetadataResponse>, Status> {
        let account = self.account(&request, &request.get_ref().session).await?;
        self.do_get_metadata(account, request.get_ref())
            .await
            .map(Response::new)
    }

    async fn set_metadata(
        &self,
        request: Request<mail::SetMetadataRequest>,
    ) -> Result<Response<mail::SetMetadataResponse>, Status> {
        let account = self.account(&request, &request.get_ref().session).await?;
        self.do_set_metadata(account, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn list_metadata_changes(
        &self,
        request: Request<mail::ListMetadataChangesRequest>,
    ) -> Result<Response<mail::ListMetadataChangesResponse>, Status> {
        let account = self.account(&request, &request.get_ref().session).await?;
        self.do_list_metadata_changes(account, request.get_ref())
            .await
            .map(Response::new)
    }

    async fn watch(
        &self,
        request: Request<Streaming<mail::WatchRequest>>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        self.do_watch(request).map(Response::new)
    }
}
