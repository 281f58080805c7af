//! The octets of one message on their way to the store: small ones with the request that adds them, others as an upload
//! that is fed as they arrive.

use bytes::{Bytes, BytesMut};
use futures::SinkExt as _;
use futures::channel::mpsc;
use mox_imap_proto::LiteralHeader;
use mox_imap_proto::append::Data;
use mox_proto::mail::v1::content::Where;
use mox_proto::mail::v1::mail_service_client::MailServiceClient;
use mox_proto::mail::v1::{UploadRequest, UploadResponse};
use mox_rpc::{Channel, INLINE_CONTENT_BYTES};
use tokio::task::JoinHandle;

use super::binary;
use super::reading::{Reading, Unread};
use crate::limits;
use crate::reply::{Failed, Reply, Stop};
use crate::session::Session;

/// Pieces of an upload that wait for the store.
const PIECES: usize = 4;

/// See the module.
pub(super) struct Intake {
    token: Bytes,
    mail: MailServiceClient<Channel>,
    /// Octets that may still ride with the request.
    room: usize,
    size: u64,
    /// What was not sent yet; all of it, if no upload was begun.
    buffer: BytesMut,
    upload: Option<Upload>,
}

struct Upload {
    pieces: mpsc::Sender<UploadRequest>,
    done: JoinHandle<Result<UploadResponse, tonic::Status>>,
}

impl Drop for Upload {
    fn drop(&mut self) {
        // If the command fails, the store need not go on.
        self.done.abort();
    }
}

impl Intake {
    /// For a message of a request that has so many octets of others already.
    pub(super) fn new(token: Bytes, mail: MailServiceClient<Channel>, inline: usize) -> Self {
        Self {
            token,
            mail,
            room: limits::APPEND_INLINE.saturating_sub(inline).min(INLINE_CONTENT_BYTES),
            size: 0,
            buffer: BytesMut::new(),
            upload: None,
        }
    }

    /// Octets so far.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Takes a literal of the client in, after asking for it if it is to be asked for.
    pub(super) async fn literal(
        &mut self,
        session: &mut Session,
        reading: &mut Reading,
        header: LiteralHeader,
        data: Data,
    ) -> Result<(), Failed> {
        if header.synchronizing {
            session.connection.out.extend_from_slice(b"+ Ready for the message\r\n");
            session.connection.flush().await?;
        }
        let result = if header.binary && !super::is_part(data) && header.size <= limits::BINARY_APPEND {
            self.convert(session, header.size).await
        } else {
            self.stream(session, header).await
        };
        if !matches!(result, Err(Failed::Stop(_))) {
            reading.unread = Unread::Line;
        }
        result
    }

    /// The literal as it is. If the store fails, the rest is read and thrown away.
    async fn stream(&mut self, session: &mut Session, header: LiteralHeader) -> Result<(), Failed> {
        let mut left = header.size;
        if self.size == 0 {
            self.buffer
                .reserve(self.room.min(usize::try_from(left).unwrap_or(usize::MAX)));
        }
        while left > 0 {
            let piece = session.connection.piece(left).await?;
            left -= piece.len() as u64;
            let nul = header.binary && memchr::memchr(0, &piece).is_some();
            let written = if nul {
                Err(binary::unknown().into())
            } else {
                self.write(&piece).await
            };
            if let Err(error) = written {
                session.connection.discard(left).await?;
                return Err(error);
            }
        }
        Ok(())
    }

    /// A message that may have binary data.
    async fn convert(&mut self, session: &mut Session, size: u64) -> Result<(), Failed> {
        let shared = session.shared.clone();
        let _permit = if size > INLINE_CONTENT_BYTES as u64 {
            Some(
                shared
                    .conversions
                    .acquire()
                    .await
                    .map_err(|_| Stop::Bye("The server is stopping".into()))?,
            )
        } else {
            None
        };
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        let mut message = BytesMut::with_capacity(size.min(INLINE_CONTENT_BYTES));
        while message.len() < size {
            let piece = session.connection.piece((size - message.len()) as u64).await?;
            message.extend_from_slice(&piece);
        }
        if memchr::memchr(0, &message).is_none() {
            return self.write_pieces(&message).await;
        }
        let converted = tokio::task::spawn_blocking(move || binary::convert(&message)).await;
        match converted {
            Ok(Some(message)) if message.len() as u64 > limits::APPEND => Err(super::too_big().into()),
            Ok(Some(message)) => self.write_pieces(&message).await,
            Ok(None) => Err(binary::unknown().into()),
            Err(_) => Err(Reply::no("The message could not be converted").code("SERVERBUG").into()),
        }
    }

    async fn write_pieces(&mut self, message: &[u8]) -> Result<(), Failed> {
        for piece in message.chunks(limits::LITERAL_ROOM) {
            self.write(piece).await?;
        }
        Ok(())
    }

    /// Adds octets.
    ///
    /// # Errors
    /// If there are too many, or the store fails.
    pub(super) async fn write(&mut self, data: &[u8]) -> Result<(), Failed> {
        self.size += data.len() as u64;
        if self.size > limits::APPEND {
            return Err(super::too_big().into());
        }
        if self.upload.is_none() && self.buffer.len() + data.len() <= self.room {
            self.buffer.extend_from_slice(data);
            return Ok(());
        }
        if self.upload.is_none() {
            self.begin();
            let buffered = std::mem::take(&mut self.buffer).freeze();
            if !buffered.is_empty() {
                self.send(buffered).await?;
            }
        }
        self.send(Bytes::copy_from_slice(data)).await
    }

    fn begin(&mut self) {
        let (pieces, requests) = mpsc::channel(PIECES);
        let mut request = tonic::Request::new(requests);
        request.set_timeout(limits::INPUT);
        let mut mail = self.mail.clone();
        let done = tokio::spawn(async move { mail.upload(request).await.map(tonic::Response::into_inner) });
        self.upload = Some(Upload { pieces, done });
    }

    async fn send(&mut self, data: Bytes) -> Result<(), Failed> {
        let Some(upload) = &mut self.upload else { return Ok(()) };
        // Only the first one says whose it is.
        let session = std::mem::take(&mut self.token);
        if upload.pieces.send(UploadRequest { session, data }).await.is_ok() {
            return Ok(());
        }
        // It has ended, so this says why.
        match self.ended().await {
            Err(failed) => Err(failed),
            Ok(_) => Err(Reply::no("Not available at the moment, try again later")
                .code("UNAVAILABLE")
                .into()),
        }
    }

    async fn ended(&mut self) -> Result<UploadResponse, Failed> {
        let Some(mut upload) = self.upload.take() else {
            return Ok(UploadResponse::default());
        };
        upload.pieces.close_channel();
        match (&mut upload.done).await {
            Ok(answer) => Ok(answer?),
            Err(_) => Err(Reply::no("The message could not be stored").code("SERVERBUG").into()),
        }
    }

    /// Where the message is. `inline` counts the octets that ride with the request.
    pub(super) async fn finish(mut self, inline: &mut usize) -> Result<Where, Failed> {
        if self.upload.is_some() {
            return Ok(Where::UploadId(self.ended().await?.upload_id));
        }
        *inline += self.buffer.len();
        Ok(Where::Inline(std::mem::take(&mut self.buffer).freeze()))
    }
}
