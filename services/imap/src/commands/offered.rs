//! What is not offered to an account (setting IMAPCapabilitiesDisabled): commands and parts of commands that belong to an
//! extension that is switched off are refused, not only left out of CAPABILITY.

use mox_imap_proto::Command;
use mox_imap_proto::fetch::{Fetch, FetchItem};
use mox_imap_proto::list::List;
use mox_imap_proto::search::{Search, SearchKey};
use mox_imap_proto::sort::Algorithm;
use mox_imap_proto::status::{SelectParameter, StatusItem};

use crate::reply::Reply;
use crate::session::Session;

/// Whether an extension is offered to the session's account.
pub(crate) fn offered(session: &Session, name: &str) -> bool {
    let Some(login) = &session.login else { return true };
    let config = session.shared.config.current();
    let account = config.accounts.get(&login.account);
    !account.is_some_and(|a| is_off(&a.imap_capabilities_disabled, name))
}

/// What is of no use without something else.
const BUILT_ON: [(&str, &str); 4] = [
    ("LIST-METADATA", "METADATA"),
    ("LIST-MYRIGHTS", "ACL"),
    ("RIGHTS", "ACL"),
    ("QRESYNC", "CONDSTORE"),
];

/// Whether a capability is among those that are switched off, or built on one of these. What has values, as
/// `APPENDLIMIT=100` and `QUOTA=RES-STORAGE`, is so by its name alone too.
pub(super) fn is_off(off: &[String], name: &str) -> bool {
    let base = name.split('=').next().unwrap_or(name);
    let named = |n: &str| off.iter().any(|o| o.eq_ignore_ascii_case(n));
    let foundation = BUILT_ON.iter().find(|b| b.0.eq_ignore_ascii_case(base));
    named(name) || named(base) || foundation.is_some_and(|b| named(b.1))
}

/// Refuses a command that needs what is not offered.
///
/// # Errors
/// If so: with the reply.
pub(super) fn check(session: &Session, command: &Command) -> Result<(), Reply> {
    let Some(login) = &session.login else { return Ok(()) };
    let config = session.shared.config.current();
    let Some(account) = config.accounts.get(&login.account) else {
        return Ok(());
    };
    let off = &account.imap_capabilities_disabled;
    // Nearly all have none.
    if off.is_empty() {
        return Ok(());
    }
    match needs(command).into_iter().find(|name| is_off(off, name)) {
        Some(name) => Err(Reply::bad(format!("{name} is not offered to this account"))),
        None => Ok(()),
    }
}

/// The extensions that a command is of.
fn needs(command: &Command) -> Vec<&'static str> {
    match command {
        Command::Id(_) => vec!["ID"],
        Command::Enable(_) => vec!["ENABLE"],
        Command::Namespace => vec!["NAMESPACE"],
        Command::Idle => vec!["IDLE"],
        Command::Unselect => vec!["UNSELECT"],
        Command::Move(..) => vec!["MOVE"],
        Command::Expunge(Some(_)) => vec!["UIDPLUS"],
        Command::GetMetadata(_) | Command::SetMetadata(_) => vec!["METADATA"],
        Command::Acl(_) => vec!["ACL"],
        Command::Quota(_) => vec!["QUOTA"],
        Command::Compress(_) => vec!["COMPRESS=DEFLATE"],
        Command::Unauthenticate => vec!["UNAUTHENTICATE"],
        Command::Sort(sort, _) if sort.returns.is_some() => vec!["SORT", "ESORT"],
        Command::Sort(..) => vec!["SORT"],
        Command::Thread(thread, _) => match thread.algorithm {
            Algorithm::OrderedSubject => vec!["THREAD=ORDEREDSUBJECT"],
            Algorithm::References => vec!["THREAD=REFERENCES"],
        },
        Command::MultiSearch(_) => vec!["MULTISEARCH"],
        Command::CancelUpdate(_) => vec!["CONTEXT=SEARCH"],
        Command::Notify(_) => vec!["NOTIFY"],
        Command::Create { special_use, .. } if !special_use.is_empty() => vec!["CREATE-SPECIAL-USE"],
        Command::List(list) => of_list(list),
        Command::Status { items, .. } => items.iter().filter_map(|i| of_item(*i)).collect(),
        Command::Select { parameters, .. } => parameters.iter().map(of_parameter).collect(),
        Command::Fetch(fetch, _) => of_fetch(fetch),
        Command::Store(store, _) if store.unchanged_since.is_some() => vec!["CONDSTORE"],
        Command::Search(search, _) => of_search(search),
        _ => Vec::new(),
    }
}

fn of_list(list: &List) -> Vec<&'static str> {
    let returns = &list.returns;
    let needed = [
        (list.extended, "LIST-EXTENDED"),
        (list.select.special_use || returns.special_use, "SPECIAL-USE"),
        (returns.my_rights, "LIST-MYRIGHTS"),
        (returns.metadata.is_some(), "LIST-METADATA"),
        (returns.status.is_some(), "LIST-STATUS"),
    ];
    let items = returns.status.iter().flatten().filter_map(|i| of_item(*i));
    needed.iter().filter(|n| n.0).map(|n| n.1).chain(items).collect()
}

