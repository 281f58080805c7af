//! What a client may ask for at most.

/// Octets of a command without its literals. RFC 7162 §4 asks servers for at least 8192; clients that name every
/// message of a large mailbox in one set need more.
pub const COMMAND_TEXT: usize = 64 << 10;
/// Octets of all literals of a command together, other than messages of APPEND, once logged in.
pub const COMMAND_LITERALS: usize = 256 << 10;
/// Octets of all literals of a command together before login: a user name and a password.
pub const LITERALS_BEFORE_LOGIN: usize = 4 << 10;
/// Literals of a command: each costs the server a continuation.
pub const LITERAL_COUNT: usize = 1000;
/// Octets of a line of a SASL exchange. RFC 4422 has no bound; the largest mechanism we know needs far less.
pub const SASL_LINE: usize = 16 << 10;
/// Octets of a tag.
pub const TAG: usize = 256;
/// How deep search keys nest.
pub const SEARCH_DEPTH: usize = 50;
/// Search keys of one command.
pub const SEARCH_KEYS: usize = 4096;
/// Ranges of a sequence set: as many as a command has room for.
pub const SET_RANGES: usize = 32 << 10;
/// RFC 8474 §7: octets of an object identifier.
pub const OBJECT_ID: usize = 255;
/// Flags of one command.
pub const FLAGS: usize = 256;
/// Octets of a keyword.
pub const KEYWORD: usize = 255;
/// Items of a FETCH.
pub const FETCH_ITEMS: usize = 256;
/// Levels of a part number: as deep as MIME is parsed.
pub const SECTION_DEPTH: usize = 100;
/// Names in HEADER.FIELDS.
pub const HEADER_FIELDS: usize = 512;
/// Octets of a mailbox name or pattern. Names are limited further where they are created.
pub const MAILBOX_NAME: usize = 1024;
/// Entries of one GETMETADATA or SETMETADATA.
pub const METADATA_ENTRIES: usize = 100;
/// Octets of the name of an entry: what the store takes.
pub const METADATA_ENTRY: usize = 512;
/// Octets of who is in an access control list.
pub const ACL_IDENTIFIER: usize = 512;
/// Resources of SETQUOTA: RFC 9208 §5 knows four.
pub const QUOTA_RESOURCES: usize = 16;
/// Messages and URLs between two literals of APPEND.
pub const APPEND_STEPS: usize = 1000;
/// Patterns of one LIST.
pub const LIST_PATTERNS: usize = 64;
/// RFC 2971 §3.3: at most 30 pairs in ID.
pub const ID_PAIRS: usize = 30;
/// RFC 2971 §3.3: at most 1024 octets of a value in ID.
pub const ID_VALUE: usize = 1024;
/// Criteria of a SORT: each key in both directions, and room.
pub const SORT_CRITERIA: usize = 32;
/// Groups of events of a NOTIFY.
pub const NOTIFY_GROUPS: usize = 64;
/// Events of a group of NOTIFY: each, and room for some that we don't know.
pub const NOTIFY_EVENTS: usize = 32;
/// Mailboxes that a filter of NOTIFY or ESEARCH names.
pub const FILTER_MAILBOXES: usize = 1000;
/// Sources of an ESEARCH.
pub const SOURCES: usize = 64;
/// Tags in a CANCELUPDATE.
pub const CANCEL_TAGS: usize = 64;
