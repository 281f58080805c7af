//! The hosts of MTA-STS policies: one HTTPS server, in Python.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use mox_integration_tests::{Process, port_accepts, wait};
use serde_json::json;

use crate::certificates::Certificate;

/// Answers as files say that are named like the host that is asked for.
const SERVER: &str = r#"
import http.server, json, os, ssl, sys, time
address, folder, cert, key = sys.argv[1:]

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        self.close_connection = True
        host = self.headers["Host"].split(":")[0]
        path = os.path.join(folder, os.path.basename(host))
        if self.path != "/.well-known/mta-sts.txt" or not os.path.exists(path):
            return self.send_error(404)
        answer = json.load(open(path))
        body, more = answer["body"].encode(), answer["more"]
        if more == "megabytes":
            body += b"x-more: and so on\r\n" * 500_000
        self.send_response(answer["status"])
        for name, value in answer["header"].items():
            self.send_header(name, value)
        if more in ("", "megabytes"):
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            return self.wfile.write(body)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        while True:
            part = body[:1] if more == "slowly" else body
            body = body[1:] + b"\n" if more == "slowly" else b"x-more: and so on\r\n" * 500
            self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
            self.wfile.flush()
            if more == "slowly":
                time.sleep(1)

class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    def handle_error(self, request, client):
        pass

server = Server((address, 443), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(cert, key)
# Not by who accepts: a handshake that takes long holds up nobody.
server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
server.serve_forever()
"#;

/// What a host answers.
#[derive(Debug, Clone)]
pub struct Answer {
    status: u16,
    kind: &'static str,
    location: Option<String>,
    body: String,
    more: &'static str,
}

impl Answer {
    /// A text, as it should be.
    pub fn text(body: &str) -> Self {
        Self {
            status: 200,
            kind: "text/plain",
            location: None,
            body: body.to_owned(),
            more: "",
        }
    }

    /// That it is elsewhere, with a text all the same.
    pub fn moved(self, status: u16, host: &str) -> Self {
        Self {
            status,
            location: Some(format!("https://{host}/.well-known/mta-sts.txt")),
            ..self
        }
    }

    /// The same of another media type.
    pub fn of_type(self, kind: &'static str) -> Self {
        Self { kind, ..self }
    }

    /// The same, and more: "megabytes" of it, "endless", or "slowly" and endless.
    pub fn with_more(self, more: &'static str) -> Self {
        Self { more, ..self }
    }
}

/// A running server.
pub struct Policies {
    folder: PathBuf,
    _process: Process,
}

impl Policies {
    /// Has a host answer so from now on.
    pub fn set(&self, host: &str, answer: &Answer) -> Result<()> {
        let mut header = json!({ "Content-Type": answer.kind });
        if let Some(location) = &answer.location {
            header["Location"] = location.as_str().into();
        }
        let text = json!({ "status": answer.status, "header": header, "body": answer.body, "more": answer.more });
        let path = self.folder.join(host);
        fs::write(&path, text.to_string()).with_context(|| format!("writing {}", path.display()))
    }
}

/// Starts the server for policies by their hosts.
pub fn serve(folder: &Path, ip: IpAddr, certificate: &Certificate, policies: &[(String, Answer)]) -> Result<Policies> {
    let files = folder.join("policies");
    fs::create_dir_all(&files)?;
    let args = [
        "-c".to_owned(),
        SERVER.to_owned(),
        ip.to_string(),
        files.display().to_string(),
        certificate.cert.display().to_string(),
        certificate.key.display().to_string(),
    ];
    let log = folder.join("policies.log");
    let process = Process::start("policies", Path::new("/usr/bin/python3"), &args, &log)?;
    wait::until("the hosts of policies to answer", wait::DEADLINE, || {
        Ok(port_accepts(SocketAddr::new(ip, 443)).then_some(()))
    })
    .with_context(|| process.log_tail())?;
    let server = Policies {
        folder: files,
        _process: process,
    };
    for (host, answer) in policies {
        server.set(host, answer)?;
    }
    Ok(server)
}
