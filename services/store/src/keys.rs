//! Every key of the key space.
//!
//! The first byte of a key is its space. Keys of an account's data begin with [`ACCOUNT`] and the account's id, so that
//! they are one range. Numbers are big-endian, so that they sort. Builders and parsers of one table stand together; no
//! other module composes keys by hand.

mod hook;
mod mail;
mod policy;
mod queue;
mod report;

use std::ops::Range;

use bytes::{BufMut, Bytes, BytesMut};
use mox_types::{AccountId, ContentId, MailboxId, MessageId};

pub use hook::*;
pub use mail::*;
pub use policy::*;
pub use queue::*;
pub use report::*;

/// Data of accounts: `a`, account, table, …
pub const ACCOUNT: u8 = b'a';
/// Contents: `c`, content.
pub const CONTENT: u8 = b'c';
/// Reports: `d`, table, …
pub const REPORT: u8 = b'd';
/// Names of accounts: `n`, name.
pub const NAME: u8 = b'n';
/// Single records of the whole store: `g`, name.
pub const GLOBAL: u8 = b'g';
/// Webhooks: `h`, table, …
pub const HOOK: u8 = b'h';
/// Results by idempotency key: `i`, generation, scope, key.
pub const IDEMPOTENCY: u8 = b'i';
/// The queues of junk filters: `j`, account, message.
pub const TRAINING: u8 = b'j';
/// Chunks of large contents: `k`, content, number.
pub const CHUNK: u8 = b'k';
/// Records of logins: `l`, account or zeros, digest.
pub const LOGIN: u8 = b'l';
/// What is remembered of TLS with others: `p`, table, …
pub const POLICY: u8 = b'p';
/// The outgoing queue: `q`, table, …
pub const QUEUE: u8 = b'q';
/// References to contents: `r`, content, owner.
pub const REFERENCE: u8 = b'r';
/// Sessions: `s`, digest of the token.
pub const SESSION: u8 = b's';
/// Public keys of clients' TLS certificates: `t`, fingerprint.
pub const TLS_PUBLIC_KEY: u8 = b't';
/// Uploads that nothing refers to yet: `u`, content.
pub const UPLOAD: u8 = b'u';
/// Contents that lost a reference: `x`, content.
pub const RELEASED: u8 = b'x';

/// Segments of accounts' search indices: `f`, account, segment, part.
pub const SEARCH: u8 = b'f';

/// Spaces of large values that are written once: apart from the rest, so that reorganizing one does not move the other.
pub const BULK: &[u8] = &[CONTENT, CHUNK, SEARCH];

/// Composes a key.
pub(crate) struct Builder(BytesMut);

impl Builder {
    /// In a space.
    pub(crate) fn new(space: u8) -> Self {
        let mut key = BytesMut::with_capacity(48);
        key.put_u8(space);
        Self(key)
    }

    /// In a table of an account.
    pub(crate) fn account(account: AccountId, table: u8) -> Self {
        Self::new(ACCOUNT).raw(account.as_bytes()).u8(table)
    }

    pub(crate) fn u8(mut self, value: u8) -> Self {
        self.0.put_u8(value);
        self
    }

    pub(crate) fn u32(mut self, value: u32) -> Self {
        self.0.put_u32(value);
        self
    }

    pub(crate) fn u64(mut self, value: u64) -> Self {
        self.0.put_u64(value);
        self
    }

    /// Bytes as they are: of a fixed length, or last.
    pub(crate) fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub(crate) fn build(self) -> Bytes {
        self.0.freeze()
    }

    /// All keys that begin so.
    pub(crate) fn prefix(self) -> Range<Bytes> {
        prefix(&self.0)
    }
}

/// All keys that begin with `bytes`, which must not be all `0xff`.
#[must_use]
pub fn prefix(bytes: &[u8]) -> Range<Bytes> {
    let mut end = bytes.to_vec();
    while let Some(last) = end.pop() {
        if last < 0xff {
            end.push(last + 1);
            break;
        }
    }
    Bytes::copy_from_slice(bytes)..end.into()
}

/// Everything of an account.
#[must_use]
pub fn account_all(account: AccountId) -> Range<Bytes> {
    Builder::new(ACCOUNT).raw(account.as_bytes()).prefix()
}

