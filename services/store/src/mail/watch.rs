//! [`Watch`](mox_proto::mail::v1::mail_service_server::MailService::watch): hints that accounts changed.

use std::collections::HashMap;
use std::time::Duration;

use futures::StreamExt as _;
use mox_proto::mail::v1 as mail;
use mox_proto::mail::v1::watch_request::{Request as Step, Subscribe};
use mox_rpc::Identity;
use mox_types::AccountId;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Status, Streaming};

use super::{Answers, Mail};
use crate::account::{News, Watcher};

/// How often sessions are looked at, and accounts for changes of which no event arrived.
const CHECK_EVERY: Duration = Duration::from_secs(30);
/// Most subscriptions of a stream: sessions of one process.
const SUBSCRIPTIONS_MAX: usize = 100_000;
/// Answers that wait for the client's process; more are joined.
const AHEAD: usize = 64;

struct Watching {
    mail: Mail,
    caller: Identity,
    watcher: Watcher,
    subscriptions: HashMap<u64, Subscription>,
    answers: mpsc::Sender<Result<mail::WatchResponse, Status>>,
}

struct Subscription {
    account: AccountId,
    session: bytes::Bytes,
    told: u64,
}

/// The client has gone.
struct Gone;

impl Mail {
    pub(super) fn do_watch(
        &self,
        request: Request<Streaming<mail::WatchRequest>>,
    ) -> Result<Answers<mail::WatchResponse>, Status> {
        let caller = mox_rpc::caller(&request)?;
        let (answers, receiver) = mpsc::channel(AHEAD);
        let watching = Watching {
            mail: self.clone(),
            caller,
            watcher: self.accounts.hub().watcher(),
            subscriptions: HashMap::new(),
            answers,
        };
        tokio::spawn(async move {
            // Ends when either side of the stream does.
            let _: Result<(), Gone> = watching.run(request.into_inner()).await;
        });
        Ok(Box::pin(ReceiverStream::new(receiver)))
    }
}

impl Watching {
    async fn run(mut self, mut requests: Streaming<mail::WatchRequest>) -> Result<(), Gone> {
        let mut check = tokio::time::interval(CHECK_EVERY);
        check.reset();
        let answers = self.answers.clone();
        let mut revocations = self.mail.sessions.revocations();
        loop {
            tokio::select! {
                request = requests.next() => match request {
                    Some(Ok(mail::WatchRequest { request: Some(step) })) => self.step(step).await?,
                    Some(Ok(mail::WatchRequest { request: None })) => {}
                    Some(Err(_)) | None => return Ok(()),
                },
                changes = self.watcher.changes() => {
                    for (id, news) in changes {
                        self.tell(id, news).await?;
                    }
                }
                // Missed ones are found by looking at all sessions, as is done now and then anyway.
                revoked = revocations.recv() => self.check(revoked.ok()).await?,
                _ = check.tick() => self.check(None).await?,
                () = answers.closed() => return Ok(()),
            }
        }
    }

    async fn send(&self, answer: mail::WatchResponse) -> Result<(), Gone> {
        self.answers.send(Ok(answer)).await.map_err(|_| Gone)
    }

    async fn tell(&mut self, id: u64, news: News) -> Result<(), Gone> {
        let Some(subscription) = self.subscriptions.get_mut(&id).filter(|s| s.told < news.modseq) else {
            return Ok(());
        };
        subscription.told = news.modseq;
        self.send(mail::WatchResponse {
            id,
            modseq: news.modseq,
            since: news.since,
            mailboxes: news.mailboxes.iter().map(|m| m.to_bytes()).collect(),
            ..Default::default()
        })
        .await
    }

    async fn step(&mut self, step: Step) -> Result<(), Gone> {
        match step {
            Step::Subscribe(Subscribe { id, session }) => self.subscribe(id, session).await,
            Step::Unsubscribe(id) => {
                self.watcher.unsubscribe(id);
                self.subscriptions.remove(&id);
                Ok(())
            }
        }
    }

    async fn subscribe(&mut self, id: u64, session: bytes::Bytes) -> Result<(), Gone> {
        if self.subscriptions.len() >= SUBSCRIPTIONS_MAX {
            let status = Status::resource_exhausted("at most 100000 subscriptions in a stream");
            let _ = self.answers.send(Err(status)).await;
            return Err(Gone);
        }
        let Ok(info) = self.mail.session(&self.caller, &session).await else {
            return self
                .send(mail::WatchResponse {
                    id,
                    revoked: true,
                    ..Default::default()
                })
                .await;
        };
        // Watched before the state is read, so that no change falls between.
        self.watcher.subscribe(id, info.account);
        match self.mail.accounts.state(info.account, 0).await {
            Ok(state) => {
                let told = state.modseq();
                self.subscriptions.insert(
                    id,
                    Subscription {
                        account: info.account,
                        // A copy, which does not hold the buffer that the request was read into.
                        session: bytes::Bytes::copy_from_slice(&session),
                        told,
                    },
                );
                self.send(mail::WatchResponse {
                    id,
                    modseq: told,
                    ..Default::default()
                })
                .await
            }
            Err(error) => {
                tracing::info!(account = %info.account, %error, "watching account");
                self.watcher.unsubscribe(id);
                self.send(mail::WatchResponse {
                    id,
                    revoked: true,
                    ..Default::default()
                })
                .await
            }
        }
    }

    /// Ends subscriptions whose session has ended, and looks for changes in case an event was lost: of one account, or
    /// of all.
    async fn check(&mut self, only: Option<AccountId>) -> Result<(), Gone> {
        let wanted = |s: &Subscription| only.is_none_or(|only| s.account == only);
        let ids: Vec<u64> = self
            .subscriptions
            .iter()
            .filter(|(_, s)| wanted(s))
            .map(|(id, _)| *id)
            .collect();
        for id in ids {
            let Some(subscription) = self.subscriptions.get(&id) else {
                continue;
            };
            let (account, session) = (subscription.account, subscription.session.clone());
            let ended = match self.mail.session(&self.caller, &session).await {
                Ok(_) => false,
                Err(status) => matches!(status.code(), tonic::Code::Unauthenticated | tonic::Code::NotFound),
            };
            if ended {
                self.watcher.unsubscribe(id);
                self.subscriptions.remove(&id);
                self.send(mail::WatchResponse {
                    id,
                    revoked: true,
                    ..Default::default()
                })
                .await?;
            } else if let Ok(state) = self.mail.accounts.state(account, 0).await {
                self.tell(id, News::anywhere(state.modseq())).await?;
            }
        }
        Ok(())
    }
}
