//! Somebody in between a sender and a host, who passes on what they say but for STARTTLS.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use anyhow::{Context, Result};
use mox_integration_tests::{Process, port_accepts, wait};

const PROXY: &str = r#"
import socket, sys, threading
listen, target, way = sys.argv[1:]

def copy(a, b):
    try:
        while data := a.recv(65536):
            b.sendall(data)
    except OSError:
        pass
    for s in (a, b):
        try:
            s.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

def reply(lines):
    got = []
    while True:
        line = lines.readline()
        got.append(line)
        if not line or line[3:4] == b" ":
            return got

def serve(client):
    server = socket.create_connection((target, 25))
    if way != "all":
        said, asked = server.makefile("rb", 0), client.makefile("rb", 0)
        client.sendall(b"".join(reply(said)))
        server.sendall(asked.readline())
        lines = reply(said)
        if way == "no-starttls":
            lines = [line for line in lines if b"STARTTLS" not in line]
            lines[-1] = lines[-1][:3] + b" " + lines[-1][4:]
        client.sendall(b"".join(lines))
        first = asked.readline()
        if first.strip() == b"STARTTLS":
            # The reply is as it should be, and what follows is no TLS.
            client.sendall(b"220 2.0.0 go on\r\n")
            client.recv(65536)
            client.sendall(b"500 5.5.1 what is this\r\n")
            client.close()
            return server.close()
        server.sendall(first)
    threading.Thread(target=copy, args=(server, client), daemon=True).start()
    copy(client, server)

listener = socket.create_server((listen, 25))
while True:
    client, _ = listener.accept()
    threading.Thread(target=serve, args=(client,), daemon=True).start()
"#;

/// How much of STARTTLS is passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// All.
    All,
    /// That it is offered, and not what follows.
    NoHandshake,
    /// Nothing.
    NoStartTls,
}

/// Starts passing on between an address and a host, at port 25 of both.
pub fn start(folder: &Path, at: IpAddr, to: IpAddr, way: Way) -> Result<Process> {
    let word = match way {
        Way::All => "all",
        Way::NoHandshake => "no-handshake",
        Way::NoStartTls => "no-starttls",
    };
    let args = ["-c", PROXY, &at.to_string(), &to.to_string(), word];
    let log = folder.join(format!("between-{at}.log"));
    let process = Process::start("between", Path::new("/usr/bin/python3"), &args, &log)?;
    wait::until("who is in between", wait::DEADLINE, || {
        Ok(port_accepts(SocketAddr::new(at, 25)).then_some(()))
    })
    .with_context(|| process.log_tail())?;
    Ok(process)
}
