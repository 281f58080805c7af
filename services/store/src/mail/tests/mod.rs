//! Mail on a real engine.

mod calls;
mod faults;
mod metadata;
mod model;
mod recipients;
mod resync;
mod searching;
mod sorting;
mod threads;

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt as _;
use mox_proto::config::v1::InitialMailboxes;
use mox_proto::mail::v1 as mail;
use mox_types::AccountId;
use tonic::Status;

use super::Mail;
use crate::account::{Accounts, init};
use crate::auth::Sessions;
use crate::content::{Contents, EngineBlobs};
use crate::engine::{Commit, Db, Options, RocksEngine};

/// The time of all tests, in seconds since 1970.
pub(crate) const NOW: i64 = 1_800_000_000;

/// A store with one account.
pub(crate) struct World {
    pub db: Db,
    pub mail: Mail,
    pub account: AccountId,
    dir: tempfile::TempDir,
}

/// A message.
pub(crate) fn message(subject: &str, body: &str) -> Bytes {
    format!("Message-ID: <{subject}@x>\r\nSubject: {subject}\r\nFrom: a@example.org\r\n\r\n{body}\r\n").into()
}

pub(crate) fn inline(bytes: &Bytes) -> mail::Content {
    mail::Content {
        r#where: Some(mail::content::Where::Inline(bytes.clone())),
    }
}

pub(crate) fn flags(bits: u32, keywords: &[&str]) -> mail::Flags {
    mail::Flags {
        bits,
        keywords: keywords.iter().map(|k| (*k).to_owned()).collect(),
    }
}

pub(crate) fn range(first: u32, last: u32) -> Vec<mail::UidRange> {
    vec![mail::UidRange { first, last }]
}

/// Rows as UID, flags, keywords, modseq, size.
pub(crate) type Listed = (u32, u32, Vec<String>, u64, u64);

pub(crate) fn unpack(rows: &mail::Rows) -> Vec<Listed> {
    let (mut uid, mut modseq) = (0u32, 0i64);
    (0..rows.uid_delta.len())
        .map(|n| {
            uid += rows.uid_delta[n];
            modseq += rows.modseq_delta[n];
            let set = rows.keyword_set.get(n).copied().unwrap_or(0) as usize;
            let keywords = if set == 0 {
                vec![]
            } else {
                rows.keyword_sets[set - 1].keywords.clone()
            };
            (
                uid,
                rows.flags[n],
                keywords,
                modseq as u64,
                rows.size.get(n).copied().unwrap_or(0),
            )
        })
        .collect()
}

pub(crate) fn expand(ranges: &[mail::UidRange]) -> Vec<u32> {
    ranges.iter().flat_map(|r| r.first..=r.last).collect()
}

/// Services over an engine, as one process has them.
pub(crate) fn mail_over(db: &Db, quota: u64, index_budget: usize) -> Mail {
    let accounts = Accounts::new(
        db.clone(),
        Arc::new(move |_: &str| quota),
        Arc::new(|| NOW),
        index_budget,
    );
    let blobs = Arc::new(EngineBlobs::new(db.clone()));
    let contents = Contents::new(db.clone(), blobs, Arc::new(|| NOW * 1000));
    Mail::new(accounts, contents, Sessions::default())
}

pub(crate) async fn new_account(db: &Db, name: &str) -> AccountId {
    let id = AccountId::new();
    let mut commit = Commit::new();
    let mut initial = InitialMailboxes::default();
    initial.special_use.insert("\\Sent".into(), "Sent".into());
    init(&mut commit, id, name, &initial, NOW).unwrap();
    db.commit(commit).await.unwrap();
    id
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with_quota(0).await
    }

    pub(crate) async fn with_quota(quota: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let db: Db = Arc::new(RocksEngine::open(&Options::new(dir.path())).unwrap());
        let account = new_account(&db, "a").await;
        Self {
            mail: mail_over(&db, quota, 1 << 20),
            db,
            account,
            dir,
        }
    }

    /// The same data after a restart.
    pub(crate) async fn reopen(self) -> Self {
        let Self { db, mail, account, dir } = self;
        drop(mail);
        // A writer that has answered may not have noticed yet that nothing waits for it.
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while Arc::strong_count(&db) > 1 {
            assert!(std::time::Instant::now() < deadline, "somebody still holds the engine");
            tokio::task::yield_now().await;
        }
        drop(db);
        let db: Db = Arc::new(RocksEngine::open(&Options::new(dir.path())).unwrap());
        Self {
            mail: mail_over(&db, 0, 1 << 20),
            db,
            account,
            dir,
        }
    }

    pub(crate) async fn mailbox(&self, name: &str) -> mail::Mailbox {
        self.mail.named(self.account, name).await.unwrap()
    }

    pub(crate) async fn append(&self, name: &str, bits: u32, content: &Bytes) -> Result<mail::AppendResponse, Status> {
        self.mail
            .append_one(self.account, name, flags(bits, &[]), content)
            .await
    }
}

