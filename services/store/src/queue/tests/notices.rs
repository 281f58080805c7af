//! Notifications that reach the sender with the change of the queue, or not at all.

use mox_proto::config::v1::InitialMailboxes;

use super::*;
use crate::account;
use crate::engine::Commit;

pub(super) async fn with_account() -> World {
    let world = World::new();
    let mut commit = Commit::new();
    account::init(
        &mut commit,
        world.sender.id,
        "me",
        &InitialMailboxes::default(),
        START / 1000,
    )
    .unwrap();
    world.db.commit(commit).await.unwrap();
    world
}

fn report(bytes: usize) -> Bytes {
    let mut text =
        b"From: postmaster@local.example\r\nSubject: failed\r\nMessage-ID: <dsn@local.example>\r\n\r\n".to_vec();
    text.resize(text.len().max(bytes), b'x');
    text.into()
}

fn request(lease: Lease, outcome: Outcome, dsn: Bytes) -> CompleteRequest {
    CompleteRequest {
        key: mox_rpc::key(),
        lease: Some(lease),
        outcome: outcome.into(),
        dsn,
        next_attempt: START + 1000,
        ..CompleteRequest::default()
    }
}

pub(super) async fn in_mailbox(world: &World, name: &str) -> u32 {
    let state = world.queue.0.accounts.state(world.sender.id, 0).await.unwrap();
    state.named(name).map_or(0, |mailbox| mailbox.counts.messages)
}

#[tokio::test]
async fn a_failure_reaches_the_sender_once() {
    for size in [0, 300 << 10] {
        let world = with_account().await;
        world.send(&["a@one.example"]).await;
        let lease = leases(&world.claim("w", 1, &[]).await)[0];
        let request = request(lease, Outcome::Failed, report(size));
        for _ in 0..3 {
            assert!(!world.queue.complete(&request).await.unwrap().stale);
        }
        assert_eq!(in_mailbox(&world, "Inbox").await, 1);
        assert!(world.keys(keys::queue_entries()).await.is_empty());
        assert!(world.keys(keys::queue_due_all("one.example")).await.is_empty());
        let other = CompleteRequest {
            key: mox_rpc::key(),
            ..request
        };
        assert!(world.queue.complete(&other).await.unwrap().stale);
        assert_eq!(in_mailbox(&world, "Inbox").await, 1);
    }
}

#[tokio::test]
async fn a_delay_is_told_and_the_entry_stays() {
    let world = with_account().await;
    world.send(&["a@one.example"]).await;
    let lease = leases(&world.claim("w", 1, &[]).await)[0];
    let request = CompleteRequest {
        dsn_mailbox: "Notices/Delays".into(),
        ..request(lease, Outcome::Retry, report(0))
    };
    world.queue.complete(&request).await.unwrap();
    assert_eq!(in_mailbox(&world, "Notices/Delays").await, 1);
    assert!(world.claim("w", 1, &[]).await.entries.is_empty());
    world.check_tickets().await;
    world.advance(1000);
    assert_eq!(world.claim("w", 1, &[]).await.entries.len(), 1);
}

#[tokio::test]
async fn a_stale_attempt_notifies_nobody() {
    let world = with_account().await;
    world.send(&["a@one.example", "b@one.example"]).await;
    let old = leases(&world.claim("w1", 2, &[]).await);
    world.advance(60_000);
    world.claim("w2", 2, &[]).await;
    assert!(
        world
            .queue
            .complete(&request(old[0], Outcome::Failed, report(0)))
            .await
            .unwrap()
            .stale
    );
    assert!(
        world
            .queue
            .complete(&request(old[1], Outcome::Delivered, report(0)))
            .await
            .unwrap()
            .stale
    );
    assert_eq!(in_mailbox(&world, "Inbox").await, 0);
    assert_eq!(
        world.keys(keys::queue_entries()).await.len(),
        1,
        "the delivery was taken note of"
    );
}

#[tokio::test]
async fn a_sender_that_is_gone_keeps_nothing_in_the_queue() {
    let world = World::new();
    world.send(&["a@one.example"]).await;
    let lease = leases(&world.claim("w", 1, &[]).await)[0];
    assert!(
        !world
            .queue
            .complete(&request(lease, Outcome::Failed, report(0)))
            .await
            .unwrap()
            .stale
    );
    assert!(world.keys(keys::queue_entries()).await.is_empty());
}
