//! Which mailboxes a filter of NOTIFY or ESEARCH means (RFC 5465 §6, RFC 7377 §2.2).

use mox_imap_proto::mailbox::{SEPARATOR, is_inbox};
use mox_imap_proto::notify::Filter;

/// Whether a filter means a mailbox of this name, which is as clients see it. The selected mailbox is meant by name
/// alone here.
pub(crate) fn covers(filter: &Filter, name: &str, subscribed: bool) -> bool {
    match filter {
        Filter::Selected | Filter::SelectedDelayed => false,
        // All mailboxes are the user's own, and rules may deliver into any of them: RFC 5465 §6.3.
        Filter::Personal | Filter::Inboxes => true,
        Filter::Subscribed => subscribed,
        Filter::Mailboxes(list) => list.iter().any(|top| same(top, name)),
        Filter::Subtree(list) => list.iter().any(|top| same(top, name) || below(top, name).is_some()),
        Filter::SubtreeOne(list) => list
            .iter()
            .any(|top| same(top, name) || below(top, name).is_some_and(|rest| !rest.contains(SEPARATOR))),
    }
}

fn same(a: &str, b: &str) -> bool {
    a == b || (is_inbox(a) && is_inbox(b))
}

/// What follows `top` and a separator in a name.
fn below<'n>(top: &str, name: &'n str) -> Option<&'n str> {
    let (start, rest) = (name.get(..top.len())?, name.get(top.len()..)?);
    same(top, start).then(|| rest.strip_prefix(SEPARATOR)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_mean_names() {
        let list = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        for (filter, name, want) in [
            (Filter::Personal, "a", true),
            (Filter::Inboxes, "a", true),
            (Filter::Selected, "a", false),
            (Filter::Mailboxes(list(&["a", "inbox"])), "INBOX", true),
            (Filter::Mailboxes(list(&["a*"])), "ab", false),
            (Filter::Subtree(list(&["a"])), "a", true),
            (Filter::Subtree(list(&["a"])), "a/b/c", true),
            (Filter::Subtree(list(&["a"])), "ab", false),
            (Filter::Subtree(list(&["Inbox"])), "INBOX/x", true),
            (Filter::SubtreeOne(list(&["a"])), "a/b", true),
            (Filter::SubtreeOne(list(&["a"])), "a/b/c", false),
            (Filter::SubtreeOne(list(&["ä"])), "a", false),
        ] {
            assert_eq!(covers(&filter, name, false), want, "{filter:?} {name}");
        }
        assert!(covers(&Filter::Subscribed, "x", true) && !covers(&Filter::Subscribed, "x", false));
    }
}
