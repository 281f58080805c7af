//! Search results that are kept current (RFC 5267 §4.3): a client asks with `RETURN (UPDATE)`, and is told what comes
//! and goes.
//!
//! A context keeps the search, with sequence numbers turned into UIDs as of the command, and what it found. When messages
//! come, change or go, the search is repeated for those messages alone. An order is asked of the store again when
//! something new belongs into it.

use bytes::{BufMut, Bytes, BytesMut};
use mox_imap_proto::NumberSet;
use mox_imap_proto::fetch::FetchItem;
use mox_imap_proto::sequence::write_in_order;
use mox_imap_proto::sort::Criterion;
use mox_imap_proto::write::put_number;
use mox_proto::mail::v1::{SearchKey, SearchRequest};

use crate::Shared;
use crate::commands::sort;
use crate::connection::Connection;
use crate::esearch;
use crate::progress::Progress;
use crate::reply::Failed;
use crate::searching::within;
use crate::selected::{Selected, number_set};
use crate::view::View;

/// Contexts of a session: RFC 5267 §4.3.1 asks for one at least, and lets servers bound them.
const CONTEXTS: usize = 16;
/// Ranges of what a search context holds.
const RANGES: usize = 50_000;
/// Messages in an order that is kept current: each that comes has them sorted again.
const ORDERED: usize = 10_000;

/// See the module.
pub(crate) struct Context {
    /// Of the command.
    tag: String,
    /// Results are told as UIDs.
    uid: bool,
    key: SearchKey,
    /// What is told of new messages (RFC 5465 §7).
    items: Vec<FetchItem>,
    found: Found,
}

/// What a context holds, as UIDs.
pub(crate) enum Found {
    Set(NumberSet),
    Ordered(Vec<Criterion>, Vec<u32>),
}

/// The contexts of a selected mailbox.
#[derive(Default)]
pub(crate) struct Contexts {
    list: Vec<Context>,
    /// Messages whose flags changed, or that came, since the contexts were looked at.
    touched: NumberSet,
}

/// What happened to one context.
struct Change {
    context: usize,
    added: Vec<Run>,
    removed: Vec<Run>,
}

/// Messages that stand side by side.
#[derive(Debug, PartialEq, Eq)]
struct Run {
    /// From 1; 0 where the order is the mailbox's.
    position: u32,
    uids: Vec<u32>,
}

/// What is to be told when the messages themselves have been.
#[derive(Default)]
pub(crate) struct Changes {
    list: Vec<Change>,
    /// All contexts were looked at.
    pub complete: bool,
    /// New messages that are told with items, and those.
    pub items: Vec<(NumberSet, Vec<FetchItem>)>,
}

impl Contexts {
    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Whether a command of this tag is being kept current.
    pub(crate) fn has(&self, tag: &str) -> bool {
        self.list.iter().any(|c| c.tag == tag)
    }

    /// Keeps a result current. Answers whether it does: not beyond the bounds.
    pub(crate) fn add(&mut self, tag: &str, uid: bool, key: SearchKey, items: &[FetchItem], found: Found) -> bool {
        let fits = match &found {
            Found::Set(set) => set.ranges().len() <= RANGES,
            Found::Ordered(_, list) => list.len() <= ORDERED,
        };
        if !fits || self.list.len() >= CONTEXTS {
            return false;
        }
        self.list.push(Context {
            tag: tag.to_owned(),
            uid,
            key,
            items: items.to_vec(),
            found,
        });
        true
    }

    /// Keeps it current no longer. Answers whether it was.
    pub(crate) fn cancel(&mut self, tag: &str) -> bool {
        let before = self.list.len();
        self.list.retain(|c| c.tag != tag);
        if self.list.is_empty() {
            self.touched = NumberSet::default();
        }
        self.list.len() < before
    }

    /// Takes notice of a message that came or changed.
    pub(crate) fn touch(&mut self, uid: u32) {
        if self.list.is_empty() {
            return;
        }
        if self.touched.last().is_none_or(|last| last < uid) {
            self.touched.push(uid);
        } else if !self.touched.contains(uid) {
            self.touched = self.touched.union(&NumberSet::from_ranges([(uid, uid)]));
        }
    }

