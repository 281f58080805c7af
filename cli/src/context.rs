//! What every command can use: where the configuration is.

use std::path::{Path, PathBuf};

use anyhow::Result;
use mox_config::{Dynamic, Static};

/// Names the configuration when `-config` does not.
const VARIABLE: &str = "MOXCONF";
/// Where the configuration is when nothing names one.
const DEFAULT: &str = "config/mox.toml";

/// Options that all commands have.
#[derive(Debug)]
pub struct Context {
    config: Option<PathBuf>,
    /// Whether tolerated violations of protocols are errors.
    pub pedantic: bool,
}

impl Context {
    /// From the command line, or else the environment.
    pub fn new(config: Option<PathBuf>, pedantic: bool) -> Self {
        let variable = || std::env::var_os(VARIABLE).filter(|v| !v.is_empty()).map(PathBuf::from);
        Self {
            config: config.or_else(variable),
            pedantic,
        }
    }

    /// The configuration that was named.
    #[cfg(test)]
    pub fn config_given(&self) -> Option<&Path> {
        self.config.as_deref()
    }

    /// `mox.toml`: as named, or `config/mox.toml`, or that of localserve if there is no such.
    pub fn config_file(&self) -> PathBuf {
        if let Some(given) = &self.config {
            return given.clone();
        }
        let default = PathBuf::from(DEFAULT);
        if default.exists() {
            return default;
        }
        let local = localserve_dir().map(|dir| dir.join("mox.toml"));
        local.filter(|file| file.exists()).unwrap_or(default)
    }

    /// Reads the static configuration, with the options of the command line.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn load_static(&self) -> Result<(PathBuf, Static)> {
        let file = self.config_file();
        let mut fixed = mox_config::load_static(&file)?;
        fixed.pedantic |= self.pedantic;
        Ok((file, fixed))
    }

    /// Reads both files.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub fn load(&self) -> Result<(PathBuf, Static, Dynamic)> {
        let file = self.config_file();
        let (mut fixed, dynamic) = mox_config::load(&file)?;
        fixed.pedantic |= self.pedantic;
        Ok((file, fixed, dynamic))
    }
}

/// The folder of a file.
pub fn folder_of(file: &Path) -> PathBuf {
    file.parent()
        .filter(|p| !p.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
        .to_owned()
}

/// Where localserve keeps its files: in the user's folder for configurations (XDG Base Directory Specification).
pub fn localserve_dir() -> Option<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
    let dir = absolute("XDG_CONFIG_HOME").or_else(|| absolute("HOME").map(|home| home.join(".config")))?;
    Some(dir.join("mox-localserve"))
}
