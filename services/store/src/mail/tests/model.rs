//! Random operations by two processes over one engine, against a simple model.

use std::collections::BTreeMap;

use mox_proto::mail::v1::store_flags_request::Mode;
use proptest::prelude::*;

use super::*;
use crate::account::DELETED;

#[derive(Debug, Clone)]
enum Step {
    Append {
        to: usize,
        count: u32,
        bits: u32,
    },
    Store {
        to: usize,
        first: u32,
        last: u32,
        mode: i32,
        bits: u32,
        keyword: Option<u8>,
        unchanged: bool,
    },
    Copy {
        from: usize,
        to: usize,
        first: u32,
        last: u32,
        moving: bool,
    },
    Expunge {
        to: usize,
        all: bool,
        first: u32,
        last: u32,
    },
    Create {
        name: usize,
    },
    Delete {
        name: usize,
    },
    Rename {
        from: usize,
        to: usize,
    },
    /// What one process sees is what the other wrote.
    Look,
}

const NAMES: [&str; 6] = ["Inbox", "Sent", "a", "a/b", "a/b/c", "z"];

fn step() -> impl Strategy<Value = Step> {
    let name = || 0..NAMES.len();
    let uid = || 1u32..12;
    prop_oneof![
        6 => (name(), 1u32..4, 0u32..16).prop_map(|(to, count, bits)| Step::Append { to, count, bits }),
        5 => (name(), uid(), uid(), 0..3i32, 0u32..16, prop::option::of(0u8..4), any::<bool>()).prop_map(
            |(to, first, last, mode, bits, keyword, unchanged)| Step::Store {
                to, first, last, mode, bits, keyword, unchanged
            }),
        3 => (name(), name(), uid(), uid(), any::<bool>()).prop_map(
            |(from, to, first, last, moving)| Step::Copy { from, to, first, last, moving }),
        3 => (name(), any::<bool>(), uid(), uid()).prop_map(
            |(to, all, first, last)| Step::Expunge { to, all, first, last }),
        2 => name().prop_map(|name| Step::Create { name }),
        1 => name().prop_map(|name| Step::Delete { name }),
        1 => (name(), name()).prop_map(|(from, to)| Step::Rename { from, to }),
        2 => Just(Step::Look),
    ]
}

#[derive(Debug, Clone, PartialEq)]
struct Row {
    bits: u32,
    keywords: Vec<String>,
    size: u64,
}

#[derive(Debug, Clone, Default, PartialEq)]
struct Box {
    rows: BTreeMap<u32, Row>,
    uid_next: u32,
}

/// What the account should be, with what it was at every modification sequence seen.
#[derive(Default)]
struct Model {
    boxes: BTreeMap<String, (Bytes, Box)>,
    modseq: u64,
    past: Vec<(u64, BTreeMap<Bytes, Box>)>,
}

impl Model {
    fn get(&mut self, name: usize) -> Option<&mut Box> {
        self.boxes.get_mut(NAMES[name]).map(|(_, b)| b)
    }

    fn id(&self, name: usize) -> Option<Bytes> {
        self.boxes.get(NAMES[name]).map(|(id, _)| id.clone())
    }

    fn has_children(&self, name: &str) -> bool {
        self.boxes.keys().any(|other| other.starts_with(&format!("{name}/")))
    }

    fn changed(&mut self, modseq: u64) {
        assert!(modseq >= self.modseq, "{modseq} after {}", self.modseq);
        self.modseq = modseq;
        let now = self.boxes.values().map(|(id, b)| (id.clone(), b.clone())).collect();
        self.past.push((modseq, now));
    }
}

