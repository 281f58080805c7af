//! Stage: what the account's history says about whoever sent the message.
//!
//! The names of a sender are looked at from the most telling one to the least. The first that has a history says what to
//! think; those below it are not asked. A judgement that is not conclusive is left to the stages behind this one.
//!
//! The figures are of the kind that long practice has found to do: a single message tells about an address, several
//! about a domain, many about a network; and what was verified tells more than what anybody can write.

use mox_types::Domain;

use super::verdict::{Draft, unwanted};
use super::{Case, Delivery};
use crate::account::history::{self, Judged, Kind, Sender, is_from_verified};
use crate::account::{AccountError, knows_domain};
use mox_proto::delivery::v1::{Validation, Verdict};

const DAY: i64 = 24 * 60 * 60;
const YEAR: i64 = 365 * DAY;
/// The latest messages of an address that count, and how long.
const ADDRESS: (usize, i64) = (10, 3 * YEAR);
/// Those of a domain, or an organization.
const DOMAIN: (usize, i64) = (20, 2 * YEAR);
/// Those of a name that SPF or DKIM verified: such names move from hand to hand sooner.
const AUTHENTICATED: (usize, i64) = (50, YEAR / 2);
/// Those of a network.
const NETWORK: (usize, i64) = (50, YEAR / 4);
/// Different localparts of a domain that only sent junk, from which on all of it is.
const JUNK_LOCALPARTS: usize = 3;

/// By what a sender was judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum By {
    /// There is no history.
    #[default]
    Nothing,
    /// The address in From.
    Address,
    /// The domain in From.
    Domain,
    /// The organization of the domain in From.
    Organization,
    /// Names that SPF or DKIM verified.
    Authenticated,
    /// The network of the client.
    Network,
}

impl By {
    fn reason(self) -> &'static str {
        match self {
            Self::Nothing => "reputation",
            Self::Address => "reputation-address",
            Self::Domain => "reputation-domain",
            Self::Organization => "reputation-organization",
            Self::Authenticated => "reputation-authenticated",
            Self::Network => "reputation-network",
        }
    }
}

/// What the history says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Standing {
    pub(super) by: By,
    /// Whether the message is likely junk, if the history leans to either side.
    pub(super) junk: Option<bool>,
    conclusive: bool,
    detail: String,
}

impl Standing {
    fn new(by: By, junk: Option<bool>, conclusive: bool, detail: String) -> Self {
        Self {
            by,
            junk,
            conclusive,
            detail,
        }
    }

    /// Whether nothing was heard before from whoever the message says it is from.
    pub(super) fn is_stranger(&self) -> bool {
        matches!(self.by, By::Nothing | By::Authenticated | By::Network)
    }

    /// The verdict, if the history is enough for one.
    pub(super) fn verdict(&self, draft: &Draft<'_>) -> Option<Verdict> {
        match self.junk.filter(|_| self.conclusive)? {
            false => Some(draft.accept_for(self.by.reason(), self.detail.as_str())),
            true => Some(unwanted(self.by.reason(), self.detail.as_str())),
        }
    }
}

/// How many of some messages were junk.
struct Share {
    junk: usize,
    all: usize,
}

impl Share {
    fn of(judged: &[Judged]) -> Self {
        Self {
            junk: judged.iter().filter(|j| j.junk).count(),
            all: judged.len(),
        }
    }

    fn percent(&self) -> usize {
        100 * self.junk / self.all.max(1)
    }

    fn detail(&self, whose: &str) -> String {
        format!(
            "{} of the last {} judged messages of {whose} were junk",
            self.junk, self.all
        )
    }
}

impl Delivery {
    pub(super) async fn standing(&self, case: &Case<'_>) -> Result<Standing, AccountError> {
        let lookup = Lookup {
            delivery: self,
            case,
            names: history::senders(&case.sender),
        };
        if let Some(standing) = lookup.by_from().await? {
            return Ok(standing);
        }
        if let Some(standing) = lookup.by_authentication().await? {
            return Ok(standing);
        }
        Ok(lookup.by_network().await?.unwrap_or_default())
    }
}

