//! Delivering: one commit for all recipients of a transaction.

use std::collections::HashMap;
use std::net::IpAddr;

use bytes::Bytes;
use mox_proto::delivery::v1 as api;
use mox_proto::record::v1 as record;
use mox_types::AccountId;
use prost::Message as _;
use tonic::Status;

use super::notice::Notice;
use super::{Delivery, RECIPIENTS_MAX, check_recipients, is_upload};
use crate::account::ops::{self, NewMessage};
use crate::account::{AccountError, Key, Wanted, canonical, find_thread, ingest};
use crate::idempotency;
use crate::mail::{KEY_BYTES, of_content};

/// Most bytes of the header fields that are put above a content.
const PREFIX_MAX: usize = 64 << 10;
/// Scope of smtp-in's keys.
const SCOPE: &[u8] = b"d";

impl Delivery {
    pub(super) async fn do_deliver(&self, request: api::DeliverRequest) -> Result<api::DeliverResponse, Status> {
        check_recipients(request.deliveries.len())?;
        if request.failed.len() > RECIPIENTS_MAX {
            return Err(Status::invalid_argument("a transaction has at most 1000 recipients"));
        }
        if request.key.len() != KEY_BYTES {
            return Err(Status::invalid_argument("idempotency key must be 16 bytes"));
        }
        let digest = idempotency::digest(&request);
        let key = Key {
            scope: Bytes::from_static(SCOPE),
            key: request.key.clone(),
            digest,
        };
        if is_upload(request.content.as_ref()) {
            // The upload of a delivery that took place is gone, so what was answered is looked for first.
            let now = self.accounts.now();
            let kept = idempotency::find(self.accounts.db(), now, &key.scope, &key.key, &key.digest).await?;
            if let Some(kept) = kept {
                let damaged = |_| Status::from(AccountError::Damaged("a kept result"));
                return api::DeliverResponse::decode(kept).map_err(damaged);
            }
        }
        let staged = self
            .contents
            .stage(&request.content.clone().unwrap_or_default())
            .await?;
        let bytes = match staged.bytes() {
            Some(bytes) => bytes.clone(),
            None => self.contents.bytes(staged.id()).await?,
        };
        let read = ingest(bytes.clone()).await?;
        let envelope = request.envelope.unwrap_or_default();
        let notice = Notice {
            mail_from: envelope.mail_from.clone(),
            smtputf8: envelope.smtputf8,
            envid: envelope.dsn_envid.clone(),
            ret: envelope.dsn_ret.clone(),
            trace_id: envelope.trace_id.clone(),
            arrival: request.received,
            hostname: request.reporting_host,
            failed: request.failed,
        };
        let common = record::Message {
            received: request.received,
            saved: self.accounts.now(),
            ..of_envelope(&envelope, of_content(&read))
        };
        let mut computed: HashMap<usize, Bytes> = HashMap::new();
        let mut deliveries = Vec::with_capacity(request.deliveries.len());
        for delivery in request.deliveries {
            if delivery.prefix.len() > PREFIX_MAX {
                return Err(Status::invalid_argument(
                    "header fields above a content have at most 65536 bytes",
                ));
            }
            let recipient = delivery.recipient.unwrap_or_default();
            let account = AccountId::try_from(&recipient.account_id)
                .map_err(|e| Status::invalid_argument(format!("delivering to a recipient: {e}")))?;
            let (localpart, domain) = split(&recipient.rcpt_to);
            let computed = computed
                .entry(delivery.prefix.len())
                .or_insert_with_key(|prefix| read.computed(*prefix as u64));
            let mut message = record::Message {
                size: read.size + delivery.prefix.len() as u64,
                prefix: delivery.prefix,
                rcpt_to_localpart: localpart,
                rcpt_to_domain: domain,
                list: common.list || delivery.list,
                reject: delivery.reject,
                forward: delivery.forwarded,
                reason: delivery.reason,
                ..common.clone()
            };
            if delivery.forwarded {
                // The previous hop is the forwarder, whose names say nothing about the sender: they are kept apart, so
                // that they gain or lose no reputation by it.
                message.original_ehlo = std::mem::take(&mut message.ehlo);
                message.original_dkim_domains = std::mem::take(&mut message.dkim_domains);
            }
            deliveries.push(ops::Delivery {
                account,
                mailbox: canonical(if delivery.mailbox.is_empty() {
                    crate::account::INBOX
                } else {
                    &delivery.mailbox
                })?,
                destined: delivery.reject.then(|| crate::account::INBOX.to_owned()),
                message: NewMessage {
                    record: message,
                    flags: Wanted::new(&delivery.flags.unwrap_or_default())?,
                    computed: computed.clone(),
                    thread: find_thread(self.accounts.db(), account, &read.facts).await?,
                    content: staged.clone(),
                },
            });
        }
        let besides = self.notification(&notice, &bytes).await?;
        let notifies = besides.is_some();
        let op = ops::Deliver {
            deliveries,
            besides: besides.unwrap_or_default(),
        };
        let kept = self.accounts.submit_many(&op.accounts(), Some(key), op).await?;
        if notifies && let Some(queue) = &self.queue {
            queue.publish();
        }
        Ok(kept)
    }
}

