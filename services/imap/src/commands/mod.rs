//! The commands, one file each.

mod acl;
pub(crate) mod append;
pub(crate) mod authenticate;
mod cancel;
pub(crate) mod capability;
mod close;
mod compress;
mod copy;
mod create;
mod delete;
mod enable;
mod examine;
mod expunge;
pub(crate) mod fetch;
mod id;
mod idle;
mod list;
mod login;
mod logout;
mod lsub;
pub(crate) mod metadata;
mod multisearch;
mod namespace;
mod noop;
mod notify;
mod offered;
mod quota;
mod rename;
mod resync;
mod search;
mod select;
pub(crate) mod sort;
mod starttls;
mod status;
mod store;
mod subscribe;
mod thread;
mod unauthenticate;
mod unselect;

use mox_imap_proto::{Command, NumberSet, SequenceSet};

use crate::limits;
use crate::names;
use crate::reply::{Failed, Outcome, Reply};
use crate::selected::Selected;
use crate::session::Session;

/// Runs a command up to its tagged reply.
pub(crate) async fn run(session: &mut Session, tag: &str, command: Command) -> Outcome {
    offered::check(session, &command)?;
    if let Some(notify) = &mut session.notify {
        notify.own = own_names(&command);
    }
    // Each in a box of its own, so that IDLE, which thousands may be in at once, takes no more room than it needs.
    match command {
        Command::Capability => Ok(capability::run(session)),
        Command::Noop | Command::Check => Ok(noop::run()),
        Command::Logout => Box::pin(logout::run(session, tag)).await,
        Command::StartTls => Box::pin(starttls::run(session, tag)).await,
        Command::Login { username, password } => Box::pin(login::run(session, &username, &password)).await,
        Command::Authenticate {
            mechanism,
            initial_response,
        } => Box::pin(authenticate::run(session, &mechanism, initial_response)).await,
        Command::Id(pairs) => Ok(Box::pin(id::run(session, &pairs)).await),
        Command::Enable(names) => enable::run(session, &names),
        Command::Select {
            mailbox,
            parameters,
            read_only: false,
        } => Box::pin(select::run(session, &mailbox, &parameters)).await,
        Command::Select {
            mailbox,
            parameters,
            read_only: true,
        } => Box::pin(examine::run(session, &mailbox, &parameters)).await,
        Command::Create { mailbox, special_use } => Box::pin(create::run(session, &mailbox, special_use)).await,
        Command::Delete(mailbox) => Box::pin(delete::run(session, &mailbox)).await,
        Command::Rename { from, to } => Box::pin(rename::run(session, &from, &to)).await,
        Command::Subscribe(mailbox) => Box::pin(subscribe::run(session, &mailbox, true)).await,
        Command::Unsubscribe(mailbox) => Box::pin(subscribe::run(session, &mailbox, false)).await,
        Command::List(list) => Box::pin(list::run(session, &list)).await,
        Command::Lsub { reference, pattern } => Box::pin(lsub::run(session, &reference, &pattern)).await,
        Command::Namespace => namespace::run(session),
        Command::Status { mailbox, items } => Box::pin(status::run(session, &mailbox, &items)).await,
        Command::GetMetadata(get) => Box::pin(metadata::get(session, &get)).await,
        Command::SetMetadata(set) => Box::pin(metadata::set(session, set)).await,
        Command::Acl(acl) => Box::pin(acl::run(session, &acl)).await,
        Command::Quota(quota) => Box::pin(quota::run(session, &quota)).await,
        Command::Compress(algorithm) => Box::pin(compress::run(session, tag, &algorithm)).await,
        Command::Unauthenticate => Box::pin(unauthenticate::run(session)).await,
        Command::Idle => idle::run(session).await,
        Command::Close => Box::pin(close::run(session, tag)).await,
        Command::Unselect => unselect::run(session),
        Command::Expunge(set) => Box::pin(expunge::run(session, tag, set.as_ref())).await,
        Command::Search(search, uid) => Box::pin(search::run(session, tag, &search, uid)).await,
        Command::Fetch(fetch, uid) => Box::pin(fetch::run(session, &fetch, uid)).await,
        Command::Store(store, uid) => Box::pin(store::run(session, tag, &store, uid)).await,
        Command::Copy(copy, uid) => Box::pin(copy::run(session, tag, &copy, uid, copy::Kind::Copy)).await,
        Command::Move(copy, uid) => Box::pin(copy::run(session, tag, &copy, uid, copy::Kind::Move)).await,
        Command::Sort(sort, uid) => Box::pin(sort::run(session, tag, &sort, uid)).await,
        Command::Thread(thread, uid) => Box::pin(thread::run(session, tag, &thread, uid)).await,
        Command::MultiSearch(search) => Box::pin(multisearch::run(session, tag, &search)).await,
        Command::CancelUpdate(tags) => cancel::run(session, &tags),
        Command::Notify(asked) => Box::pin(notify::run(session, &asked)).await,
    }
}

