//! Who may do what with a mailbox (RFC 4314).
//!
//! [`rights`] is the one place that decides. At present a mailbox is its owner's alone; when mailboxes are shared, their
//! access control lists are looked at here, and all who ask get another answer.

use mox_types::AccountId;

use super::State;
use super::state::Mailbox;

/// RFC 4314 §2.1: all standard rights, and the obsolete ones that stand for several of them (§2.1.1).
///
/// l(ookup), r(ead), s(een), w(rite flags), i(nsert), p(ost), k (create below), x (delete), t (mark deleted), e(xpunge),
/// a(dminister), c and d.
pub const ALL: &str = "lrswipkxteacd";

/// Who wants to do something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// The account that the session is of.
    pub account: AccountId,
}

/// The rights of somebody on a mailbox, as a string of RFC 4314.
#[must_use]
pub fn rights(state: &State, _mailbox: &Mailbox, who: Identity) -> &'static str {
    if who.account == state.account { ALL } else { "" }
}
