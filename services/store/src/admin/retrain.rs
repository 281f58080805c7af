//! Making a junk filter anew.

use mox_proto::admin::v1::Level;
use tonic::Status;

use super::report::Reporter;
use super::{Named, StoreAdmin};

impl StoreAdmin {
    /// `mox retrain`.
    pub(super) async fn do_retrain(&self, account: &Named, reporter: &Reporter) -> Result<(), Status> {
        let report = |progress: crate::junk::Progress| reporter.progress("messages", progress.done, 0);
        let filter = self.parts.junk.relearn(account.id, &report).await?;
        let numbers = [
            ("junk", i64::from(filter.junk)),
            ("not_junk", i64::from(filter.notjunk)),
            ("words", i64::try_from(filter.words).unwrap_or(i64::MAX)),
        ];
        let text = format!(
            "the junk filter learned {} words from {} junk messages and {} others",
            filter.words, filter.junk, filter.notjunk
        );
        reporter.say(Level::Info, &account.name, "", text, &numbers).await
    }
}