// Tables within an account's keys. Each is used by one module. Letters must not be used twice.

/// The account's own record ([`mox_proto::record::v1::Account`]); whose table has this one key.
pub const TABLE_ACCOUNT: u8 = b'a';
/// Credentials (auth); this one key.
pub const TABLE_CREDENTIALS: u8 = b'p';

/// The record of an account, [`mox_proto::record::v1::Account`].
#[must_use]
pub fn account(account: AccountId) -> Bytes {
    Builder::account(account, TABLE_ACCOUNT).build()
}

/// The credentials of an account, [`mox_proto::record::v1::Credentials`].
#[must_use]
pub fn credentials(account: AccountId) -> Bytes {
    Builder::account(account, TABLE_CREDENTIALS).build()
}

// Contents.

/// A content's record, [`mox_proto::record::v1::Content`].
#[must_use]
pub fn content(id: ContentId) -> Bytes {
    Builder::new(CONTENT).raw(id.as_bytes()).build()
}

/// One chunk of a large content.
#[must_use]
pub fn chunk(id: ContentId, number: u32) -> Bytes {
    Builder::new(CHUNK).raw(id.as_bytes()).u32(number).build()
}

/// All chunks of a large content.
#[must_use]
pub fn chunks(id: ContentId) -> Range<Bytes> {
    Builder::new(CHUNK).raw(id.as_bytes()).prefix()
}

/// An upload.
#[must_use]
pub fn upload(id: ContentId) -> Bytes {
    Builder::new(UPLOAD).raw(id.as_bytes()).build()
}

/// All uploads.
#[must_use]
pub fn uploads() -> Range<Bytes> {
    Builder::new(UPLOAD).prefix()
}

/// Owner `owner`'s reference to a content.
#[must_use]
pub fn reference(id: ContentId, owner: &[u8]) -> Bytes {
    Builder::new(REFERENCE).raw(id.as_bytes()).raw(owner).build()
}

/// All references to a content.
#[must_use]
pub fn references(id: ContentId) -> Range<Bytes> {
    Builder::new(REFERENCE).raw(id.as_bytes()).prefix()
}

/// A content that lost a reference.
#[must_use]
pub fn released(id: ContentId) -> Bytes {
    Builder::new(RELEASED).raw(id.as_bytes()).build()
}

/// All contents that lost a reference.
#[must_use]
pub fn releases() -> Range<Bytes> {
    Builder::new(RELEASED).prefix()
}

/// The content of a key that is a space and a content's id: of a content, an upload or a release.
#[must_use]
pub fn parse_content(key: &[u8]) -> Option<ContentId> {
    ContentId::try_from(key.get(1..)?).ok()
}

// Registry.

/// The committed configuration.
#[must_use]
pub fn configuration() -> Bytes {
    Builder::new(GLOBAL).raw(b"config").build()
}

/// What only this store knows ([`mox_sasl::Credentials::dummy`]).
#[must_use]
pub fn secret() -> Bytes {
    Builder::new(GLOBAL).raw(b"secret").build()
}

/// Which shape the keys and records have: a number.
#[must_use]
pub fn schema() -> Bytes {
    Builder::new(GLOBAL).raw(b"schema").build()
}

/// The registration of an account, by name.
#[must_use]
pub fn name(name: &str) -> Bytes {
    Builder::new(NAME).raw(name.as_bytes()).build()
}

/// The name in a registration's key.
#[must_use]
pub fn parse_name(key: &[u8]) -> Option<String> {
    String::from_utf8(key.get(1..)?.to_vec()).ok()
}

/// All registrations of accounts.
#[must_use]
pub fn names() -> Range<Bytes> {
    Builder::new(NAME).prefix()
}

// Logging in.

/// Bytes of a digest in the key of a record of logins.
pub const LOGIN_DIGEST: usize = 16;

/// Of whom logins are recorded whose account is not known.
#[must_use]
pub fn no_account() -> AccountId {
    AccountId::from([0; 16])
}

/// Logins that were alike, [`mox_proto::record::v1::Login`].
#[must_use]
pub fn login(account: AccountId, digest: &[u8; LOGIN_DIGEST]) -> Bytes {
    Builder::new(LOGIN).raw(account.as_bytes()).raw(digest).build()
}

