//! NOTIFY (RFC 5465 §3.1).

use mox_imap_proto::acl::Right;
use mox_imap_proto::notify::{EVENT_NAMES, Group, Notify as Asked};
use mox_proto::mail::v1::ListMetadataChangesRequest;

use crate::names;
use crate::notify::{Known, Notify, Refused, Telling, event};
use crate::reply::{Failed, Outcome, Reply};
use crate::rights;
use crate::session::Session;

pub(super) async fn run(session: &mut Session, asked: &Asked) -> Outcome {
    session.login()?;
    match asked {
        Asked::None => {
            session.notify = Some(Box::new(Notify::none()));
            Ok(Reply::ok("Nothing is told any more"))
        }
        Asked::Set { status, groups } => set(session, *status, groups).await,
    }
}

async fn set(session: &mut Session, status: bool, groups: &[Group]) -> Outcome {
    let mut notify = Notify::new(groups).map_err(|refused| match refused {
        Refused::Bad(text) => Reply::bad(text),
        Refused::Events => Reply::no("There is no such event").code(format!("BADEVENT ({})", EVENT_NAMES.join(" "))),
    })?;
    if notify.has_others() {
        notify.known = Some(look(session, status, &notify).await?);
    }
    session.notify = Some(Box::new(notify));
    Ok(Reply::ok("Done"))
}

/// How the mailboxes are now, which is told if the client wants to know.
async fn look(session: &mut Session, status: bool, notify: &Notify) -> Result<Known, Failed> {
    let token = session.token()?;
    // Of before the mailboxes are read, so that nothing falls between.
    let request = ListMetadataChangesRequest {
        session: token.clone(),
        now: true,
        ..Default::default()
    };
    let modseq = session
        .shared
        .mail()
        .list_metadata_changes(request)
        .await?
        .into_inner()
        .modseq;
    let all = session.shared.mailboxes(&token).await?;
    let known = Known::new(modseq, &all);
    if !status {
        return Ok(known);
    }
    for mailbox in all.iter().filter(|m| m.exists) {
        let wanted = notify.events(&names::shown(&mailbox.name), mailbox.subscribed);
        let selected = session.selected.as_ref().map(|s| &s.id);
        let readable = rights::of(mailbox).has(Right::Read) && rights::of(mailbox).has(Right::Lookup);
        if wanted & event::MESSAGES == 0 || selected == Some(&mailbox.id) || !readable {
            continue;
        }
        let telling = Telling {
            names: session.names,
            enabled: session.enabled,
            selected,
        };
        telling.initial_status(mailbox, wanted, &mut session.connection.out);
        session.connection.flush_if_large().await?;
    }
    Ok(known)
}
