//! One attempt: a message, over one destination's hosts, to several recipients.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mox_config::Transport;
use mox_proto::queue::v1::RequireTls;
use mox_proto::report::v1::TlsResult;
use mox_smtp::Reply;
use mox_smtp::client::{Client, ClientError, Transaction, TransactionRecipient};
use mox_types::Address;
use tokio::time::{sleep, timeout};

use crate::content::Content;
use crate::idle::{Session, Use};
use crate::route::Destination;
use crate::secure::Results;
use crate::session::{Outside, Room};
use crate::verdict::{Failure, Verdict};

/// Addresses that are tried in one attempt.
const ADDRESSES_MAX: usize = 12;
/// Recipients of one transaction. RFC 5321 §4.5.3.1.8: every server takes 100.
const RECIPIENTS_MAX: usize = 100;
/// RFC 5321 §4.5.3.1.10: too many recipients. The rest is for another transaction.
const TOO_MANY_RECIPIENTS: u16 = 452;
/// All of an attempt: hosts that answer slowly, one after the other, and then take the message slowly.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(2 * 3600);

/// Before a message goes back that the store did not give: it is away, and others would fare no better.
const STORE_PAUSE: Duration = Duration::from_secs(1);

/// Somebody to deliver to.
#[derive(Debug, Clone)]
pub struct Recipient {
    /// Who.
    pub address: Address,
    /// NOTIFY as given; "" if not.
    pub notify: String,
    /// ORCPT as given; "" if not.
    pub orcpt: String,
}

/// A message to deliver.
pub struct Mail {
    /// None is the null reverse-path.
    pub mail_from: Option<Address>,
    /// At least one.
    pub recipients: Vec<Recipient>,
    /// It has octets over 127.
    pub eight_bit: bool,
    /// Its header or addresses need SMTPUTF8.
    pub smtputf8: bool,
    /// RFC 8689.
    pub requiretls: RequireTls,
    /// RET as given; "" if not.
    pub ret: String,
    /// ENVID as given; "" if not.
    pub envid: String,
    /// Its bytes.
    pub content: Content,
}

/// What an attempt came to.
#[derive(Debug, Clone)]
pub struct Report {
    /// One for each recipient, in their order.
    pub verdicts: Vec<Verdict>,
    /// The host that answered last.
    pub remote_host: String,
    /// Every address that was dialed.
    pub dialed: Vec<String>,
    /// What TLS led to.
    pub tls: Vec<TlsResult>,
}

/// What one session came to.
enum Step {
    /// Every recipient has a verdict.
    Done,
    /// This one is of no use; another may be.
    Another(Failure),
}

/// An attempt that is made.
struct Attempt<'a> {
    outside: &'a Outside,
    mail: &'a Mail,
    /// Asked before the end of the message is sent.
    safe: &'a (dyn Fn() -> bool + Send + Sync),
    /// Whether the end of a message was sent that was not answered yet.
    sent: &'a AtomicBool,
    verdicts: Vec<Option<Verdict>>,
    remote_host: String,
    dialed: Vec<String>,
    tls: Results,
}

/// Makes an attempt. `safe` says whether the message is still ours to deliver; `sent` is set while it is not known
/// whether the message was delivered.
pub async fn attempt(
    outside: &Outside,
    destination: &Destination,
    transport: Option<&Transport>,
    mail: &Mail,
    safe: &(dyn Fn() -> bool + Send + Sync),
    sent: &AtomicBool,
) -> Report {
    let mut this = Attempt {
        outside,
        mail,
        safe,
        sent,
        verdicts: vec![None; mail.recipients.len()],
        remote_host: String::new(),
        dialed: Vec::new(),
        tls: Results::default(),
    };
    let failure = match timeout(ATTEMPT_TIMEOUT, this.run(destination, transport)).await {
        Ok(Ok(())) => Failure::ours(false, (3, 0), "no host gave an answer"),
        Ok(Err(failure)) => failure,
        // RFC 3463 §3.5: delivery time expired; of this attempt only.
        Err(_) => Failure::ours(false, (4, 7), "the attempt took too long"),
    };
    let verdicts = this.verdicts.into_iter();
    Report {
        verdicts: verdicts
            .map(|v| v.unwrap_or_else(|| Verdict::Failed(failure.clone())))
            .collect(),
        remote_host: this.remote_host,
        dialed: this.dialed,
        tls: this.tls.take(),
    }
}

