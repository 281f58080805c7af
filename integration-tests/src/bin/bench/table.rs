//! One table of figures and ratios.

use std::fmt;
use std::time::Duration;

/// A figure of ours, what it is compared with, and what is wanted.
pub(crate) struct Row {
    what: String,
    ours: f64,
    decimals: usize,
    theirs: Option<f64>,
    ratio: Option<f64>,
    wanted: String,
    met: Option<bool>,
}

impl Row {
    pub(crate) fn figure(what: &str, ours: f64, decimals: usize) -> Self {
        let what = what.to_owned();
        Self {
            what,
            ours,
            decimals,
            theirs: None,
            ratio: None,
            wanted: String::new(),
            met: None,
        }
    }

    pub(crate) fn rate(what: &str, ours: f64) -> Self {
        Self::figure(what, ours, 0)
    }

    pub(crate) fn seconds(what: &str, ours: Duration) -> Self {
        Self::figure(what, ours.as_secs_f64(), 2)
    }

    /// What the other has, where that is only told.
    pub(crate) fn theirs(mut self, theirs: f64) -> Self {
        self.theirs = Some(theirs);
        self
    }

    /// Wants at least `share` of what the other server does.
    pub(crate) fn beside(mut self, theirs: Option<f64>, share: f64) -> Self {
        self.theirs = theirs;
        if let Some(theirs) = theirs {
            self = self.share_of(theirs, share);
        }
        self
    }

    /// Wants at least `share` of another figure.
    pub(crate) fn share_of(self, other: f64, share: f64) -> Self {
        let ratio = self.ours / other;
        self.ratio(ratio, share)
    }

    /// Wants a ratio of at least `share`.
    pub(crate) fn ratio(mut self, ratio: f64, share: f64) -> Self {
        self.ratio = Some(ratio);
        self.wanted = format!("x{share:.2} or more");
        self.met = Some(ratio >= share);
        self
    }

    /// Wants less than `limit`.
    pub(crate) fn under(mut self, limit: f64) -> Self {
        self.wanted = format!("under {limit}");
        self.met = Some(self.ours < limit);
        self
    }
}

/// All rows.
pub(crate) struct Table {
    /// What all rows have in common.
    pub(crate) title: String,
    /// Who ours is compared with.
    pub(crate) others: &'static str,
    pub(crate) rows: Vec<Row>,
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.rows.iter().map(|r| r.what.len()).max().unwrap_or(0);
        let width = width.max(self.title.len());
        writeln!(
            f,
            "{:width$}  {:>8}  {:>8}  {:>6}  {:<14}  met",
            self.title, "mox", self.others, "ratio", "wanted"
        )?;
        for row in &self.rows {
            let theirs = row
                .theirs
                .map_or_else(String::new, |t| format!("{t:.0$}", row.decimals));
            let ratio = row.ratio.map_or_else(String::new, |r| format!("x{r:.2}"));
            let met = match row.met {
                Some(true) => "yes",
                Some(false) => "NO",
                None => "",
            };
            let (what, ours, decimals) = (&row.what, row.ours, row.decimals);
            writeln!(
                f,
                "{what:width$}  {ours:>8.decimals$}  {theirs:>8}  {ratio:>6}  {:<14}  {met}",
                row.wanted
            )?;
        }
        Ok(())
    }
}
