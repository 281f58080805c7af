//! That the history of senders is what the messages that there are say, whatever happened to them.

use std::collections::BTreeMap;

use prost::Message as _;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::*;
use crate::account::{history, lesson};
use crate::engine::{Limit, Order};
use crate::mail::tests::range;
use mox_types::MessageId;

const BOXES: [&str; 3] = ["Inbox", "Archive", "Junk"];

impl World {
    async fn table(&self, table: u8) -> BTreeMap<Bytes, Bytes> {
        let limit = Limit {
            rows: usize::MAX,
            bytes: usize::MAX,
        };
        let range = keys::account_table(self.account, table);
        let page = self.db.scan(range, limit, Order::Ascending).await.unwrap();
        page.rows.into_iter().map(|(key, value)| (key, value.data)).collect()
    }

    /// The history by the messages.
    async fn recomputed(&self) -> BTreeMap<Bytes, Bytes> {
        let mut entries = BTreeMap::new();
        for value in self.table(keys::TABLE_ROWS).await.into_values() {
            let row = record::Row::decode(value).unwrap();
            let id = MessageId::try_from(&row.message_id).unwrap();
            let message = self.db.get(keys::message(self.account, id)).await.unwrap().unwrap();
            let message = record::Message::decode(message.data).unwrap();
            entries.extend(history::entries(self.account, &message, lesson(row.flags)));
        }
        entries
    }

    async fn change(&self, random: &mut StdRng) {
        let name = BOXES[random.random_range(0..BOXES.len())];
        let mailbox_id = self.mail.named(self.account, name).await.unwrap().id;
        let first = random.random_range(1..10);
        let uids = range(first, first + random.random_range(0..5));
        let bits = [0, JUNK, NOT_JUNK, JUNK | NOT_JUNK][random.random_range(0..4)];
        let key = mox_rpc::key();
        let flags = |bits, mode: Mode| mail::StoreFlagsRequest {
            key: mox_rpc::key(),
            mailbox_id: mailbox_id.clone(),
            uids: uids.clone(),
            mode: mode.into(),
            flags: Some(mail::Flags {
                bits,
                keywords: Vec::new(),
            }),
            ..Default::default()
        };
        match random.random_range(0..10) {
            0..4 => {
                let from = format!(
                    "{}@d{}.example",
                    ["joe", "jane"][random.random_range(0..2)],
                    random.random_range(0..3)
                );
                let envelope = match random.random_bool(0.5) {
                    true => verified(&from),
                    false => unverified(&from, "198.51.100.1"),
                };
                self.pass(random.random_range(0..2));
                self.receive(&envelope, bits).await;
            }
            4..6 => {
                let mode = [Mode::Add, Mode::Remove, Mode::Replace][random.random_range(0..3)];
                self.mail.change_flags(self.account, flags(bits, mode)).await.unwrap();
            }
            6..8 => {
                let request = mail::CopyRequest {
                    key,
                    mailbox_id,
                    uids,
                    destination: BOXES[random.random_range(0..BOXES.len())].to_owned(),
                    ..Default::default()
                };
                let moving = random.random_bool(0.6);
                self.mail.copy_or_move(self.account, request, moving).await.unwrap();
            }
            8 => {
                let deleted = flags(Flag::Deleted as u32, Mode::Add);
                self.mail.change_flags(self.account, deleted).await.unwrap();
                let request = mail::ExpungeRequest {
                    key,
                    mailbox_id,
                    uids,
                    ..Default::default()
                };
                self.mail.remove(self.account, request).await.unwrap();
            }
            _ if name != "Inbox" => {
                let request = mail::DeleteMailboxRequest {
                    key,
                    name: name.to_owned(),
                    ..Default::default()
                };
                self.mail.drop_mailbox(self.account, request).await.unwrap();
                self.mail.accounts().purge().await.unwrap();
                self.make(name).await;
            }
            _ => {}
        }
    }

    async fn make(&self, name: &str) {
        let request = mail::CreateMailboxRequest {
            key: mox_rpc::key(),
            name: name.to_owned(),
            ..Default::default()
        };
        self.mail.make_mailbox(self.account, request).await.unwrap();
    }
}

/// As before there was a history.
async fn is_made_from_earlier_data(world: &World) {
    let history = world.table(keys::TABLE_HISTORY).await;
    let mut commit = crate::engine::Commit::new();
    commit.delete_range(keys::account_table(world.account, keys::TABLE_HISTORY));
    world.db.commit(commit).await.unwrap();
    for _ in 0..2 {
        crate::schema::enter_senders(world.db.clone()).await.unwrap();
        assert_eq!(world.table(keys::TABLE_HISTORY).await, history);
    }
}

async fn random_life(seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let automatic = random.random_bool(0.5);
    let world = World::new(json!({ "automatic_junk_flags": {
        "enabled": automatic, "junk_mailbox_regexp": "^junk", "neutral_mailbox_regexp": "^inbox" } }))
    .await;
    for name in &BOXES[1..] {
        world.make(name).await;
    }
    for step in 0..40 {
        world.change(&mut random).await;
        assert_eq!(
            world.table(keys::TABLE_HISTORY).await,
            world.recomputed().await,
            "seed {seed}, step {step}"
        );
    }
    is_made_from_earlier_data(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn history_is_what_messages_say_whatever_happened() {
    for seed in 0..24 {
        random_life(seed).await;
    }
}
