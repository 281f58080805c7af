//! EHLO and HELO (RFC 5321 §4.1.1.1).

use mox_smtp::{HostName, Reply};

use crate::limits;
use crate::session::{Hello, Session};

pub(super) fn helo(session: &mut Session, name: HostName) -> Reply {
    session.transaction = None;
    session.hello = Some(Hello { name, extended: false });
    Reply::plain(250, session.place.hostname.clone())
}

pub(super) fn ehlo(session: &mut Session, name: HostName) -> Reply {
    // RFC 5321 §4.1.4: it ends a transaction.
    session.transaction = None;
    session.hello = Some(Hello { name, extended: true });
    let place = &session.place;
    let mut lines = vec![place.hostname.clone(), "PIPELINING".to_owned()];
    lines.push(format!("SIZE {}", place.listener.smtp_max_message_size));
    if session.info.tls.is_none() && place.tls.is_some() {
        lines.push("STARTTLS".to_owned());
    }
    if offers_requiretls(session) {
        lines.push("REQUIRETLS".to_owned());
    }
    lines.extend(["8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES", "DSN", "CHUNKING"].map(str::to_owned));
    // RFC 9422.
    lines.push(format!("LIMITS RCPTMAX={}", limits::RECIPIENTS));
    Reply::plain(250, lines.join("\n"))
}

/// RFC 8689 §2: only over TLS.
pub(super) fn offers_requiretls(session: &Session) -> bool {
    session.info.tls.is_some() && !session.place.listener.smtp.no_require_tls
}
