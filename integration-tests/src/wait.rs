//! Waiting for conditions.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// How long anything that works takes at most, also in a debug build on a busy machine.
pub const DEADLINE: Duration = Duration::from_secs(60);
/// Between two looks at a condition.
const INTERVAL: Duration = Duration::from_millis(20);

/// Waits until `condition` gives a value.
///
/// # Errors
/// When it gave none before the deadline: with `what`, and the last reason that it gave.
pub fn until<T>(what: &str, deadline: Duration, mut condition: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let end = Instant::now() + deadline;
    loop {
        let outcome = condition();
        if let Ok(Some(value)) = outcome {
            return Ok(value);
        }
        if Instant::now() >= end {
            match outcome {
                Err(e) => return Err(e).with_context(|| format!("waited {deadline:?} for {what}")),
                Ok(_) => bail!("waited {deadline:?} for {what}, in vain"),
            }
        }
        std::thread::sleep(INTERVAL);
    }
}
