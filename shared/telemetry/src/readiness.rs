//! Whether this process can do its work now.

use std::sync::Arc;

use parking_lot::RwLock;

type Check = Box<dyn Fn() -> Result<(), String> + Send + Sync>;

/// Checks that `/readyz` runs. Clones share them.
#[derive(Clone, Default)]
pub struct Readiness(Arc<RwLock<Vec<(String, Check)>>>);

impl std::fmt::Debug for Readiness {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list()
            .entries(self.0.read().iter().map(|(name, _)| name))
            .finish()
    }
}

impl Readiness {
    /// Adds a check, in place of one of the same name. It answers at once, from what is known, with the reason if not.
    pub fn register(&self, name: &str, check: impl Fn() -> Result<(), String> + Send + Sync + 'static) {
        let mut checks = self.0.write();
        checks.retain(|(known, _)| known != name);
        checks.push((name.to_owned(), Box::new(check)));
    }

    /// What is not ready, by name, with the reason.
    #[must_use]
    pub fn failing(&self) -> Vec<(String, String)> {
        let checks = self.0.read();
        checks
            .iter()
            .filter_map(|(name, check)| check().err().map(|why| (name.clone(), why)))
            .collect()
    }
}
