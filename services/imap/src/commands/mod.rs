//! The commands, one file each.

pub(crate) mod append;
mod authenticate;
pub(crate) mod capability;
mod close;
mod copy;
mod create;
mod delete;
mod enable;
mod examine;
mod expunge;
mod fetch;
mod id;
mod idle;
mod list;
mod login;
mod logout;
mod lsub;
mod namespace;
mod noop;
mod rename;
mod search;
mod select;
mod starttls;
mod status;
mod store;
mod subscribe;
mod unselect;

use mox_imap_proto::{Command, NumberSet, SequenceSet};

use crate::reply::{Failed, Outcome, Reply};
use crate::selected::Selected;
use crate::session::Session;

/// Runs a command up to its tagged reply.
pub(crate) async fn run(session: &mut Session, tag: &str, command: Command) -> Outcome {
    match command {
        Command::Capability => Ok(capability::run(session)),
        Command::Noop | Command::Check => Ok(noop::run()),
        Command::Logout => logout::run(session, tag).await,
        Command::StartTls => starttls::run(session, tag).await,
        Command::Login { username, password } => login::run(session, &username, &password).await,
        Command::Authenticate {
            mechanism,
            initial_response,
        } => authenticate::run(session, &mechanism, initial_response).await,
        Command::Id(pairs) => Ok(id::run(session, &pairs)),
        Command::Enable(names) => enable::run(session, &names),
        Command::Select {
            mailbox,
            parameters,
            read_only: false,
        } => select::run(session, &mailbox, &parameters).await,
        Command::Select {
            mailbox,
            parameters,
            read_only: true,
        } => examine::run(session, &mailbox, &parameters).await,
        Command::Create { mailbox, special_use } => create::run(session, &mailbox, special_use).await,
        Command::Delete(mailbox) => delete::run(session, &mailbox).await,
        Command::Rename { from, to } => rename::run(session, &from, &to).await,
        Command::Subscribe(mailbox) => subscribe::run(session, &mailbox, true).await,
        Command::Unsubscribe(mailbox) => subscribe::run(session, &mailbox, false).await,
        Command::List(list) => list::run(session, &list).await,
        Command::Lsub { reference, pattern } => lsub::run(session, &reference, &pattern).await,
        Command::Namespace => namespace::run(session),
        Command::Status { mailbox, items } => status::run(session, &mailbox, &items).await,
        Command::Idle => idle::run(session).await,
        Command::Close => close::run(session).await,
        Command::Unselect => unselect::run(session),
        Command::Expunge(set) => expunge::run(session, set.as_ref()).await,
        Command::Search(search, uid) => search::run(session, tag, &search, uid).await,
        Command::Fetch(fetch, uid) => fetch::run(session, &fetch, uid).await,
        Command::Store(store, uid) => store::run(session, &store, uid).await,
        Command::Copy(copy, uid) => copy::run(session, &copy, uid, copy::Kind::Copy).await,
        Command::Move(copy, uid) => copy::run(session, &copy, uid, copy::Kind::Move).await,
        Command::Sort(..)
        | Command::Thread(..)
        | Command::MultiSearch(_)
        | Command::CancelUpdate(_)
        | Command::Notify(_) => Err(Reply::bad("This command is not offered").into()),
    }
}

/// The UIDs that a set means: those of them that the client was told of.
fn uids(selected: &Selected, set: &SequenceSet, uid: bool) -> Result<NumberSet, Failed> {
    let view = &selected.view;
    let largest = if uid { view.last_uid() } else { view.count() };
    let numbers = set
        .resolve(largest)
        .ok_or_else(|| Reply::bad("There is no saved search result"))?;
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

/// RFC 5530: some of the messages that were asked for by number are gone, which the client was not told yet.
fn expunge_issued(uid: bool) -> Reply {
    if uid {
        Reply::ok("Done")
    } else {
        Reply::no("Some of the messages are gone").code("EXPUNGEISSUED")
    }
}
