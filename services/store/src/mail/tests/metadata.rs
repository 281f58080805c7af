//! Annotations (RFC 5464).

use mox_proto::mail::v1::get_metadata_request::Depth;

use super::*;

async fn set(world: &World, mailbox: &Bytes, pairs: &[(&str, Option<&str>)]) -> Result<u64, Status> {
    let annotation = |(name, value): &(&str, Option<&str>)| mail::Annotation {
        name: (*name).to_owned(),
        value: value.map(|v| Bytes::copy_from_slice(v.as_bytes())),
    };
    let request = mail::SetMetadataRequest {
        key: mox_rpc::key(),
        mailbox_id: mailbox.clone(),
        annotations: pairs.iter().map(annotation).collect(),
        ..Default::default()
    };
    Ok(world.mail.do_set_metadata(world.account, request).await?.modseq)
}

/// All pages; each value as text.
async fn get(world: &World, request: &mail::GetMetadataRequest) -> (Vec<(String, Option<String>)>, u64, usize) {
    let mut request = request.clone();
    let (mut all, mut longest, mut pages) = (Vec::new(), 0, 0);
    loop {
        let answer = world.mail.do_get_metadata(world.account, &request).await.unwrap();
        let text = |v: Bytes| String::from_utf8(v.to_vec()).unwrap();
        all.extend(answer.annotations.into_iter().map(|a| (a.name, a.value.map(text))));
        longest = longest.max(answer.longest_left_out);
        pages += 1;
        request.page_token = answer.next_page_token;
        if request.page_token.is_empty() {
            return (all, longest, pages);
        }
    }
}

fn asking(mailbox: &Bytes, entries: &[&str], depth: Depth) -> mail::GetMetadataRequest {
    mail::GetMetadataRequest {
        mailbox_id: mailbox.clone(),
        entries: entries.iter().map(|e| (*e).to_owned()).collect(),
        depth: depth as i32,
        ..Default::default()
    }
}

fn found(pairs: &[(&str, Option<&str>)]) -> Vec<(String, Option<String>)> {
    pairs
        .iter()
        .map(|(n, v)| ((*n).to_owned(), v.map(str::to_owned)))
        .collect()
}

#[tokio::test]
async fn annotations_are_kept_by_name_and_depth() {
    let world = World::new().await;
    let server = Bytes::new();
    let inbox = world.mailbox("Inbox").await.id;
    set(&world, &server, &[("/Shared/Comment", Some("hello"))])
        .await
        .unwrap();
    let all = [
        ("/private/a", Some("1")),
        ("/private/a/b", Some("2")),
        ("/private/a/b/c", Some("")),
        ("/private/ab", Some("4")),
    ];
    set(&world, &inbox, &all).await.unwrap();
    let (got, ..) = get(
        &world,
        &asking(&server, &["/shared/comment", "/private/a"], Depth::Entry),
    )
    .await;
    assert_eq!(got, found(&[("/shared/comment", Some("hello")), ("/private/a", None)]));
    let (got, ..) = get(&world, &asking(&inbox, &["/PRIVATE/A"], Depth::Children)).await;
    assert_eq!(got, found(&all[..2]));
    let (got, ..) = get(&world, &asking(&inbox, &["/private/a"], Depth::All)).await;
    assert_eq!(got, found(&all[..3]));
    let (got, ..) = get(&world, &asking(&inbox, &["/private"], Depth::All)).await;
    assert_eq!(got, found(&all));

    set(&world, &inbox, &[("/private/a", None), ("/private/none", None)])
        .await
        .unwrap();
    let (got, ..) = get(&world, &asking(&inbox, &["/private/a"], Depth::Entry)).await;
    assert_eq!(got, found(&[("/private/a", None)]));
}