    /// Takes no notice of messages that have been looked at.
    pub(crate) fn untouch(&mut self, uids: &NumberSet) {
        self.touched = self.touched.subtraction(uids);
    }

    /// Tells that messages left the results because they are gone, while they still have their numbers.
    ///
    /// RFC 5267 §4.3.4: before they are told to be expunged; it need not wait until that may be told.
    pub(crate) fn tell_gone(&mut self, gone: &NumberSet, view: &View, out: &mut BytesMut) {
        self.touched = self.touched.subtraction(gone);
        for context in &mut self.list {
            // What was told to be expunged elsewhere is not in the view any more.
            let held = context.found.all();
            let gone = held.intersection(gone).union(&held.subtraction(&view.known(&held)));
            let runs = context.found.remove(&gone);
            context.write(b" REMOVEFROM (", &runs, view, out);
        }
    }

    /// Looks at what came and changed.
    pub(crate) async fn evaluate(
        &mut self,
        shared: &Shared,
        token: &Bytes,
        mailbox: &Bytes,
        arrived: &NumberSet,
        connection: &mut Connection,
    ) -> Result<Changes, Failed> {
        let touched = self.touched.union(arrived);
        let mut changes = Changes::default();
        if touched.is_empty() {
            changes.complete = true;
            return Ok(changes);
        }
        let mut failed = false;
        for (n, context) in self.list.iter_mut().enumerate() {
            let key = within(&touched, context.key.clone());
            let matching = match matching(shared, token, mailbox, key).await {
                Ok(matching) => matching,
                Err(Failed::Reply(_)) => {
                    failed = true;
                    continue;
                }
                Err(stop) => return Err(stop),
            };
            let held = context.found.of(&touched);
            let gone = held.subtraction(&matching);
            let new = matching.subtraction(&held);
            let removed = context.found.remove(&gone);
            let added = match context
                .found
                .add(shared, token, mailbox, &new, &context.tag, connection)
                .await
            {
                Ok(added) => added,
                Err(Failed::Reply(_)) => {
                    failed = true;
                    Vec::new()
                }
                Err(stop) => return Err(stop),
            };
            let told = new.intersection(arrived);
            if !context.items.is_empty() && !told.is_empty() {
                changes.items.push((told, context.items.clone()));
            }
            if !added.is_empty() || !removed.is_empty() {
                let context = n;
                changes.list.push(Change {
                    context,
                    added,
                    removed,
                });
            }
        }
        // What the store did not answer is asked again, the next time that something is told.
        self.touched = if failed { touched } else { NumberSet::default() };
        changes.complete = !failed;
        Ok(changes)
    }

    /// Tells what changed, when the messages themselves have been told.
    pub(crate) fn tell(&self, changes: &Changes, view: &View, out: &mut BytesMut) {
        for change in &changes.list {
            let Some(context) = self.list.get(change.context) else {
                continue;
            };
            context.write(b" REMOVEFROM (", &change.removed, view, out);
            context.write(b" ADDTO (", &change.added, view, out);
        }
    }
}

impl Context {
    fn write(&self, what: &[u8], runs: &[Run], view: &View, out: &mut BytesMut) {
        let mut before = what;
        for run in runs {
            let numbers: Vec<u32> = match self.uid {
                true => run.uids.clone(),
                false => run.uids.iter().filter_map(|uid| view.number_of(*uid)).collect(),
            };
            if numbers.is_empty() {
                continue;
            }
            if before == what {
                esearch::begin(&self.tag, self.uid, out);
            }
            out.put_slice(before);
            put_number(out, u64::from(run.position));
            out.put_u8(b' ');
            write_in_order(&numbers, out);
            before = b" ";
        }
        if before != what {
            out.put_slice(b")\r\n");
        }
    }
}

impl Found {
    fn all(&self) -> NumberSet {
        match self {
            Self::Set(set) => set.clone(),
            Self::Ordered(_, list) => NumberSet::from_ranges(list.iter().map(|uid| (*uid, *uid))),
        }
    }

