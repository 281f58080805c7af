//! `mox export`: messages as of one moment, for the command to write into files.

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use mox_proto::admin::v1::{ExportMailbox, ExportMessage, ExportRequest, ExportResponse, Finding, Level};
use mox_proto::mail::v1::{Flags, UidRange};
use mox_proto::record::v1 as record;
use mox_types::{AccountId, ContentId, MessageId};
use prost::Message as _;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::StoreAdmin;
use super::scratch::Scratch;
use super::uids::sorted;
use crate::account::{AccountError, FromSnapshot, Mailbox, State, canonical, read_rows};
use crate::content::{Contents, EngineBlobs};
use crate::engine::{Db, Options, RocksEngine};
use crate::keys;

/// What a call answers with.
pub type Exported = Pin<Box<dyn Stream<Item = Result<ExportResponse, Status>> + Send>>;
type Sender = mpsc::Sender<Result<ExportResponse, Status>>;

/// Messages that are looked up at once.
const STEP: usize = 200;
/// Answers that wait for a slow caller.
const WAITING: usize = 16;
/// Memory for blocks of the copy that is read from: it is read once, in order.
const CACHE_BYTES: usize = 4 << 20;

impl StoreAdmin {
    /// Streams messages, from a copy of the data that is made for it and removed in the end: a snapshot would hold on to
    /// all that changes while a slow caller reads.
    pub(super) async fn do_export(&self, request: ExportRequest) -> Result<Exported, Status> {
        let account = if request.account.is_empty() {
            let mut all = self.accounts("").await?;
            if all.len() > 1 {
                let names: Vec<String> = all.into_iter().map(|a| a.name).collect();
                return Err(Status::invalid_argument(format!(
                    "name an account: {}",
                    names.join(", ")
                )));
            }
            all.pop().ok_or_else(|| Status::not_found("there is no account"))?
        } else {
            self.account(&request.account).await?
        };
        // What is wrong with the request shows before anything is copied.
        let state = self.parts.accounts.state(account.id, 0).await?;
        chosen(&state, &request)?;
        let scratch = Scratch::new(&self.parts.data_dir, "export").map_err(|e| Status::unavailable(e.to_string()))?;
        let copy = scratch.path().to_owned();
        self.parts.db.checkpoint(copy.join(crate::engine::DATABASE)).await?;
        let (sender, receiver) = mpsc::channel(WAITING);
        tokio::spawn(async move {
            let sent = async {
                let db = open(copy).await?;
                let snapshot = db.snapshot().await?;
                let state = State::load(&*snapshot, account.id).await?;
                drop(snapshot);
                export(&db, account.id, &state, &chosen(&state, &request)?, &sender).await
            };
            if let Err(status) = sent.await {
                let _ = sender.send(Err(status)).await;
            }
            drop(scratch);
        });
        Ok(Box::pin(ReceiverStream::new(receiver)))
    }
}

async fn open(folder: PathBuf) -> Result<Db, Status> {
    let opened = tokio::task::spawn_blocking(move || {
        let mut options = Options::new(folder);
        options.cache_bytes = CACHE_BYTES;
        options.readers = 2;
        RocksEngine::open(&options)
    });
    let engine = opened
        .await
        .map_err(|_| Status::unavailable("the store is shutting down"))?
        .map_err(|error| Status::internal(error.to_string()))?;
    Ok(Arc::new(engine))
}

/// The mailboxes that are asked for.
fn chosen(state: &State, request: &ExportRequest) -> Result<Vec<Mailbox>, Status> {
    if request.mailbox.is_empty() {
        return Ok(sorted(state));
    }
    let name = canonical(&request.mailbox)?;
    let Some(mailbox) = state.named(&name) else {
        let names: Vec<String> = sorted(state).iter().map(|m| m.name.to_string()).collect();
        return Err(Status::not_found(format!(
            "account {} has no mailbox {name:?}: there are {}",
            state.record.name,
            names.join(", ")
        )));
    };
    let mut mailboxes = vec![Mailbox::clone(mailbox)];
    if !request.single {
        mailboxes.extend(state.below(&name).map(|m| Mailbox::clone(m)));
    }
    Ok(mailboxes)
}

