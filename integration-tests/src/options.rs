//! What a scenario wants of the system that it starts.

use std::net::SocketAddr;
use std::path::PathBuf;

/// How to start a system.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Where data is kept, if not in the system's temporary folder. It must exist.
    pub data_dir: Option<PathBuf>,
    /// Free space that the store leaves on the disk, in bytes.
    pub reserve_bytes: Option<u64>,
    /// Lines put at the top of `mox.toml`, before the first table.
    pub settings: String,
    /// Run as a host of its own (`mox serve`), not in developer's mode, and ask this server for DNS. Started as root, the
    /// single process becomes another user.
    pub host_with_dns: Option<SocketAddr>,
}

/// Whom `mox serve` becomes.
pub(crate) const HOST_USER: &str = "nobody";
