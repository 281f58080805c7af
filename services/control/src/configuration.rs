//! The dynamic configuration: from its file to the store, and from commands to its file.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use mox_config::{ConfigError, DYNAMIC_FILE, Dynamic, Secret, Source, Static};
use mox_proto::config::v1::config_admin_service_client::ConfigAdminServiceClient;
use mox_proto::config::v1::{CommitConfigRequest, InitialMailboxes};
use mox_rpc::Channel;
use tokio::sync::Mutex;

use crate::edit::{Edit, EditError};
use crate::file::{Stamp, WriteError, replace};

/// How often the file is looked at.
const POLL: Duration = Duration::from_secs(1);
/// Mode of a new file: it has names of people, and may have secrets.
const MODE: u32 = 0o600;

/// Why the configuration was not changed.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// The file, or what it would become, has errors.
    #[error(transparent)]
    Invalid(#[from] ConfigError),
    /// The change is not possible.
    #[error(transparent)]
    Edit(#[from] EditError),
    /// The file cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// A private key cannot be used.
    #[error("private key of selector {selector} of domain {domain}: {reason}")]
    Key {
        /// Of which selector.
        selector: String,
        /// Of which domain.
        domain: String,
        /// What is wrong.
        reason: String,
    },
    /// The store did not take it.
    #[error("the configuration is right, but the store did not take it: {0}")]
    Store(Box<tonic::Status>),
    /// The file was changed, but the store did not take it.
    #[error(
        "the change is in domains.toml, but not in force, since the store did not take it ({}): it is tried again every \
         second",
        .0.message()
    )]
    Later(Box<tonic::Status>),
    /// The snapshot cannot be made.
    #[error("writing the configuration as JSON: {0}")]
    Json(serde_json::Error),
    /// A task of this process failed.
    #[error("internal: {0}")]
    Internal(String),
}

impl From<tonic::Status> for ChangeError {
    fn from(status: tonic::Status) -> Self {
        Self::Store(Box::new(status))
    }
}

/// What is in force.
#[derive(Debug)]
pub struct InForce {
    /// The configuration.
    pub config: Dynamic,
    /// Its version in the store.
    pub version: u64,
}

/// The file, and what of it is in force.
pub struct Configuration {
    fixed: Arc<Static>,
    dir: PathBuf,
    file: PathBuf,
    store: ConfigAdminServiceClient<Channel>,
    in_force: ArcSwapOption<InForce>,
    /// Held for every change. Has the state of the file that was looked at last, and whether it has to be again.
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    stamp: Option<Stamp>,
    /// The same error again is not worth a line in the log.
    error: Option<String>,
}

impl Configuration {
    /// Of the file in the folder of the configuration.
    #[must_use]
    pub fn new(fixed: Arc<Static>, dir: PathBuf, store: Channel) -> Self {
        Self {
            fixed,
            file: dir.join(DYNAMIC_FILE),
            dir,
            store: ConfigAdminServiceClient::new(store),
            in_force: ArcSwapOption::empty(),
            seen: Mutex::default(),
        }
    }

    /// The folder of the files.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The static configuration.
    #[must_use]
    pub fn fixed(&self) -> &Static {
        &self.fixed
    }

    /// What is in force, once something is.
    #[must_use]
    pub fn in_force(&self) -> Option<Arc<InForce>> {
        self.in_force.load_full()
    }

    /// A client for the store's side of administration.
    #[must_use]
    pub fn store(&self) -> ConfigAdminServiceClient<Channel> {
        self.store.clone()
    }

    /// Reads the file and puts it into force. Answers its version.
    ///
    /// # Errors
    /// If it has errors, or the store does not take it; what was in force stays so.
    pub async fn reload(&self) -> Result<u64, ChangeError> {
        let mut seen = self.seen.lock().await;
        let result = self.reload_locked(&mut seen).await;
        seen.error = result.as_ref().err().map(ToString::to_string);
        result
    }

    async fn reload_locked(&self, seen: &mut Seen) -> Result<u64, ChangeError> {
        // Before reading: a change meanwhile is seen as one.
        let stamp = Stamp::of(&self.file);
        let (file, fixed, dir) = (self.file.clone(), Arc::clone(&self.fixed), self.dir.clone());
        let config = blocking(move || prepare(&Source::read(&file)?, &fixed, &dir)).await?;
        let version = self.commit(config).await?;
        seen.stamp = stamp;
        Ok(version)
    }

