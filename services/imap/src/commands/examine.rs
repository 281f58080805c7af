//! EXAMINE (RFC 9051 §6.3.3): SELECT for reading only.

use mox_imap_proto::status::SelectParameter;

use crate::commands::select;
use crate::reply::Outcome;
use crate::session::Session;

pub(super) async fn run(session: &mut Session, name: &str, parameters: &[SelectParameter]) -> Outcome {
    select::open(session, name, parameters, true).await
}
