//! Every key of the key space.
//!
//! The first byte of a key is its space. Keys of an account's data begin with [`ACCOUNT`] and the account's id, so that
//! they are one range. Numbers are big-endian, so that they sort. Builders and parsers of one table stand together; no
//! other module composes keys by hand.

use std::ops::Range;

use bytes::{BufMut, Bytes, BytesMut};
use mox_types::{AccountId, ContentId, MailboxId, MessageId};

/// Data of accounts: `a`, account, table, …
pub const ACCOUNT: u8 = b'a';
/// Contents: `c`, content.
pub const CONTENT: u8 = b'c';
/// Names of accounts: `n`, name.
pub const NAME: u8 = b'n';
/// Single records of the whole store: `g`, name.
pub const GLOBAL: u8 = b'g';
/// Results by idempotency key: `i`, generation, scope, key.
pub const IDEMPOTENCY: u8 = b'i';
/// The queues of junk filters: `j`, account, message.
pub const TRAINING: u8 = b'j';
/// Chunks of large contents: `k`, content, number.
pub const CHUNK: u8 = b'k';
/// Records of logins: `l`, account or zeros, digest.
pub const LOGIN: u8 = b'l';
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

// Mail of an account.

/// Mailboxes: `b`, mailbox.
pub const TABLE_MAILBOXES: u8 = b'b';
/// What was computed from messages: `c`, message.
pub const TABLE_COMPUTED: u8 = b'c';
/// Messages by Message-ID: `i`, digest of the Message-ID, message.
pub const TABLE_MESSAGE_IDS: u8 = b'i';
/// People that the account sent to: `e`, domain, 0, localpart.
pub const TABLE_RECIPIENTS: u8 = b'e';
/// Annotations: `n`, mailbox or 16 zeroes, name.
pub const TABLE_ANNOTATIONS: u8 = b'n';
/// Keywords: `k`, number.
pub const TABLE_KEYWORDS: u8 = b'k';
/// The change log: `l`, modification sequence.
pub const TABLE_LOG: u8 = b'l';
/// Messages: `m`, message.
pub const TABLE_MESSAGES: u8 = b'm';
/// Rows of mailboxes: `r`, mailbox, UID.
pub const TABLE_ROWS: u8 = b'r';
/// Messages by base subject: `t`, digest of the base subject, message.
pub const TABLE_SUBJECTS: u8 = b't';
/// Subscribed names: `s`, name.
pub const TABLE_SUBSCRIPTIONS: u8 = b's';
/// Mailboxes that were deleted and whose messages are still to be removed: `d`, account, mailbox. A space.
pub const DELETED_MAILBOX: u8 = b'd';

/// Bytes of a digest of a Message-ID in a key.
pub const MESSAGE_ID_DIGEST: usize = 16;

/// A mailbox, [`mox_proto::record::v1::Mailbox`].
#[must_use]
pub fn mailbox(account: AccountId, id: MailboxId) -> Bytes {
    Builder::account(account, TABLE_MAILBOXES).raw(id.as_bytes()).build()
}

/// All keys of one table of an account.
#[must_use]
pub fn account_table(account: AccountId, table: u8) -> Range<Bytes> {
    Builder::account(account, table).prefix()
}

/// What follows the account and the table in a key.
#[must_use]
pub fn in_account_table(key: &[u8]) -> &[u8] {
    key.get(18..).unwrap_or_default()
}

/// A row of a mailbox, [`mox_proto::record::v1::Row`].
#[must_use]
pub fn row(account: AccountId, mailbox: MailboxId, uid: u32) -> Bytes {
    Builder::account(account, TABLE_ROWS)
        .raw(mailbox.as_bytes())
        .u32(uid)
        .build()
}

/// The rows of a mailbox from one UID to another, both included.
#[must_use]
pub fn rows(account: AccountId, mailbox: MailboxId, first: u32, last: u32) -> Range<Bytes> {
    row(account, mailbox, first)..crate::engine::after(&row(account, mailbox, last))
}

