//! Which messages a command is about: the options that filters have in common.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, anyhow, bail};
use clap::{Arg, ArgMatches};
use mox_config::signed_millis;
use mox_proto::queue::v1::Filter;

use crate::command::{option, text};

/// Now, in milliseconds since 1970.
pub fn now() -> Result<i64> {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .context("the clock is before 1970")?;
    Ok(i64::try_from(now.as_millis()).unwrap_or(i64::MAX))
}

/// Options that messages in the queue, and those that left it, are chosen by.
pub fn common() -> Vec<Arg> {
    vec![
        option("account", "string", "account that queued the message"),
        option(
            "from",
            "string",
            "address that the message is from; \"@example.org\" is every address of the domain",
        ),
        option("ids", "value", "numbers of messages, with commas between them"),
        option("n", "int", "at most so many messages"),
        option(
            "submitted",
            "string",
            "by the time of submission: \"<\" (before) or \">\" (after), and a duration from now, such as \">-1h\"",
        ),
        option(
            "to",
            "string",
            "address that the message is for; \"@example.org\" is every address of the domain",
        ),
        option(
            "transport",
            "value",
            "transport that the message was given; the empty text is the usual way",
        ),
    ]
}

/// Options that messages in the queue are chosen by.
pub fn of_queue() -> Vec<Arg> {
    let mut all = common();
    all.extend([
        option(
            "hold",
            "value",
            "true or false: only messages that are, or are not, on hold",
        ),
        option(
            "nextattempt",
            "string",
            "by the time of the next attempt: \"<\" (before) or \">\" (after), and a duration from now, such as \"<1h\"",
        ),
    ]);
    all
}

/// The numbers of `-ids`.
pub fn ids(matches: &ArgMatches) -> Result<Vec<u64>> {
    text(matches, "ids")
        .split(',')
        .map(str::trim)
        .filter(|id| !id.is_empty())
        .map(|id| id.parse().map_err(|_| anyhow!("-ids: {id:?} is not a number")))
        .collect()
}

/// The number of `-n`; 0 is all.
pub fn most(matches: &ArgMatches) -> Result<u32> {
    match text(matches, "n") {
        "" => Ok(0),
        n => n.parse().map_err(|_| anyhow!("-n: {n:?} is not a number")),
    }
}

/// A number of a message that was given as a parameter.
pub fn id(matches: &ArgMatches, name: &str) -> Result<u64> {
    let given = text(matches, name);
    given.parse().map_err(|_| anyhow!("{name}: {given:?} is not a number"))
}

/// The messages in the queue that a command is about.
pub fn read(matches: &ArgMatches, now: i64) -> Result<Filter> {
    let hold = match matches.get_one::<String>("hold").map(String::as_str) {
        None => None,
        Some("true") => Some(true),
        Some("false") => Some(false),
        Some(other) => bail!("-hold: {other:?} is neither true nor false"),
    };
    let (submitted_before, submitted_after) = times(matches, "submitted", now)?;
    let (next_attempt_before, next_attempt_after) = times(matches, "nextattempt", now)?;
    Ok(Filter {
        ids: ids(matches)?,
        account: text(matches, "account").to_owned(),
        from: text(matches, "from").to_owned(),
        to: text(matches, "to").to_owned(),
        hold,
        submitted_before,
        submitted_after,
        next_attempt_before,
        next_attempt_after,
        transport: matches.get_one::<String>("transport").cloned(),
        max: most(matches)?,
    })
}

/// `<1h` and `>-15m` as the time before or after which.
pub fn times(matches: &ArgMatches, name: &str, now: i64) -> Result<(Option<i64>, Option<i64>)> {
    let given = text(matches, name);
    if given.is_empty() {
        return Ok((None, None));
    }
    let bad =
        || anyhow!("-{name}: {given:?} must be \"<\" or \">\" and a duration from now, such as \"<1h\" or \">-15m\"");
    let (rest, before) = match (given.strip_prefix('<'), given.strip_prefix('>')) {
        (Some(rest), _) => (rest.trim(), true),
        (_, Some(rest)) => (rest.trim(), false),
        _ => return Err(bad()),
    };
    let from_now = if rest == "now" { Ok(0) } else { signed_millis(rest) };
    let at = now.saturating_add(from_now.map_err(|_| bad())?);
    Ok(if before { (Some(at), None) } else { (None, Some(at)) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(args: &[&str]) -> ArgMatches {
        clap::Command::new("mox")
            .args(of_queue())
            .get_matches_from([&["mox"], args].concat())
    }

    #[test]
    fn filters_are_read() {
        let m = parsed(&[
            "--ids=1, 2",
            "--hold=false",
            "--submitted=<-1h",
            "--nextattempt=>15m",
            "--n=3",
            "--transport=",
        ]);
        let f = read(&m, 10_000_000).unwrap();
        assert_eq!((f.ids, f.hold, f.max), (vec![1, 2], Some(false), 3));
        assert_eq!((f.submitted_before, f.submitted_after), (Some(6_400_000), None));
        assert_eq!((f.next_attempt_before, f.next_attempt_after), (None, Some(10_900_000)));
        assert_eq!(f.transport.as_deref(), Some(""));
        assert_eq!(read(&parsed(&[]), 0).unwrap(), Filter::default());
        for bad in [
            ["--ids=x"],
            ["--hold=maybe"],
            ["--submitted=1h"],
            ["--nextattempt=<x"],
            ["--n=-1"],
            ["--submitted=<"],
            ["--nextattempt=>1h 30m"],
        ] {
            assert!(read(&parsed(&bad), 0).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn times_are_from_now() {
        let before = |given: &str| read(&parsed(&[given]), 10_000_000).unwrap().submitted_before;
        for (given, at) in [
            ("--submitted=<now", 10_000_000),
            ("--submitted=<0", 10_000_000),
            ("--submitted=< -1.5h", 4_600_000),
            ("--submitted=<+7.5m", 10_450_000),
            ("--submitted=<1h30m", 15_400_000),
        ] {
            assert_eq!(before(given), Some(at), "{given}");
        }
    }
}
