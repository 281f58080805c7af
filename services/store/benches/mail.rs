//! What the store's mail costs: `cargo bench -p mox-store --bench mail [-- DIRECTORY]`.
//!
//! Delivers messages of 4 KiB to one account through the in-process transport, every one synced before its answer, from
//! one caller and from 32, into a mailbox that fills, with and without its index in use; then lists 6,000 rows.
//! DIRECTORY is on the disk to be measured (default: the system's folder for temporary files).

mod world;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use mox_proto::delivery::v1 as api;
use mox_proto::delivery::v1::delivery_service_client::DeliveryServiceClient;
use mox_proto::delivery::v1::delivery_service_server::DeliveryServiceServer;
use mox_proto::mail::v1 as mail;
use mox_proto::mail::v1::mail_service_client::MailServiceClient;
use mox_proto::mail::v1::mail_service_server::MailServiceServer;
use mox_rpc::{Channel, Identity};
use mox_store::auth::{SessionInfo, Sessions};
use mox_store::delivery::Delivery;
use mox_store::engine::{Options, RocksEngine};
use mox_store::mail::Mail;
use mox_types::AccountId;
use tonic::service::Routes;
use world::{NOW, World};

const SIZE: usize = 4096;
const CALLERS: usize = 32;

struct Bench {
    delivery: DeliveryServiceClient<Channel>,
    mail: MailServiceClient<Channel>,
    session: Bytes,
    account: AccountId,
    content: Bytes,
    _dir: tempfile::TempDir,
}

impl Bench {
    async fn new(dir: tempfile::TempDir) -> anyhow::Result<Self> {
        let db = Arc::new(RocksEngine::open(&Options::new(dir.path()))?);
        let sessions = Sessions::default();
        let World {
            registry,
            accounts,
            contents,
            account,
        } = World::open(db, sessions.clone()).await?;
        let identity = Identity::new("imap");
        let info = SessionInfo {
            account,
            name: "a".into(),
            login_address: "a@example.org".into(),
        };
        let session = sessions.begin(info, identity.clone())?;
        let mail = Mail::new(accounts.clone(), contents.clone(), sessions);
        let delivery = Delivery::new(accounts, contents, registry);
        let delivery = Routes::new(DeliveryServiceServer::new(delivery));
        let mail = Routes::new(MailServiceServer::new(mail));
        let mut content = b"Message-ID: <x@example.net>\r\nFrom: b@example.net\r\nTo: a@example.org\r\n\
            Subject: measuring\r\nDate: Sun, 22 Nov 2026 12:00:00 +0000\r\n\r\n"
            .to_vec();
        while content.len() < SIZE {
            content.extend_from_slice(b"0123456789 0123456789 0123456789 0123456789 0123456789\r\n");
        }
        Ok(Self {
            delivery: DeliveryServiceClient::new(Channel::in_process(delivery, Identity::new("smtp-in"))),
            mail: MailServiceClient::new(Channel::in_process(mail, identity)),
            session,
            account,
            content: content.into(),
            _dir: dir,
        })
    }

    fn request(&self) -> api::DeliverRequest {
        let recipient = api::Recipient {
            rcpt_to: "a@example.org".into(),
            account_id: self.account.to_bytes(),
            address: "a@example.org".into(),
            ..Default::default()
        };
        let delivery = api::Delivery {
            recipient: Some(recipient),
            prefix: Bytes::from_static(b"Return-Path: <b@example.net>\r\nDelivered-To: a@example.org\r\n"),
            ..Default::default()
        };
        api::DeliverRequest {
            key: mox_rpc::key(),
            envelope: Some(api::Envelope {
                mail_from: "b@example.net".into(),
                ehlo: "example.net".into(),
                remote_ip: "192.0.2.1".into(),
                ..Default::default()
            }),
            content: Some(mail::Content {
                r#where: Some(mail::content::Where::Inline(self.content.clone())),
            }),
            deliveries: vec![delivery],
            received: NOW,
            ..Default::default()
        }
    }

    /// Messages a second.
    async fn deliver(self: &Arc<Self>, callers: usize, messages: usize) -> anyhow::Result<f64> {
        let start = Instant::now();
        let mut tasks = Vec::new();
        for _ in 0..callers {
            let this = self.clone();
            tasks.push(tokio::spawn(async move {
                let mut client = this.delivery.clone();
                for _ in 0..messages / callers {
                    client.deliver(this.request()).await?;
                }
                Ok::<_, tonic::Status>(())
            }));
        }
        for task in tasks {
            task.await??;
        }
        Ok(messages as f64 / start.elapsed().as_secs_f64())
    }

    async fn list(&self, columns: u32) -> anyhow::Result<(usize, Duration)> {
        let mut client = self.mail.clone();
        let which = Some(mail::get_mailbox_request::Which::Name("Inbox".into()));
        let inbox = client
            .get_mailbox(mail::GetMailboxRequest {
                session: self.session.clone(),
                which,
                ..Default::default()
            })
            .await?;
        let mailbox_id = inbox.into_inner().id;
        let start = Instant::now();
        let request = mail::ListRowsRequest {
            session: self.session.clone(),
            mailbox_id,
            first_uid: 1,
            last_uid: 6000,
            columns,
            ..Default::default()
        };
        let rows = client.list_rows(request).await?.into_inner().rows.unwrap_or_default();
        Ok((rows.uid_delta.len(), start.elapsed()))
    }
}

#[tokio::main(worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    let place = std::env::args().skip(1).find(|a| !a.starts_with('-'));
    let dir = match place {
        Some(place) => tempfile::tempdir_in(place)?,
        None => tempfile::tempdir()?,
    };
    let bench = Arc::new(Bench::new(dir).await?);
    bench.deliver(CALLERS, 320).await?;
    println!(
        "1 caller, empty:            {:>7.0} messages/s",
        bench.deliver(1, 1000).await?
    );
    println!(
        "{CALLERS} callers, empty:          {:>7.0} messages/s",
        bench.deliver(CALLERS, 9600).await?
    );
    println!(
        "{CALLERS} callers, 10,000 there:   {:>7.0} messages/s",
        bench.deliver(CALLERS, 9600).await?
    );
    let (rows, first) = bench.list(mail::Column::Flags as u32).await?;
    println!("first list of {rows} flags:  {first:>12.2?} (loads the index)");
    let mut best = Duration::MAX;
    for _ in 0..50 {
        best = best.min(bench.list(mail::Column::Flags as u32).await?.1);
    }
    println!("list of {rows} flags:        {best:>12.2?}");
    println!(
        "{CALLERS} callers, index in use:   {:>7.0} messages/s",
        bench.deliver(CALLERS, 9600).await?
    );
    println!(
        "1 caller, 30,000 there:     {:>7.0} messages/s",
        bench.deliver(1, 1000).await?
    );
    Ok(())
}