/// The UID in a row's key.
#[must_use]
pub fn parse_row(key: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(key.get(34..)?.try_into().ok()?))
}

/// The mailbox and the UID in a row's key.
#[must_use]
pub fn parse_row_of(key: &[u8]) -> Option<(MailboxId, u32)> {
    Some((MailboxId::try_from(key.get(18..34)?).ok()?, parse_row(key)?))
}

/// A message, [`mox_proto::record::v1::Message`].
#[must_use]
pub fn message(account: AccountId, id: MessageId) -> Bytes {
    Builder::account(account, TABLE_MESSAGES).raw(id.as_bytes()).build()
}

/// All messages of an account.
#[must_use]
pub fn messages(account: AccountId) -> Range<Bytes> {
    account_table(account, TABLE_MESSAGES)
}

/// What was computed from a message, [`mox_proto::mail::v1::Computed`].
#[must_use]
pub fn computed(account: AccountId, id: MessageId) -> Bytes {
    Builder::account(account, TABLE_COMPUTED).raw(id.as_bytes()).build()
}

/// A message under its Message-ID.
#[must_use]
pub fn message_id(account: AccountId, digest: &[u8; MESSAGE_ID_DIGEST], id: MessageId) -> Bytes {
    Builder::account(account, TABLE_MESSAGE_IDS)
        .raw(digest)
        .raw(id.as_bytes())
        .build()
}

/// A message under its base subject; later ones come first.
#[must_use]
pub fn base_subject(account: AccountId, digest: &[u8; MESSAGE_ID_DIGEST], id: MessageId) -> Bytes {
    Builder::account(account, TABLE_SUBJECTS)
        .raw(digest)
        .raw(&id.as_bytes().map(|byte| !byte))
        .build()
}

/// All messages of one base subject that came before one, the latest first.
#[must_use]
pub fn base_subject_before(account: AccountId, digest: &[u8; MESSAGE_ID_DIGEST], id: MessageId) -> Range<Bytes> {
    let all = Builder::account(account, TABLE_SUBJECTS).raw(digest).prefix();
    crate::engine::after(&base_subject(account, digest, id))..all.end
}

/// The message in a key of [`base_subject`].
#[must_use]
pub fn parse_base_subject(key: &[u8]) -> Option<MessageId> {
    let bytes: [u8; 16] = key.get(key.len().checked_sub(16)?..)?.try_into().ok()?;
    Some(MessageId::from(bytes.map(|byte| !byte)))
}

/// All messages of one Message-ID.
#[must_use]
pub fn message_ids(account: AccountId, digest: &[u8; MESSAGE_ID_DIGEST]) -> Range<Bytes> {
    Builder::account(account, TABLE_MESSAGE_IDS).raw(digest).prefix()
}

/// A keyword: the value is its text.
#[must_use]
pub fn keyword(account: AccountId, number: u32) -> Bytes {
    Builder::account(account, TABLE_KEYWORDS).u32(number).build()
}

/// An entry of the change log, [`mox_proto::record::v1::Change`].
#[must_use]
pub fn change(account: AccountId, modseq: u64) -> Bytes {
    Builder::account(account, TABLE_LOG).u64(modseq).build()
}

/// The modification sequence in a key of the change log.
#[must_use]
pub fn parse_change(key: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(in_account_table(key).try_into().ok()?))
}

/// A name that is subscribed.
#[must_use]
pub fn subscription(account: AccountId, name: &str) -> Bytes {
    Builder::account(account, TABLE_SUBSCRIPTIONS)
        .raw(name.as_bytes())
        .build()
}

/// A deleted mailbox whose messages are still to be removed.
#[must_use]
pub fn deleted_mailbox(account: AccountId, mailbox: MailboxId) -> Bytes {
    Builder::new(DELETED_MAILBOX)
        .raw(account.as_bytes())
        .raw(mailbox.as_bytes())
        .build()
}

/// All deleted mailboxes whose messages are still to be removed.
#[must_use]
pub fn deleted_mailboxes() -> Range<Bytes> {
    Builder::new(DELETED_MAILBOX).prefix()
}

