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
    /// By way of a list.
    pub is_member: bool,
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

    /// Adds those who one RCPT stands for. Whoever is addressed gets a copy for each address, and none as a member of a
    /// list besides.
    pub(crate) fn add(&mut self, rcpt_to: &str, recipients: Vec<Recipient>) {
        self.accepted += 1;
        self.only = (self.accepted == 1).then(|| rcpt_to.to_owned());
        for new in recipients {
            let is_same = |r: &Recipient| r.account_id == new.account_id && r.address == new.address;
            let is_known = |r: &Recipient| is_same(r) && (new.is_member || r.rcpt_to == new.rcpt_to);
            if self.recipients.iter().any(is_known) {
                continue;
            }
            self.recipients.retain(|r| !(r.is_member && is_same(r)));
            self.recipients.push(new);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recipient(rcpt_to: &str, address: &str, is_member: bool) -> Recipient {
        Recipient {
            rcpt_to: rcpt_to.into(),
            account_id: Bytes::new(),
            address: address.into(),
            notify: String::new(),
            orcpt: String::new(),
            is_member,
        }
    }

    #[test]
    fn nobody_gets_copies_by_a_list_and_by_name() {
        let direct = |to: &str| (to.to_owned(), vec![recipient(to, "mox", false)]);
        let list = || {
            (
                "list".to_owned(),
                vec![recipient("list", "mox", true), recipient("list", "other", true)],
            )
        };
        for (rcpts, expected) in [
            (vec![direct("mox"), direct("mox")], vec!["mox"]),
            (vec![direct("mox"), direct("mox+x")], vec!["mox", "mox+x"]),
            (vec![list(), direct("mox")], vec!["list", "mox"]),
            (vec![direct("mox"), list(), list()], vec!["mox", "list"]),
        ] {
            let mut transaction = Transaction::new(None, MailParams::default());
            for (rcpt_to, recipients) in rcpts {
                transaction.add(&rcpt_to, recipients);
            }
            let to: Vec<_> = transaction.recipients.iter().map(|r| r.rcpt_to.as_str()).collect();
            assert_eq!(to, expected);
        }
    }
}