struct Lookup<'a> {
    delivery: &'a Delivery,
    case: &'a Case<'a>,
    names: Vec<Sender>,
}

impl Lookup<'_> {
    fn named(&self, kind: Kind) -> Option<&Sender> {
        self.names.iter().find(|name| name.kind == kind)
    }

    async fn latest(&self, sender: &Sender, (most, age): (usize, i64)) -> Result<Vec<Judged>, AccountError> {
        let accounts = &self.delivery.accounts;
        let since = accounts.now().saturating_sub(age);
        history::latest(accounts.db(), self.case.account, sender, since, most).await
    }

    async fn by_from(&self) -> Result<Option<Standing>, AccountError> {
        let verified = is_from_verified(&self.case.sender);
        let kinds = [
            (By::Address, Kind::From, Kind::FromUnverified),
            (By::Domain, Kind::FromDomain, Kind::FromDomainUnverified),
            (
                By::Organization,
                Kind::FromOrganization,
                Kind::FromOrganizationUnverified,
            ),
        ];
        for (by, kind, unverified) in kinds {
            let Some(sender) = self.named(if verified { kind } else { unverified }) else {
                continue;
            };
            let judged = self
                .latest(sender, if by == By::Address { ADDRESS } else { DOMAIN })
                .await?;
            if !judged.is_empty() {
                return Ok(Some(match by {
                    By::Address => of_address(&judged, verified, &sender.name),
                    _ => of_domain(by, &judged, &sender.name),
                }));
            }
            // DNS that did not answer is no sign of anything.
            let failed = !verified && self.case.envelope.msg_from_validation() != Validation::Temperror;
            if failed {
                let genuine = Sender {
                    kind,
                    name: sender.name.clone(),
                };
                if !self.latest(&genuine, (1, DOMAIN.1)).await?.is_empty() {
                    let detail = format!("messages of {} were verified before, this one is not", sender.name);
                    return Ok(Some(Standing::new(by, Some(true), false, detail)));
                }
            }
            if verified && by != By::Address && self.has_written_to(&sender.name).await? {
                // Others there need not be known, so this only speaks for it.
                let detail = format!("the account has written to {}", sender.name);
                return Ok(Some(Standing::new(by, Some(false), false, detail)));
            }
        }
        Ok(None)
    }

    async fn has_written_to(&self, domain: &str) -> Result<bool, AccountError> {
        match domain.parse::<Domain>() {
            Ok(domain) => knows_domain(self.delivery.accounts.db(), self.case.account, &domain).await,
            Err(_) => Ok(false),
        }
    }

    /// Names that were verified, but are not that in From: whoever vouches for the message.
    async fn by_authentication(&self) -> Result<Option<Standing>, AccountError> {
        let (mut good, mut bad) = (Vec::new(), Vec::new());
        let (mut any, mut messages) = (false, 0);
        let dkim = self.names.iter().filter(|n| n.kind == Kind::Dkim);
        let mail_from = match self.named(Kind::MailFrom) {
            // The address tells more than its domain, if it has a history.
            Some(address) if !self.latest(address, (1, AUTHENTICATED.1)).await?.is_empty() => Some(address),
            _ => self.named(Kind::MailFromDomain),
        };
        for sender in dkim.chain(mail_from).chain(self.named(Kind::Ehlo)) {
            let judged = self.latest(sender, AUTHENTICATED).await?;
            if judged.is_empty() {
                continue;
            }
            any = true;
            let share = Share::of(&judged);
            match share.percent() {
                0..10 => good.push(share.detail(&sender.name)),
                91.. => {
                    messages = messages.max(share.all);
                    bad.push(share.detail(&sender.name));
                }
                _ => {}
            }
        }
        let standing = |junk, conclusive, detail: &[String]| {
            Some(Standing::new(By::Authenticated, junk, conclusive, detail.join(", ")))
        };
        Ok(match (good.is_empty(), bad.is_empty()) {
            _ if !any => None,
            (false, true) => standing(Some(false), true, &good),
            // One message may have been a mistake.
            (true, false) => standing(Some(true), messages > 1, &bad),
            _ => standing(None, false, &[]),
        })
    }

    /// The narrowest network that has a history. A wider one needs more messages to be conclusive.
    async fn by_network(&self) -> Result<Option<Standing>, AccountError> {
        for (kind, need) in [(Kind::Network1, 2), (Kind::Network2, 5), (Kind::Network3, 10)] {
            let Some(sender) = self.named(kind) else { continue };
            let judged = self.latest(sender, NETWORK).await?;
            if judged.is_empty() {
                continue;
            }
            let share = Share::of(&judged);
            let enough = share.all >= need;
            let detail = share.detail(&format!("network {}", sender.name));
            return Ok(Some(match share.percent() {
                0..=10 => Standing::new(By::Network, Some(false), enough, detail),
                90.. => Standing::new(By::Network, Some(true), enough, detail),
                _ => Standing::new(By::Network, None, false, detail),
            }));
        }
        Ok(None)
    }
}

