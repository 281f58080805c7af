//! What MAIL and RCPT have said.

use bytes::Bytes;
use mox_mailauth::spf;
use mox_smtp::{MailParams, Path, Reply};

use crate::commands::Chunks;
use crate::reports::Expected;

/// A mail transaction (RFC 5321 §3.3).
pub(crate) struct Transaction {
    /// None is the null reverse-path.
    pub mail_from: Option<Path>,
    pub params: MailParams,
    /// Those that were accepted, each once.
    pub rcpts: Vec<Rcpt>,
    /// Which reports are expected at each of the addresses that were accepted.
    pub reports: Vec<Expected>,
    /// What SPF says of MAIL FROM, once it was asked.
    pub spf: Option<spf::Verdict>,
    /// What BDAT brought so far.
    pub chunks: Option<Chunks>,
}

/// A RCPT.
pub(crate) struct Rcpt {
    /// As given.
    pub rcpt_to: String,
    pub notify: String,
    pub orcpt: String,
    pub who: Who,
}

/// Whom a RCPT stands for.
pub(crate) enum Who {
    /// One account.
    Account(Account),
    /// The members of a list.
    List(List),
    /// Nobody: there is no such address in our domain. The client is told when it has sent its message.
    Nobody,
}

/// An account, and by which address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Account {
    pub id: Bytes,
    /// As configured.
    pub address: String,
}

/// A list of addresses.
pub(crate) struct List {
    pub members: Vec<Account>,
    /// Anybody may write to it.
    pub is_public: bool,
}

/// Whoever gets a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Recipient {
    /// By which RCPT.
    pub rcpt: usize,
    pub account: Account,
}

impl Transaction {
    pub(crate) fn new(mail_from: Option<Path>, params: MailParams) -> Self {
        Self {
            mail_from,
            params,
            rcpts: Vec::new(),
            reports: Vec::new(),
            spf: None,
            chunks: None,
        }
    }

    /// The reverse-path as contracts carry it.
    pub(crate) fn reverse_path(&self) -> String {
        self.mail_from.as_ref().map(ToString::to_string).unwrap_or_default()
    }

    /// The only RCPT there is, for the Received field.
    pub(crate) fn only(&self) -> Option<&str> {
        match self.rcpts.as_slice() {
            [only] => Some(&only.rcpt_to),
            _ => None,
        }
    }

    /// Adds a RCPT. The same again is as good as once.
    pub(crate) fn add(&mut self, rcpt: Rcpt) {
        if !self.rcpts.iter().any(|known| known.rcpt_to == rcpt.rcpt_to) {
            self.rcpts.push(rcpt);
        }
    }

    /// How many copies there may be.
    pub(crate) fn copies(&self) -> usize {
        let copies = |rcpt: &Rcpt| match &rcpt.who {
            Who::List(list) => list.members.len(),
            Who::Account(_) | Who::Nobody => 1,
        };
        self.rcpts.iter().map(copies).sum()
    }

    /// Whether some RCPT is a list that not everybody may write to.
    pub(crate) fn asks_for_poster(&self) -> bool {
        let asks = |rcpt: &Rcpt| matches!(rcpt.who, Who::List(_));
        self.rcpts.iter().any(asks)
    }

    /// Who gets a copy, and the RCPTs that are refused. `poster` is the verified address in From, as configured if it is
    /// one of ours.
    ///
    /// Whoever is addressed gets a copy for each address; whoever is a member of a list besides gets none for that, and
    /// none for a second list. The poster gets none back, unless that leaves nobody.
    pub(crate) fn recipients(&self, poster: Option<&str>) -> (Vec<Recipient>, Vec<(usize, Reply)>) {
        let (mut recipients, mut refused) = (Vec::<Recipient>::new(), Vec::new());
        for (rcpt, each) in self.rcpts.iter().enumerate() {
            match &each.who {
                Who::Account(account) => {
                    let account = account.clone();
                    recipients.push(Recipient { rcpt, account });
                }
                Who::Nobody => refused.push((rcpt, unknown())),
                Who::List(_) => {}
            }
        }
        for (rcpt, each) in self.rcpts.iter().enumerate() {
            let Who::List(list) = &each.who else { continue };
            let posts = |m: &&Account| poster == Some(m.address.as_str());
            if !list.is_public && !list.members.iter().any(|m| posts(&m)) {
                refused.push((rcpt, not_a_member()));
                continue;
            }
            let only_poster = list.members.iter().all(|m| posts(&m));
            for member in list.members.iter().filter(|m| only_poster || !posts(m)) {
                if !recipients.iter().any(|known| known.account.id == member.id) {
                    let account = member.clone();
                    recipients.push(Recipient { rcpt, account });
                }
            }
        }
        (recipients, refused)
    }
}