/// Names of mailboxes, as clients see them, that a command changes by itself (RFC 5465 §5: the client knows); an empty one
/// for the server.
fn own_names(command: &Command) -> Vec<String> {
    let names: &[&String] = match command {
        Command::Create { mailbox, .. } => &[mailbox],
        Command::Delete(mailbox) | Command::Subscribe(mailbox) | Command::Unsubscribe(mailbox) => &[mailbox],
        Command::Rename { from, to } => &[from, to],
        Command::SetMetadata(set) => &[&set.mailbox],
        _ => &[],
    };
    names.iter().map(|name| names::shown(&names::kept(name))).collect()
}

/// The UIDs that a set means: those of them that the client was told of.
fn uids(selected: &Selected, set: &SequenceSet, uid: bool) -> Result<NumberSet, Failed> {
    let view = &selected.view;
    if !uid && selected.enabled.uidonly {
        return Err(uid_required().into());
    }
    let largest = if uid { view.last_uid() } else { view.count() };
    let numbers = selected.resolve(set, uid);
    // RFC 5182 §2.1: an empty saved result is no error.
    if *set == SequenceSet::Saved {
        return Ok(if uid { numbers } else { view.uids_of(&numbers) });
    }
    if uid {
        // RFC 9051 §6.4.9: UIDs that are not there are ignored.
        return Ok(view.known(&numbers));
    }
    let uids = view.uids_of(&numbers);
    if selected.pedantic && numbers.last().is_some_and(|last| last > largest) {
        return Err(Reply::bad("There is no message with such a number").into());
    }
    // RFC 9051 §9, seq-number: a number that is not there is an error. Of a set that also has others, those are taken,
    // as clients count on `5:*`; and asking an empty mailbox for `1:*` is asking for all there is.
    if uids.is_empty() && !(view.count() == 0 && set.has_largest()) {
        return Err(Reply::bad("There is no message with such a number").into());
    }
    Ok(uids)
}

/// Messages that a command works on.
struct Limited {
    set: NumberSet,
    /// The response code to tell that there would be more.
    code: Option<String>,
}

/// RFC 9738 §3: of too many messages, a command works on those with the highest UIDs, and tells the lowest of them.
fn limit(set: NumberSet) -> Limited {
    if set.count() <= limits::MESSAGES {
        return Limited { set, code: None };
    }
    let set = set.slice(set.count() - limits::MESSAGES..set.count());
    let lowest = set.first().unwrap_or_default();
    Limited {
        code: Some(format!("MESSAGELIMIT {} {lowest}", limits::MESSAGES)),
        set,
    }
}

/// RFC 9586 §3.1: the client said that it would not use sequence numbers.
pub(crate) fn uid_required() -> Reply {
    Reply::bad("There are no sequence numbers, use UIDs").code("UIDREQUIRED")
}

/// RFC 5530: some of the messages that were asked for by number are gone, which the client was not told yet.
fn expunge_issued(uid: bool) -> Reply {
    if uid {
        Reply::ok("Done")
    } else {
        Reply::no("Some of the messages are gone").code("EXPUNGEISSUED")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_too_many_messages_the_highest_are_taken() {
        let set = NumberSet::from_ranges([(1, 10), (21, 1_000_020)]);
        let limited = limit(set);
        assert_eq!(limited.set.count(), limits::MESSAGES);
        assert_eq!(limited.code.as_deref(), Some("MESSAGELIMIT 1000000 21"));
        assert_eq!(limit(NumberSet::from_ranges([(1, 1_000_000)])).code, None);
    }
}