/// Calls without a session, as after its check.
impl Mail {
    pub(crate) fn accounts(&self) -> &Accounts {
        &self.accounts
    }

    pub(crate) async fn named(&self, account: AccountId, name: &str) -> Result<mail::Mailbox, Status> {
        let which = Some(mail::get_mailbox_request::Which::Name(name.to_owned()));
        self.do_get_mailbox(
            account,
            mail::GetMailboxRequest {
                session: Bytes::new(),
                which,
                ..Default::default()
            },
        )
        .await
    }

    pub(crate) async fn make_mailbox(
        &self,
        account: AccountId,
        request: mail::CreateMailboxRequest,
    ) -> Result<(), Status> {
        self.do_create_mailbox(account, request).await.map(drop)
    }

    pub(crate) async fn drop_mailbox(
        &self,
        account: AccountId,
        request: mail::DeleteMailboxRequest,
    ) -> Result<(), Status> {
        self.do_delete_mailbox(account, request).await.map(drop)
    }

    pub(crate) async fn change_flags(
        &self,
        account: AccountId,
        request: mail::StoreFlagsRequest,
    ) -> Result<(), Status> {
        self.do_store_flags(account, request).await.map(drop)
    }

    pub(crate) async fn copy_or_move(
        &self,
        account: AccountId,
        request: mail::CopyRequest,
        moving: bool,
    ) -> Result<(), Status> {
        self.do_copy(account, request, moving).await.map(drop)
    }

    pub(crate) async fn remove(&self, account: AccountId, request: mail::ExpungeRequest) -> Result<(), Status> {
        self.do_expunge(account, request).await.map(drop)
    }

    pub(crate) async fn append_one(
        &self,
        account: AccountId,
        name: &str,
        flags: mail::Flags,
        content: &Bytes,
    ) -> Result<mail::AppendResponse, Status> {
        let message = mail::AppendMessage {
            content: Some(inline(content)),
            flags: Some(flags),
            received: None,
        };
        let request = mail::AppendRequest {
            session: Bytes::new(),
            key: mox_rpc::key(),
            mailbox: name.to_owned(),
            messages: vec![message],
            ..Default::default()
        };
        self.do_append(account, request).await
    }

    /// All rows of a mailbox with all columns, page by page.
    pub(crate) async fn rows(&self, account: AccountId, mailbox: &Bytes) -> Result<Vec<Listed>, Status> {
        let mut all = Vec::new();
        let mut request = mail::ListRowsRequest {
            mailbox_id: mailbox.clone(),
            columns: 15,
            ..Default::default()
        };
        loop {
            let page = self.do_list_rows(account, &request).await?;
            all.extend(unpack(&page.rows.unwrap_or_default()));
            if page.next_uid == 0 {
                return Ok(all);
            }
            request.first_uid = page.next_uid;
        }
    }

    /// A whole message.
    pub(crate) async fn content(
        &self,
        account: AccountId,
        mailbox: &Bytes,
        uid: u32,
        offset: u64,
        length: u64,
    ) -> Option<Vec<u8>> {
        let request = mail::ReadContentsRequest {
            session: Bytes::new(),
            mailbox_id: mailbox.clone(),
            ranges: vec![mail::ContentRange { uid, offset, length }],
            batched: false,
        };
        let mut pieces = self.do_read_contents(account, request).await.unwrap();
        let mut all = Vec::new();
        loop {
            let piece = pieces.next().await.unwrap().unwrap();
            if piece.missing {
                return None;
            }
            all.extend_from_slice(&piece.data);
            if piece.end {
                return Some(all);
            }
        }
    }
}
