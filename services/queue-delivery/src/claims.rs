//! Claims that are made beside the loop that works on what they bring: of messages, and of webhooks.

use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::Instant;
use tonic::Status;

/// How often the store is looked at without a reason: events may be lost.
pub(crate) const POLL: Duration = Duration::from_secs(30);
/// Between looks at a store that did not answer, or that has something for us which others take faster.
pub(crate) const PAUSE: Duration = Duration::from_millis(200);

/// What the store answered, and when it was asked.
pub(crate) type Claims<T> = Result<(T, Instant), Box<Status>>;

/// The result of a claim that is being made; never, if none is.
pub(crate) async fn finished<T>(claiming: &mut Option<JoinHandle<Claims<T>>>) -> Option<Claims<T>> {
    let Some(task) = claiming else {
        return std::future::pending().await;
    };
    let claims = task.await;
    *claiming = None;
    // A claim that ended unexpectedly is as one that failed.
    Some(claims.unwrap_or_else(|e| Err(Box::new(Status::internal(e.to_string())))))
}

/// When to look again, by what the store says is due next: after a pause, if that was due `now` and it gave nothing.
pub(crate) fn look_again(next_due: Option<i64>, now: i64, some: bool) -> Option<i64> {
    let pause = i64::try_from(PAUSE.as_millis()).unwrap_or(i64::MAX);
    next_due.map(|at| if at <= now && !some { now + pause } else { at })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_take_is_not_asked_for_at_once() {
        assert_eq!(look_again(None, 1000, false), None);
        assert_eq!(look_again(Some(5000), 1000, false), Some(5000));
        assert_eq!(look_again(Some(1000), 1000, true), Some(1000));
        assert_eq!(look_again(Some(900), 1000, false), Some(1200));
    }

    #[tokio::test]
    async fn a_claim_that_panics_has_failed() {
        let mut claiming = Some(tokio::spawn(async { Ok((1, Instant::now())) }));
        assert_eq!(finished(&mut claiming).await.unwrap().unwrap().0, 1);
        assert!(claiming.is_none());
        let mut claiming: Option<JoinHandle<Claims<()>>> = Some(tokio::spawn(async { panic!("for a test") }));
        assert!(finished(&mut claiming).await.unwrap().is_err());
    }
}
