//! `mox import`: messages that the command reads from files, added in batches, each one commit.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use mox_proto::admin::v1::{ImportMessage, ImportRequest, ImportStart, Level};
use mox_proto::mail::v1::Flags;
use mox_proto::record::v1 as record;
use tonic::{Status, Streaming};

use super::report::Reporter;
use super::{Named, StoreAdmin};
use crate::account::ops::{Append, CreateMailbox, NewMessage};
use crate::account::{AccountError, MESSAGE_KEYWORDS_MAX, Wanted, canonical, find_thread, ingest};
use crate::content::{INLINE_BYTES, Staged};
use crate::mail::{UPLOAD_MAX, of_content};

/// Messages of a batch: one sync of the disk is for all of them.
const BATCH_MESSAGES: usize = 200;
/// Bytes of a batch, over which no more are added to it.
const BATCH_BYTES: usize = 4 << 20;

/// An import that runs.
struct Import<'a> {
    admin: &'a StoreAdmin,
    account: Named,
    mailbox: String,
    batch: Vec<NewMessage>,
    bytes: usize,
    imported: u64,
    lost_keywords: u64,
    /// The mailbox exists.
    made: bool,
    reporter: &'a Reporter,
}

impl StoreAdmin {
    /// Takes messages until the stream says that it is finished.
    pub(super) async fn do_import(
        &self,
        mut requests: Streaming<ImportRequest>,
        reporter: &Reporter,
    ) -> Result<(), Status> {
        let first = requests.next().await.transpose()?.and_then(|r| r.start);
        let start = first.ok_or_else(|| Status::invalid_argument("an import begins with account and mailbox"))?;
        let mut import = self.begin_import(start, reporter).await?;
        let result = import.run(&mut requests).await;
        if let Err(status) = result {
            let text = format!(
                "{} messages were imported until then, and stay (importing again adds them once more): {}",
                import.imported,
                status.message()
            );
            return Err(Status::new(status.code(), text));
        }
        if import.lost_keywords > 0 {
            let text = format!(
                "{} keywords were left out: IMAP does not allow their characters, or there are too many",
                import.lost_keywords
            );
            reporter.say(Level::Warning, "", "", text, &[]).await?;
        }
        let imported = i64::try_from(import.imported).unwrap_or(i64::MAX);
        let text = format!("{imported} messages imported");
        tracing::info!(
            account = import.account.name,
            mailbox = import.mailbox,
            imported,
            "messages imported"
        );
        reporter
            .say(
                Level::Info,
                &import.account.name,
                &import.mailbox,
                text,
                &[("imported", imported)],
            )
            .await
    }

    async fn begin_import<'a>(&'a self, start: ImportStart, reporter: &'a Reporter) -> Result<Import<'a>, Status> {
        let account = self.account(&start.account).await?;
        let mailbox = canonical(&start.mailbox)?;
        Ok(Import {
            admin: self,
            account,
            mailbox,
            batch: Vec::new(),
            bytes: 0,
            imported: 0,
            lost_keywords: 0,
            made: false,
            reporter,
        })
    }
}

