//! A sender of its own for each recipient, `localpart+fromid@domain`: so that what comes back, a bounce in particular,
//! tells which message to whom it is about, whatever it says.
//!
//! Logins with an address of `from_id_login_addresses` get them. A client that brings an id of its own in MAIL FROM keeps
//! it, and then has one recipient, as the id would not tell several apart.

use mox_config::{Account, Dynamic, Lookup};
use mox_proto::queue::v1::EnqueueRequest;
use mox_types::{Address, Localpart};
use rand::Rng as _;

use super::QueueError;
use super::enqueue::Submitter;

/// Characters of an id, 80 bits: not to be guessed, as who knows one can make a message look undeliverable.
const ID_CHARACTERS: usize = 16;
/// RFC 4648 §6 in lower case: what goes through servers that change the case of localparts.
const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// What one recipient gets the message from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sender {
    pub mail_from: String,
    pub fromid: String,
}

/// The sender for each recipient, and the ids alone; both empty if senders have no ids.
pub(super) fn senders(
    config: &Dynamic,
    account: &Account,
    submitter: &Submitter,
    request: &EnqueueRequest,
) -> Result<(Vec<Sender>, Vec<String>), QueueError> {
    let none = Ok((Vec::new(), Vec::new()));
    // RFC 5321 §4.5.5: nothing comes back from a null sender.
    if request.mail_from.is_empty() || !request.fromid.is_empty() || !has_ids(account, &submitter.login) {
        return none;
    }
    let Ok(address) = request.mail_from.parse::<Address>() else {
        return none; // refused elsewhere
    };
    let Some(domain) = config.domains.get(&address.domain) else {
        return none;
    };
    // What comes back to a list would go to all its members.
    let (Some(separator), Lookup::Account(_)) = (domain.separators().next(), config.configured(&address)) else {
        return none;
    };
    let (localpart, own) = domain.split_localpart(address.localpart.as_str());
    let senders = match own {
        Some(own) if !own.is_empty() => {
            if request.recipients.len() > 1 {
                return Err(QueueError::Invalid(
                    "a sender address with an id is for one recipient: send to each by itself, or leave the id out"
                        .to_owned(),
                ));
            }
            vec![Sender {
                mail_from: request.mail_from.clone(),
                fromid: own.to_owned(),
            }]
        }
        _ => {
            let sender = |_| {
                let fromid = random_id();
                let localpart = format!("{localpart}{separator}{fromid}");
                let localpart = Localpart::from_unquoted(&localpart)
                    .map_err(|e| QueueError::Invalid(format!("sender address with an id: {e}")))?;
                Ok(Sender {
                    mail_from: Address {
                        localpart,
                        domain: address.domain.clone(),
                    }
                    .to_string(),
                    fromid,
                })
            };
            (0..request.recipients.len())
                .map(sender)
                .collect::<Result<Vec<_>, QueueError>>()?
        }
    };
    let ids = senders.iter().map(|sender| sender.fromid.clone()).collect();
    Ok((senders, ids))
}

/// Whether a login is with an address that has ids. Addresses compare as mail to them is delivered to the same account,
/// but with all that follows a separator: that is what tells such logins from others.
fn has_ids(account: &Account, login: &str) -> bool {
    let Ok(login) = login.parse::<Address>() else {
        return false;
    };
    let mut addresses = account.from_id_login_addresses.iter();
    addresses.any(|text| {
        text.parse::<Address>().is_ok_and(|address| {
            address.domain == login.domain
                && address.localpart.as_str().to_lowercase() == login.localpart.as_str().to_lowercase()
        })
    })
}

fn random_id() -> String {
    let mut rng = rand::rng();
    (0..ID_CHARACTERS)
        .map(|_| char::from(ALPHABET[rng.random_range(0..ALPHABET.len())]))
        .collect()
}