impl Attempt<'_> {
    /// Tries the hosts until every recipient has a verdict. The error is for those that have none.
    async fn run(&mut self, destination: &Destination, transport: Option<&Transport>) -> Result<(), Failure> {
        let what = Use {
            destination: destination.clone(),
            requiretls: self.mail.requiretls,
        };
        if let Some(session) = self.outside.idle.take(&what) {
            self.dialed.push(session.address.to_string());
            self.remote_host.clone_from(&session.host);
            match self.transactions(session, &what).await {
                Step::Done => return Ok(()),
                // The host no longer wanted to wait for us, which says nothing about the message.
                Step::Another(failure) => {
                    tracing::debug!(
                        host = self.remote_host,
                        reason = failure.text,
                        "session could not be used again"
                    );
                    self.dialed.clear();
                }
            }
        }
        let plan = self.outside.plan(destination, transport, self.mail.requiretls).await?;
        self.tls = plan.results.clone();
        // What would be tried again counts for more than what would not.
        let mut last: Option<Failure> = None;
        for host in &plan.hosts {
            let addresses = match plan.addresses(self.outside, host).await {
                Ok(addresses) => addresses,
                Err(failure) => {
                    last = Some(worse(last, failure));
                    continue;
                }
            };
            let shared = plan.is_shared(host);
            let mut busy = false;
            for address in addresses {
                if self.dialed.len() == ADDRESSES_MAX {
                    break;
                }
                self.remote_host.clone_from(host);
                let mut place = None;
                while place.is_none() {
                    match self
                        .outside
                        .room(host, address, shared.then_some(what.requiretls))
                        .await
                    {
                        None => break,
                        Some(Room::Place(free)) => place = Some(free),
                        // The host may no longer want to wait, which says nothing about the message.
                        Some(Room::Session(session)) => {
                            self.dialed.push(address.to_string());
                            if let Step::Done = self.transactions(session, &what).await {
                                return Ok(());
                            }
                            self.dialed.pop();
                        }
                    }
                }
                let Some(place) = place else {
                    busy = true;
                    continue;
                };
                self.dialed.push(address.to_string());
                let step = match plan.open(self.outside, host, address).await {
                    Ok(client) => {
                        let session = Session::new(client, host.clone(), address, place, shared);
                        self.transactions(session, &what).await
                    }
                    Err(failure) => Step::Another(failure),
                };
                match step {
                    Step::Done => return Ok(()),
                    Step::Another(failure) => {
                        tracing::debug!(host, %address, reason = failure.text, "host is of no use now");
                        last = Some(worse(last, failure));
                    }
                }
            }
            // The next ones are for when this one does not work (RFC 5321 §5.1), which nobody has seen.
            if busy {
                self.rest(&Verdict::Busy);
                return Ok(());
            }
        }
        Err(last.unwrap_or_else(|| Failure::ours(false, (4, 4), "there is no host to deliver to")))
    }

    /// Transactions in one session until every recipient has a verdict.
    async fn transactions(&mut self, mut session: Session, what: &Use) -> Step {
        if let Err(error) = self.mail.content.load().await {
            let verdict = if error.is_passing() {
                tracing::info!(%error, "message can't be had now");
                sleep(STORE_PAUSE).await;
                Verdict::Abandoned
            } else {
                Verdict::Failed(Failure::ours(false, (3, 0), error.to_string()))
            };
            self.rest(&verdict);
            self.outside.idle.put(what, session);
            return Step::Done;
        }
        let most = session
            .client
            .extensions()
            .recipients_max
            .unwrap_or(RECIPIENTS_MAX)
            .clamp(1, RECIPIENTS_MAX);
        loop {
            let open: Vec<usize> = (0..self.verdicts.len())
                .filter(|n| self.verdicts[*n].is_none())
                .take(most)
                .collect();
            if open.is_empty() {
                self.outside.idle.put(what, session);
                return Step::Done;
            }
            match self.transaction(&mut session.client, &open).await {
                Ok(replies) => self.judge(&session.client, &open, &replies),
                Err(error) => {
                    let step = self.failed(&open, &error);
                    session.end();
                    return step.unwrap_or(Step::Done);
                }
            }
            if !session.client.is_usable() {
                let failure = Failure::ours(false, (4, 2), "connection was closed before the last recipients");
                return if self.verdicts.contains(&None) {
                    Step::Another(failure)
                } else {
                    Step::Done
                };
            }
        }
    }

    async fn transaction(&self, client: &mut Client, open: &[usize]) -> Result<Vec<Reply>, ClientError> {
        let mail = self.mail;
        let given = |s: &'_ str| (!s.is_empty()).then(|| s.to_owned());
        let parameters: Vec<(Option<String>, Option<String>)> = open
            .iter()
            .map(|n| (given(&mail.recipients[*n].notify), given(&mail.recipients[*n].orcpt)))
            .collect();
        let recipients: Vec<TransactionRecipient<'_>> = open
            .iter()
            .zip(&parameters)
            .map(|(n, (notify, orcpt))| TransactionRecipient {
                address: &mail.recipients[*n].address,
                notify: notify.as_deref(),
                orcpt: orcpt.as_deref(),
            })
            .collect();
        let transaction = Transaction {
            mail_from: mail.mail_from.as_ref(),
            recipients: &recipients,
            size: mail.content.size(),
            eight_bit: mail.eight_bit,
            smtputf8: mail.smtputf8,
            requiretls: mail.requiretls == RequireTls::Yes,
            ret: Some(mail.ret.as_str()).filter(|s| !s.is_empty()),
            envid: Some(mail.envid.as_str()).filter(|s| !s.is_empty()),
        };
        let still_wanted = || {
            let safe = (self.safe)();
            self.sent.store(safe, Ordering::SeqCst);
            safe
        };
        let replies = client.deliver(&transaction, mail.content.stream(), still_wanted).await;
        if replies.is_ok() {
            self.sent.store(false, Ordering::SeqCst);
        }
        replies
    }

    /// Verdicts from replies.
    fn judge(&mut self, client: &Client, open: &[usize], replies: &[Reply]) {
        let progress = replies.iter().any(Reply::is_success);
        for (n, reply) in open.iter().zip(replies) {
            self.verdicts[*n] = if reply.is_success() {
                let dsn = client.extensions().dsn;
                Some(Verdict::Delivered {
                    code: reply.code,
                    text: reply.to_string(),
                    dsn,
                })
            } else if reply.code == TOO_MANY_RECIPIENTS && progress {
                // With the others out of the way, there is room in the next transaction.
                None
            } else {
                Some(Verdict::Failed(Failure::reply(reply)))
            };
        }
    }

    /// What an error means for those whose transaction it was; `None` if for them it is settled.
    fn failed(&mut self, open: &[usize], error: &ClientError) -> Option<Step> {
        let sent = self.sent.swap(false, Ordering::SeqCst);
        let failure = Failure::transaction(error);
        let closing = error.reply().is_some_and(|reply| reply.code == 421);
        match error {
            ClientError::Abandoned => {
                self.rest(&Verdict::Abandoned);
                return None;
            }
            // RFC 5321 §4.5.4.1, and §6.1: after the end of the message, trying another host at once would make a
            // duplicate more likely than trying later.
            _ if sent => {}
            ClientError::Io { .. } | ClientError::Closed { .. } | ClientError::Timeout { .. } => {
                return Some(Step::Another(failure));
            }
            ClientError::Malformed { .. } => return Some(Step::Another(failure)),
            ClientError::Refused { .. } if closing => return Some(Step::Another(failure)),
            _ => {}
        }
        for n in open {
            self.verdicts[*n] = Some(Verdict::Failed(failure.clone()));
        }
        // What concerns one transaction's recipients concerns those of the next as well: the message is the same.
        self.rest(&Verdict::Failed(failure));
        None
    }

    fn rest(&mut self, verdict: &Verdict) {
        for open in self.verdicts.iter_mut().filter(|v| v.is_none()) {
            *open = Some(verdict.clone());
        }
    }
}

/// Of two failures of hosts the one to go by: while one may succeed later, the message is not given up.
fn worse(before: Option<Failure>, now: Failure) -> Failure {
    match before {
        Some(before) if !before.permanent && now.permanent => before,
        _ => now,
    }
}