async fn apply(mail: &Mail, account: AccountId, model: &mut Model, step: &Step) {
    let key = mox_rpc::key();
    match *step {
        Step::Append { to, count, bits } => {
            let content = message("m", &"x".repeat(to * 10));
            let message = mail::AppendMessage {
                content: Some(inline(&content)),
                flags: Some(flags(bits, &[])),
                received: None,
            };
            let messages = vec![message; count as usize];
            let request = mail::AppendRequest {
                key,
                mailbox: NAMES[to].into(),
                messages,
                ..Default::default()
            };
            let answer = mail.do_append(account, request).await;
            let Some(model_box) = model.get(to) else {
                assert_eq!(answer.unwrap_err().code(), tonic::Code::NotFound);
                return;
            };
            let answer = answer.unwrap();
            for uid in answer.uids {
                assert_eq!(uid, model_box.uid_next);
                model_box.uid_next += 1;
                model_box.rows.insert(
                    uid,
                    Row {
                        bits,
                        keywords: vec![],
                        size: content.len() as u64,
                    },
                );
            }
            model.changed(answer.modseq);
        }
        Step::Store {
            to,
            first,
            last,
            mode,
            bits,
            keyword,
            unchanged,
        } => {
            let Some(id) = model.id(to) else { return };
            let keywords: Vec<String> = keyword.iter().map(|k| format!("k{k}")).collect();
            let rows = mail.rows(account, &id).await.unwrap();
            let since = unchanged.then(|| rows.get(rows.len() / 2).map_or(0, |r| r.3));
            let request = mail::StoreFlagsRequest {
                key,
                mailbox_id: id,
                uids: range(first, last),
                mode,
                flags: Some(mail::Flags {
                    bits,
                    keywords: keywords.clone(),
                }),
                unchanged_since: since,
                ..Default::default()
            };
            let answer = mail.do_store_flags(account, request).await.unwrap();
            let blocked: Vec<u32> = rows
                .iter()
                .filter(|r| since.is_some_and(|s| r.3 > s))
                .map(|r| r.0)
                .collect();
            let model_box = model.get(to).unwrap();
            let highest = model_box.uid_next - 1;
            let (first, last) = (first.min(last), first.max(last).min(highest));
            let mut modified = Vec::new();
            let mut listed = Vec::new();
            for (uid, row) in &mut model_box.rows {
                if *uid < first || *uid > last {
                    continue;
                }
                listed.push(*uid);
                if blocked.contains(uid) {
                    modified.push(*uid);
                    continue;
                }
                match Mode::try_from(mode).unwrap() {
                    Mode::Replace => (row.bits, row.keywords) = (bits, keywords.clone()),
                    Mode::Add => {
                        row.bits |= bits;
                        row.keywords.extend(keywords.clone());
                        row.keywords.sort();
                        row.keywords.dedup();
                    }
                    Mode::Remove => {
                        row.bits &= !bits;
                        row.keywords.retain(|k| !keywords.contains(k));
                    }
                }
            }
            assert_eq!(expand(&answer.modified), modified);
            let rows: Vec<u32> = unpack(&answer.rows.unwrap()).into_iter().map(|r| r.0).collect();
            assert_eq!(rows, listed);
            model.changed(answer.modseq);
        }
        Step::Copy {
            from,
            to,
            first,
            last,
            moving,
        } => {
            let Some(id) = model.id(from) else { return };
            let request = mail::CopyRequest {
                key,
                mailbox_id: id,
                uids: range(first, last),
                destination: NAMES[to].into(),
                ..Default::default()
            };
            let answer = mail.do_copy(account, request, moving).await;
            if model.get(to).is_none() {
                assert_eq!(answer.unwrap_err().code(), tonic::Code::NotFound);
                return;
            }
            let answer = answer.unwrap();
            let source = model.get(from).unwrap();
            let (first, last) = (first.min(last), first.max(last).min(source.uid_next - 1));
            let rows: Vec<(u32, Row)> = source
                .rows
                .iter()
                .filter(|(uid, _)| (first..=last).contains(*uid))
                .map(|(uid, row)| (*uid, row.clone()))
                .collect();
            assert_eq!(answer.source_uids, rows.iter().map(|r| r.0).collect::<Vec<_>>());
            for ((uid, row), new_uid) in rows.into_iter().zip(answer.destination_uids) {
                if moving {
                    model.get(from).unwrap().rows.remove(&uid);
                }
                let destination = model.get(to).unwrap();
                assert_eq!(new_uid, destination.uid_next);
                destination.uid_next += 1;
                destination.rows.insert(new_uid, row);
            }
            model.changed(answer.modseq);
        }
        Step::Expunge { to, all, first, last } => {
            let Some(id) = model.id(to) else { return };
            let uids = if all { vec![] } else { range(first, last) };
            let request = mail::ExpungeRequest {
                key,
                mailbox_id: id,
                uids,
                ..Default::default()
            };
            let answer = mail.do_expunge(account, request).await.unwrap();
            let model_box = model.get(to).unwrap();
            let (first, last) = (first.min(last), first.max(last));
            let gone: Vec<u32> = model_box
                .rows
                .iter()
                .filter(|(uid, row)| row.bits & DELETED != 0 && (all || (first..=last).contains(*uid)))
                .map(|(uid, _)| *uid)
                .collect();
            assert_eq!(expand(&answer.uids), gone);
            model_box.rows.retain(|uid, _| !gone.contains(uid));
            model.changed(answer.modseq);
        }
        Step::Create { name } => {
            let request = mail::CreateMailboxRequest {
                key,
                name: NAMES[name].into(),
                ..Default::default()
            };
            match mail.do_create_mailbox(account, request).await {
                Ok(answer) => {
                    for created in answer.created {
                        let made = mail.named(account, &created).await.unwrap();
                        assert_eq!((made.messages, made.uid_next), (0, 1));
                        assert!(
                            model
                                .boxes
                                .insert(
                                    created,
                                    (
                                        made.id,
                                        Box {
                                            uid_next: 1,
                                            ..Box::default()
                                        }
                                    )
                                )
                                .is_none()
                        );
                    }
                    model.changed(answer.modseq);
                }
                Err(status) => {
                    assert_eq!(status.code(), tonic::Code::AlreadyExists);
                    assert!(model.get(name).is_some());
                }
            }
        }
        Step::Delete { name } => {
            let request = mail::DeleteMailboxRequest {
                key,
                name: NAMES[name].into(),
                ..Default::default()
            };
            let answer = mail.do_delete_mailbox(account, request).await;
            let expected = match model.get(name).is_some() {
                _ if name == 0 => Some(tonic::Code::FailedPrecondition),
                false => Some(tonic::Code::NotFound),
                true if model.has_children(NAMES[name]) => Some(tonic::Code::FailedPrecondition),
                true => None,
            };
            match (answer, expected) {
                (Ok(answer), None) => {
                    model.boxes.remove(NAMES[name]);
                    model.changed(answer.modseq);
                }
                (Err(status), Some(code)) => assert_eq!(status.code(), code, "{status}"),
                (answer, expected) => panic!("{answer:?} and not {expected:?}"),
            }
        }
        Step::Rename { from, to } => {
            let (source, target) = (NAMES[from], NAMES[to]);
            let request = mail::RenameMailboxRequest {
                key,
                from: source.into(),
                to: target.into(),
                ..Default::default()
            };
            match mail.do_rename_mailbox(account, request).await {
                Ok(answer) => {
                    for parent in target.match_indices('/').map(|(at, _)| &target[..at]) {
                        if !model.boxes.contains_key(parent) {
                            let made = mail.named(account, parent).await.unwrap();
                            model.boxes.insert(
                                parent.into(),
                                (
                                    made.id,
                                    Box {
                                        uid_next: 1,
                                        ..Box::default()
                                    },
                                ),
                            );
                        }
                    }
                    let below = format!("{source}/");
                    let inbox = from == 0;
                    let moved: Vec<String> = model
                        .boxes
                        .keys()
                        .filter(|n| *n == source || (!inbox && n.starts_with(&below)))
                        .cloned()
                        .collect();
                    for name in moved {
                        let entry = model.boxes.remove(&name).unwrap();
                        model.boxes.insert(format!("{target}{}", &name[source.len()..]), entry);
                    }
                    if inbox {
                        let made = mail.named(account, "INBOX").await.unwrap();
                        model.boxes.insert(
                            "Inbox".into(),
                            (
                                made.id,
                                Box {
                                    uid_next: 1,
                                    ..Box::default()
                                },
                            ),
                        );
                    }
                    model.changed(answer.modseq);
                }
                Err(status) => {
                    let missing = model.get(from).is_none();
                    let taken = model.get(to).is_some();
                    let below = target.starts_with(&format!("{source}/"));
                    assert!(missing || taken || below || model.has_children(target), "{status}");
                }
            }
        }
        Step::Look => {}
    }
}

