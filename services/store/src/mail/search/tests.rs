//! Searches by the index of texts answer as those that read all messages, whatever the state of the index.

use std::collections::BTreeMap;

use mail::search_key::{Header, Key, List};
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};

use super::*;
use crate::account::{DELETED, SEEN};
use crate::mail::tests::{World, expand, range};
use crate::search::Indexer;

const WORDS: [&str; 16] = [
    "meeting",
    "Meet",
    "eti",
    "Straße",
    "CAFÉ",
    "cafe\u{301}",
    "日本語のメール",
    "привет",
    "a",
    "1",
    "x_y",
    "foo-bar",
    "don't",
    "İstanbul",
    "a@b.example",
    "--",
];
const NAMES: [&str; 9] = [
    "Subject",
    "From",
    "To",
    "X-Foo",
    "x-foo-bar",
    "List-Id",
    "Message-ID",
    "References",
    "Received",
];

fn words(rng: &mut StdRng, most: usize) -> String {
    let mut text = String::new();
    for _ in 0..rng.random_range(0..=most) {
        match rng.random_range(0..20) {
            0 => text.extend((0..rng.random_range(30..400)).map(|_| *b"abcdef0123".choose(rng).unwrap() as char)),
            1 => text.extend((0..rng.random_range(1..8)).map(|_| rng.random_range(' '..'\u{2ff}'))),
            2 => text.push_str(&"文字".repeat(rng.random_range(1..60))),
            _ => text.push_str(WORDS.choose(rng).unwrap()),
        }
        text.push_str([" ", "  ", ", ", "\r\n", "", "-", "\t"].choose(rng).unwrap());
    }
    text
}

fn field(rng: &mut StdRng) -> String {
    let value = words(rng, 6).replace(['\r', '\n'], " ");
    let name = NAMES.choose(rng).unwrap();
    match rng.random_range(0..3) {
        0 => format!("{name}: =?utf-8?q?{}?=\r\n", quoted(value.as_bytes(), true)),
        1 => format!("{name}: {}\r\n", value.replace(' ', "\r\n ")),
        _ => format!("{name}: {value}\r\n"),
    }
}

fn quoted(bytes: &[u8], header: bool) -> String {
    let mut out = String::new();
    for byte in bytes {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' => out.push(*byte as char),
            b' ' if header => out.push('_'),
            b' ' | b'\r' | b'\n' if !header => out.push(*byte as char),
            _ => out.push_str(&format!("={byte:02X}")),
        }
    }
    out
}

fn part(rng: &mut StdRng, depth: usize) -> Vec<u8> {
    let text = words(rng, 30);
    let mut out = match rng.random_range(0..8) {
        0 => format!(
            "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n{}",
            quoted(text.as_bytes(), false)
        ),
        1 => {
            let latin: Vec<u8> = text.chars().filter_map(|c| u8::try_from(u32::from(c)).ok()).collect();
            let mut out = b"Content-Type: text/html; charset=iso-8859-1\r\n\r\n<p>".to_vec();
            out.extend(latin);
            return out;
        }
        2 => "Content-Type: text/plain; charset=koi8-r\r\nContent-Transfer-Encoding: base64\r\n\r\n8NLJ18XU\r\n".into(),
        3 => format!("Content-Type: image/png\r\n\r\n{text}"),
        4 if depth < 3 => {
            let mut out = b"Content-Type: message/rfc822\r\n\r\n".to_vec();
            out.extend(message(rng, depth + 1));
            return out;
        }
        5 if depth < 3 => {
            let mut out = format!("Content-Type: multipart/mixed; boundary=b{depth}\r\n\r\n").into_bytes();
            for _ in 0..rng.random_range(0..3) {
                out.extend(format!("--b{depth}\r\n").bytes());
                out.extend(part(rng, depth + 1));
                out.extend(b"\r\n");
            }
            out.extend(format!("--b{depth}--\r\n").bytes());
            return out;
        }
        _ => format!("\r\n{text}"),
    };
    out.push_str("\r\n");
    out.into_bytes()
}

fn message(rng: &mut StdRng, depth: usize) -> Vec<u8> {
    let mut out: Vec<u8> = (0..rng.random_range(0..6))
        .flat_map(|_| field(rng).into_bytes())
        .collect();
    out.extend(part(rng, depth));
    out
}

