//! Identifiers.

use std::fmt;

use bytes::Bytes;
use uuid::Uuid;

/// Bytes that are not an identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} must be 16 bytes, not {length}")]
pub struct IdError {
    what: &'static str,
    length: usize,
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Uuid);

        impl $name {
            /// A new identifier, later in order than those made before it.
            #[must_use]
            #[allow(clippy::new_without_default)]
            pub fn new() -> Self {
                Self(Uuid::now_v7())
            }

            /// The 16 bytes of the identifier.
            #[must_use]
            pub fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }

            /// The identifier as the contracts carry it.
            #[must_use]
            pub fn to_bytes(self) -> Bytes {
                Bytes::copy_from_slice(self.0.as_bytes())
            }
        }

        impl From<[u8; 16]> for $name {
            fn from(bytes: [u8; 16]) -> Self {
                Self(Uuid::from_bytes(bytes))
            }
        }

        impl TryFrom<&[u8]> for $name {
            type Error = IdError;
            fn try_from(bytes: &[u8]) -> Result<Self, IdError> {
                Uuid::from_slice(bytes).map(Self).map_err(|_| IdError { what: $what, length: bytes.len() })
            }
        }

        impl TryFrom<&Bytes> for $name {
            type Error = IdError;
            fn try_from(bytes: &Bytes) -> Result<Self, IdError> {
                Self::try_from(bytes.as_ref())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.0)
            }
        }
    };
}

id!(
    /// An account: mailboxes and credentials that belong together. Not an address.
    AccountId, "account id"
);
id!(
    /// A mailbox of an account. Stays through renames.
    MailboxId, "mailbox id"
);
id!(
    /// A message in a mailbox. Stays when the message is moved; a copy is another message.
    MessageId, "message id"
);
id!(
    /// Immutable bytes, shared by the messages and queue entries that refer to them.
    ContentId, "content id"
);

macro_rules! number {
    ($(#[$doc:meta])* $name:ident, $of:ty) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub $of);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number!(
    /// A message's number within a mailbox and UIDVALIDITY, ascending, from 1 (RFC 9051 §2.3.1.1).
    Uid, u32
);
number!(
    /// Changes when the UIDs of a mailbox no longer mean what they did (RFC 9051 §2.3.1.1).
    UidValidity, u32
);
number!(
    /// A modification sequence: every change in an account has its own, ascending (RFC 7162).
    ModSeq, u64
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_ascend_and_survive_bytes() {
        let a = MessageId::new();
        let b = MessageId::new();
        assert!(a < b);
        assert_eq!(MessageId::try_from(&a.to_bytes()), Ok(a));
        assert_eq!(
            MessageId::try_from(&b"short"[..]).unwrap_err().to_string(),
            "message id must be 16 bytes, not 5"
        );
    }
}
