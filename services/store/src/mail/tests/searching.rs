//! Searches.

use mail::search_key::{Day, Header, Key, List, Uids};

use super::*;
use crate::account::SEEN;

fn key(key: Key) -> mail::SearchKey {
    mail::SearchKey { key: Some(key) }
}

fn header(name: &str, value: &str) -> mail::SearchKey {
    key(Key::Header(Header {
        name: name.into(),
        value: value.into(),
    }))
}

async fn search(world: &World, wanted: mail::SearchKey) -> Vec<u32> {
    let inbox = world.mailbox("Inbox").await;
    let mut request = mail::SearchRequest {
        mailbox_id: inbox.id,
        key: Some(wanted),
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

#[tokio::test(flavor = "multi_thread")]
async fn searches_find_what_is_there() {
    let world = World::new().await;
    let big = message("big", &format!("{}needle", "hay ".repeat(100_000)));
    let uploaded = world.mail.contents.upload_bytes(big.clone()).await.unwrap();
    let messages = [
        message("first", "the quick brown fox"),
        Bytes::from_static(
            b"Subject: =?iso-8859-1?q?Caf=E9?=\r\nDate: Sun, 22 Nov 2026 23:30:00 -0800\r\n\
              Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\n\
              R3LDvMOfZSBhdXMgWsO8cmljaA==\r\n",
        ),
        message("third", "fox again"),
    ];
    for (n, m) in messages.iter().enumerate() {
        let bits = if n == 0 { SEEN } else { 0 };
        world
            .mail
            .append_one(
                world.account,
                "Inbox",
                flags(bits, if n == 2 { &["work"] } else { &[] }),
                m,
            )
            .await
            .unwrap();
    }
    let content = mail::Content {
        r#where: Some(mail::content::Where::UploadId(uploaded.id().to_bytes())),
    };
    let request = mail::AppendRequest {
        key: mox_rpc::key(),
        mailbox: "Inbox".into(),
        messages: vec![mail::AppendMessage {
            content: Some(content),
            received: Some(0),
            ..Default::default()
        }],
        ..Default::default()
    };
    world.mail.do_append(world.account, request).await.unwrap();
    let list = |keys: Vec<mail::SearchKey>| List { keys };
    let day = |day| Day {
        year: 2026,
        month: 11,
        day,
    };
    let cases = [
        (key(Key::All(Default::default())), vec![1, 2, 3, 4]),
        (key(Key::Flag(SEEN)), vec![1]),
        (key(Key::Keyword("Work".into())), vec![3]),
        (key(Key::Body("FOX".into())), vec![1, 3]),
        (key(Key::Body("zürich".into())), vec![2]),
        (key(Key::Text("café".into())), vec![2]),
        (key(Key::Body("needle".into())), vec![4]),
        (header("subject", "big"), vec![4]),
        (header("subject", "caf"), vec![2]),
        (header("from", "example"), vec![1, 3, 4]),
        (header("date", ""), vec![2]),
        (key(Key::SentOn(day(22))), vec![2]),
        (key(Key::SentSince(day(23))), vec![]),
        (
            key(Key::Before(Day {
                year: 1970,
                month: 1,
                day: 2,
            })),
            vec![4],
        ),
        (key(Key::SavedSince(day(1))), vec![1, 2, 3, 4]),
        (key(Key::Larger(100_000)), vec![4]),
        (
            key(Key::And(list(vec![
                key(Key::Body("fox".into())),
                key(Key::Not(Box::new(key(Key::Flag(SEEN))))),
            ]))),
            vec![3],
        ),
        (
            key(Key::Or(list(vec![
                header("subject", "first"),
                header("subject", "third"),
            ]))),
            vec![1, 3],
        ),
        (key(Key::Uids(Uids { ranges: range(2, 3) })), vec![2, 3]),
        (key(Key::Not(Box::new(key(Key::Text("fox".into()))))), vec![2, 4]),
    ];
    for (wanted, expected) in cases {
        assert_eq!(search(&world, wanted.clone()).await, expected, "{wanted:?}");
    }
}
