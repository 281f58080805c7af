//! The shape of the key space has a version, so that no program takes for its own what it does not understand, and so
//! that data of earlier versions is brought up to this one.
//!
//! [`bring_up`] runs at start. When the data is of an earlier version it first writes a copy of it (a checkpoint, which
//! shares its files as long as they do not change) into the folder `before-schema-N` beside the database; then it runs
//! the [`MIGRATIONS`] from there on; and then it writes the version. Each migration can be run again after it was cut
//! short. To go back, stop mox, put the folder in the place of `rocksdb`, and start the earlier mox. The copy is removed
//! at a start [`COPY_KEPT`] later, or replaced by that of a later migration.
//!
//! Versions change in two steps where several programs may run on the same data. A version that *expands* adds what is
//! new and keeps what there was, and says that programs of the version before can go on; a later one *contracts* when
//! none of them is left. So the data says two versions: its own, and the oldest one that a program must know.

mod lists;
mod recipients;
mod senders;
mod subjects;

use std::path::Path;
use std::time::{Duration, SystemTime};

use bytes::{Bytes, BytesMut};
use futures::future::BoxFuture;

use mox_proto::record::v1 as record;
use mox_types::AccountId;
use prost::Message as _;

use crate::engine::{Commit, Db, EngineError, Limit, Order, Snapshot};
use crate::keys;

#[cfg(test)]
pub(crate) use self::senders::enter as enter_senders;

/// What the names of folders with copies from before migrations begin with, in the folder of the store.
pub(crate) const COPY_PREFIX: &str = "before-schema-";
/// How long a copy is kept: long enough to notice that something is amiss.
pub const COPY_KEPT: Duration = Duration::from_secs(14 * 24 * 3600);

/// The shape that this program reads and writes.
const VERSION: u32 = 3;
/// The oldest version that a program must know to use data of this shape. Programs of version 1 would drop, from what
/// they change, all that later ones added to it; those of version 2 would leave what they enqueue out of the
/// lists, and what they flag out of the history of senders.
const OLDEST: u32 = 3;

/// A step from one version to the next.
struct Migration {
    /// The version that it leads to.
    to: u32,
    /// For the log.
    what: &'static str,
    /// Does it. Repeating it does no harm.
    run: fn(Db) -> BoxFuture<'static, Result<(), SchemaError>>,
}

/// All steps, ascending.
const MIGRATIONS: &[Migration] = &[
    Migration {
        to: 2,
        what: "recording whom accounts have sent to",
        run: |db| Box::pin(recipients::record(db)),
    },
    Migration {
        to: 2,
        what: "letting messages be found by their subject, for conversations",
        run: |db| Box::pin(subjects::enter(db)),
    },
    Migration {
        to: 3,
        what: "letting the queue be filtered and sorted",
        run: |db| Box::pin(lists::enter(db)),
    },
    Migration {
        to: 3,
        what: "letting flagged messages be found by who sent them, for reputation",
        run: |db| Box::pin(senders::enter(db)),
    },
];

/// Why the data is not for this program.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    /// It was written by another version.
    #[error("the data has shape {found}, and this version of mox knows shape {VERSION}: use a newer version of mox")]
    Newer {
        /// What the data says.
        found: u32,
    },
    /// It is not known what it was written by.
    #[error("the data does not say what shape it has: is the data directory that of mox?")]
    Unknown,
    /// The copy cannot be made.
    #[error(
        "copying the data to {folder} before it is brought to shape {VERSION}: {error}: make room, or start the earlier \
         version of mox again"
    )]
    Copy {
        /// Where to.
        folder: String,
        /// What went wrong.
        error: EngineError,
    },
    /// What is kept cannot be read.
    #[error(
        "bringing the data to shape {VERSION}: record of {0} is damaged: run mox verifydata with the earlier version"
    )]
    Damaged(String),
    /// The engine failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// What the data says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Shape {
    oldest: u32,
    version: u32,
}

impl Shape {
    const OURS: Self = Self {
        oldest: OLDEST,
        version: VERSION,
    };

    /// Version 1 had only one number, which programs of that version compare with their own.
    fn parse(value: &[u8]) -> Option<Self> {
        let number = |at: usize| Some(u32::from_be_bytes(value.get(at..at + 4)?.try_into().ok()?));
        match value.len() {
            4 => Some(Self {
                oldest: number(0)?,
                version: number(0)?,
            }),
            8 => Some(Self {
                oldest: number(0)?,
                version: number(4)?,
            }),
            _ => None,
        }
    }

    fn to_bytes(self) -> Bytes {
        let mut value = BytesMut::with_capacity(8);
        value.extend_from_slice(&self.oldest.to_be_bytes());
        value.extend_from_slice(&self.version.to_be_bytes());
        value.freeze()
    }
}

