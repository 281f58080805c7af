//! The shape of the key space has a version, so that no program takes for its own what it does not understand.

use bytes::Bytes;

use crate::engine::{Commit, Db, EngineError};
use crate::keys;

/// What the names of folders with copies from before migrations begin with, in the folder of the store.
pub(crate) const COPY_PREFIX: &str = "before-schema-";
/// The shape that this program reads and writes.
const VERSION: u32 = 1;

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
    /// The engine failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// Finds out whether the data is for this program. New data is marked as such.
pub(crate) async fn check(db: &Db) -> Result<(), SchemaError> {
    let Some(value) = db.get(keys::schema()).await? else {
        let mut commit = Commit::new();
        commit
            .require_absent(keys::schema())
            .put(keys::schema(), Bytes::copy_from_slice(&VERSION.to_be_bytes()));
        return match db.commit(commit).await {
            // Without room for this, there is none for anything that would need it.
            Ok(_) | Err(EngineError::Conflict { .. } | EngineError::NoSpace) => Ok(()),
            Err(error) => Err(error.into()),
        };
    };
    match value.data.first_chunk::<4>().map(|bytes| u32::from_be_bytes(*bytes)) {
        Some(VERSION) => Ok(()),
        Some(found) => Err(SchemaError::Newer { found }),
        None => Err(SchemaError::Unknown),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::engine::{Options, RocksEngine};

    #[tokio::test]
    async fn data_of_another_shape_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let db: Db = Arc::new(RocksEngine::open(&Options::new(dir.path())).unwrap());
        check(&db).await.unwrap();
        check(&db).await.unwrap();
        db.commit(Commit::new().put(keys::schema(), &[0, 0, 0, 9][..]).clone())
            .await
            .unwrap();
        let error = check(&db).await.unwrap_err().to_string();
        assert!(error.contains("shape 9") && error.contains("newer version"), "{error}");
        db.commit(Commit::new().put(keys::schema(), "x").clone()).await.unwrap();
        assert!(matches!(check(&db).await, Err(SchemaError::Unknown)));
    }
}
