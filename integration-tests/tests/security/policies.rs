//! The hosts of MTA-STS policies: one HTTPS server, in Python.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use anyhow::{Context, Result};
use mox_integration_tests::{Process, port_accepts, wait};

use crate::certificates::Certificate;

/// Serves files named like the host that is asked for.
const SERVER: &str = r#"
import http.server, os, ssl, sys
address, folder, cert, key = sys.argv[1:]

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        host = self.headers["Host"].split(":")[0]
        path = os.path.join(folder, os.path.basename(host))
        if self.path != "/.well-known/mta-sts.txt" or not os.path.exists(path):
            return self.send_error(404)
        body = open(path, "rb").read()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

server = http.server.ThreadingHTTPServer((address, 443), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(cert, key)
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
"#;

/// Starts the server for policies by their hosts.
pub fn serve(folder: &Path, ip: IpAddr, certificate: &Certificate, policies: &[(String, String)]) -> Result<Process> {
    let files = folder.join("policies");
    fs::create_dir(&files)?;
    for (host, text) in policies {
        fs::write(files.join(host), text)?;
    }
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
    Ok(process)
}