impl Import<'_> {
    async fn run(&mut self, requests: &mut Streaming<ImportRequest>) -> Result<(), Status> {
        loop {
            let mut request = self.next(requests).await?;
            if request.finish {
                self.make_mailbox().await?;
                return self.commit().await;
            }
            // Most messages come in one piece. Others are received as they come, and never held as a whole here.
            let (staged, message) = match request.message.take() {
                Some(message) if request.data.len() <= INLINE_BYTES => (Staged::inline(request.data), message),
                None => self.receive(request.data, requests).await?,
                Some(message) => {
                    return Err(Status::invalid_argument(format!(
                        "{}: a piece has more than {INLINE_BYTES} bytes",
                        message.name
                    )));
                }
            };
            let name = message.name.clone();
            self.add(staged, message)
                .await
                .map_err(|status| Status::new(status.code(), format!("{name}: {}", status.message())))?;
        }
    }

    async fn next(&self, requests: &mut Streaming<ImportRequest>) -> Result<ImportRequest, Status> {
        let next = requests.next().await.transpose()?;
        next.ok_or_else(|| Status::aborted("the import broke off"))
    }

    /// A message in several pieces.
    async fn receive(
        &self,
        first: Bytes,
        requests: &mut Streaming<ImportRequest>,
    ) -> Result<(Staged, ImportMessage), Status> {
        let mut whole = BytesMut::from(&first[..]);
        // What fits into one piece is not uploaded.
        loop {
            let request = self.next(requests).await?;
            whole.extend_from_slice(&request.data);
            if whole.len() > INLINE_BYTES {
                return self.upload(whole.freeze(), request.message, requests).await;
            }
            if let Some(message) = request.message {
                return Ok((Staged::inline(whole.freeze()), message));
            }
        }
    }

    async fn upload(
        &self,
        first: Bytes,
        ended: Option<ImportMessage>,
        requests: &mut Streaming<ImportRequest>,
    ) -> Result<(Staged, ImportMessage), Status> {
        let mut message = ended.clone();
        let found = Arc::new(parking_lot::Mutex::new(ended));
        let pieces = futures::stream::unfold(
            (Some(first), requests, found.clone()),
            |(first, requests, found)| async {
                if let Some(first) = first {
                    return Some((Ok(first), (None, requests, found)));
                }
                if found.lock().is_some() {
                    return None;
                }
                let next = match requests.next().await {
                    Some(Ok(request)) => {
                        *found.lock() = request.message;
                        Ok(request.data)
                    }
                    Some(Err(status)) => Err(status),
                    None => Err(Status::aborted("the import broke off")),
                };
                Some((next, (None, requests, found)))
            },
        );
        let uploaded = self.admin.parts.contents.upload(Box::pin(pieces), UPLOAD_MAX).await?;
        if message.is_none() {
            message = found.lock().take();
        }
        let message = message.ok_or_else(|| Status::aborted("the import broke off"))?;
        Ok((uploaded.staged(), message))
    }

    async fn add(&mut self, staged: Staged, message: ImportMessage) -> Result<(), Status> {
        let parts = &self.admin.parts;
        let bytes = match staged.bytes() {
            Some(bytes) => bytes.clone().into(),
            None => parts.contents.whole(staged.id()).await?,
        };
        if bytes.is_empty() {
            let text = format!("{}: empty, left out", message.name);
            return self.reporter.say(Level::Warning, "", "", text, &[]).await;
        }
        let read = ingest(bytes.clone()).await?;
        drop(bytes);
        let now = parts.accounts.now();
        let received = message.received.or(read.facts.date).unwrap_or(now);
        let flags = self.flags(message.flags.unwrap_or_default());
        let new = NewMessage {
            record: record::Message {
                received,
                saved: now,
                ..of_content(&read)
            },
            flags,
            computed: read.computed(0),
            thread: find_thread(parts.accounts.db(), self.account.id, &read.facts).await?,
            content: staged,
        };
        self.bytes += new.computed.len() + new.content.bytes().map_or(0, Bytes::len) + 1024;
        self.batch.push(new);
        if self.batch.len() >= BATCH_MESSAGES || self.bytes >= BATCH_BYTES {
            self.commit().await?;
        }
        Ok(())
    }

    /// Flags as they may be. What the name of the mailbox says about junk is added with the message.
    fn flags(&mut self, mut flags: Flags) -> Wanted {
        match Wanted::new(&flags) {
            Ok(wanted) => wanted,
            Err(_) => {
                // One by one, to keep those that may be.
                let mut wanted = Wanted::default();
                for keyword in std::mem::take(&mut flags.keywords) {
                    let one = Flags {
                        bits: 0,
                        keywords: vec![keyword],
                    };
                    match Wanted::new(&one) {
                        Ok(one) if wanted.keywords.len() < MESSAGE_KEYWORDS_MAX => {
                            wanted.bits |= one.bits;
                            wanted.keywords.extend(one.keywords);
                        }
                        _ => self.lost_keywords += 1,
                    }
                }
                wanted.keywords.sort_unstable();
                wanted.keywords.dedup();
                wanted.bits |= flags.bits & crate::account::ALL_BITS;
                wanted
            }
        }
    }

    /// Makes the mailbox if it is missing: when there is something to add, so that a file that is no archive makes none.
    async fn make_mailbox(&mut self) -> Result<(), Status> {
        if std::mem::replace(&mut self.made, true) {
            return Ok(());
        }
        let create = CreateMailbox {
            name: self.mailbox.clone(),
            special_use: Vec::new(),
            subscribe: true,
        };
        match self.admin.parts.accounts.submit(self.account.id, None, create).await {
            Ok(_) | Err(AccountError::Exists(_)) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Adds what waits, in one commit.
    async fn commit(&mut self) -> Result<(), Status> {
        if self.batch.is_empty() {
            return Ok(());
        }
        self.make_mailbox().await?;
        let messages = std::mem::take(&mut self.batch);
        let count = messages.len() as u64;
        self.bytes = 0;
        let append = Append {
            mailbox: self.mailbox.clone(),
            messages,
            replaces: None,
        };
        self.admin
            .parts
            .accounts
            .submit(self.account.id, None, append)
            .await
            .map_err(|error| match error {
                AccountError::OverQuota => Status::resource_exhausted(format!(
                    "account {} has reached its quota (quota_message_size): raise it, or make room",
                    self.account.name
                )),
                AccountError::NoSpace => {
                    Status::resource_exhausted("the disk of the store has reached its reserve: make room")
                }
                other => other.into(),
            })?;
        self.imported += count;
        self.reporter.progress("messages imported", self.imported, 0);
        Ok(())
    }
}
