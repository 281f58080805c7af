//! SORT (RFC 5256, RFC 5957), with return options (RFC 5267). The store puts in order.

use bytes::{BufMut, Bytes};
use mox_imap_proto::search::Return;
use mox_imap_proto::sort::{Criterion, Sort, SortKey};
use mox_imap_proto::write::put_number;
use mox_proto::mail::v1::{SearchKey, SortBy, SortCriterion, SortRequest};

use crate::Shared;
use crate::commands::{limit, uid_required};
use crate::connection::Connection;
use crate::contexts::{self, Found};
use crate::enabled::Extension;
use crate::esearch::{self, Results};
use crate::progress::Progress;
use crate::reply::{Failed, Outcome, Reply};
use crate::searching::{asks_modseq, translate, within};
use crate::session::Session;

pub(super) async fn run(session: &mut Session, tag: &str, sort: &Sort, uid: bool) -> Outcome {
    session.selected()?;
    if session.enabled.uidonly && !uid {
        return Err(uid_required().into());
    }
    if sort.returns.is_some_and(|r| r.save) {
        // RFC 5182 has it for SEARCH; a set does not keep an order.
        return Err(Reply::bad("SAVE is a return option of SEARCH").into());
    }
    let updates = sort.returns.is_some_and(|r| r.update);
    if updates && session.selected()?.contexts.has(tag) {
        // RFC 5267 §4.3.
        return Err(Reply::bad("A result with this tag is being kept current").into());
    }
    let asks_modseq = asks_modseq(&sort.key);
    if asks_modseq {
        session.enable(Extension::CondStore);
    }
    let selected = session.selected()?;
    let asked = translate(&sort.key, selected)?;
    let key = within(&limit(selected.view.uids()).set, asked.clone());
    let id = selected.id.clone();
    let (shared, token) = (session.shared.clone(), session.token()?);
    let mut progress = Progress::new(tag, 0);
    let connection = &mut session.connection;
    let mut found = sorted(&shared, &token, &id, key, &sort.criteria, &mut progress, connection).await?;
    let modseq = Some(found.modseq).filter(|_| asks_modseq && !found.uids.is_empty());
    // What was expunged meanwhile was not told yet; what came meanwhile was left out.
    let view = &session.selected()?.view;
    found.uids.retain(|uid| view.number_of(*uid).is_some());
    let context = updates.then(|| found.uids.clone());
    if !uid {
        found.uids = found.uids.iter().filter_map(|uid| view.number_of(*uid)).collect();
    }
    match sort.returns {
        None => write_all(&mut session.connection, &found.uids, modseq).await?,
        Some(returns) => write_extended(session, tag, uid, &returns, &found.uids, modseq),
    }
    if let (Some(uids), Some(selected)) = (context, &mut session.selected) {
        let found = Found::Ordered(sort.criteria.clone(), uids);
        let out = &mut session.connection.out;
        contexts::keep(selected, tag, uid, asked, &sort.update_items, found, out);
    }
    Ok(Reply::ok("Done"))
}

/// What a sort found, in order.
pub(crate) struct Sorted {
    pub uids: Vec<u32>,
    /// The highest modification sequence of them.
    pub modseq: u64,
}

/// Has the store sort.
pub(crate) async fn sorted(
    shared: &Shared,
    token: &Bytes,
    mailbox: &Bytes,
    key: SearchKey,
    criteria: &[Criterion],
    progress: &mut Progress<'_>,
    connection: &mut Connection,
) -> Result<Sorted, Failed> {
    let by = |criterion: &Criterion| SortBy {
        criterion: store_criterion(criterion.key).into(),
        reverse: criterion.reverse,
    };
    let request = SortRequest {
        session: token.clone(),
        mailbox_id: mailbox.clone(),
        key: Some(key),
        by: criteria.iter().map(by).collect(),
    };
    let mut mail = shared.mail();
    let mut pages = progress.during(connection, mail.sort(request)).await??.into_inner();
    let mut sorted = Sorted {
        uids: Vec::new(),
        modseq: 0,
    };
    while let Some(page) = progress.during(connection, pages.message()).await?? {
        sorted.uids.extend(page.uids);
        sorted.modseq = sorted.modseq.max(page.highest_modseq);
    }
    Ok(sorted)
}

fn store_criterion(key: SortKey) -> SortCriterion {
    match key {
        SortKey::Arrival => SortCriterion::Arrival,
        SortKey::Cc => SortCriterion::Cc,
        SortKey::Date => SortCriterion::Date,
        SortKey::From => SortCriterion::From,
        SortKey::Size => SortCriterion::Size,
        SortKey::Subject => SortCriterion::Subject,
        SortKey::To => SortCriterion::To,
        SortKey::DisplayFrom => SortCriterion::Displayfrom,
        SortKey::DisplayTo => SortCriterion::Displayto,
    }
}

/// RFC 5256 §4, RFC 7162 §3.1.5.
async fn write_all(connection: &mut Connection, found: &[u32], modseq: Option<u64>) -> Result<(), Failed> {
    connection.out.put_slice(b"* SORT");
    for part in found.chunks(4096) {
        for number in part {
            connection.out.put_u8(b' ');
            put_number(&mut connection.out, u64::from(*number));
        }
        connection.flush_if_large().await?;
    }
    if let Some(modseq) = modseq {
        connection.out.put_slice(b" (MODSEQ ");
        put_number(&mut connection.out, modseq);
        connection.out.put_u8(b')');
    }
    connection.out.put_slice(b"\r\n");
    Ok(())
}

fn write_extended(session: &mut Session, tag: &str, uid: bool, returns: &Return, found: &[u32], modseq: Option<u64>) {
    let out = &mut session.connection.out;
    esearch::begin(tag, uid, out);
    esearch::data(returns, Results::Ordered(found), modseq, out);
}
