//! SUBSCRIBE and UNSUBSCRIBE (RFC 9051 §6.3.7, §6.3.8).

use mox_proto::mail::v1::SetSubscribedRequest;

use crate::names;
use crate::reply::{Outcome, Reply};
use crate::session::Session;

pub(super) async fn run(session: &mut Session, name: &str, subscribed: bool) -> Outcome {
    let request = SetSubscribedRequest {
        session: session.token()?,
        key: mox_rpc::key(),
        name: names::kept(name),
        subscribed,
    };
    session.shared.mail().set_subscribed(request).await?;
    Ok(Reply::ok(if subscribed { "Subscribed" } else { "Unsubscribed" }))
}