/// The account and mailbox of a key of a deleted mailbox.
#[must_use]
pub fn parse_deleted_mailbox(key: &[u8]) -> Option<(AccountId, MailboxId)> {
    Some((
        AccountId::try_from(key.get(1..17)?).ok()?,
        MailboxId::try_from(key.get(17..)?).ok()?,
    ))
}

// Search.

/// What there is of the search index, [`mox_proto::record::v1::SearchIndex`]: this one key.
pub const TABLE_SEARCH: u8 = b'f';

/// The record of an account's search index.
#[must_use]
pub fn search_index(account: AccountId) -> Bytes {
    Builder::account(account, TABLE_SEARCH).build()
}

/// A part of a segment of a search index: kind and number.
#[must_use]
pub fn search_part(account: AccountId, segment: u64, kind: u8, number: u32) -> Bytes {
    Builder::new(SEARCH)
        .raw(account.as_bytes())
        .u64(segment)
        .u8(kind)
        .u32(number)
        .build()
}

/// All parts of a segment of a search index.
#[must_use]
pub fn search_segment(account: AccountId, segment: u64) -> Range<Bytes> {
    Builder::new(SEARCH).raw(account.as_bytes()).u64(segment).prefix()
}

/// All parts of all segments of an account's search index.
#[must_use]
pub fn search_all(account: AccountId) -> Range<Bytes> {
    Builder::new(SEARCH).raw(account.as_bytes()).prefix()
}

/// An annotation, [`mox_proto::record::v1::Annotation`]; without a mailbox, one of the account as a whole.
#[must_use]
pub fn annotation(account: AccountId, mailbox: Option<MailboxId>, name: &str) -> Bytes {
    annotations_of(account, mailbox).raw(name.as_bytes()).build()
}

/// All annotations of a mailbox, or of the account as a whole.
#[must_use]
pub fn annotations(account: AccountId, mailbox: Option<MailboxId>) -> Range<Bytes> {
    annotations_of(account, mailbox).prefix()
}

/// The annotations whose names begin so.
#[must_use]
pub fn annotations_below(account: AccountId, mailbox: Option<MailboxId>, prefix: &str) -> Range<Bytes> {
    annotations_of(account, mailbox).raw(prefix.as_bytes()).prefix()
}

fn annotations_of(account: AccountId, mailbox: Option<MailboxId>) -> Builder {
    let id = mailbox.map_or([0; 16], |id| *id.as_bytes());
    Builder::account(account, TABLE_ANNOTATIONS).raw(&id)
}

/// The name in an annotation's key.
#[must_use]
pub fn parse_annotation(key: &[u8]) -> Option<&str> {
    std::str::from_utf8(in_account_table(key).get(16..)?).ok()
}

/// Somebody that the account sent to, [`mox_proto::record::v1::Recipient`].
#[must_use]
pub fn recipient(account: AccountId, domain: &str, localpart: &str) -> Bytes {
    recipients_of(account, domain).raw(localpart.as_bytes()).build()
}

/// All at a domain that the account sent to.
#[must_use]
pub fn recipients_at(account: AccountId, domain: &str) -> Range<Bytes> {
    recipients_of(account, domain).prefix()
}

fn recipients_of(account: AccountId, domain: &str) -> Builder {
    // No domain contains a 0.
    Builder::account(account, TABLE_RECIPIENTS).raw(domain.as_bytes()).u8(0)
}

// Junk filters.

/// The junk filter: this one key.
pub const TABLE_JUNK_FILTER: u8 = b'j';
/// Words of the junk filter: `w`, generation, token.
pub const TABLE_JUNK_WORDS: u8 = b'w';

/// The junk filter of an account, [`mox_proto::record::v1::JunkFilter`].
#[must_use]
pub fn junk_filter(account: AccountId) -> Bytes {
    Builder::account(account, TABLE_JUNK_FILTER).build()
}

