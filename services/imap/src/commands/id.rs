//! ID (RFC 2971): told in the log, and in the record of logins.

use bytes::BufMut;

use crate::commands::authenticate;
use crate::reply::Reply;
use crate::session::Session;

pub(super) async fn run(session: &mut Session, pairs: &[(String, Option<String>)]) -> Reply {
    let value = |key: &str| {
        let pair = pairs.iter().find(|(name, _)| name.eq_ignore_ascii_case(key));
        pair.and_then(|(_, value)| value.as_deref()).unwrap_or_default()
    };
    tracing::info!(
        name = value("name"),
        version = value("version"),
        os = value("os"),
        "client"
    );
    let told = format!("{} {}", value("name"), value("version"));
    authenticate::identify(session, told.trim()).await;
    let line = concat!(
        "* ID (\"name\" \"mox\" \"version\" \"",
        env!("CARGO_PKG_VERSION"),
        "\")\r\n"
    );
    session.connection.out.put_slice(line.as_bytes());
    Reply::ok("Done")
}
