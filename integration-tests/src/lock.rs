//! Heavy scenarios need the machine for themselves, whatever runs the tests: threads (`cargo test`) or processes
//! (`cargo nextest`).

use std::fs::File;

use anyhow::{Context, Result};
use rustix::fs::{FlockOperation, flock};

/// Held while a scenario runs; released when dropped.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

fn lock(operation: FlockOperation) -> Result<Lock> {
    let path = std::env::temp_dir().join(format!("mox-scenarios-{}.lock", rustix::process::getuid().as_raw()));
    let file = File::options().create(true).truncate(false).write(true).open(&path);
    let file = file.with_context(|| format!("opening {}", path.display()))?;
    flock(&file, operation).with_context(|| format!("locking {}", path.display()))?;
    Ok(Lock { _file: file })
}

/// Runs beside other scenarios.
///
/// # Errors
/// If the lock file can't be used.
pub fn shared() -> Result<Lock> {
    lock(FlockOperation::LockShared)
}

/// Runs alone.
///
/// # Errors
/// If the lock file can't be used.
pub fn alone() -> Result<Lock> {
    lock(FlockOperation::LockExclusive)
}