pub(crate) fn unknown() -> Reply {
    // RFC 3463 §3.2: X.1.1, bad destination mailbox address.
    Reply::new(550, (1, 1), "no such recipient here")
}

fn not_a_member() -> Reply {
    // RFC 3463 §3.8: X.7.2, mailing list expansion prohibited.
    let text = "only members may write to this list, and SPF or DKIM must show that the message is from one";
    Reply::new(550, (7, 2), text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(address: &str) -> Account {
        Account {
            // A number names the account: "a1" and "b1" are addresses of one.
            id: address.trim_start_matches(char::is_alphabetic).to_owned().into(),
            address: address.to_owned(),
        }
    }

    fn rcpt(rcpt_to: &str, who: Who) -> Rcpt {
        Rcpt {
            rcpt_to: rcpt_to.into(),
            notify: String::new(),
            orcpt: String::new(),
            who,
        }
    }

    fn direct(address: &str) -> Rcpt {
        rcpt(address, Who::Account(account(address)))
    }

    fn list(members: &[&str], is_public: bool) -> Rcpt {
        let members = members.iter().map(|m| account(m)).collect();
        rcpt("list", Who::List(List { members, is_public }))
    }

    fn copies(rcpts: Vec<Rcpt>, poster: Option<&str>) -> (Vec<String>, Vec<u16>) {
        let mut transaction = Transaction::new(None, MailParams::default());
        for each in rcpts {
            transaction.add(each);
        }
        let (recipients, refused) = transaction.recipients(poster);
        let by = |r: &Recipient| format!("{} {}", transaction.rcpts[r.rcpt].rcpt_to, r.account.address);
        let detail = |(_, r): &(usize, Reply)| r.enhanced.map_or(0, |e| e.2);
        (
            recipients.iter().map(by).collect(),
            refused.iter().map(detail).collect(),
        )
    }

    #[test]
    fn nobody_gets_copies_by_a_list_and_by_name() {
        for (rcpts, expected) in [
            (vec![direct("a1"), direct("a1")], vec!["a1 a1"]),
            (vec![direct("a1"), direct("b1")], vec!["a1 a1", "b1 b1"]),
            (vec![list(&["a1", "a2"], true), direct("b1")], vec!["b1 b1", "list a2"]),
            (vec![list(&["a1", "b1", "a2"], true)], vec!["list a1", "list a2"]),
        ] {
            assert_eq!(copies(rcpts, None).0, expected);
        }
    }

    #[test]
    fn lists_are_for_their_members_unless_they_are_public() {
        let members = &["a1", "a2"];
        assert_eq!(copies(vec![list(members, false)], None), (vec![], vec![2]));
        assert_eq!(copies(vec![list(members, false)], Some("b1")), (vec![], vec![2]));
        assert_eq!(
            copies(vec![list(members, false)], Some("a1")),
            (vec!["list a2".into()], vec![])
        );
        assert_eq!(
            copies(vec![list(members, true)], Some("a1")),
            (vec!["list a2".into()], vec![])
        );
        assert_eq!(
            copies(vec![list(&["a1"], false)], Some("a1")),
            (vec!["list a1".into()], vec![])
        );
        // Who is addressed besides is not kept from their copy.
        let both = vec![list(members, false), direct("a1")];
        assert_eq!(copies(both, None), (vec!["a1 a1".into()], vec![2]));
    }

    #[test]
    fn unknown_addresses_are_refused_at_the_end() {
        let nobody = || rcpt("x", Who::Nobody);
        assert_eq!(
            copies(vec![nobody(), direct("a1")], None),
            (vec!["a1 a1".into()], vec![1])
        );
        assert_eq!(copies(vec![nobody(), nobody()], None), (vec![], vec![1]));
    }
}