/// Something to look for: words, parts of what is in messages, single letters, long runs.
fn wanted(rng: &mut StdRng, messages: &[&Bytes]) -> String {
    if rng.random_range(0..5) == 0 || messages.is_empty() {
        return words(rng, 2);
    }
    let mut texts = Vec::new();
    mox_message::decoded_text(messages.choose(rng).unwrap(), &mut |text| texts.push(text.to_owned()));
    let Some(text) = texts.choose(rng) else {
        return "a".into();
    };
    let most = *[1usize, 2, 4, 12, 40, 300].choose(rng).unwrap();
    let start = text.floor_char_boundary(rng.random_range(0..=text.len()));
    let end = text.floor_char_boundary((start + rng.random_range(0..=most)).min(text.len()));
    let text = &text[start..end.max(start)];
    if rng.random() { text.to_uppercase() } else { text.into() }
}

fn random_key(rng: &mut StdRng, messages: &[&Bytes], depth: usize) -> mail::SearchKey {
    let key = match rng.random_range(0..if depth < 3 { 9 } else { 6 }) {
        0 | 1 => Key::Text(wanted(rng, messages)),
        2 => Key::Body(wanted(rng, messages)),
        3 | 4 => Key::Header(Header {
            name: (*[
                "subject",
                "FROM",
                "to",
                "X-Foo",
                "x-foo-bar",
                "cc",
                "list-id",
                "références",
                "received",
                "",
            ]
            .choose(rng)
            .unwrap())
            .into(),
            value: if rng.random_range(0..4) == 0 {
                String::new()
            } else {
                wanted(rng, messages)
            },
        }),
        5 => Key::Flag(SEEN),
        6 => Key::Not(Box::new(random_key(rng, messages, depth + 1))),
        n => {
            let keys = (0..rng.random_range(1..4))
                .map(|_| random_key(rng, messages, depth + 1))
                .collect();
            if n == 7 {
                Key::And(List { keys })
            } else {
                Key::Or(List { keys })
            }
        }
    };
    mail::SearchKey { key: Some(key) }
}

/// What is in the mailboxes: UID, flags and bytes.
#[derive(Default)]
struct Model {
    mailboxes: [BTreeMap<u32, (u32, Bytes)>; 2],
}

const MAILBOXES: [&str; 2] = ["Inbox", "Sent"];

/// The answer without any index.
fn scanned(key: &mail::SearchKey, messages: &BTreeMap<u32, (u32, Bytes)>) -> Vec<u32> {
    let search = Search::compile(key, &Default::default(), u32::MAX, 0).unwrap();
    let found = messages.iter().filter(|(uid, (flags, bytes))| {
        let mut texts = vec![None; search.texts.len()];
        text::search_message(&search.texts, bytes, &mut texts);
        let more = More {
            texts,
            ..More::default()
        };
        let row = Row {
            uid: **uid,
            flags: *flags,
            ..Row::default()
        };
        search.root.test(&row, &more).unwrap()
    });
    found.map(|(uid, _)| *uid).collect()
}

async fn search(world: &World, mailbox: &str, key: mail::SearchKey) -> Vec<u32> {
    let mut request = mail::SearchRequest {
        mailbox_id: world.mailbox(mailbox).await.id,
        key: Some(key),
        ..Default::default()
    };
    let mut all = Vec::new();
    loop {
        let page = world.mail.do_search(world.account, request.clone()).await.unwrap();
        all.extend(expand(&page.uids));
        if page.next_uid == 0 {
            return all;
        }
        request.from_uid = page.next_uid;
    }
}

