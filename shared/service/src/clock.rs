//! Time, so that tests can put theirs in.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;

/// The time of day, and waiting for it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    System,
    Manual(watch::Receiver<SystemTime>),
}

/// Moves a clock by hand.
#[derive(Clone, Debug)]
pub struct ManualClock(watch::Sender<SystemTime>);

/// Waiting for a time of day is done in steps, as the system's clock may be set meanwhile.
const STEP: Duration = Duration::from_secs(60);

impl Clock {
    /// The system's.
    #[must_use]
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// One that stands still but for what its other half does.
    #[must_use]
    pub fn manual(start: SystemTime) -> (Self, ManualClock) {
        let (sender, receiver) = watch::channel(start);
        (Self(Source::Manual(receiver)), ManualClock(sender))
    }

    /// The time of day.
    #[must_use]
    pub fn now(&self) -> SystemTime {
        match &self.0 {
            Source::System => SystemTime::now(),
            Source::Manual(time) => *time.borrow(),
        }
    }

    /// Milliseconds since 1970.
    #[must_use]
    pub fn unix_millis(&self) -> i64 {
        match self.now().duration_since(UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
            Err(before) => i64::try_from(before.duration().as_millis()).map_or(i64::MIN, |millis| -millis),
        }
    }

    /// Waits so long.
    pub async fn sleep(&self, duration: Duration) {
        match &self.0 {
            Source::System => tokio::time::sleep(duration).await,
            Source::Manual(time) => {
                // Further away than time goes is never.
                match self.now().checked_add(duration) {
                    Some(end) => reached(time.clone(), end).await,
                    None => std::future::pending().await,
                }
            }
        }
    }

    /// Waits for a time of day; not at all if it has passed.
    pub async fn sleep_until_unix_millis(&self, millis: i64) {
        loop {
            let left = u64::try_from(millis.saturating_sub(self.unix_millis())).unwrap_or(0);
            if left == 0 {
                return;
            }
            let left = Duration::from_millis(left);
            match &self.0 {
                Source::System => tokio::time::sleep(left.min(STEP)).await,
                Source::Manual(_) => self.sleep(left).await,
            }
        }
    }
}

async fn reached(mut time: watch::Receiver<SystemTime>, end: SystemTime) {
    if time.wait_for(|now| *now >= end).await.is_err() {
        // Its other half is gone: the clock stands still for ever.
        std::future::pending::<()>().await;
    }
}

impl ManualClock {
    /// Moves the clock forward.
    pub fn advance(&self, duration: Duration) {
        self.0.send_modify(|time| *time += duration);
    }

    /// Sets the clock.
    pub fn set(&self, time: SystemTime) {
        self.0.send_replace(time);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn manual_clock_wakes_who_waits() {
        let (clock, hand) = Clock::manual(UNIX_EPOCH + Duration::from_secs(100));
        assert_eq!(clock.unix_millis(), 100_000);
        let waiter = clock.clone();
        let waiting = tokio::spawn(async move {
            waiter.sleep_until_unix_millis(105_000).await;
            waiter.sleep(Duration::from_secs(5)).await;
            waiter.unix_millis()
        });
        while !waiting.is_finished() {
            hand.advance(Duration::from_secs(1));
            tokio::task::yield_now().await;
        }
        assert!(waiting.await.unwrap() >= 110_000);
        clock.sleep_until_unix_millis(1).await;
    }

    #[test]
    fn times_before_1970_are_negative() {
        let (clock, _hand) = Clock::manual(UNIX_EPOCH - Duration::from_secs(1));
        assert_eq!(clock.unix_millis(), -1000);
    }
}
