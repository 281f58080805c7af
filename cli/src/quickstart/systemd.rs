//! The systemd unit.

use std::path::{Path, PathBuf};

use anyhow::Result;
use mox_control::replace;

/// Name of the file.
const FILE: &str = "mox.service";
/// What ProtectHome= hides.
const HOMES: [&str; 3] = ["/home", "/root", "/run/user"];

/// The unit for a server in this folder.
pub fn unit(folder: &Path) -> String {
    // systemd.exec(5): with "yes", these would be empty for the server, also where it may write.
    let in_home = HOMES.iter().any(|home| folder.starts_with(home));
    let protect_home = if in_home { "read-only" } else { "yes" };
    let private_tmp = if folder.starts_with("/tmp") || folder.starts_with("/var/tmp") {
        "no"
    } else {
        "yes"
    };
    let folder = folder.display();
    format!(
        "# Unit for mox. Copy it to /etc/systemd/system/, and: systemctl daemon-reload, systemctl enable --now mox
[Unit]
Description=mox mail server
After=network-online.target
Wants=network-online.target

[Service]
# mox starts as root to listen on its ports, and goes on as the user in mox.toml.
WorkingDirectory={folder}
ExecStart={folder}/mox serve
ExecStop={folder}/mox stop
Restart=always
RestartSec=5s
UMask=0077
LimitNOFILE=65535
TimeoutStopSec=20s

# What it cannot do is not done to it.
NoNewPrivileges=yes
ProtectSystem=strict
ReadWritePaths={folder}/config {folder}/data
ProtectHome={protect_home}
PrivateTmp={private_tmp}
PrivateDevices=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
CapabilityBoundingSet=CAP_NET_BIND_SERVICE CAP_SETUID CAP_SETGID CAP_CHOWN CAP_FOWNER CAP_DAC_OVERRIDE

[Install]
WantedBy=multi-user.target
"
    )
}

/// Writes it into the folder; nothing if one is there.
///
/// # Errors
/// If it cannot be written.
pub fn write(folder: &Path) -> Result<Option<PathBuf>> {
    let file = folder.join(FILE);
    if file.exists() {
        return Ok(None);
    }
    replace(&file, unit(folder).as_bytes(), 0o644)?;
    Ok(Some(file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_in_a_home_folder_sees_it() {
        let protects = |folder: &str, how: &str| unit(Path::new(folder)).contains(&format!("\nProtectHome={how}\n"));
        assert!(protects("/home/mox", "read-only"));
        assert!(protects("/srv/mox", "yes"));
        assert!(protects("/homes/mox", "yes"));
    }

    #[test]
    fn a_unit_is_written_once() {
        let dir = tempfile::tempdir().unwrap();
        let file = write(dir.path()).unwrap().unwrap();
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.contains(&format!("ExecStart={}/mox serve\n", dir.path().display())));
        assert_eq!(write(dir.path()).unwrap(), None);
    }
}