    /// Those of some messages that are held.
    fn of(&self, uids: &NumberSet) -> NumberSet {
        match self {
            Self::Set(set) => set.intersection(uids),
            Self::Ordered(_, list) => {
                NumberSet::from_ranges(list.iter().filter(|uid| uids.contains(**uid)).map(|uid| (*uid, *uid)))
            }
        }
    }

    /// Removes messages; answers where they were, each as of when those before it were removed already.
    fn remove(&mut self, gone: &NumberSet) -> Vec<Run> {
        match self {
            Self::Set(set) => {
                let was = set.intersection(gone);
                if was.is_empty() {
                    return Vec::new();
                }
                *set = set.subtraction(&was);
                vec![Run {
                    position: 0,
                    uids: was.iter().collect(),
                }]
            }
            Self::Ordered(_, list) => {
                let mut runs: Vec<Run> = Vec::new();
                let mut kept = Vec::with_capacity(list.len());
                let mut running = false;
                for uid in list.drain(..) {
                    if !gone.contains(uid) {
                        kept.push(uid);
                        running = false;
                        continue;
                    }
                    if let (true, Some(run)) = (running, runs.last_mut()) {
                        run.uids.push(uid);
                    } else {
                        runs.push(Run {
                            position: position(kept.len()),
                            uids: vec![uid],
                        });
                    }
                    running = true;
                }
                *list = kept;
                runs
            }
        }
    }

    /// Adds messages; answers where they are, each as of when those before it were added already.
    async fn add(
        &mut self,
        shared: &Shared,
        token: &Bytes,
        mailbox: &Bytes,
        new: &NumberSet,
        tag: &str,
        connection: &mut Connection,
    ) -> Result<Vec<Run>, Failed> {
        if new.is_empty() {
            return Ok(Vec::new());
        }
        match self {
            Self::Set(set) => {
                *set = set.union(new);
                Ok(vec![Run {
                    position: 0,
                    uids: new.iter().collect(),
                }])
            }
            Self::Ordered(criteria, list) => {
                let held = NumberSet::from_ranges(list.iter().map(|uid| (*uid, *uid)));
                let all = SearchKey {
                    key: Some(mox_proto::mail::v1::search_key::Key::All(Default::default())),
                };
                let key = within(&held.union(new), all);
                let mut progress = Progress::new(tag, 0);
                let sorted = sort::sorted(shared, token, mailbox, key, criteria, &mut progress, connection).await?;
                Ok(insert(list, &sorted.uids, new))
            }
        }
    }
}

/// Puts new messages into a list where they are in the order that all have now. What the order does not have any more
/// is gone, which is told when that is known.
fn insert(list: &mut Vec<u32>, order: &[u32], new: &NumberSet) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    let mut out = Vec::with_capacity(order.len());
    let mut old = std::mem::take(list).into_iter().peekable();
    let mut running = false;
    for uid in order {
        if new.contains(*uid) {
            out.push(*uid);
            match runs.last_mut() {
                Some(run) if running => run.uids.push(*uid),
                _ => runs.push(Run {
                    position: position(out.len() - 1),
                    uids: vec![*uid],
                }),
            }
            running = true;
            continue;
        }
        // Whatever stood before it still does.
        for held in old.by_ref() {
            out.push(held);
            running = false;
            if held == *uid {
                break;
            }
        }
    }
    out.extend(old);
    *list = out;
    runs
}

fn position(index: usize) -> u32 {
    u32::try_from(index + 1).unwrap_or(u32::MAX)
}

/// The messages that match, all of them.
async fn matching(shared: &Shared, token: &Bytes, mailbox: &Bytes, key: SearchKey) -> Result<NumberSet, Failed> {
    let mut request = SearchRequest {
        session: token.clone(),
        mailbox_id: mailbox.clone(),
        key: Some(key),
        ..Default::default()
    };
    let mut found = NumberSet::default();
    loop {
        let answer = shared.mail().search(request.clone()).await?.into_inner();
        found = found.union(&number_set(&answer.uids));
        if answer.next_uid == 0 {
            return Ok(found);
        }
        request.from_uid = answer.next_uid;
    }
}

