//! From root to the user of the server: the program is executed again, with its sockets.
//!
//! They travel over a unix socket that is the new program's standard input (unix(7), SCM_RIGHTS), so that no number of a
//! file descriptor has to be trusted.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};

use crate::context::Context;
use crate::launch::user::User;

/// Says that standard input has sockets, and how many.
const VARIABLE: &str = "MOX_SOCKETS_ON_STDIN";
/// How many file descriptors one message carries: fewer than the 253 that Linux allows.
const BATCH: usize = 64;

/// Becomes the user, and the same program from its beginning, with the sockets. Returns only if that fails.
///
/// # Errors
/// If it fails.
pub fn execute(context: &Context, config: &Path, user: &User, sockets: &[TcpListener]) -> Result<()> {
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    for batch in sockets.chunks(BATCH) {
        let fds: Vec<BorrowedFd<'_>> = batch.iter().map(AsFd::as_fd).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(BATCH))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !ancillary.push(SendAncillaryMessage::ScmRights(&fds)) {
            bail!("too many sockets for one message");
        }
        sendmsg(&ours, &[IoSlice::new(b"s")], &mut ancillary, SendFlags::empty()).context("passing sockets on")?;
    }
    let program = std::env::current_exe().context("finding the program's own file")?;
    let mut command = Command::new(&program);
    command.arg("-config").arg(config);
    if context.pedantic {
        command.arg("-pedantic");
    }
    command
        .arg("serve")
        .env(VARIABLE, sockets.len().to_string())
        .stdin(Stdio::from(theirs));
    // Started by root without groups, the standard library also drops the supplementary ones.
    command.gid(user.gid).uid(user.uid);
    let error = command.exec();
    Err(error).with_context(|| {
        format!(
            "executing {} as uid {}: that user must be able to read the program",
            program.display(),
            user.uid
        )
    })
}

/// The sockets that were passed on to this program; nothing if it was started by itself.
///
/// # Errors
/// If there should be some, and are not.
pub fn take() -> Result<Option<Vec<TcpListener>>> {
    let Some(count) = std::env::var_os(VARIABLE) else {
        return Ok(None);
    };
    let count: usize = count
        .to_str()
        .and_then(|c| c.parse().ok())
        .context("their number is not one")?;
    let stdin = std::io::stdin();
    // The other end is closed: who reads from it afterwards reads its end.
    receive(stdin.as_fd(), count).map(Some)
}

fn receive(from: BorrowedFd<'_>, count: usize) -> Result<Vec<TcpListener>> {
    let mut sockets: Vec<TcpListener> = Vec::new();
    while sockets.len() < count {
        let mut byte = [0; 1];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(BATCH))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let received = recvmsg(
            from,
            &mut [IoSliceMut::new(&mut byte)],
            &mut ancillary,
            RecvFlags::CMSG_CLOEXEC,
        )?;
        let before = sockets.len();
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(fds) = message {
                sockets.extend(fds.map(|fd: OwnedFd| TcpListener::from(fd)));
            }
        }
        if received.bytes == 0 || sockets.len() == before {
            bail!("there are {before} instead of {count}");
        }
    }
    Ok(sockets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_travel() {
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(BATCH))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        let fds = [socket.as_fd()];
        assert!(ancillary.push(SendAncillaryMessage::ScmRights(&fds)));
        sendmsg(&ours, &[IoSlice::new(b"s")], &mut ancillary, SendFlags::empty()).unwrap();
        drop(ours);
        let received = receive(theirs.as_fd(), 1).unwrap();
        assert_eq!(received[0].local_addr().unwrap(), socket.local_addr().unwrap());
        assert!(receive(theirs.as_fd(), 1).is_err());
    }
}
