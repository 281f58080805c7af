//! Entries that go in one transaction.

use std::collections::HashMap;

use mox_proto::queue::v1::{Claimed, Entry, Lease};
use mox_types::{Address, Domain};

use crate::lanes::{LANE_FIRST, LANE_MAX, Waiting};
use crate::route::Destination;

/// Sessions of this process at once.
const SESSIONS_MAX: usize = 1000;

/// Entries of one message for one destination.
#[derive(Debug)]
pub struct Group {
    /// The recipient domain, as the store knows it, of the first of them.
    pub domain: String,
    /// All with the same sender, content and parameters.
    pub claims: Vec<Claim>,
}

impl Waiting for Group {
    type Destination = Destination;
    type Source = String;
    const SESSIONS: usize = SESSIONS_MAX;

    fn source(&self) -> String {
        self.domain.clone()
    }

    fn source_of(destination: &Destination) -> Option<String> {
        match destination {
            Destination::Domain { domain, .. } => Some(domain.ascii().to_owned()),
            Destination::Transport(_) => None,
        }
    }

    fn width(destination: &Destination) -> usize {
        // What relays for us is ours to use: it need not prove itself.
        match destination {
            Destination::Transport(_) => LANE_MAX,
            Destination::Domain { .. } => LANE_FIRST,
        }
    }
}

/// An entry under a lease of ours.
#[derive(Debug, Clone)]
pub struct Claim {
    /// The entry.
    pub entry: Entry,
    /// The lease.
    pub lease: Lease,
}

/// What has to be the same for entries to go in one transaction.
#[derive(PartialEq, Eq, Hash)]
struct Sameness {
    destination: Destination,
    base_id: u64,
    content: Vec<u8>,
    mail_from: String,
    prefix: Vec<u8>,
    requiretls: i32,
}

impl Claim {
    /// From the store's answer.
    #[must_use]
    pub fn new(claimed: Claimed) -> Option<Self> {
        let entry = claimed.entry?;
        let lease = Lease {
            id: entry.id,
            attempt: claimed.attempt,
        };
        Some(Self { entry, lease })
    }

    /// The recipient's domain, as the store's index has it.
    #[must_use]
    pub fn domain(&self) -> String {
        let domain = self.entry.recipient.parse::<Address>().map(|a| a.domain);
        domain.as_ref().map(Domain::ascii).unwrap_or_default().to_owned()
    }
}

/// Puts together what goes together, in the order of the first of each.
#[must_use]
pub fn groups(claims: Vec<(Destination, Claim)>) -> Vec<(Destination, Group)> {
    let mut places: HashMap<Sameness, usize> = HashMap::new();
    let mut groups: Vec<(Destination, Group)> = Vec::new();
    for (destination, claim) in claims {
        let same = Sameness {
            destination: destination.clone(),
            base_id: claim.entry.base_id,
            content: claim.entry.content_id.to_vec(),
            mail_from: claim.entry.mail_from.clone(),
            prefix: claim.entry.prefix.to_vec(),
            requiretls: claim.entry.requiretls,
        };
        let place = *places.entry(same).or_insert_with(|| {
            groups.push((
                destination,
                Group {
                    domain: claim.domain(),
                    claims: Vec::new(),
                },
            ));
            groups.len() - 1
        });
        groups[place].1.claims.push(claim);
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_message_to_one_destination_is_one_group() {
        let claim = |id, base_id, recipient: &str, from: &str| {
            let entry = Entry {
                id,
                base_id,
                recipient: recipient.into(),
                mail_from: from.into(),
                ..Entry::default()
            };
            let claim = Claim::new(Claimed {
                entry: Some(entry),
                attempt: 1,
            })
            .unwrap();
            let domain = claim.domain().parse().unwrap();
            (
                Destination::Domain {
                    domain,
                    transport: None,
                },
                claim,
            )
        };
        let all = groups(vec![
            claim(1, 1, "a@one.example", "me@x.example"),
            claim(2, 1, "b@two.example", "me@x.example"),
            claim(3, 1, "c@one.example", "me@x.example"),
            claim(4, 4, "a@one.example", "me@x.example"),
            claim(5, 4, "b@one.example", "me+id@x.example"),
        ]);
        let ids: Vec<Vec<u64>> = all
            .iter()
            .map(|(_, g)| g.claims.iter().map(|c| c.lease.id).collect())
            .collect();
        assert_eq!(ids, [vec![1, 3], vec![2], vec![4], vec![5]]);
    }
}
