//! The history of an account with those who send to it: which of their messages were junk.
//!
//! Every message that is flagged junk or not junk, and was received by SMTP, has an entry under each of the names of its
//! sender ([`senders`]): the address in From, its domain and organization, MAIL FROM, verified DKIM domains, EHLO, and
//! the networks of its IP address. Entries are kept by the writes of rows ([`AccountTx::insert_row`] and its kin), in the
//! same commit, whoever flags, moves or removes. Looking up reads a fixed number of the latest ones, so it costs the same
//! however much mail there is.

use bytes::Bytes;
use mox_proto::delivery::v1::Validation;
use mox_proto::record::v1 as record;
use mox_proto::record::v1::message::Training;
use mox_types::{AccountId, MailboxId, MessageId};
use prost::Message as _;
use ring::digest::{SHA256, digest};

use super::training::lesson;
use super::{AccountError, AccountTx, Reader};
use crate::engine::{Db, Limit, Order};
use crate::keys::{self, SENDER_DIGEST};

/// Most DKIM domains of a message that count.
const DKIM_DOMAINS_MAX: usize = 10;
/// Bytes of the digest of a localpart in an entry.
const LOCALPART_DIGEST: usize = 8;

/// What a sender is known by. The numbers are in keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Kind {
    /// The address in From, verified.
    From = 1,
    /// The address in From, which anybody can write there.
    FromUnverified = 2,
    /// The domain in From, verified.
    FromDomain = 3,
    /// The domain in From, not verified.
    FromDomainUnverified = 4,
    /// The organization of the domain in From, verified.
    FromOrganization = 5,
    /// The organization of the domain in From, not verified.
    FromOrganizationUnverified = 6,
    /// MAIL FROM, with an SPF pass.
    MailFrom = 7,
    /// The domain of MAIL FROM, with an SPF pass.
    MailFromDomain = 8,
    /// A domain that signed.
    Dkim = 9,
    /// The name in EHLO, with an SPF pass.
    Ehlo = 10,
    /// The IP address, or what one subscriber of IPv6 has.
    Network1 = 11,
    /// A wider network.
    Network2 = 12,
    /// A yet wider network.
    Network3 = 13,
}

/// One name of a sender.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Sender {
    /// What it is.
    pub kind: Kind,
    /// In lower case.
    pub name: String,
}

impl Sender {
    fn new(kind: Kind, name: &str) -> Option<Self> {
        (!name.is_empty()).then(|| Self {
            kind,
            name: name.to_lowercase(),
        })
    }

    fn digest(&self) -> [u8; SENDER_DIGEST] {
        short(self.name.as_bytes())
    }
}

fn short<const N: usize>(text: &[u8]) -> [u8; N] {
    let mut short = [0; N];
    short.copy_from_slice(&digest(&SHA256, text).as_ref()[..N]);
    short
}

/// Whether the address in From was shown to be the sender's.
#[must_use]
pub fn is_from_verified(message: &record::Message) -> bool {
    matches!(
        message.msg_from_validation(),
        Validation::Strict | Validation::Dmarc | Validation::Relaxed | Validation::Pass
    )
}

/// The names that a message's sender is known by. None of one that nobody looked at when it came, or that did not come by
/// SMTP: what it says about its sender is anybody's claim. Of a forwarded one, those that are the forwarder's are left
/// out.
#[must_use]
pub fn senders(message: &record::Message) -> Vec<Sender> {
    if message.msg_from_validation() == Validation::Unknown {
        return Vec::new();
    }
    let verified = is_from_verified(message);
    let of_from = |yes, no| if verified { yes } else { no };
    let mut senders = Vec::with_capacity(12);
    if !message.msg_from_domain.is_empty() {
        let address = format!("{}@{}", message.msg_from_localpart, message.msg_from_domain);
        senders.extend(Sender::new(of_from(Kind::From, Kind::FromUnverified), &address));
        let domain = of_from(Kind::FromDomain, Kind::FromDomainUnverified);
        senders.extend(Sender::new(domain, &message.msg_from_domain));
        let organization = of_from(Kind::FromOrganization, Kind::FromOrganizationUnverified);
        senders.extend(Sender::new(organization, &message.msg_from_org_domain));
    }
    for domain in message.dkim_domains.iter().take(DKIM_DOMAINS_MAX) {
        let sender = Sender::new(Kind::Dkim, domain);
        senders.extend(sender.filter(|s| !senders.contains(s)));
    }
    if message.forward {
        return senders;
    }
    if message.mail_from_validation() == Validation::Pass && !message.mail_from_domain.is_empty() {
        senders.extend(Sender::new(Kind::MailFrom, &message.mail_from));
        senders.extend(Sender::new(Kind::MailFromDomain, &message.mail_from_domain));
    }
    if message.ehlo_validation() == Validation::Pass {
        senders.extend(Sender::new(Kind::Ehlo, &message.ehlo));
    }
    senders.extend(Sender::new(Kind::Network1, &message.remote_ip_network1));
    senders.extend(Sender::new(Kind::Network2, &message.remote_ip_network2));
    senders.extend(Sender::new(Kind::Network3, &message.remote_ip_network3));
    senders
}