/// The account is what the model says, as seen by a process.
async fn check(mail: &Mail, account: AccountId, model: &Model) {
    let list = mail
        .do_list_mailboxes(account, &mail::ListMailboxesRequest::default())
        .await
        .unwrap();
    let names: Vec<String> = list
        .mailboxes
        .iter()
        .filter(|m| m.exists)
        .map(|m| m.name.clone())
        .collect();
    assert_eq!(names, model.boxes.keys().cloned().collect::<Vec<_>>());
    let mut total = 0;
    for shown in list.mailboxes.iter().filter(|m| m.exists) {
        let (id, expected) = &model.boxes[&shown.name];
        assert_eq!(&shown.id, id);
        let rows = mail.rows(account, id).await.unwrap();
        let seen: BTreeMap<u32, Row> = rows
            .iter()
            .map(|(uid, bits, keywords, _, size)| {
                (
                    *uid,
                    Row {
                        bits: *bits,
                        keywords: keywords.clone(),
                        size: *size,
                    },
                )
            })
            .collect();
        assert_eq!(seen, expected.rows, "{}", shown.name);
        assert_eq!(shown.uid_next, expected.uid_next);
        let count = |f: &dyn Fn(&Row) -> bool| expected.rows.values().filter(|r| f(r)).count() as u32;
        assert_eq!(shown.messages, count(&|_| true));
        assert_eq!(shown.unseen, count(&|r| r.bits & 1 == 0));
        assert_eq!(shown.deleted, count(&|r| r.bits & DELETED != 0));
        let size: u64 = expected.rows.values().map(|r| r.size).sum();
        assert_eq!(shown.size, size);
        total += size;
        assert!(
            rows.iter()
                .all(|r| r.3 <= shown.highest_modseq && shown.highest_modseq <= model.modseq)
        );
    }
    let state = mail.accounts().state(account, 0).await.unwrap();
    assert_eq!((state.modseq(), state.record.size), (model.modseq, total));
    let all: usize = model.boxes.values().map(|(_, b)| b.rows.len()).sum();
    assert_eq!(state.record.messages, all as u64);
}

