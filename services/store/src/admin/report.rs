//! Telling the caller of a long operation how far it is and what it found.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use mox_proto::admin::v1 as admin;
use mox_proto::admin::v1::report::Report as Kind;
use mox_proto::admin::v1::{Finding, Level, Progress, Report};
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Response, Status};

/// What a call answers with.
pub type Reports = Pin<Box<dyn Stream<Item = Result<Report, Status>> + Send>>;

/// Findings that wait for a slow caller.
const WAITING: usize = 64;
/// How often progress is told: often enough for people to see it move.
const PROGRESS_EVERY: Duration = Duration::from_millis(250);
/// Progress is told again after so many times without any, well within the time that a stream may be silent.
const SILENT_TIMES: u32 = 20;

/// Where an operation tells what it does.
pub struct Reporter {
    sender: mpsc::Sender<Result<Report, Status>>,
    progress: Arc<Mutex<Progress>>,
}

impl Reporter {
    /// Sets how far it is. Costs nothing much: it is sent from time to time.
    pub fn progress(&self, what: &str, done: u64, total: u64) {
        let mut progress = self.progress.lock();
        if progress.what != what {
            what.clone_into(&mut progress.what);
        }
        progress.done = done;
        progress.total = total;
    }

    /// Counts on.
    pub fn advance(&self, by: u64) {
        self.progress.lock().done += by;
    }

    /// Tells something.
    ///
    /// # Errors
    /// If the caller is gone.
    pub async fn tell(&self, finding: Finding) -> Result<(), Status> {
        let report = Report {
            report: Some(Kind::Finding(finding)),
        };
        self.sender
            .send(Ok(report))
            .await
            .map_err(|_| Status::cancelled("the caller is gone"))
    }

    /// Tells something of an account and, unless it is empty, a mailbox.
    ///
    /// # Errors
    /// If the caller is gone.
    pub async fn say(
        &self,
        level: Level,
        account: &str,
        mailbox: &str,
        text: impl Into<String>,
        numbers: &[(&str, i64)],
    ) -> Result<(), Status> {
        self.tell(Finding {
            level: level.into(),
            account: account.to_owned(),
            mailbox: mailbox.to_owned(),
            text: text.into(),
            numbers: numbers.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect(),
        })
        .await
    }
}

/// Runs an operation in a task of its own, with its reports as the answer. When the caller goes away, it ends at its
/// next await; what the accounts' writers have of it is done nevertheless.
pub fn run<F, Fut>(work: F) -> Response<Reports>
where
    F: FnOnce(Arc<Reporter>) -> Fut,
    Fut: Future<Output = Result<(), Status>> + Send + 'static,
{
    let (sender, receiver) = mpsc::channel(WAITING);
    let progress: Arc<Mutex<Progress>> = Arc::default();
    let reporter = Arc::new(Reporter {
        sender: sender.clone(),
        progress: progress.clone(),
    });
    let work = work(reporter);
    tokio::spawn(async move {
        let ended = tokio::select! {
            ended = work => ended,
            () = tell_progress(&sender, &progress) => return,
            () = sender.closed() => return,
        };
        // The bar shows the end, too.
        let last = progress.lock().clone();
        if !last.what.is_empty() {
            let _ = sender.send(Ok(report(last))).await;
        }
        if let Err(status) = ended {
            let _ = sender.send(Err(status)).await;
        }
    });
    Response::new(Box::pin(ReceiverStream::new(receiver)))
}

fn report(progress: Progress) -> Report {
    Report {
        report: Some(admin::report::Report::Progress(progress)),
    }
}

/// Sends progress when there is some, and now and then when there is none.
async fn tell_progress(sender: &mpsc::Sender<Result<Report, Status>>, progress: &Mutex<Progress>) {
    let mut told = Progress::default();
    let mut silent = 0;
    loop {
        tokio::time::sleep(PROGRESS_EVERY).await;
        let now = progress.lock().clone();
        silent += 1;
        if now == told && silent < SILENT_TIMES {
            continue;
        }
        silent = 0;
        told.clone_from(&now);
        if sender.send(Ok(report(now))).await.is_err() {
            return;
        }
    }
}
