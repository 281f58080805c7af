//! What is found out about a message's sender: the place of SPF, DKIM, DMARC and DNS blocklists.
//!
//! Nothing is looked up as yet: every finding is "unknown", which decides nothing.

use bytes::Bytes;
use mox_proto::delivery::v1::Validation;
use mox_service::ConnInfo;
use mox_spool::Message;

use crate::transaction::Transaction;

/// What was found out.
#[derive(Debug, Clone, Default)]
pub(crate) struct Findings {
    /// Names of the client's address that lead back to it.
    pub iprev_names: Vec<String>,
    pub ehlo: Validation,
    pub mail_from: Validation,
    pub msg_from: Validation,
    /// Domains with a valid signature.
    pub dkim_domains: Vec<String>,
    /// Header fields that say so, with their line ends.
    pub header: Bytes,
}

/// Finds out about a message that was received.
pub(crate) async fn analyze(_info: &ConnInfo, _transaction: &Transaction, _message: &Message) -> Findings {
    Findings::default()
}