/// Makes the data be of this program's shape, or says why it is not for it. New data is marked. `folder` is that of the
/// store.
pub(crate) async fn bring_up(db: &Db, folder: &Path, now: SystemTime) -> Result<(), SchemaError> {
    let Some(value) = db.get(keys::schema()).await? else {
        let mut commit = Commit::new();
        commit
            .require_absent(keys::schema())
            .put(keys::schema(), Shape::OURS.to_bytes());
        return match db.commit(commit).await {
            // Without room for this, there is none for anything that would need it.
            Ok(_) | Err(EngineError::Conflict { .. } | EngineError::NoSpace) => Ok(()),
            Err(error) => Err(error.into()),
        };
    };
    let found = Shape::parse(&value.data).ok_or(SchemaError::Unknown)?;
    if found.oldest > VERSION {
        return Err(SchemaError::Newer { found: found.version });
    }
    // Shapes begin with 1.
    if found.version == 0 {
        return Err(SchemaError::Unknown);
    }
    if found.version < VERSION {
        migrate(db, folder, found.version).await?;
        let mut commit = Commit::new();
        commit
            .require_at(keys::schema(), value.version)
            .put(keys::schema(), Shape::OURS.to_bytes());
        db.commit(commit).await?;
        tracing::info!(from = found.version, to = VERSION, "data brought to the present shape");
    }
    remove_copies(folder, now, found.version);
    Ok(())
}

/// All accounts that have data: names, and ids.
async fn accounts(snapshot: &dyn Snapshot) -> Result<Vec<(String, AccountId)>, SchemaError> {
    let mut found = Vec::new();
    let mut left = Some(keys::names());
    while let Some(range) = left.take() {
        let page = snapshot.scan(range.clone(), Limit::default(), Order::Ascending).await?;
        left = page.rest(&range);
        for (key, value) in page.rows {
            let name = keys::parse_name(&key).unwrap_or_default();
            let damaged = || SchemaError::Damaged(format!("account {name:?}"));
            let registration = record::Registration::decode(value.data).map_err(|_| damaged())?;
            if !registration.removing {
                let id = AccountId::try_from(&registration.account_id).map_err(|_| damaged())?;
                found.push((name, id));
            }
        }
    }
    Ok(found)
}

async fn migrate(db: &Db, folder: &Path, from: u32) -> Result<(), SchemaError> {
    let copy = folder.join(format!("{COPY_PREFIX}{from}"));
    // One that is there already is of an attempt that was cut short: it has the data as it was before.
    if !copy.exists() {
        tracing::info!(folder = %copy.display(), "copying the data before it is changed");
        db.checkpoint(copy.clone()).await.map_err(|error| SchemaError::Copy {
            folder: copy.display().to_string(),
            error,
        })?;
    }
    for step in MIGRATIONS.iter().filter(|step| step.to > from) {
        tracing::info!(to = step.to, step.what, "changing the shape of the data");
        (step.run)(db.clone()).await?;
    }
    Ok(())
}

/// Removes copies that are old, and those from before the last migration.
fn remove_copies(folder: &Path, now: SystemTime, latest: u32) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(of) = name.to_str().and_then(|n| n.strip_prefix(COPY_PREFIX)) else {
            continue;
        };
        let made = entry.metadata().and_then(|m| m.modified()).ok();
        let old = made.is_some_and(|made| now.duration_since(made).is_ok_and(|age| age > COPY_KEPT));
        let replaced = latest < VERSION && of.parse::<u32>().is_ok_and(|of| of < latest);
        if old || replaced {
            tracing::info!(folder = %entry.path().display(), "removing a copy from before a migration");
            if let Err(error) = std::fs::remove_dir_all(entry.path()) {
                tracing::warn!(folder = %entry.path().display(), %error, "removing a copy from before a migration");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::engine::{Options, RocksEngine};

    async fn set(db: &Db, value: &'static [u8]) {
        db.commit(Commit::new().put(keys::schema(), value).clone())
            .await
            .unwrap();
    }

    #[tokio::test]
    async fn data_of_another_shape_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let db: Db = Arc::new(RocksEngine::open(&Options::new(dir.path())).unwrap());
        let bring_up = || bring_up(&db, dir.path(), SystemTime::now());
        bring_up().await.unwrap();
        bring_up().await.unwrap();
        for value in [&[0, 0, 0, 9][..], &[0, 0, 0, 8, 0, 0, 0, 9]] {
            set(&db, value).await;
            let error = bring_up().await.unwrap_err().to_string();
            assert!(error.contains("shape 9") && error.contains("newer version"), "{error}");
        }
        // A newer shape that programs of this one can use.
        set(&db, &[0, 0, 0, 3, 0, 0, 0, 9]).await;
        bring_up().await.unwrap();
        for value in [&b"x"[..], &[0, 0, 0, 0]] {
            set(&db, value).await;
            assert!(matches!(bring_up().await, Err(SchemaError::Unknown)));
        }
        assert!(!dir.path().join("before-schema-1").exists());
    }

    #[tokio::test]
    async fn a_copy_is_made_before_and_removed_later() {
        let dir = tempfile::tempdir().unwrap();
        let db: Db = Arc::new(RocksEngine::open(&Options::new(dir.path())).unwrap());
        set(&db, &[0, 0, 0, 1]).await;
        bring_up(&db, dir.path(), SystemTime::now()).await.unwrap();
        let copy = dir.path().join("before-schema-1");
        assert!(copy.join("CURRENT").exists());
        let value = db.get(keys::schema()).await.unwrap().unwrap().data;
        assert_eq!(Shape::parse(&value), Some(Shape::OURS));
        bring_up(&db, dir.path(), SystemTime::now()).await.unwrap();
        assert!(copy.exists());
        bring_up(&db, dir.path(), SystemTime::now() + 2 * COPY_KEPT)
            .await
            .unwrap();
        assert!(!copy.exists());
    }

    #[test]
    fn migrations_lead_here() {
        assert_eq!(MIGRATIONS.last().map(|m| m.to), Some(VERSION));
        assert!(MIGRATIONS.windows(2).all(|pair| pair[0].to <= pair[1].to));
    }
}
