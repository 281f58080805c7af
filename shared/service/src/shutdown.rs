//! Stopping in two phases: finish what runs, then end what does not finish.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

/// What sessions get, from the begin of a shutdown to its deadline.
pub const GRACE: Duration = Duration::from_secs(3);

/// Tells a service that the process stops. Clones are told together.
#[derive(Clone, Debug)]
pub struct Shutdown {
    begun: CancellationToken,
    deadline: CancellationToken,
}

/// Begins a shutdown. Any of its clones can; dropping them does not.
#[derive(Clone, Debug)]
pub struct ShutdownTrigger(Shutdown);

impl Shutdown {
    /// A shutdown that has not begun, and what begins it.
    #[must_use]
    #[allow(clippy::new_ret_no_self)] // The pair is the point: one side for services, one for who stops them.
    pub fn new() -> (ShutdownTrigger, Shutdown) {
        let shutdown = Shutdown {
            begun: CancellationToken::new(),
            deadline: CancellationToken::new(),
        };
        (ShutdownTrigger(shutdown.clone()), shutdown)
    }

    /// Whether the process is stopping: nothing new is begun.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.begun.is_cancelled()
    }

    /// Completes when the process begins to stop: refuse what is new, finish what runs.
    pub async fn begun(&self) {
        self.begun.cancelled().await;
    }

    /// Completes when time is up: what still runs is ended.
    pub async fn deadline(&self) {
        self.deadline.cancelled().await;
    }
}

impl ShutdownTrigger {
    /// Begins the shutdown, the first time. The deadline follows after [`GRACE`]. Within a tokio runtime.
    pub fn begin(&self) {
        if self.0.begun.is_cancelled() {
            return;
        }
        self.0.begun.cancel();
        let deadline = self.0.deadline.clone();
        tokio::spawn(async move {
            tokio::time::sleep(GRACE).await;
            deadline.cancel();
        });
    }

    /// Begins the shutdown and ends its grace at once, as for a second signal.
    pub fn finish(&self) {
        self.0.begun.cancel();
        self.0.deadline.cancel();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn deadline_follows_the_begin() {
        let (trigger, shutdown) = Shutdown::new();
        assert!(!shutdown.has_begun());
        trigger.begin();
        shutdown.begun().await;
        assert!(shutdown.has_begun() && !shutdown.deadline.is_cancelled());
        let begun = tokio::time::Instant::now();
        shutdown.deadline().await;
        assert_eq!(begun.elapsed().as_secs(), GRACE.as_secs());
    }

    #[tokio::test]
    async fn finishing_needs_no_grace() {
        let (trigger, shutdown) = Shutdown::new();
        trigger.finish();
        shutdown.begun().await;
        shutdown.deadline().await;
    }
}