fn of_item(item: StatusItem) -> Option<&'static str> {
    match item {
        StatusItem::Size => Some("STATUS=SIZE"),
        StatusItem::DeletedStorage => Some("QUOTA=RES-STORAGE"),
        StatusItem::MailboxId => Some("OBJECTID"),
        StatusItem::HighestModSeq => Some("CONDSTORE"),
        StatusItem::AppendLimit => Some("APPENDLIMIT"),
        _ => None,
    }
}

fn of_fetch(fetch: &Fetch) -> Vec<&'static str> {
    let modifiers = [
        (fetch.changed_since.is_some(), "CONDSTORE"),
        (fetch.vanished, "QRESYNC"),
        (fetch.partial.is_some(), "PARTIAL"),
    ];
    let items = fetch.items.iter().filter_map(|item| match item {
        FetchItem::Binary { .. } | FetchItem::BinarySize(_) => Some("BINARY"),
        FetchItem::ModSeq => Some("CONDSTORE"),
        FetchItem::Preview { .. } => Some("PREVIEW"),
        FetchItem::SaveDate => Some("SAVEDATE"),
        FetchItem::EmailId | FetchItem::ThreadId => Some("OBJECTID"),
        _ => None,
    });
    modifiers.iter().filter(|m| m.0).map(|m| m.1).chain(items).collect()
}

fn of_search(search: &Search) -> Vec<&'static str> {
    let mut needed = Vec::new();
    if let Some(returns) = search.returns {
        needed.push("ESEARCH");
        needed.extend(Some("SEARCHRES").filter(|_| returns.save));
        needed.extend(Some("PARTIAL").filter(|_| returns.partial.is_some()));
    }
    of_key(&search.key, &mut needed);
    needed
}

fn of_key(key: &SearchKey, needed: &mut Vec<&'static str>) {
    match key {
        SearchKey::And(keys) => keys.iter().for_each(|key| of_key(key, needed)),
        SearchKey::Or(a, b) => {
            of_key(a, needed);
            of_key(b, needed);
        }
        SearchKey::Not(key) => of_key(key, needed),
        SearchKey::ModSeq(_) => needed.push("CONDSTORE"),
        SearchKey::Older(_) | SearchKey::Younger(_) => needed.push("WITHIN"),
        SearchKey::SavedBefore(_) | SearchKey::SavedOn(_) | SearchKey::SavedSince(_) | SearchKey::SaveDateSupported => {
            needed.push("SAVEDATE");
        }
        SearchKey::EmailId(_) | SearchKey::ThreadId(_) => needed.push("OBJECTID"),
        _ => {}
    }
}

fn of_parameter(parameter: &SelectParameter) -> &'static str {
    match parameter {
        SelectParameter::CondStore => "CONDSTORE",
        SelectParameter::QResync { .. } => "QRESYNC",
    }
}

#[cfg(test)]
mod tests {
    use mox_imap_proto::cursor::Names;
    use mox_imap_proto::parse_command;

    use super::*;

    #[test]
    fn commands_need_their_extensions() {
        for (command, want) in [
            ("NOOP", &[][..]),
            ("UID MOVE 1 x", &["MOVE"]),
            ("CREATE x", &[]),
            ("CREATE x (USE (\\Sent))", &["CREATE-SPECIAL-USE"]),
            ("LIST \"\" *", &[]),
            (
                "LIST \"\" * RETURN (MYRIGHTS STATUS (SIZE))",
                &["LIST-EXTENDED", "LIST-MYRIGHTS", "LIST-STATUS", "STATUS=SIZE"],
            ),
            (
                "STATUS x (MESSAGES HIGHESTMODSEQ MAILBOXID)",
                &["CONDSTORE", "OBJECTID"],
            ),
            ("SELECT x (CONDSTORE)", &["CONDSTORE"]),
            ("FETCH 1 (FLAGS MODSEQ BINARY[1])", &["CONDSTORE", "BINARY"]),
            ("UID FETCH 1 FLAGS (CHANGEDSINCE 1 VANISHED)", &["CONDSTORE", "QRESYNC"]),
            ("STORE 1 (UNCHANGEDSINCE 1) FLAGS ()", &["CONDSTORE"]),
            (
                "SEARCH RETURN (SAVE) OR SEEN NOT YOUNGER 5",
                &["ESEARCH", "SEARCHRES", "WITHIN"],
            ),
            ("SEARCH EMAILID Ma SAVEDON 1-Jan-2020", &["OBJECTID", "SAVEDATE"]),
        ] {
            let parsed = parse_command(format!("a {command}").as_bytes(), Names::Utf7).unwrap();
            assert_eq!(needs(&parsed.value), want, "{command}");
        }
    }

    #[test]
    fn what_is_off_is_off_in_any_case() {
        let off = ["idle".to_owned(), "APPENDLIMIT".to_owned()];
        assert!(is_off(&off, "IDLE") && is_off(&off, "APPENDLIMIT=100"));
        assert!(!is_off(&off, "ID"));
        let off = ["metadata".to_owned(), "ACL".to_owned(), "QUOTA".to_owned()];
        for name in [
            "METADATA",
            "LIST-METADATA",
            "RIGHTS=kxte",
            "LIST-MYRIGHTS",
            "QUOTA=RES-STORAGE",
        ] {
            assert!(is_off(&off, name), "{name}");
        }
        assert!(!is_off(&["QUOTA=RES-STORAGE".to_owned()], "QUOTA"));
    }
}