async fn send(sender: &Sender, response: ExportResponse) -> Result<(), Status> {
    let gone = |_| Status::cancelled("the caller is gone");
    sender.send(Ok(response)).await.map_err(gone)
}

async fn export(
    db: &Db,
    account: AccountId,
    state: &State,
    mailboxes: &[Mailbox],
    sender: &Sender,
) -> Result<(), Status> {
    for mailbox in mailboxes {
        let mailbox = ExportMailbox {
            name: mailbox.name.to_string(),
            uid_validity: mailbox.uid_validity,
            messages: mailbox.counts.messages,
            size: mailbox.counts.size,
        };
        send(
            sender,
            ExportResponse {
                mailbox: Some(mailbox),
                ..Default::default()
            },
        )
        .await?;
    }
    let contents = Contents::new(db.clone(), Arc::new(EngineBlobs::new(db.clone())), Arc::new(|| 0));
    for (number, mailbox) in (0..).zip(mailboxes) {
        let mut from = Some(1);
        while let Some(first) = from.take() {
            let range = [UidRange { first, last: u32::MAX }];
            let snapshot = db.snapshot().await?;
            let reader = FromSnapshot(&*snapshot);
            let (rows, next) = read_rows(&reader, account, mailbox.id, &range, STEP).await?;
            let messages = snapshot
                .get_many(rows.iter().filter_map(|(_, row)| message_key(account, row)).collect())
                .await?;
            drop(snapshot);
            if messages.len() != rows.len() {
                return Err(AccountError::Damaged("a row").into());
            }
            from = next;
            for ((uid, row), value) in rows.into_iter().zip(messages) {
                let message = value.map(|v| record::Message::decode(v.data));
                let sent = match message {
                    Some(Ok(message)) => {
                        let place = Place {
                            mailbox: number,
                            uid,
                            flags: Flags {
                                bits: row.flags,
                                keywords: state.keywords.texts(&row.keywords),
                            },
                        };
                        export_one(&contents, place, &row, message, sender).await
                    }
                    _ => Err(AccountError::Damaged("a message").into()),
                };
                match sent {
                    Ok(()) => {}
                    // One that is damaged must not keep the others from being saved.
                    Err(status) if status.code() != tonic::Code::Cancelled => {
                        let finding = Finding {
                            level: Level::Error.into(),
                            account: state.record.name.clone(),
                            mailbox: mailbox.name.to_string(),
                            text: format!("message with UID {uid} is left out: {}", status.message()),
                            ..Default::default()
                        };
                        send(
                            sender,
                            ExportResponse {
                                finding: Some(finding),
                                ..Default::default()
                            },
                        )
                        .await?;
                    }
                    Err(status) => return Err(status),
                }
            }
        }
    }
    Ok(())
}

fn message_key(account: AccountId, row: &record::Row) -> Option<Bytes> {
    Some(keys::message(account, MessageId::try_from(&row.message_id).ok()?))
}

/// Which message.
struct Place {
    mailbox: u32,
    uid: u32,
    flags: Flags,
}

async fn export_one(
    contents: &Contents,
    place: Place,
    row: &record::Row,
    message: record::Message,
    sender: &Sender,
) -> Result<(), Status> {
    let damaged = |_| AccountError::Damaged("a message");
    let id = ContentId::try_from(&message.content_id).map_err(damaged)?;
    // The first piece is read before the message is announced: without its content, it is left out.
    let size = contents.size(id).await?;
    let mut pieces = contents.read(id, 0..u64::MAX);
    let first = pieces.next().await.transpose()?;
    let about = ExportMessage {
        mailbox: place.mailbox,
        uid: place.uid,
        flags: Some(place.flags),
        received: row.received,
        size: message.prefix.len() as u64 + size,
        mail_from: message.mail_from,
    };
    let announced = ExportResponse {
        message: Some(about),
        data: message.prefix,
        ..Default::default()
    };
    send(sender, announced).await?;
    let mut next = first;
    while let Some(data) = next {
        send(
            sender,
            ExportResponse {
                data,
                ..Default::default()
            },
        )
        .await?;
        // From here on the caller has a part of it.
        next = pieces.next().await.transpose()?;
    }
    Ok(())
}