async fn change(world: &World, model: &mut Model, rng: &mut StdRng) {
    let (from, to) = if rng.random() { (0, 1) } else { (1, 0) };
    let some = model.mailboxes[from].keys().copied().collect::<Vec<_>>();
    let kind = rng.random_range(0..10);
    if kind < 6 || some.is_empty() {
        let bytes = Bytes::from(message(rng, 0));
        let flags = if rng.random() { SEEN } else { 0 };
        let answer = world.append(MAILBOXES[from], flags, &bytes).await.unwrap();
        model.mailboxes[from].insert(answer.uids[0], (flags, bytes));
        return;
    }
    let uid = *some.choose(rng).unwrap();
    let id = world.mailbox(MAILBOXES[from]).await.id;
    if kind < 8 {
        let request = mail::StoreFlagsRequest {
            key: mox_rpc::key(),
            mailbox_id: id.clone(),
            uids: range(uid, uid),
            mode: mail::store_flags_request::Mode::Add as i32,
            flags: Some(crate::mail::tests::flags(DELETED, &[])),
            ..Default::default()
        };
        world.mail.do_store_flags(world.account, request).await.unwrap();
        let request = mail::ExpungeRequest {
            key: mox_rpc::key(),
            mailbox_id: id,
            ..Default::default()
        };
        world.mail.do_expunge(world.account, request).await.unwrap();
        model.mailboxes[from].remove(&uid);
        return;
    }
    let moving = kind == 8;
    let request = mail::CopyRequest {
        key: mox_rpc::key(),
        mailbox_id: id,
        uids: range(uid, uid),
        destination: MAILBOXES[to].into(),
        ..Default::default()
    };
    let answer = world.mail.do_copy(world.account, request, moving).await.unwrap();
    let message = model.mailboxes[from][&uid].clone();
    if moving {
        model.mailboxes[from].remove(&uid);
    }
    model.mailboxes[to].insert(answer.destination_uids[0], message);
}

async fn compare(world: &World, model: &Model, rng: &mut StdRng, searches: usize) -> Result<(), TestCaseError> {
    let all: Vec<&Bytes> = model
        .mailboxes
        .iter()
        .flat_map(|m| m.values().map(|(_, bytes)| bytes))
        .collect();
    for _ in 0..searches {
        let key = random_key(rng, &all, 0);
        for (name, messages) in MAILBOXES.iter().zip(&model.mailboxes) {
            let expected = scanned(&key, messages);
            prop_assert_eq!(search(world, name, key.clone()).await, expected, "{} {:?}", name, &key);
        }
    }
    Ok(())
}

fn indexer(world: &World) -> Indexer {
    Indexer::new(world.mail.accounts().clone(), world.mail.contents.clone())
}

async fn run(seed: u64) -> Result<(), TestCaseError> {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut world = World::new().await;
    let mut model = Model::default();
    for _ in 0..25 {
        for _ in 0..rng.random_range(0..6) {
            change(&world, &mut model, &mut rng).await;
        }
        match rng.random_range(0..12) {
            0..=7 => indexer(&world).update(world.account, &|_| {}).await.unwrap(),
            8 => indexer(&world).rebuild(world.account, &|_| {}).await.unwrap(),
            9 => world = world.reopen().await,
            _ => {}
        }
        compare(&world, &model, &mut rng, 12).await?;
    }
    Ok(())
}

fn key(key: Key) -> mail::SearchKey {
    mail::SearchKey { key: Some(key) }
}

fn header(name: &str, value: &str) -> mail::SearchKey {
    key(Key::Header(Header {
        name: name.into(),
        value: value.into(),
    }))
}

/// Takes away the bytes of all messages: what needs them is not found any longer.
async fn forget_contents(world: &World) {
    let mut commit = crate::engine::Commit::new();
    commit.delete_range(keys::prefix(&[keys::CONTENT]));
    world.db.commit(commit).await.unwrap();
}

#[tokio::test]
async fn words_and_values_are_decided_without_reading() {
    let world = World::new().await;
    let text: Bytes =
        "From: Ann <ann@example.org>\r\nSubject: A quick, brown fox\r\nX-Foo: 1\r\n\r\nHay needle hay\r\n".into();
    world.append("Inbox", 0, &text).await.unwrap();
    indexer(&world).update(world.account, &|_| {}).await.unwrap();
    // One that is not in the index yet.
    world.append("Inbox", 0, &text).await.unwrap();
    let both = [
        key(Key::Body("EEDL".into())),
        key(Key::Text("quick, b".into())),
        key(Key::Text("example".into())),
        header("from", "<ann@"),
        header("subject", ", brown"),
        header("subject", ""),
        header("x-foo", ""),
        key(Key::Not(Box::new(key(Key::Body("fox".into()))))),
    ];
    for wanted in &both {
        assert_eq!(search(&world, "Inbox", wanted.clone()).await, [1, 2], "{wanted:?}");
    }
    forget_contents(&world).await;
    for wanted in both {
        assert_eq!(search(&world, "Inbox", wanted.clone()).await, [1], "{wanted:?}");
    }
    // A phrase in the body is looked for in the message.
    let phrase = key(Key::Body("needle hay".into()));
    assert!(search(&world, "Inbox", phrase).await.is_empty());
}