    /// Changes the file, and puts the change into force. Answers its version.
    ///
    /// # Errors
    /// If the file has errors already, the change is not possible or makes errors, or the file can't be written. If only
    /// the store does not take it, the change stays in the file, and is tried again.
    pub async fn change<C>(&self, change: C) -> Result<u64, ChangeError>
    where
        C: FnOnce(&mut Edit<'_>) -> Result<(), EditError> + Send + 'static,
    {
        let mut seen = self.seen.lock().await;
        let (file, fixed, dir) = (self.file.clone(), Arc::clone(&self.fixed), self.dir.clone());
        let config = blocking(move || {
            let before = Source::read(&file)?;
            let config = before.parse_dynamic(&fixed)?;
            let mut edit = Edit::new(&before.text, &config)?;
            change(&mut edit)?;
            let after = Source {
                file,
                text: edit.finish(),
            };
            let config = prepare(&after, &fixed, &dir)?;
            replace(&after.file, after.text.as_bytes(), MODE)?;
            Ok(config)
        })
        .await?;
        // Until the store has it, the file counts as changed, and is tried again.
        seen.stamp = None;
        let stamp = Stamp::of(&self.file);
        let version = self.commit(config).await.map_err(|error| match error {
            ChangeError::Store(status) => ChangeError::Later(status),
            other => other,
        })?;
        seen.stamp = stamp;
        seen.error = None;
        Ok(version)
    }

    async fn commit(&self, config: Dynamic) -> Result<u64, ChangeError> {
        let special = &self.fixed.initial_mailboxes.special_use;
        let special_use = [
            ("\\Sent", &special.sent),
            ("\\Archive", &special.archive),
            ("\\Trash", &special.trash),
            ("\\Drafts", &special.draft),
            ("\\Junk", &special.junk),
        ];
        let special_use = special_use.into_iter().filter(|(_, name)| !name.is_empty());
        let request = CommitConfigRequest {
            key: mox_rpc::key(),
            snapshot: serde_json::to_vec(&config).map_err(ChangeError::Json)?.into(),
            initial_mailboxes: Some(InitialMailboxes {
                special_use: special_use
                    .map(|(name, mailbox)| (name.to_owned(), mailbox.clone()))
                    .collect(),
                regular: self.fixed.initial_mailboxes.regular.clone(),
            }),
            default_quota: self.fixed.quota_message_size,
        };
        let version = self.store.clone().commit(request).await?.into_inner().version;
        self.in_force.store(Some(Arc::new(InForce { config, version })));
        Ok(version)
    }

    /// Looks at the file every second, and puts changes into force. Ends when dropped.
    pub async fn watch(&self) {
        let mut ticks = tokio::time::interval(POLL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let mut seen = self.seen.lock().await;
            let stamp = Stamp::of(&self.file);
            if stamp.is_some() && stamp == seen.stamp {
                continue;
            }
            match self.reload_locked(&mut seen).await {
                Ok(version) => {
                    tracing::info!(file = %self.file.display(), version, "configuration is in force");
                    seen.error = None;
                }
                Err(error) => {
                    // A file with errors is not read again before it changes; what else failed is tried again.
                    if !matches!(error, ChangeError::Store(_)) && stamp.is_some() {
                        seen.stamp = stamp;
                    }
                    let error = error.to_string();
                    if seen.error.as_ref() != Some(&error) {
                        for line in error.lines() {
                            tracing::error!(
                                error = line,
                                "configuration was not taken over; the old one stays in force"
                            );
                        }
                        seen.error = Some(error);
                    }
                }
            }
        }
    }
}

/// Reads and validates a text, and puts private keys into it.
fn prepare(source: &Source, fixed: &Static, dir: &Path) -> Result<Dynamic, ChangeError> {
    let mut config = source.parse_dynamic(fixed)?;
    for (domain, settings) in &mut config.domains {
        for (name, selector) in &mut settings.dkim.selectors {
            let fail = |reason: String| ChangeError::Key {
                selector: name.clone(),
                domain: domain.to_string(),
                reason,
            };
            if let Some(file) = &selector.private_key_file {
                let file = dir.join(file);
                let pem = std::fs::read_to_string(&file).map_err(|e| {
                    fail(format!(
                        "reading {}: {e}; make it, or remove the selector",
                        file.display()
                    ))
                })?;
                crate::keys::PublicKey::of(&pem, &file).map_err(|e| fail(e.to_string()))?;
                selector.private_key = Some(Secret::new(pem));
            }
        }
    }
    Ok(config)
}

/// As services would see the files, for checking them without a running server.
///
/// # Errors
/// If a private key is missing or no good.
pub fn check_keys(source: &Source, fixed: &Static, dir: &Path) -> Result<(), ChangeError> {
    prepare(source, fixed, dir).map(drop)
}

pub(crate) async fn blocking<T, F>(work: F) -> Result<T, ChangeError>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T, ChangeError> + Send + 'static,
{
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|e| ChangeError::Internal(e.to_string()))?
}
