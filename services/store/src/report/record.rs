//! Taking note of what is to be reported.

use bytes::Bytes;
use mox_proto::report::v1::{RecordEvaluationRequest, Recorded};
use prost::Message as _;

use super::{ReportError, Reports, bounds};
use crate::engine::{Commit, EngineError};
use crate::{idempotency, keys};

/// Who makes the keys of recordings.
const SCOPE: &[u8] = b"report-record";

impl Reports {
    /// Keeps evaluations, to be added up later.
    ///
    /// # Errors
    /// If there are too many, or the engine fails.
    pub async fn record(&self, request: &RecordEvaluationRequest) -> Result<(), ReportError> {
        if !(8..=64).contains(&request.key.len()) {
            return Err(ReportError::Invalid("a key must have 8 to 64 bytes".into()));
        }
        if request.evaluations.len() > bounds::RECORDED {
            return Err(ReportError::Invalid(format!(
                "at most {} evaluations at once",
                bounds::RECORDED
            )));
        }
        let now = self.now();
        let digest = idempotency::digest(request);
        let kept = idempotency::find(self.db(), now / 1000, SCOPE, &request.key, &digest).await?;
        if kept.is_some() || request.evaluations.is_empty() {
            return Ok(());
        }
        let mut recorded = Recorded {
            evaluations: request.evaluations.clone(),
            at: now,
            ..Recorded::default()
        };
        for evaluation in &mut recorded.evaluations {
            evaluation.row.iter_mut().for_each(bounds::row);
            evaluation.policy.iter_mut().for_each(bounds::policy);
        }
        let mut commit = Commit::new();
        commit.put(keys::report_inbox(now, &request.key), recorded.encode_to_vec());
        idempotency::record(&mut commit, now / 1000, SCOPE, &request.key, &digest, &Bytes::new());
        match self.db().commit(commit).await {
            // Under the same key it is there by now.
            Ok(_) | Err(EngineError::Conflict { .. }) => {
                self.0.recorded.notify_one();
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }
}