#[tokio::test]
async fn what_is_gone_is_dropped_and_what_is_damaged_made_anew() {
    let world = World::new().await;
    let text: Bytes = "Subject: s\r\n\r\nneedle\r\n".into();
    for _ in 0..110 {
        world.append("Inbox", DELETED, &text).await.unwrap();
    }
    world.append("Inbox", 0, &text).await.unwrap();
    let indexer = indexer(&world);
    indexer.update(world.account, &|_| {}).await.unwrap();
    assert_eq!(indexer.describe(world.account).await.unwrap().messages, 111);
    let request = mail::ExpungeRequest {
        key: mox_rpc::key(),
        mailbox_id: world.mailbox("Inbox").await.id,
        ..Default::default()
    };
    world.mail.do_expunge(world.account, request).await.unwrap();
    world.append("Inbox", 0, &text).await.unwrap();
    indexer.update(world.account, &|_| {}).await.unwrap();
    assert_eq!(indexer.describe(world.account).await.unwrap().messages, 2);
    let all = || async { search(&world, "Inbox", key(Key::Body("needle".into()))).await };
    assert_eq!(all().await, [111, 112]);
    drop(indexer);
    // Parts of the index are lost: what it says is not used, and it is made anew.
    let mut commit = crate::engine::Commit::new();
    commit.delete_range(keys::search_all(world.account));
    world.db.commit(commit).await.unwrap();
    let world = world.reopen().await;
    assert_eq!(
        search(&world, "Inbox", key(Key::Body("needle".into()))).await,
        [111, 112]
    );
    let indexer = self::indexer(&world);
    tokio::select! {
        () = indexer.run() => {}
        () = async {
            let deadline = Instant::now() + Duration::from_secs(60);
            loop {
                let parts = world.db.scan(keys::search_all(world.account), Default::default(), crate::engine::Order::Ascending);
                if !parts.await.unwrap().rows.is_empty() {
                    break;
                }
                assert!(Instant::now() < deadline, "nothing made it anew");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        } => {}
    }
    forget_contents(&world).await;
    assert_eq!(
        search(&world, "Inbox", key(Key::Body("needle".into()))).await,
        [111, 112]
    );
}

#[tokio::test]
async fn rows_that_are_older_than_the_index_get_numbers() {
    let world = World::new().await;
    let text: Bytes = "Subject: s\r\nDate: Sun, 22 Nov 2026 12:00:00 +0100\r\n\r\nneedle\r\n".into();
    world.append("Inbox", 0, &text).await.unwrap();
    let inbox = world.mailbox("Inbox").await;
    let id = MailboxId::try_from(&inbox.id).unwrap();
    let place = keys::row(world.account, id, 1);
    let value = world.db.get(place.clone()).await.unwrap().unwrap();
    let row = record::Row::decode(value.data).unwrap();
    assert!(row.number != 0 && row.sent_day.is_some());
    let old = record::Row {
        number: 0,
        saved: 0,
        sent_day: None,
        ..row.clone()
    };
    let mut commit = crate::engine::Commit::new();
    commit.put(place.clone(), old.encode_to_vec());
    world.db.commit(commit).await.unwrap();
    let world = world.reopen().await;
    let day = mail::search_key::Day {
        year: 2026,
        month: 11,
        day: 22,
    };
    assert_eq!(search(&world, "Inbox", key(Key::SentOn(day))).await, [1]);
    assert_eq!(search(&world, "Inbox", key(Key::SavedSince(day))).await, [1]);
    indexer(&world).update(world.account, &|_| {}).await.unwrap();
    let value = world.db.get(place).await.unwrap().unwrap();
    let new = record::Row::decode(value.data).unwrap();
    assert_eq!(
        (new.saved, new.sent_day, new.modseq),
        (row.saved, row.sent_day, row.modseq)
    );
    assert!(new.number > row.number);
    forget_contents(&world).await;
    assert_eq!(search(&world, "Inbox", key(Key::Text("needle".into()))).await, [1]);
    assert_eq!(search(&world, "Inbox", key(Key::SentOn(day))).await, [1]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]
    #[test]
    fn the_index_answers_as_a_scan(seed in any::<u64>()) {
        tokio::runtime::Runtime::new().unwrap().block_on(run(seed))?;
    }
}
