//! Levels of the log, for each package, changed while running.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tracing::subscriber::Interest;
use tracing::{Metadata, Subscriber};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::{Context, Filter};

/// How much is logged; each includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// What went wrong.
    Error,
    /// What happens, and what looks wrong.
    Info,
    /// Why it happens.
    Debug,
    /// Protocol transcripts.
    Trace,
    /// Also passwords in them.
    TraceAuth,
    /// Also whole messages in them.
    TraceData,
}

impl Level {
    /// From little to much.
    pub const ALL: [Level; 6] = [
        Level::Error,
        Level::Info,
        Level::Debug,
        Level::Trace,
        Level::TraceAuth,
        Level::TraceData,
    ];

    /// Its name, as in settings and commands.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Level::Error => "error",
            Level::Info => "info",
            Level::Debug => "debug",
            Level::Trace => "trace",
            Level::TraceAuth => "traceauth",
            Level::TraceData => "tracedata",
        }
    }

    fn filter(self) -> LevelFilter {
        match self {
            Level::Error => LevelFilter::ERROR,
            // There is no level of ours for warnings alone.
            Level::Info => LevelFilter::INFO,
            Level::Debug => LevelFilter::DEBUG,
            Level::Trace | Level::TraceAuth | Level::TraceData => LevelFilter::TRACE,
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text that is no level.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("log level {0:?} is none of error, info, debug, trace, traceauth, tracedata")]
pub struct LevelError(pub String);

impl FromStr for Level {
    type Err = LevelError;

    fn from_str(s: &str) -> Result<Self, LevelError> {
        Level::ALL
            .into_iter()
            .find(|level| level.as_str() == s)
            .ok_or_else(|| LevelError(s.to_owned()))
    }
}

/// The package that a line is of: of `mox_smtp_in::session`, `smtp-in`. Other crates are packages by their own name.
#[must_use]
pub fn package_of(target: &str) -> Cow<'_, str> {
    let name = target.split_once("::").map_or(target, |(name, _)| name);
    let name = name.strip_prefix("mox_").unwrap_or(name);
    if name.contains('_') {
        Cow::Owned(name.replace('_', "-"))
    } else {
        Cow::Borrowed(name)
    }
}

fn is_ours(target: &str) -> bool {
    target.starts_with("mox_") || target == "mox" || target.starts_with("mox::")
}

#[derive(Clone, Debug)]
struct Table {
    default: Level,
    packages: BTreeMap<String, Level>,
}

impl Table {
    fn filter(&self, target: &str) -> LevelFilter {
        if let Some(level) = self.packages.get(package_of(target).as_ref()) {
            return level.filter();
        }
        if is_ours(target) {
            self.default.filter()
        } else {
            self.default.filter().min(LevelFilter::WARN)
        }
    }
}

/// The levels in force. Clones share them.
#[derive(Clone, Debug)]
pub struct Levels(Arc<ArcSwap<Table>>);

impl Levels {
    pub(crate) fn new(default: Level, packages: &[(String, Level)]) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(Table {
            default,
            packages: packages.iter().cloned().collect(),
        })))
    }

    /// Of packages that have none of their own.
    #[must_use]
    pub fn default_level(&self) -> Level {
        self.0.load().default
    }

    /// Packages with a level of their own.
    #[must_use]
    pub fn packages(&self) -> BTreeMap<String, Level> {
        self.0.load().packages.clone()
    }

    /// Of one package.
    #[must_use]
    pub fn level(&self, package: &str) -> Level {
        let table = self.0.load();
        table.packages.get(package).copied().unwrap_or(table.default)
    }

    /// Changes the level of packages that have none of their own.
    pub fn set_default(&self, level: Level) {
        self.change(|table| table.default = level);
    }

    /// Gives a package a level of its own, or takes it away.
    pub fn set(&self, package: &str, level: Option<Level>) {
        self.change(|table| {
            match level {
                Some(level) => table.packages.insert(package.to_owned(), level),
                None => table.packages.remove(package),
            };
        });
    }

    fn change(&self, change: impl Fn(&mut Table)) {
        self.0.rcu(|table| {
            let mut table = Table::clone(table);
            change(&mut table);
            table
        });
        // Every place that logs remembers whether it may.
        tracing::callsite::rebuild_interest_cache();
    }

    pub(crate) fn filter(&self) -> LevelsFilter {
        LevelsFilter(self.clone())
    }
}

/// Lets lines through to the log by the levels in force.
pub(crate) struct LevelsFilter(Levels);

impl LevelsFilter {
    fn allows(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= self.0.0.load().filter(metadata.target())
    }
}

impl<S: Subscriber> Filter<S> for LevelsFilter {
    fn enabled(&self, metadata: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        self.allows(metadata)
    }

    fn callsite_enabled(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.allows(metadata) {
            Interest::always()
        } else {
            Interest::never()
        }
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        let table = self.0.0.load();
        let packages = table.packages.values().map(|level| level.filter());
        packages.chain([table.default.filter()]).max()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_are_crates() {
        assert_eq!(package_of("mox_smtp_in::session"), "smtp-in");
        assert_eq!(package_of("mox_queue_delivery"), "queue-delivery");
        assert_eq!(package_of("hickory_resolver::x"), "hickory-resolver");
        assert_eq!(package_of("h2"), "h2");
    }

    #[test]
    fn names_are_read_back() {
        for level in Level::ALL {
            assert_eq!(level.to_string().parse::<Level>(), Ok(level));
        }
        assert!("warn".parse::<Level>().is_err() && "INFO".parse::<Level>().is_err() && "".parse::<Level>().is_err());
    }

    #[test]
    fn levels_are_by_package_and_change() {
        let levels = Levels::new(Level::Info, &[("imap".into(), Level::Trace)]);
        let filter = |target: &str| levels.0.load().filter(target);
        assert_eq!(filter("mox_imap::commands"), LevelFilter::TRACE);
        assert_eq!(filter("mox_store"), LevelFilter::INFO);
        assert_eq!(filter("h2::codec"), LevelFilter::WARN);
        levels.set("h2", Some(Level::Debug));
        levels.set("imap", None);
        levels.set_default(Level::Error);
        assert_eq!(filter("h2::codec"), LevelFilter::DEBUG);
        assert_eq!(filter("mox_imap"), LevelFilter::ERROR);
        assert_eq!(filter("hyper"), LevelFilter::ERROR);
    }
}
