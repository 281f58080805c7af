//! Work that takes tens of milliseconds of a processor and 19 MiB of memory: a few at once, on threads of their own.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Semaphore;
use tonic::Status;

/// Most that wait: at 30 ms each, the last one waits for some seconds. More are told to come again.
const WAITING_MAX: usize = 256;

/// Runs such work. Cheap to clone.
#[derive(Clone)]
pub struct Hasher {
    permits: Arc<Semaphore>,
    waiting: Arc<AtomicUsize>,
}

impl Hasher {
    /// As many at once as half of the processors, so that logging in does not stop the mail.
    #[must_use]
    pub fn new() -> Self {
        let processors = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
        Self {
            permits: Arc::new(Semaphore::new(processors.div_ceil(2))),
            waiting: Arc::default(),
        }
    }

    /// Runs `work` when it is its turn.
    ///
    /// # Errors
    /// `UNAVAILABLE` if too many wait already.
    pub async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Status> {
        let _waiting = Waiting::begin(&self.waiting)?;
        let stopping = |_| Status::unavailable("the store is shutting down");
        let permit = Arc::clone(&self.permits)
            .acquire_owned()
            .await
            .map_err(|_| Status::unavailable("closed"))?;
        let task = tokio::task::spawn_blocking(move || {
            let result = work();
            drop(permit);
            result
        });
        task.await.map_err(stopping)
    }
}

impl Default for Hasher {
    fn default() -> Self {
        Self::new()
    }
}

struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn begin(count: &'a AtomicUsize) -> Result<Self, Status> {
        let waiting = Self(count);
        if count.fetch_add(1, Ordering::SeqCst) >= WAITING_MAX {
            return Err(Status::unavailable("too many are logging in, try again"));
        }
        Ok(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}
