//! ENABLE (RFC 5161).

use bytes::BufMut;

use crate::commands::capability;
use crate::enabled::Extension;
use crate::reply::{Outcome, Reply};
use crate::session::Session;

pub(super) fn run(session: &mut Session, names: &[String]) -> Outcome {
    session.login()?;
    // RFC 5161 §3.1: what is not known, or not offered to this account, is ignored.
    let offered = capability::list(session);
    let offered = |extension: &Extension| offered.split(' ').any(|name| name == extension.name());
    let wanted: Vec<Extension> = names
        .iter()
        .filter_map(|name| Extension::named(name))
        .filter(offered)
        .collect();
    if session.selected.is_some()
        && let Some(late) = wanted.iter().find(|e| e.before_select())
    {
        let text = format!("{} can't be enabled while a mailbox is selected", late.name());
        return Err(Reply::bad(text).into());
    }
    // RFC 5161 §3.2: only what is enabled by this command is told, which leaves out what was enabled before.
    let mut line = "* ENABLED".to_owned();
    for extension in wanted {
        if session.enable(extension) {
            line.push(' ');
            line.push_str(extension.name());
        }
    }
    line.push_str("\r\n");
    session.connection.out.put_slice(line.as_bytes());
    Ok(Reply::ok("Done"))
}
