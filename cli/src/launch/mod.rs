//! The single-host shape: all services in one process.
//!
//! They are the same services as in the distributed shape, built with the same [`mox_service::Deps`]. Only what carries
//! their calls and events is within the process.

mod inherit;
mod local;
mod permissions;
mod single;
mod user;

use std::net::TcpListener;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use mox_config::Static;
use mox_service::{Bound, Kind};
use rustix::process::geteuid;

use crate::context::{Context, folder_of};

pub use permissions::fix as fix_permissions;
pub use user::{User, find as find_user};

/// Files that this process makes are for its user only.
const UMASK: u32 = 0o077;

/// `mox serve`.
///
/// # Errors
/// If it does not start, or does not end well.
pub fn serve(context: &Context) -> Result<()> {
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(UMASK));
    // Everything that is wrong is told before anything begins.
    let (file, fixed, _) = context.load()?;
    let inherited = inherit::take().context("taking over the sockets that were bound as root")?;
    if inherited.is_none() && geteuid().is_root() {
        return serve_as_user(context, &file, &fixed);
    }
    let sockets = bind(&fixed, &file, inherited.unwrap_or_default())?;
    single::run(&file, fixed, sockets, single::Purpose::Serve)
}

/// As root: listens, and goes on as the user of the configuration with the sockets.
fn serve_as_user(context: &Context, file: &Path, fixed: &Static) -> Result<()> {
    let user = user::find(&fixed.user)?;
    if user.uid == 0 {
        bail!(
            "user {:?} in {} is root: name a user of its own for mox, such as mox",
            fixed.user,
            file.display()
        );
    }
    let sockets = bind(fixed, file, Vec::new())?;
    if !fixed.no_fix_permissions {
        permissions::fix(file, fixed, &user)?;
    }
    let sockets: Vec<TcpListener> = sockets.into_iter().map(|bound| bound.socket).collect();
    inherit::execute(context, file, &user, &sockets)
}

fn bind(fixed: &Static, file: &Path, inherited: Vec<TcpListener>) -> Result<Vec<Bound>> {
    Ok(mox_service::bind_inherited(
        fixed,
        &folder_of(file),
        &Kind::ALL,
        inherited,
    )?)
}

/// `mox localserve`.
///
/// # Errors
/// If it does not start, or does not end well.
pub fn localserve(context: &Context, dir: &str, ip: &str, init_only: bool) -> Result<()> {
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(UMASK));
    let (file, new) = local::prepare(dir, ip)?;
    if init_only {
        println!(
            "{} {}",
            if new {
                "configuration was written:"
            } else {
                "configuration exists:"
            },
            file.display()
        );
        return Ok(());
    }
    let (mut fixed, _) = mox_config::load(&file)?;
    fixed.pedantic |= context.pedantic;
    let sockets = bind(&fixed, &file, Vec::new())?;
    let banner = local::banner(&file, &fixed, new);
    single::run(&file, fixed, sockets, single::Purpose::Local { banner })
}