/// The entries of a message that is judged so: keys and values.
#[must_use]
pub fn entries(account: AccountId, message: &record::Message, judged: Training) -> Vec<(Bytes, Bytes)> {
    let Ok(id) = MessageId::try_from(&message.id) else {
        return Vec::new();
    };
    if judged == Training::None {
        return Vec::new();
    }
    let localpart: [u8; LOCALPART_DIGEST] = short(message.msg_from_localpart.to_lowercase().as_bytes());
    let value = Bytes::from([&[u8::from(judged == Training::Junk)][..], &localpart].concat());
    let key = |sender: &Sender| keys::history(account, sender.kind as u8, &sender.digest(), message.received, id);
    senders(message).iter().map(|s| (key(s), value.clone())).collect()
}

/// A judged message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Judged {
    /// Whether it was junk.
    pub junk: bool,
    /// Tells localparts of From apart.
    pub localpart: [u8; LOCALPART_DIGEST],
}

/// The latest judged messages of a sender, received at a time (seconds since 1970) or later: at most so many, the latest
/// first.
///
/// # Errors
/// If they cannot be read.
pub async fn latest(
    db: &Db,
    account: AccountId,
    sender: &Sender,
    since: i64,
    most: usize,
) -> Result<Vec<Judged>, AccountError> {
    let range = keys::history_since(account, sender.kind as u8, &sender.digest(), since);
    let page = db.scan(range, Limit::rows(most), Order::Ascending).await?;
    page.rows
        .iter()
        .map(|(_, value)| {
            let (junk, localpart) = value
                .data
                .split_first()
                .ok_or(AccountError::Damaged("a sender's history"))?;
            Ok(Judged {
                junk: *junk != 0,
                localpart: localpart
                    .try_into()
                    .map_err(|_| AccountError::Damaged("a sender's history"))?,
            })
        })
        .collect()
}

/// Messages whose judgement an operation changed: what it was before, and is.
#[derive(Debug, Default)]
pub(super) struct Changes(std::collections::BTreeMap<Bytes, (Training, Training)>);

impl Changes {
    /// Takes notice of a row that was written, or removed, in place of another.
    pub(super) fn note(&mut self, id: &Bytes, before: u32, after: u32) {
        let (before, after) = (lesson(before), lesson(after));
        if (before, after) == (Training::None, Training::None) && !self.0.contains_key(id) {
            return;
        }
        // A message that moves leaves one mailbox and enters another.
        let change = self.0.entry(id.clone()).or_insert((before, before));
        change.1 = after;
    }
}

impl AccountTx {
    /// Writes the history of what the operation changed. The messages' records are as they are to be.
    pub(super) async fn settle_history(&mut self) -> Result<(), AccountError> {
        let changes = std::mem::take(&mut self.judged).0;
        let mut changed = Vec::new();
        for (id, (before, after)) in changes {
            if before != after {
                changed.push((
                    MessageId::try_from(&id).map_err(|_| AccountError::Damaged("a row"))?,
                    after,
                ));
            }
        }
        if changed.is_empty() {
            return Ok(());
        }
        let ids: Vec<MessageId> = changed.iter().map(|(id, _)| *id).collect();
        // Who removes a message has removed its history with it (`leave`).
        for ((_, judged), message) in changed.iter().zip(self.messages(&ids).await?) {
            let Some(message) = message else { continue };
            match judged {
                Training::None => leave(self, &message),
                judged => {
                    for (key, value) in entries(self.account(), &message, *judged) {
                        self.put(key, value);
                    }
                }
            }
        }
        Ok(())
    }
}