/// Keeps the result of a command current, or says that it is not. Before the command's reply.
pub(crate) fn keep(
    selected: &mut Selected,
    tag: &str,
    uid: bool,
    key: SearchKey,
    items: &[FetchItem],
    found: Found,
    out: &mut BytesMut,
) {
    if !selected.contexts.add(tag, uid, key, items, found) {
        // RFC 5267 §4.3.1.
        out.put_slice(b"* NO [NOUPDATE ");
        mox_imap_proto::write::put_string(out, tag.as_bytes(), false);
        out.put_slice(b"] There are too many or too large results to keep current\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(uids: &[u32]) -> NumberSet {
        NumberSet::from_ranges(uids.iter().map(|u| (*u, *u)))
    }

    fn context(uid: bool, found: Found) -> Contexts {
        let mut contexts = Contexts::default();
        assert!(contexts.add("B01", uid, SearchKey::default(), &[], found));
        contexts
    }

    fn view() -> View {
        let mut view = View::default();
        (1..=40).map(|n| 10 * n).for_each(|uid| view.push(uid));
        view
    }

    fn gone(contexts: &mut Contexts, uids: &[u32]) -> String {
        let mut out = BytesMut::new();
        contexts.tell_gone(&set(uids), &view(), &mut out);
        String::from_utf8(out.to_vec()).unwrap()
    }

    #[test]
    fn what_is_gone_leaves_the_results() {
        let mut c = context(true, Found::Set(set(&[10, 20, 30])));
        assert_eq!(
            gone(&mut c, &[5, 10, 30]),
            "* ESEARCH (TAG \"B01\") UID REMOVEFROM (0 10,30)\r\n"
        );
        assert_eq!(gone(&mut c, &[10, 40]), "");
        let mut c = context(false, Found::Set(set(&[10, 20, 30])));
        assert_eq!(
            gone(&mut c, &[10, 20]),
            "* ESEARCH (TAG \"B01\") REMOVEFROM (0 1:2)\r\n"
        );
        // In an order each is where it is when those before it are gone.
        let mut c = context(true, Found::Ordered(Vec::new(), vec![50, 30, 40, 10, 20]));
        assert_eq!(
            gone(&mut c, &[30, 40, 20]),
            "* ESEARCH (TAG \"B01\") UID REMOVEFROM (2 30,40 3 20)\r\n"
        );
        assert_eq!(gone(&mut c, &[50]), "* ESEARCH (TAG \"B01\") UID REMOVEFROM (1 50)\r\n");
    }

    #[test]
    fn what_is_new_has_its_place() {
        let mut list = vec![5, 3, 9];
        let runs = insert(&mut list, &[7, 8, 5, 2, 3, 9, 1], &set(&[7, 8, 2, 1]));
        assert_eq!(list, [7, 8, 5, 2, 3, 9, 1]);
        let want = [(1, vec![7, 8]), (4, vec![2]), (7, vec![1])];
        assert_eq!(runs, want.map(|(position, uids)| Run { position, uids }));
        // 3 is gone in the store, but was not told yet.
        let mut list = vec![5, 3, 9];
        let runs = insert(&mut list, &[5, 2, 9], &set(&[2]));
        assert_eq!(list, [5, 2, 3, 9]);
        assert_eq!(
            runs,
            [Run {
                position: 2,
                uids: vec![2]
            }]
        );
    }

    #[test]
    fn contexts_are_bounded() {
        let mut contexts = Contexts::default();
        let found = || Found::Set(NumberSet::default());
        for n in 0..CONTEXTS {
            assert!(contexts.add(&n.to_string(), true, SearchKey::default(), &[], found()));
        }
        assert!(!contexts.add("x", true, SearchKey::default(), &[], found()));
        assert!(contexts.cancel("3") && !contexts.cancel("3") && !contexts.has("3") && contexts.has("4"));
        let long = Found::Ordered(Vec::new(), vec![1; ORDERED + 1]);
        assert!(!contexts.add("x", true, SearchKey::default(), &[], long));
    }
}