/// A word of a junk filter: the value is two numbers of 4 bytes.
#[must_use]
pub fn junk_word(account: AccountId, generation: u32, token: &[u8; 8]) -> Bytes {
    Builder::account(account, TABLE_JUNK_WORDS)
        .u32(generation)
        .raw(token)
        .build()
}

/// All words of a junk filter, of all generations.
#[must_use]
pub fn junk_words(account: AccountId) -> Range<Bytes> {
    account_table(account, TABLE_JUNK_WORDS)
}

/// A message that a junk filter has to learn from or to unlearn, [`mox_proto::record::v1::Unlearn`] or empty.
#[must_use]
pub fn training(account: AccountId, message: MessageId) -> Bytes {
    Builder::new(TRAINING)
        .raw(account.as_bytes())
        .raw(message.as_bytes())
        .build()
}

/// That a junk filter has to learn from all messages: before all of them.
#[must_use]
pub fn training_all(account: AccountId) -> Bytes {
    Builder::new(TRAINING).raw(account.as_bytes()).build()
}

/// The queue of an account's junk filter.
#[must_use]
pub fn trainings(account: AccountId) -> Range<Bytes> {
    Builder::new(TRAINING).raw(account.as_bytes()).prefix()
}

/// The queues of all junk filters.
#[must_use]
pub fn trainings_of_all() -> Range<Bytes> {
    Builder::new(TRAINING).prefix()
}

/// The account and the message in a key of the queue of a junk filter; all zeros for all messages.
#[must_use]
pub fn parse_training(key: &[u8]) -> Option<(AccountId, MessageId)> {
    let account = AccountId::try_from(key.get(1..17)?).ok()?;
    match key.get(17..)? {
        [] => Some((account, MessageId::from([0; 16]))),
        message => Some((account, MessageId::try_from(message).ok()?)),
    }
}

// The outgoing queue.

/// Entries: `e`, id.
const QUEUE_ENTRIES: u8 = b'e';
/// States of entries: `s`, id.
const QUEUE_STATES: u8 = b's';
/// What is due at each recipient domain: `d`, domain, 0, time, id.
const QUEUE_DUE: u8 = b'd';
/// When to look at which recipient domain: `t`, time, domain.
const QUEUE_TICKETS: u8 = b't';
/// Entries of accounts: `a`, account, id.
const QUEUE_ACCOUNTS: u8 = b'a';
/// The next id: this one key.
const QUEUE_NEXT: u8 = b'n';
/// Recipients that accounts sent to of late: `o`, account, time, id.
const QUEUE_SENT: u8 = b'o';
/// Recipients that accounts have sent to before: `f`, account, address.
const QUEUE_KNOWN: u8 = b'f';
/// Makes those who count what an account sent wait for each other: `m`, account.
const QUEUE_METER: u8 = b'm';

fn queue(table: u8) -> Builder {
    Builder::new(QUEUE).u8(table)
}

/// Milliseconds since 1970, as they sort.
fn millis(time: i64) -> u64 {
    u64::try_from(time).unwrap_or_default()
}

/// A queue entry, [`mox_proto::queue::v1::Entry`].
#[must_use]
pub fn queue_entry(id: u64) -> Bytes {
    queue(QUEUE_ENTRIES).u64(id).build()
}

/// All queue entries.
#[must_use]
pub fn queue_entries() -> Range<Bytes> {
    queue(QUEUE_ENTRIES).prefix()
}

/// The state of a queue entry, [`mox_proto::record::v1::QueueState`].
#[must_use]
pub fn queue_state(id: u64) -> Bytes {
    queue(QUEUE_STATES).u64(id).build()
}

/// All states of queue entries.
#[must_use]
pub fn queue_states() -> Range<Bytes> {
    queue(QUEUE_STATES).prefix()
}

/// An entry in the order that those of its recipient domain become due.
#[must_use]
pub fn queue_due(domain: &str, due: i64, id: u64) -> Bytes {
    queue(QUEUE_DUE)
        .raw(domain.as_bytes())
        .u8(0)
        .u64(millis(due))
        .u64(id)
        .build()
}