/// Removes the history of a message that was judged, and is removed or judged no longer.
pub fn leave(tx: &mut AccountTx, message: &record::Message) {
    // Keys are the same for either judgement.
    for (key, _) in entries(tx.account(), message, Training::Junk) {
        tx.delete(key);
    }
}

/// Puts a message's history under its names of now, after its record changed.
///
/// # Errors
/// If its row cannot be read.
pub async fn rename(
    tx: &mut AccountTx,
    before: &record::Message,
    message: &record::Message,
) -> Result<(), AccountError> {
    if senders(before) == senders(message) && before.received == message.received {
        return Ok(());
    }
    let mailbox = MailboxId::try_from(&message.mailbox_id).map_err(|_| AccountError::Damaged("a message"))?;
    let key = keys::row(tx.account(), mailbox, message.uid);
    let Some(row) = tx.get_many(vec![key]).await?.pop().flatten() else {
        return Ok(());
    };
    let row = record::Row::decode(row).map_err(|_| AccountError::Damaged("a row"))?;
    let judged = lesson(row.flags);
    if judged != Training::None {
        leave(tx, before);
        for (key, value) in entries(tx.account(), message, judged) {
            tx.put(key, value);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message() -> record::Message {
        record::Message {
            id: MessageId::new().to_bytes(),
            received: 1000,
            msg_from_localpart: "Joe".into(),
            msg_from_domain: "mail.example.org".into(),
            msg_from_org_domain: "example.org".into(),
            msg_from_validation: Validation::Strict.into(),
            mail_from: "bounce@example.org".into(),
            mail_from_domain: "example.org".into(),
            mail_from_validation: Validation::Pass.into(),
            ehlo: "mx.example.org".into(),
            ehlo_validation: Validation::Pass.into(),
            dkim_domains: vec!["example.org".into(), "Example.org".into(), "list.example".into()],
            remote_ip_network1: "192.0.2.1".into(),
            remote_ip_network2: "192.0.2.0".into(),
            remote_ip_network3: "192.0.0.0".into(),
            ..Default::default()
        }
    }

    fn names(message: &record::Message) -> Vec<(Kind, String)> {
        senders(message).into_iter().map(|s| (s.kind, s.name)).collect()
    }

    #[test]
    fn senders_have_the_names_that_were_verified() {
        let whole = names(&message());
        assert_eq!(whole.len(), 11, "{whole:?}");
        assert!(whole.contains(&(Kind::From, "joe@mail.example.org".into())));
        let mut unverified = message();
        unverified.msg_from_validation = Validation::Fail.into();
        unverified.mail_from_validation = Validation::Softfail.into();
        unverified.ehlo_validation = Validation::None.into();
        let kinds: Vec<Kind> = senders(&unverified).iter().map(|s| s.kind).collect();
        let expected = [
            Kind::FromUnverified,
            Kind::FromDomainUnverified,
            Kind::FromOrganizationUnverified,
            Kind::Dkim,
            Kind::Dkim,
            Kind::Network1,
            Kind::Network2,
            Kind::Network3,
        ];
        assert_eq!(kinds, expected);
        let mut forwarded = message();
        forwarded.forward = true;
        let kinds: Vec<Kind> = senders(&forwarded).iter().map(|s| s.kind).collect();
        assert_eq!(kinds.last(), Some(&Kind::Dkim));
        let mut appended = message();
        appended.msg_from_validation = Validation::Unknown.into();
        assert_eq!(senders(&appended), []);
    }

    #[test]
    fn a_move_is_one_change() {
        let mut changes = Changes::default();
        let id = Bytes::from_static(b"id");
        let junk = mox_proto::mail::v1::Flag::Junk as u32;
        changes.note(&id, junk, 0);
        changes.note(&id, 0, junk);
        assert_eq!(changes.0[&id], (Training::Junk, Training::Junk));
    }

    #[test]
    fn keys_sort_by_time_the_latest_first() {
        let (account, id) = (AccountId::new(), MessageId::new());
        let digest = [7; SENDER_DIGEST];
        let key = |at| keys::history(account, 1, &digest, at, id);
        assert!(key(5) < key(4));
        let since = keys::history_since(account, 1, &digest, 5);
        assert!(since.contains(&key(5)) && since.contains(&key(6)) && !since.contains(&key(4)));
        assert!(!since.contains(&keys::history(account, 2, &digest, 5, id)));
        assert_eq!(keys::parse_history(&key(5)), Some(id));
    }
}
