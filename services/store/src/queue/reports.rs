//! Reports in the queue: like what an account sends, but not by anybody's leave, within no limits, and never notified of.

use mox_proto::queue::v1::{Entry, RequireTls};
use mox_proto::report::v1::OutgoingReport;

use super::enqueue::{Submitter, address, shortened};
use super::{Queue, QueueError, hold, record};
use crate::content::{Contents, Owner, Staged};
use crate::engine::Commit;
use crate::keys;

impl Queue {
    /// Adds entries for a report to a commit, which is the first to refer to its content. `is_dmarc`, or else about TLS.
    ///
    /// # Errors
    /// If an address is none, or the engine fails.
    pub(crate) async fn insert_reports(
        &self,
        commit: &mut Commit,
        submitter: &Submitter,
        is_dmarc: bool,
        report: &OutgoingReport,
        recipients: &[&String],
        content: &Staged,
        now: i64,
    ) -> Result<(), QueueError> {
        let rules = hold::decode(self.db().get(keys::queue_hold_rules()).await?.as_ref())?;
        let first = self.0.ids.take(recipients.len() as u64).await?;
        let mut owners = Vec::with_capacity(recipients.len());
        for (id, recipient) in (first..).zip(recipients) {
            let recipient = address(recipient, "recipient of a report")?;
            let mut entry = Entry {
                id,
                base_id: first,
                account_id: submitter.id.to_bytes(),
                account: submitter.name.clone(),
                mail_from: report.mail_from.clone(),
                msg_from: report.msg_from.clone(),
                recipient: recipient.to_string(),
                content_id: content.id().to_bytes(),
                size: content.size(),
                smtputf8: report.smtputf8,
                // RFC 3461 §4.1: nobody is told, here or there. What was refused is not tried again for a while.
                dsn_notify: "NEVER".into(),
                // RFC 8460 §3: a report about TLS that fails arrives in spite of it.
                requiretls: if is_dmarc { RequireTls::Unset } else { RequireTls::No }.into(),
                queued: now,
                next_attempt: now,
                subject: shortened(&report.subject),
                message_id: shortened(&report.message_id),
                dmarc_report: is_dmarc,
                tls_report: !is_dmarc,
                ..Entry::default()
            };
            entry.hold = hold::holds(&rules, &entry);
            record::insert(commit, &entry)?;
            owners.push(Owner::queue(id));
        }
        content.reference(commit, &owners);
        Ok(())
    }

    pub(crate) fn contents(&self) -> &Contents {
        &self.0.contents
    }
}
