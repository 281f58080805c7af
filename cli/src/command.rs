//! Every command: what it is called, what it takes, what it does.

use std::process::ExitCode;

use clap::ArgMatches;

use crate::commands;
use crate::context::Context;

/// One command. What is not in [`ALL`] does not exist, and is in no list.
pub struct Command {
    /// Its name, in words: `config account add`.
    pub words: &'static [&'static str],
    /// What follows the name, for people.
    pub parameters: &'static str,
    /// What it does: a first line for lists, and the rest.
    pub help: &'static str,
    /// Its options and parameters.
    pub arguments: fn() -> Vec<clap::Arg>,
    /// Does it.
    pub run: fn(&Context, &ArgMatches) -> anyhow::Result<ExitCode>,
}

/// Every command, in the order of lists.
pub static ALL: &[&Command] = &[
    &commands::serve::SERVE,
    &commands::quickstart::QUICKSTART,
    &commands::stop::STOP,
    &commands::passwords::SET_ACCOUNT_PASSWORD,
    &commands::passwords::SET_ADMIN_PASSWORD,
    &commands::logins::LOGINS,
    &commands::loglevels::LOGLEVELS,
    &commands::queue::holdrules::LIST,
    &commands::queue::holdrules::ADD,
    &commands::queue::holdrules::REMOVE,
    &commands::queue::list::LIST,
    &commands::queue::change::HOLD,
    &commands::queue::change::UNHOLD,
    &commands::queue::change::SCHEDULE,
    &commands::queue::change::TRANSPORT,
    &commands::queue::change::REQUIRETLS,
    &commands::queue::change::FAIL,
    &commands::queue::change::DROP,
    &commands::queue::dump::DUMP,
    &commands::queue::retired::LIST,
    &commands::queue::retired::PRINT,
    &commands::queue::suppress::LIST,
    &commands::queue::suppress::ADD,
    &commands::queue::suppress::REMOVE,
    &commands::queue::suppress::LOOKUP,
    &commands::queue::webhook::LIST,
    &commands::queue::webhook::SCHEDULE,
    &commands::queue::webhook::CANCEL,
    &commands::queue::webhook::PRINT,
    &commands::queue::webhook::RETIRED_LIST,
    &commands::queue::webhook::RETIRED_PRINT,
    &commands::reporting::LIST,
    &commands::reporting::PRINT,
    &commands::reporting::WAITING,
    &commands::reporting::SUPPRESS_LIST,
    &commands::reporting::SUPPRESS_ADD,
    &commands::reporting::SUPPRESS_REMOVE,
    &commands::import::MAILDIR,
    &commands::import::MBOX,
    &commands::export::MAILDIR,
    &commands::export::MBOX,
    &commands::localserve::LOCALSERVE,
    &commands::help::HELP,
    &commands::backup::BACKUP,
    &commands::verifydata::VERIFYDATA,
    &commands::config::test::TEST,
    &commands::config::dnsrecords::DNSRECORDS,
    &commands::config::describe::DOMAINS,
    &commands::config::describe::STATIC,
    &commands::config::change::ACCOUNT_ADD,
    &commands::config::change::ACCOUNT_RM,
    &commands::config::change::ADDRESS_ADD,
    &commands::config::change::ADDRESS_RM,
    &commands::config::change::DOMAIN_ADD,
    &commands::config::change::DOMAIN_RM,
    &commands::config::tlspubkey::LIST,
    &commands::config::tlspubkey::GET,
    &commands::config::tlspubkey::ADD,
    &commands::config::tlspubkey::RM,
    &commands::config::tlspubkey::GEN,
    &commands::config::alias::LIST,
    &commands::config::alias::PRINT,
    &commands::config::alias::ADD,
    &commands::config::alias::UPDATE,
    &commands::config::alias::RM,
    &commands::config::alias::ADD_ADDRESSES,
    &commands::config::alias::REMOVE_ADDRESSES,
    &commands::config::describe::SENDMAIL,
    &commands::config::printservice::PRINTSERVICE,
    &commands::cid::CID,
    &commands::dane::DIAL,
    &commands::dane::DIALMX,
    &commands::dane::MAKERECORD,
    &commands::dns::LOOKUP,
    &commands::dkim::GENERATE_ED25519,
    &commands::dkim::GENERATE_RSA,
    &commands::dkim::LOOKUP,
    &commands::dkim::TXT,
    &commands::dkim::VERIFY,
    &commands::dkim::SIGN,
    &commands::dmarc::LOOKUP,
    &commands::reports::DMARC_PARSE,
    &commands::dmarc::VERIFY,
    &commands::dmarc::CHECK_REPORT_ADDRESSES,
    &commands::dnsbl::CHECK,
    &commands::dnsbl::CHECK_HEALTH,
    &commands::mtasts::LOOKUP,
    &commands::sendmail::SENDMAIL,
    &commands::spf::CHECK,
    &commands::spf::LOOKUP,
    &commands::spf::PARSE,
    &commands::reports::TLS_LOOKUP,
    &commands::reports::TLS_PARSE,
    &commands::version::VERSION,
    &commands::repair::RETRAIN,
    &commands::repair::BUMP,
    &commands::repair::REASSIGN,
    &commands::repair::FIX_UIDS,
    &commands::repair::FIX_SIZES,
    &commands::repair::REPARSE,
    &commands::repair::ENSURE_PARSED,
    &commands::repair::RECALCULATE,
    &commands::repair::REINDEX,
    &commands::repair::REASSIGN_THREADS,
    &commands::message::PARSE,
];

/// No options and no parameters.
pub fn none() -> Vec<clap::Arg> {
    Vec::new()
}

/// A parameter, by its place.
pub fn parameter(name: &'static str) -> clap::Arg {
    clap::Arg::new(name).required(true).allow_hyphen_values(true)
}

/// An option with a value.
pub fn option(name: &'static str, value: &'static str, help: &'static str) -> clap::Arg {
    clap::Arg::new(name)
        .long(name)
        .value_name(value)
        .help(help)
        .allow_hyphen_values(true)
}

/// An option without a value.
pub fn flag(name: &'static str, help: &'static str) -> clap::Arg {
    clap::Arg::new(name)
        .long(name)
        .help(help)
        .action(clap::ArgAction::SetTrue)
}

/// The value of a parameter or option that is text; empty if it was not given.
pub fn text<'a>(matches: &'a ArgMatches, name: &str) -> &'a str {
    matches.get_one::<String>(name).map_or("", String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_name_of_its_own_and_a_help_text() {
        let mut names: Vec<_> = ALL.iter().map(|c| c.words).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ALL.len());
        for command in ALL {
            let first = command.help.lines().next().unwrap_or_default();
            assert!(first.ends_with('.') && first.len() > 10, "{:?}: {first}", command.words);
            clap::Command::new("mox").args((command.arguments)()).debug_assert();
        }
    }
}
