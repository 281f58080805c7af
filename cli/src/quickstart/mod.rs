//! `mox quickstart`: from a domain to a server that starts.

pub mod certificate;
mod files;
mod network;
mod report;
pub mod systemd;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use mox_types::{Address, Domain};
use rand::Rng;

use crate::launch::{self, User};

/// What was asked for.
pub struct Options {
    /// The first address.
    pub address: String,
    /// The user that mox will run as.
    pub user: Option<String>,
    /// The name of the host.
    pub hostname: Option<String>,
    /// Do not try port 25.
    pub skip_dial: bool,
    /// Leave ports 80 and 443 to another program.
    pub existing_webserver: bool,
}

/// What is set up.
pub struct Plan {
    /// The first address.
    pub address: Address,
    /// Name of the account.
    pub account: String,
    /// Name of the host.
    pub hostname: Domain,
    /// Addresses to listen on.
    pub ips: Vec<std::net::IpAddr>,
    /// Public addresses that are not this machine's own.
    pub nat_ips: Vec<std::net::IpAddr>,
    /// The user that mox will run as.
    pub user: String,
    /// Leave ports 80 and 443 to another program.
    pub existing_webserver: bool,
    /// Folder of the configuration.
    pub config: PathBuf,
    /// Folder of the data.
    pub data: PathBuf,
}

/// Characters of passwords: without those that look alike.
const LETTERS: &[u8] = b"abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789";
/// Characters of a password: over 90 bits.
const PASSWORD_LENGTH: usize = 16;

/// Sets everything up in the current folder.
///
/// # Errors
/// If it was done before, or something cannot be made; what was made by this run is then removed.
pub fn run(options: &Options) -> Result<()> {
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let address: Address = options
        .address
        .parse()
        .context("the first parameter is an address, such as you@example.org")?;
    let given = options
        .hostname
        .as_deref()
        .map(str::parse::<Domain>)
        .transpose()
        .context("-hostname")?;
    let here = std::env::current_dir().context("finding the current folder")?;
    let (config, data) = (here.join("config"), here.join("data"));
    refuse_existing(&[&config, &data])?;
    let user = options.user.clone().unwrap_or_else(|| "mox".to_owned());
    if launch::find_user(&user).is_ok_and(|found| found.uid == 0) {
        bail!("user {user:?} is root: name a user of its own for mox, such as mox, which may be made later");
    }

    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("starting the runtime")?;
    println!("Looking at this machine, DNS and the network…\n");
    let found = runtime.block_on(network::look(&address.domain, given.as_ref(), options.skip_dial));
    for note in &found.notes {
        println!("{note}");
    }
    let account = account_name(&address);
    let plan = Plan {
        account,
        hostname: found.hostname.clone(),
        ips: found.ips.clone(),
        nat_ips: found.nat_ips.clone(),
        user,
        existing_webserver: options.existing_webserver,
        config,
        data,
        address,
    };
    let passwords = Passwords {
        admin: password(),
        account: password(),
    };
    let written = files::write(&plan, &passwords, &runtime);
    let (fixed, dynamic) = match written {
        Ok(written) => written,
        Err(error) => {
            // Both were not there before.
            let _ = std::fs::remove_dir_all(&plan.config);
            let _ = std::fs::remove_dir_all(&plan.data);
            return Err(error.context("setting up mox; nothing was kept"));
        }
    };
    let service = systemd::write(&here)?;
    let owner = owner(&plan, &fixed);
    print!(
        "{}",
        report::text(
            &plan,
            &fixed,
            &dynamic,
            &passwords,
            &found,
            service.as_deref(),
            owner.as_ref()
        )?
    );
    Ok(())
}

/// Passwords that are told once.
pub struct Passwords {
    /// Of the administrator.
    pub admin: String,
    /// Of the account.
    pub account: String,
}

fn password() -> String {
    let mut rng = rand::rng();
    (0..PASSWORD_LENGTH)
        .map(|_| char::from(LETTERS[rng.random_range(0..LETTERS.len())]))
        .collect()
}

fn refuse_existing(folders: &[&PathBuf]) -> Result<()> {
    for folder in folders {
        let empty = match std::fs::read_dir(folder) {
            Ok(mut entries) => entries.next().is_none(),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => true,
            Err(e) => return Err(e).with_context(|| format!("looking into {}", folder.display())),
        };
        if !empty {
            bail!(
                "{} exists and is not empty: mox seems to be set up here already, and nothing was changed; run quickstart \
                 in another folder, or move this away",
                folder.display()
            );
        }
    }
    Ok(())
}

/// The localpart as far as it can be the name of an account.
fn account_name(address: &Address) -> String {
    let name: String = address
        .localpart
        .as_str()
        .to_lowercase()
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || *c == '-' || *c == '.')
        .collect();
    let name = name.trim_matches(['.', '-']).to_owned();
    if mox_config::account_name_problem(&name).is_some() {
        "mox".to_owned()
    } else {
        name
    }
}

/// As root, gives the files to the user if there is such. Answers the user's name otherwise, who is to be made.
fn owner(plan: &Plan, fixed: &mox_config::Static) -> Option<User> {
    let user = launch::find_user(&plan.user).ok()?;
    if rustix::process::geteuid().is_root() {
        let _ = launch::fix_permissions(&plan.config.join("mox.toml"), fixed, &user);
    }
    Some(user)
}

/// A path as people write it in the folder where they are.
pub fn shown(path: &Path) -> String {
    let here = std::env::current_dir().unwrap_or_default();
    path.strip_prefix(here).unwrap_or(path).display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_passwords_are_good() {
        for (address, name) in [
            ("Jane.Doe@example.org", "jane.doe"),
            ("\"a b\"@example.org", "ab"),
            ("ö@example.org", "mox"),
        ] {
            assert_eq!(account_name(&address.parse().unwrap()), name);
        }
        let (one, other) = (password(), password());
        assert_ne!(one, other);
        assert!(mox_control::check_password(&one).is_ok() && one.len() == PASSWORD_LENGTH);
    }

    #[test]
    fn what_exists_is_not_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let (config, data) = (dir.path().join("config"), dir.path().join("data"));
        refuse_existing(&[&config, &data]).unwrap();
        std::fs::create_dir(&config).unwrap();
        refuse_existing(&[&config, &data]).unwrap();
        std::fs::write(config.join("mox.toml"), "").unwrap();
        assert!(
            refuse_existing(&[&config, &data])
                .unwrap_err()
                .to_string()
                .contains("already")
        );
    }
}