/// Adds what the SMTP transaction says to what the content says.
fn of_envelope(envelope: &api::Envelope, content: record::Message) -> record::Message {
    let (mail_from_localpart, mail_from_domain) = split(&envelope.mail_from);
    let (from_localpart, from_domain) = match envelope.msg_from.as_str() {
        "" => (content.msg_from_localpart.clone(), content.msg_from_domain.clone()),
        from => split(from),
    };
    let [network1, network2, network3] = networks(&envelope.remote_ip);
    record::Message {
        remote_ip: envelope.remote_ip.clone(),
        remote_ip_network1: network1,
        remote_ip_network2: network2,
        remote_ip_network3: network3,
        ehlo: envelope.ehlo.clone(),
        mail_from: envelope.mail_from.clone(),
        mail_from_localpart,
        mail_from_domain,
        msg_from_localpart: from_localpart,
        msg_from_domain: from_domain,
        msg_from_org_domain: envelope.msg_from_org_domain.clone(),
        ehlo_validation: envelope.ehlo_validation,
        mail_from_validation: envelope.mail_from_validation,
        msg_from_validation: envelope.msg_from_validation,
        dkim_domains: envelope.dkim_domains.clone(),
        dsn: envelope.dsn || (content.dsn && envelope.mail_from.is_empty()),
        tls_version: envelope.tls_version.clone(),
        tls_cipher: envelope.tls_cipher.clone(),
        requiretls: envelope.requiretls,
        cid: envelope.cid,
        ..content
    }
}

/// Localpart and domain of an address as given; a localpart alone has no domain.
fn split(address: &str) -> (String, String) {
    let (localpart, domain) = address.rsplit_once('@').unwrap_or((address, ""));
    (localpart.to_owned(), domain.to_lowercase())
}

/// The networks that an address's reputation is kept by: the address itself (or what one subscriber of IPv6 has), and
/// two wider ones.
fn networks(ip: &str) -> [String; 3] {
    let network = |ip: IpAddr, v4: u32, v6: u32| match ip {
        IpAddr::V4(ip) => std::net::Ipv4Addr::from(u32::from(ip) & (u32::MAX << (32 - v4))).to_string(),
        IpAddr::V6(ip) => std::net::Ipv6Addr::from(u128::from(ip) & (u128::MAX << (128 - v6))).to_string(),
    };
    match ip.parse::<IpAddr>().map(|ip| ip.to_canonical()) {
        Ok(ip) => [network(ip, 32, 64), network(ip, 26, 48), network(ip, 21, 32)],
        Err(_) => Default::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_cut() {
        assert_eq!(networks("192.0.2.201"), ["192.0.2.201", "192.0.2.192", "192.0.0.0"]);
        assert_eq!(networks("::ffff:192.0.2.201")[0], "192.0.2.201");
        assert_eq!(
            networks("2001:db8:1:2:3::4"),
            ["2001:db8:1:2::", "2001:db8:1::", "2001:db8::"]
        );
        assert_eq!(networks(""), ["", "", ""]);
    }

    #[test]
    fn addresses_are_split() {
        assert_eq!(split("\"a@b\"@C.example"), ("\"a@b\"".into(), "c.example".into()));
        assert_eq!(split("postmaster"), ("postmaster".into(), String::new()));
        assert_eq!(split(""), (String::new(), String::new()));
    }
}
