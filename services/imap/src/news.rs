//! Telling a client what happened: after its commands, while it idles, and, if it asked with NOTIFY, while it waits.

use mox_imap_proto::NumberSet;
use mox_imap_proto::fetch::FetchItem;

use crate::commands::{fetch, metadata};
use crate::limits;
use crate::notify;
use crate::reply::{Failed, Stop};
use crate::selected::Events;
use crate::session::Session;
use crate::watch::Interest;

/// When a client is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    /// At the end of the command of this name.
    Command(&'static str),
    /// IDLE begins.
    Idle,
    /// It idles, and there is a hint.
    Idling,
    /// It waits without a command, and there is a hint.
    Between,
}

impl Moment {
    /// RFC 9051 §7.5.1: sequence numbers must not change under a command that uses them; RFC 5256 §3 adds its own.
    fn may_expunge(self) -> bool {
        !matches!(self, Self::Command("FETCH" | "STORE" | "SEARCH" | "SORT" | "THREAD"))
    }

    /// The hint may be late, which is well for what only happens to be a chance to tell. A client that asks, or has
    /// changed something, is told what is true now.
    fn must_ask(self) -> bool {
        match self {
            Self::Command(name) => !matches!(
                name,
                "FETCH"
                    | "UID FETCH"
                    | "SEARCH"
                    | "UID SEARCH"
                    | "SORT"
                    | "UID SORT"
                    | "THREAD"
                    | "UID THREAD"
                    | "ESEARCH"
                    | ""
                    | "SELECT"
                    | "EXAMINE"
            ),
            Self::Idle => true,
            Self::Idling | Self::Between => false,
        }
    }

    /// Whether the command brought messages into the mailbox, or asked for all that has happened.
    fn is_own(self) -> bool {
        matches!(
            self,
            Self::Command(
                "APPEND"
                    | "REPLACE"
                    | "UID REPLACE"
                    | "COPY"
                    | "UID COPY"
                    | "MOVE"
                    | "UID MOVE"
                    | "STORE"
                    | "UID STORE"
                    | "EXPUNGE"
                    | "UID EXPUNGE"
                    | "NOTIFY"
            )
        )
    }
}

/// Tells what happened, as far as this moment and the client allow.
pub(crate) async fn tell(session: &mut Session, moment: Moment) -> Result<(), Failed> {
    let Some(login) = &mut session.login else { return Ok(()) };
    let watches_others = session.notify.as_ref().is_some_and(|n| n.known.is_some());
    login.subscription.interest(match &session.selected {
        // RFC 5464 §4.4.2: metadata of any mailbox is told to who enabled that.
        _ if watches_others || session.enabled.metadata => Interest::Account,
        Some(selected) => Interest::Mailbox(&selected.id),
        None => Interest::Nothing,
    });
    let hint = login.subscription.hint();
    if hint.revoked {
        return Err(Stop::Bye("This session has ended, please log in again".into()).into());
    }
    if session.selected.is_some() {
        selected(session, moment, hint.modseq).await?;
    }
    if watches_others {
        notify::others(session, hint.modseq).await?;
    }
    Ok(())
}

/// Tells a client that waits, of annotations too. When the store is away, that is no reason to end the session: it is asked
/// again after a while, as what happened was not seen.
pub(crate) async fn tell_waiting(session: &mut Session, moment: Moment) -> Result<(), Stop> {
    let mut told = Ok(());
    if session.enabled.metadata {
        told = metadata::tell_changes(session, "IDLE").await;
    }
    if told.is_ok() {
        told = tell(session, moment).await;
    }
    match told {
        Ok(()) => Ok(()),
        Err(Failed::Reply(_)) => {
            tokio::time::sleep(limits::WATCH_PAUSE.1).await;
            Ok(())
        }
        Err(Failed::Stop(stop)) => Err(stop),
    }
}

/// The highest modification sequence for which a session needs no hint.
pub(crate) fn seen(session: &Session) -> u64 {
    let selected = session.selected.as_ref().map(|s| s.modseq);
    let others = session.notify.as_ref().and_then(|n| n.known.as_ref()).map(|k| k.modseq);
    let metadata = session.metadata_modseq.filter(|_| session.enabled.metadata);
    [selected, others, metadata]
        .into_iter()
        .flatten()
        .min()
        .unwrap_or(u64::MAX)
}

/// Whether something is known that the client wants to be told at once, and that its last command did not let be told.
pub(crate) fn is_due(session: &Session) -> bool {
    match (&session.notify, &session.selected) {
        (Some(notify), Some(selected)) => notify.immediate && notify.selected.expunge && !selected.gone().is_empty(),
        _ => false,
    }
}

/// Tells what happened in the selected mailbox.
async fn selected(session: &mut Session, moment: Moment, hint: u64) -> Result<(), Failed> {
    let shared = session.shared.clone();
    let token = session.token()?;
    let (mut events, mut may_expunge) = (Events::ALL, moment.may_expunge());
    let mut items: Vec<FetchItem> = Vec::new();
    if let Some(notify) = &session.notify {
        // What it did itself, and what happened before NOTIFY, the client is told in any case.
        if !moment.is_own() {
            events = notify.selected;
        }
        may_expunge &= moment != Moment::Between || notify.immediate;
        if events.new && !moment.is_own() {
            items.clone_from(&notify.items);
        }
    }
    let Some(selected) = &mut session.selected else {
        return Ok(());
    };
    selected.events = events;
    let must_ask = moment.must_ask() || hint > selected.modseq;
    if selected.contexts.is_empty() && items.is_empty() {
        if must_ask {
            selected
                .update(&shared, &token, may_expunge, &mut session.connection)
                .await?;
        } else {
            selected.tell(&shared.views, may_expunge, &mut session.connection.out);
        }
        selected.modseq = selected.modseq.max(hint);
        return Ok(());
    }
    if must_ask {
        selected.catch_up(&shared, &token).await?;
        selected.modseq = selected.modseq.max(hint);
    }
    let (arrived, gone) = (selected.arriving(), selected.gone().clone());
    let id = selected.id.clone();
    let connection = &mut session.connection;
    selected.contexts.tell_gone(&gone, &selected.view, &mut connection.out);
    let changes = selected
        .contexts
        .evaluate(&shared, &token, &id, &arrived, connection)
        .await?;
    selected.tell(&shared.views, may_expunge, &mut connection.out);
    if changes.complete {
        selected.contexts.untouch(&arrived);
    }
    // RFC 5465 §7: new messages before the response that has them in a result.
    let mut told = NumberSet::default();
    for (uids, context_items) in &changes.items {
        // What both ask for is told in one response.
        let mut all = items.clone();
        all.extend(context_items.iter().filter(|i| !items.contains(i)).cloned());
        let uids = uids.subtraction(&told);
        if !moment.is_own() {
            fetch::tell(session, &uids, &all).await?;
            told = told.union(&uids);
        }
    }
    if let Some(selected) = &mut session.selected {
        selected
            .contexts
            .tell(&changes, &selected.view, &mut session.connection.out);
    }
    // RFC 5465 §5.2: and those that only NOTIFY asks for behind it.
    let rest = arrived.subtraction(&told);
    if !items.is_empty() && !rest.is_empty() {
        fetch::tell(session, &rest, &items).await?;
    }
    session.connection.flush_if_large().await?;
    Ok(())
}
