//! Keys of an account's mail: mailboxes and messages, search, annotations, recipients and the junk filter.

use super::*;

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

// Who sent what the account's user judged, and what was rejected.

/// Messages flagged junk or not junk, by who sent them: `h`, kind, digest, time, message.
pub const TABLE_HISTORY: u8 = b'h';
/// Copies among the rejects: `x`, digest of what they are known by.
pub const TABLE_REJECTS: u8 = b'x';

/// Bytes of a digest of somebody who sends.
pub const SENDER_DIGEST: usize = 16;

/// A judged message of a sender; later ones come first. The value is that of [`crate::account::history`].
#[must_use]
pub fn history(account: AccountId, kind: u8, digest: &[u8; SENDER_DIGEST], received: i64, id: MessageId) -> Bytes {
    history_of(account, kind, digest)
        .u64(!u64::try_from(received).unwrap_or(0))
        .raw(id.as_bytes())
        .build()
}

/// The judged messages of a sender that were received at a time or later, the latest first.
#[must_use]
pub fn history_since(account: AccountId, kind: u8, digest: &[u8; SENDER_DIGEST], since: i64) -> Range<Bytes> {
    let all = history_of(account, kind, digest).prefix();
    let last = history_of(account, kind, digest).u64(!u64::try_from(since).unwrap_or(0));
    all.start..last.prefix().end
}

fn history_of(account: AccountId, kind: u8, digest: &[u8; SENDER_DIGEST]) -> Builder {
    Builder::account(account, TABLE_HISTORY).u8(kind).raw(digest)
}

/// The message in a key of [`history`].
#[must_use]
pub fn parse_history(key: &[u8]) -> Option<MessageId> {
    MessageId::try_from(key.get(key.len().checked_sub(16)?..)?).ok()
}

/// A copy among the rejects: the value is the message's id.
#[must_use]
pub fn reject(account: AccountId, digest: &[u8]) -> Bytes {
    Builder::account(account, TABLE_REJECTS).raw(digest).build()
}
