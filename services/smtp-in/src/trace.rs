//! Header fields that are put on top of a message (RFC 5321 §4.4).

use mox_message::received::{self, Received};
use mox_smtp::{Path, PathHost};

use crate::session::Session;
use crate::transaction::{Account, Transaction};

/// The Received field. Its id is the connection's, by which the log is found, encrypted: strangers
/// can't tell anything by it (`mox cid`). `remote_name` is a name of the client's address that leads back to it.
pub(crate) fn received(session: &Session, transaction: &Transaction, remote_name: Option<&str>) -> String {
    let tls = session.info.tls.as_ref();
    let hello = session.hello.as_ref();
    let from = hello.map(|h| h.name.to_string()).unwrap_or_default();
    let extended = hello.is_some_and(|h| h.extended);
    received::field(&Received {
        from: &from,
        remote_ip: session.info.remote.ip(),
        remote_name,
        by: &session.place.hostname,
        with: received::with(extended, transaction.params.smtputf8, tls.is_some(), false),
        tls: tls.map(|t| (t.version, t.cipher.as_str())),
        id: &session.place.shared.cids.cid_key().seal(session.info.cid),
        // With several recipients it would tell them of each other (RFC 5321 §7.2).
        recipient: transaction.only(),
        at: session.place.shared.clock.now(),
    })
}

/// All fields for one recipient: where bounces go, for whom it is, what was found out, where it came from.
pub(crate) fn prefix(transaction: &Transaction, to: &Account, findings: &[u8], received: &str) -> Vec<u8> {
    let path = transaction.mail_from.as_ref().map(in_header).unwrap_or_default();
    let fields = format!("Return-Path: <{path}>\r\nDelivered-To: {}\r\n", to.address);
    [fields.as_bytes(), findings, received.as_bytes()].concat()
}

/// An address as a header has it: the domain as A-labels, unless the localpart needs SMTPUTF8 anyway.
fn in_header(path: &Path) -> String {
    match &path.host {
        PathHost::Domain(domain) if !path.localpart.is_international() => {
            format!("{}@{}", path.localpart, domain.ascii())
        }
        _ => path.to_string(),
    }
}
