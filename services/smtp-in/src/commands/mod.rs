//! What each command does.

mod bdat;
mod data;
mod hello;
mod mail;
pub(crate) mod rcpt;
mod starttls;

use mox_smtp::{Command, Reply};

use crate::session::{Session, Stop};

pub(crate) use bdat::Chunks;

/// Does what a command says. No reply: it was given already.
pub(crate) async fn execute(session: &mut Session, command: Command) -> Result<Option<Reply>, Stop> {
    Ok(Some(match command {
        Command::Ehlo(name) => hello::ehlo(session, name),
        Command::Helo(name) => hello::helo(session, name),
        Command::StartTls => return starttls::run(session).await,
        Command::Mail(path, params) => mail::run(session, path, params).await?,
        Command::Rcpt(recipient, params) => rcpt::run(session, &recipient, &params).await?,
        Command::Data => data::run(session).await?,
        Command::Bdat(octets, last) => bdat::run(session, octets, last).await?,
        Command::Rset => {
            session.transaction = None;
            Reply::new(250, (0, 0), "forgotten")
        }
        Command::Noop => Reply::new(250, (0, 0), "ok"),
        Command::Quit => Reply::new(221, (0, 0), "bye"),
        // RFC 5321 §3.5.3 and §7.3: nothing is said about who exists.
        Command::Vrfy(_) => Reply::new(252, (5, 0), "send a message to find out"),
        Command::Expn(_) => Reply::new(502, (5, 1), "lists are not shown"),
        Command::Help => Reply::new(
            214,
            (0, 0),
            "see RFC 5321: EHLO, STARTTLS, MAIL, RCPT, DATA, BDAT, RSET, NOOP, QUIT",
        ),
        Command::Auth(..) => Reply::new(502, (5, 1), "log in on the submission port"),
    }))
}