/// All records of logins of an account.
#[must_use]
pub fn logins(account: AccountId) -> Range<Bytes> {
    Builder::new(LOGIN).raw(account.as_bytes()).prefix()
}

/// All records of logins.
#[must_use]
pub fn logins_all() -> Range<Bytes> {
    Builder::new(LOGIN).prefix()
}

/// The account in the key of a record of logins.
#[must_use]
pub fn parse_login(key: &[u8]) -> Option<AccountId> {
    AccountId::try_from(key.get(1..17)?).ok()
}

/// A session, [`mox_proto::record::v1::Session`].
#[must_use]
pub fn session(digest: &[u8; 32]) -> Bytes {
    Builder::new(SESSION).raw(digest).build()
}

/// All sessions.
#[must_use]
pub fn sessions() -> Range<Bytes> {
    Builder::new(SESSION).prefix()
}

/// The digest of the token in a session's key.
#[must_use]
pub fn parse_session(key: &[u8]) -> Option<[u8; 32]> {
    key.get(1..)?.try_into().ok()
}

/// A public key, [`mox_proto::record::v1::TlsPublicKey`].
#[must_use]
pub fn tls_public_key(fingerprint: &[u8; 32]) -> Bytes {
    Builder::new(TLS_PUBLIC_KEY).raw(fingerprint).build()
}

/// All public keys.
#[must_use]
pub fn tls_public_keys() -> Range<Bytes> {
    Builder::new(TLS_PUBLIC_KEY).prefix()
}

/// The fingerprint in the key of a public key.
#[must_use]
pub fn parse_tls_public_key(key: &[u8]) -> Option<[u8; 32]> {
    key.get(1..)?.try_into().ok()
}

// Idempotency.

/// The result kept for a caller's key in a generation.
#[must_use]
pub fn idempotency(generation: u64, scope: &[u8], key: &[u8]) -> Bytes {
    Builder::new(IDEMPOTENCY).u64(generation).raw(scope).raw(key).build()
}

/// All results of generations before one.
#[must_use]
pub fn idempotency_before(generation: u64) -> Range<Bytes> {
    Builder::new(IDEMPOTENCY).build()..Builder::new(IDEMPOTENCY).u64(generation).build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_before_the_next_key() {
        assert_eq!(prefix(b"ab"), Bytes::from_static(b"ab")..Bytes::from_static(b"ac"));
        assert_eq!(
            prefix(b"a\xff\xff"),
            Bytes::from_static(b"a\xff\xff")..Bytes::from_static(b"b")
        );
    }

    #[test]
    fn keys_of_an_account_lie_in_its_range() {
        let id = AccountId::new();
        for key in [account(id), credentials(id)] {
            assert!(account_all(id).contains(&key));
            assert!(!account_all(AccountId::new()).contains(&key));
        }
    }

    #[test]
    fn content_keys_parse_back() {
        let id = ContentId::new();
        for key in [content(id), upload(id), released(id)] {
            assert_eq!(parse_content(&key), Some(id));
        }
        assert_eq!(parse_content(&chunk(id, 1)), None);
        assert_eq!(parse_content(b""), None);
    }

    #[test]
    fn queue_keys_parse_back_and_sort_by_time() {
        let key = queue_due("example.org", 5, 7);
        assert_eq!(parse_queue_due(&key), Some((5, 7)));
        assert!(queue_due_all("example.org").contains(&key) && !queue_due_all("example.or").contains(&key));
        assert!(key < queue_due("example.org", 256, 1));
        let key = queue_ticket(5, "example.org");
        assert_eq!(parse_queue_ticket(&key), Some((5, "example.org")));
        assert!(queue_tickets(0, 5).contains(&key) && !queue_tickets(0, 4).contains(&key));
        assert!(!queue_tickets(6, i64::MAX).contains(&key));
        let account = AccountId::new();
        assert_eq!(parse_queue_of_account(&queue_of_account(account, 9)), Some(9));
        assert!(queue_history(account)[2].contains(&queue_meter(account)));
        assert!(
            !queue_sent_rows(account)
                .iter()
                .any(|rows| rows.contains(&queue_meter(account)))
        );
    }
}
