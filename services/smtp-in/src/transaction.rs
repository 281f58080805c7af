//! What MAIL and RCPT have said.

use bytes::Bytes;
use mox_smtp::{MailParams, Path};

/// A mail transaction (RFC 5321 §3.3).
pub(crate) struct Transaction {
    /// None is the null reverse-path.
    pub mail_from: Option<Path>,
    pub params: MailParams,
    pub recipients: Vec<Recipient>,
    /// How many RCPT were accepted; an alias is several recipients.
    pub accepted: usize,
    /// The only RCPT there is, for the Received field.
    pub only: Option<String>,
}

/// Whoever gets a copy.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Recipient {
    /// As given to RCPT.
    pub rcpt_to: String,
    pub account_id: Bytes,
    /// As configured.
    pub address: String,
    pub notify: String,
    pub orcpt: String,
}

impl Transaction {
    pub(crate) fn new(mail_from: Option<Path>, params: MailParams) -> Self {
        Self {
            mail_from,
            params,
            recipients: Vec::new(),
            accepted: 0,
            only: None,
        }
    }

    /// The reverse-path as contracts carry it.
    pub(crate) fn reverse_path(&self) -> String {
        self.mail_from.as_ref().map(ToString::to_string).unwrap_or_default()
    }

    /// Adds those who one RCPT stands for. Nobody gets two copies.
    pub(crate) fn add(&mut self, rcpt_to: &str, recipients: Vec<Recipient>) {
        self.accepted += 1;
        self.only = (self.accepted == 1).then(|| rcpt_to.to_owned());
        for recipient in recipients {
            let same = |r: &Recipient| r.account_id == recipient.account_id && r.address == recipient.address;
            if !self.recipients.iter().any(same) {
                self.recipients.push(recipient);
            }
        }
    }
}
