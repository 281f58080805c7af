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

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn the_index_answers_as_a_scan(seed in any::<u64>()) {
        tokio::runtime::Runtime::new().unwrap().block_on(run(seed))?;
    }
}