/// A client that knew the account at some moment learns what it is now from the changes since.
async fn catch_up(mail: &Mail, account: AccountId, model: &Model, since: usize) {
    let (modseq, past) = &model.past[since % model.past.len()];
    for (id, known) in past {
        let mut known = known.rows.clone();
        let mut request = mail::ListChangesRequest {
            mailbox_id: id.clone(),
            since_modseq: *modseq,
            columns: 15,
            ..Default::default()
        };
        let now = model.boxes.values().find(|(other, _)| other == id).map(|(_, b)| b);
        loop {
            let page = mail.do_list_changes(account, &request).await.unwrap();
            let Some(now) = now else {
                assert!(page.mailbox_gone);
                break;
            };
            assert!(!page.mailbox_gone && !page.resync);
            for uid in expand(&page.vanished) {
                known.remove(&uid);
            }
            for (uid, bits, keywords, changed, size) in unpack(&page.rows.unwrap_or_default()) {
                assert!(changed > *modseq);
                known.insert(uid, Row { bits, keywords, size });
            }
            if page.more {
                request.since_modseq = page.modseq;
                continue;
            }
            assert_eq!(page.modseq, model.modseq);
            assert_eq!(page.uid_next, now.uid_next);
            assert_eq!(known, now.rows);
            break;
        }
    }
}

fn cases() -> u32 {
    std::env::var("PROPTEST_CASES")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(24)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn the_store_does_what_the_model_does(
        steps in prop::collection::vec((step(), any::<bool>(), any::<prop::sample::Index>()), 1..60)
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let world = World::new().await;
            // Another process on the same database; its index has room for next to nothing.
            let other = mail_over(&world.db, 0, 600);
            let mut model = Model::default();
            for name in ["Inbox", "Sent"] {
                let made = world.mailbox(name).await;
                model.boxes.insert(name.into(), (made.id, Box { uid_next: 1, ..Box::default() }));
            }
            model.changed(1);
            for (n, (step, first, since)) in steps.iter().enumerate() {
                let mail = if *first { &world.mail } else { &other };
                apply(mail, world.account, &mut model, step).await;
                if n % 8 == 0 || matches!(step, Step::Look) {
                    let reader = if *first { &other } else { &world.mail };
                    check(reader, world.account, &model).await;
                    catch_up(reader, world.account, &model, since.index(model.past.len())).await;
                }
            }
            check(&world.mail, world.account, &model).await;
            check(&other, world.account, &model).await;
            catch_up(&other, world.account, &model, 0).await;
            world.mail.accounts().purge().await.unwrap();
            drop(other);
            let world = world.reopen().await;
            check(&world.mail, world.account, &model).await;
            // No more records than messages: what was removed left nothing.
            let all: usize = model.boxes.values().map(|(_, b)| b.rows.len()).sum();
            for table in [crate::keys::TABLE_ROWS, crate::keys::TABLE_MESSAGES, crate::keys::TABLE_COMPUTED,
                crate::keys::TABLE_MESSAGE_IDS] {
                let range = crate::keys::account_table(world.account, table);
                let page = world.db.scan(range, crate::engine::Limit::rows(10_000), crate::engine::Order::Ascending);
                assert_eq!(page.await.unwrap().rows.len(), all, "{}", table as char);
            }
        });
    }
}
