//! The events there are, and how they are named and written on the network.

use serde::{Deserialize, Serialize};

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// Mailboxes or messages of an account changed.
    AccountChanged {
        /// The account's UUID as text.
        account: String,
        /// The highest modification sequence of the account so far.
        modseq: u64,
    },
    /// A message in the outgoing queue is due, or may be.
    QueueDue,
    /// A webhook is due, or may be.
    HookDue,
    /// A configuration was committed.
    ConfigChanged {
        /// Its version.
        version: u64,
    },
    /// A certificate was added, renewed or removed.
    CertificatesChanged,
}

/// What can be subscribed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Subject {
    /// Changes of every account.
    Accounts,
    /// The queue becoming due.
    Queue,
    /// Webhooks becoming due.
    Hooks,
    /// New versions of the configuration.
    Config,
    /// New certificates.
    Certificates,
}

impl Subject {
    pub(crate) const ALL: [Subject; 5] = [
        Subject::Accounts,
        Subject::Queue,
        Subject::Hooks,
        Subject::Config,
        Subject::Certificates,
    ];
}

/// All subjects of ours on a NATS server that others may use too.
pub(crate) const NATS_WILDCARD: &str = "mox.>";

impl Event {
    /// The subject it belongs to.
    #[must_use]
    pub fn subject(&self) -> Subject {
        match self {
            Event::AccountChanged { .. } => Subject::Accounts,
            Event::QueueDue => Subject::Queue,
            Event::HookDue => Subject::Hooks,
            Event::ConfigChanged { .. } => Subject::Config,
            Event::CertificatesChanged => Subject::Certificates,
        }
    }

    /// Its name on a NATS server. An account is part of the name only in the form that our identifiers have.
    pub(crate) fn nats_subject(&self) -> String {
        match self {
            Event::AccountChanged { account, .. } => {
                let plain = !account.is_empty() && account.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
                format!("mox.account.{}.changed", if plain { account } else { "unknown" })
            }
            Event::QueueDue => "mox.queue.due".into(),
            Event::HookDue => "mox.hook.due".into(),
            Event::ConfigChanged { .. } => "mox.config.changed".into(),
            Event::CertificatesChanged => "mox.certificates.changed".into(),
        }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        // Fails for no value of this type.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// From a payload; `None` if it is none of the events that this version knows.
    pub(crate) fn decode(payload: &[u8]) -> Option<Event> {
        serde_json::from_slice(payload).ok()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn events() -> impl Strategy<Value = Event> {
        prop_oneof![
            (".*", any::<u64>()).prop_map(|(account, modseq)| Event::AccountChanged { account, modseq }),
            Just(Event::QueueDue),
            Just(Event::HookDue),
            any::<u64>().prop_map(|version| Event::ConfigChanged { version }),
            Just(Event::CertificatesChanged),
        ]
    }

    proptest! {
        #[test]
        fn encoding_keeps_everything(event in events()) {
            prop_assert_eq!(Event::decode(&event.encode()), Some(event));
        }

        #[test]
        fn names_are_valid_and_below_the_wildcard(event in events()) {
            let name = event.nats_subject();
            prop_assert!(name.starts_with("mox."));
            prop_assert!(name.split('.').all(|token| !token.is_empty() && token.bytes().all(|b| b.is_ascii_graphic() && b != b'*' && b != b'>')));
        }

        #[test]
        fn any_payload_is_refused_or_read(payload in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Event::decode(&payload);
        }
    }
}