/// All entries of a recipient domain in the order that they become due.
#[must_use]
pub fn queue_due_all(domain: &str) -> Range<Bytes> {
    queue(QUEUE_DUE).raw(domain.as_bytes()).u8(0).prefix()
}

/// The time and the entry in a key of [`queue_due`].
#[must_use]
pub fn parse_queue_due(key: &[u8]) -> Option<(i64, u64)> {
    let (_, numbers) = key.get(2..)?.split_last_chunk::<16>()?;
    let (due, id) = numbers.split_at(8);
    let due = u64::from_be_bytes(due.try_into().ok()?);
    Some((i64::try_from(due).ok()?, u64::from_be_bytes(id.try_into().ok()?)))
}

/// When to look at a recipient domain.
#[must_use]
pub fn queue_ticket(time: i64, domain: &str) -> Bytes {
    queue(QUEUE_TICKETS).u64(millis(time)).raw(domain.as_bytes()).build()
}

/// All tickets from one time on, to another and with it.
#[must_use]
pub fn queue_tickets(from: i64, to: i64) -> Range<Bytes> {
    queue(QUEUE_TICKETS).u64(millis(from)).build()..queue(QUEUE_TICKETS).u64(millis(to).saturating_add(1)).build()
}

/// The time and the domain in a key of [`queue_ticket`].
#[must_use]
pub fn parse_queue_ticket(key: &[u8]) -> Option<(i64, &str)> {
    let (time, domain) = key.get(2..)?.split_first_chunk::<8>()?;
    Some((
        i64::try_from(u64::from_be_bytes(*time)).ok()?,
        std::str::from_utf8(domain).ok()?,
    ))
}

/// An entry of an account.
#[must_use]
pub fn queue_of_account(account: AccountId, id: u64) -> Bytes {
    queue(QUEUE_ACCOUNTS).raw(account.as_bytes()).u64(id).build()
}

/// All entries of an account.
#[must_use]
pub fn queue_of_account_all(account: AccountId) -> Range<Bytes> {
    queue(QUEUE_ACCOUNTS).raw(account.as_bytes()).prefix()
}

/// The entry in a key of [`queue_of_account`].
#[must_use]
pub fn parse_queue_of_account(key: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(key.get(18..)?.try_into().ok()?))
}

/// The next id of an entry: a number of 8 bytes.
#[must_use]
pub fn queue_next() -> Bytes {
    queue(QUEUE_NEXT).build()
}

/// A recipient that an account sent to; the value is 1 if it was for the first time.
#[must_use]
pub fn queue_sent(account: AccountId, time: i64, id: u64) -> Bytes {
    queue(QUEUE_SENT)
        .raw(account.as_bytes())
        .u64(millis(time))
        .u64(id)
        .build()
}

/// All recipients that an account sent to, from one time on to before another.
#[must_use]
pub fn queue_sent_between(account: AccountId, from: i64, to: i64) -> Range<Bytes> {
    let at = |time| queue(QUEUE_SENT).raw(account.as_bytes()).u64(millis(time)).build();
    at(from)..at(to)
}

/// A recipient that an account has sent to before.
#[must_use]
pub fn queue_known(account: AccountId, address: &str) -> Bytes {
    queue(QUEUE_KNOWN)
        .raw(account.as_bytes())
        .raw(address.as_bytes())
        .build()
}

/// What those who count what an account sent hold on to.
#[must_use]
pub fn queue_meter(account: AccountId) -> Bytes {
    queue(QUEUE_METER).raw(account.as_bytes()).build()
}

/// What is kept of what an account sent.
#[must_use]
pub fn queue_history(account: AccountId) -> [Range<Bytes>; 3] {
    [QUEUE_SENT, QUEUE_KNOWN, QUEUE_METER].map(|table| queue(table).raw(account.as_bytes()).prefix())
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
        assert!(queue_sent_between(account, 1, 3).contains(&queue_sent(account, 2, u64::MAX)));
        assert!(!queue_sent_between(account, 1, 2).contains(&queue_sent(account, 2, 0)));
    }
}