#[tokio::test]
async fn annotations_are_bounded() {
    let world = World::new().await;
    let server = Bytes::new();
    let long = "x".repeat(65_537);
    let refused = set(&world, &server, &[("/private/a", Some(&long))]).await.unwrap_err();
    assert!(refused.message().contains("maxsize"), "{refused}");
    for bad in [
        "/private",
        "/other/a",
        "/private/",
        "/private//a",
        "/private/a*",
        "/private/ü",
        "x",
    ] {
        let refused = set(&world, &server, &[(bad, Some("x"))]).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::InvalidArgument, "{bad}");
    }
    let names: Vec<String> = (0..2001).map(|n| format!("/private/{n:04}")).collect();
    for chunk in names[..2000].chunks(200) {
        let pairs: Vec<_> = chunk.iter().map(|n| (n.as_str(), Some("v"))).collect();
        set(&world, &server, &pairs).await.unwrap();
    }
    let refused = set(&world, &server, &[(&names[2000], Some("v"))]).await.unwrap_err();
    assert!(refused.message().contains("toomany"), "{refused}");
    set(&world, &server, &[(&names[7], None), (&names[2000], Some("v"))])
        .await
        .unwrap();
}

#[tokio::test]
async fn what_is_long_is_left_out_and_pages_go_on() {
    let world = World::new().await;
    let server = Bytes::new();
    let long = "x".repeat(60_000);
    let names: Vec<String> = (0..40).map(|n| format!("/private/{n:02}")).collect();
    for name in &names {
        set(&world, &server, &[(name, Some(&long))]).await.unwrap();
    }
    set(&world, &server, &[("/shared/s", Some("short"))]).await.unwrap();
    let (got, longest, pages) = get(&world, &asking(&server, &["/private", "/shared"], Depth::All)).await;
    assert_eq!((got.len(), longest), (41, 0));
    assert!(pages > 2, "{pages}");
    let each: Vec<&str> = names.iter().map(String::as_str).collect();
    let (got, _, pages) = get(&world, &asking(&server, &each, Depth::Entry)).await;
    assert_eq!(got.len(), 40);
    assert!(pages > 2, "{pages}");
    let mut request = asking(&server, &["/private", "/shared"], Depth::All);
    request.max_value_bytes = Some(5);
    let (got, longest, _) = get(&world, &request).await;
    assert_eq!((got, longest), (found(&[("/shared/s", Some("short"))]), 60_000));
}

#[tokio::test]
async fn annotations_go_with_their_mailbox() {
    let world = World::new().await;
    let create = |name: &str| mail::CreateMailboxRequest {
        key: mox_rpc::key(),
        name: name.to_owned(),
        ..Default::default()
    };
    let made = world.mail.do_create_mailbox(world.account, create("a")).await.unwrap();
    let id = made.mailbox.unwrap().id;
    let before = set(&world, &id, &[("/private/x", Some("1"))]).await.unwrap();
    let rename = mail::RenameMailboxRequest {
        key: mox_rpc::key(),
        from: "a".into(),
        to: "b".into(),
        ..Default::default()
    };
    world.mail.do_rename_mailbox(world.account, rename).await.unwrap();
    let b = world.mailbox("b").await.id;
    let (got, ..) = get(&world, &asking(&b, &["/private/x"], Depth::Entry)).await;
    assert_eq!(got, found(&[("/private/x", Some("1"))]));

    let changes = |since| mail::ListMetadataChangesRequest {
        since_modseq: since,
        ..Default::default()
    };
    set(&world, &Bytes::new(), &[("/shared/y", Some("1"))]).await.unwrap();
    let told = world
        .mail
        .do_list_metadata_changes(world.account, &changes(before - 1))
        .await
        .unwrap();
    let told: Vec<_> = told
        .changed
        .into_iter()
        .map(|c| (c.mailbox, c.entries.join(" ")))
        .collect();
    assert_eq!(
        told,
        [("b".into(), "/private/x".into()), (String::new(), "/shared/y".into())]
    );

    let delete = mail::DeleteMailboxRequest {
        key: mox_rpc::key(),
        name: "b".into(),
        ..Default::default()
    };
    world.mail.do_delete_mailbox(world.account, delete).await.unwrap();
    let gone = world
        .mail
        .do_get_metadata(world.account, &asking(&b, &["/private/x"], Depth::Entry))
        .await;
    assert_eq!(gone.unwrap_err().code(), tonic::Code::NotFound);
    let state = world.mail.accounts.state(world.account, 0).await.unwrap();
    assert_eq!(state.record.annotations, 1, "that of the account");
    let same = set(&world, &Bytes::new(), &[("/shared/y", Some("1"))]).await.unwrap();
    let after = world.mail.accounts.state(world.account, 0).await.unwrap();
    assert_eq!(
        (same, after.modseq()),
        (0, state.modseq()),
        "what stays as it is is no change"
    );
}