/// A clear majority of an address's messages decides, if it was verified.
fn of_address(judged: &[Judged], verified: bool, name: &str) -> Standing {
    let share = Share::of(judged);
    let clear = 3 * share.junk <= share.all || 3 * share.junk >= 2 * share.all;
    let junk = match clear {
        true => 2 * share.junk > share.all,
        // What the user said last.
        false => judged.first().is_some_and(|j| j.junk),
    };
    Standing::new(By::Address, Some(junk), verified && clear, share.detail(name))
}

/// Of a domain that sends mail of many, junk by some says little about a new one.
fn of_domain(by: By, judged: &[Judged], name: &str) -> Standing {
    let share = Share::of(judged);
    let detail = share.detail(name);
    if share.percent() < 20 {
        return Standing::new(by, Some(false), true, detail);
    }
    if share.junk < share.all {
        return Standing::new(by, None, false, detail);
    }
    let mut localparts: Vec<_> = judged.iter().map(|j| j.localpart).collect();
    localparts.sort_unstable();
    localparts.dedup();
    Standing::new(by, Some(true), localparts.len() >= JUNK_LOCALPARTS, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(text: &str) -> Vec<Judged> {
        // Junk in upper case; letters are localparts.
        let judge = |c: char| Judged {
            junk: c.is_uppercase(),
            localpart: [c.to_ascii_lowercase() as u8; 8],
        };
        text.chars().map(judge).collect()
    }

    #[test]
    fn addresses_are_judged_by_the_majority_and_what_was_said_last() {
        for (history, junk, conclusive) in [
            ("a", false, true),
            ("A", true, true),
            ("aA", false, false),
            ("Aa", true, false),
            ("Aaa", false, true),
            ("AAa", true, true),
            ("Aaaaaaaaaa", false, true),
        ] {
            let standing = of_address(&judged(history), true, "x");
            assert_eq!(
                (standing.junk, standing.conclusive),
                (Some(junk), conclusive),
                "{history}"
            );
            assert!(!of_address(&judged(history), false, "x").conclusive);
        }
    }

    #[test]
    fn domains_are_not_judged_by_one_of_theirs() {
        for (history, junk, conclusive) in [
            ("a", Some(false), true),
            ("abcdeF", Some(false), true),
            ("abF", None, false),
            ("A", Some(true), false),
            ("AAAA", Some(true), false),
            ("ABA", Some(true), false),
            ("ABC", Some(true), true),
        ] {
            let standing = of_domain(By::Domain, &judged(history), "x");
            assert_eq!((standing.junk, standing.conclusive), (junk, conclusive), "{history}");
        }
    }
}
