//! Reports about TLS are posted to who asks for them by HTTPS (RFC 8460 §5.4).

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mox_integration_tests::{Dns, Mox, Options, Process, Shape, Sink, USER, free_ip, lock, port_accepts, wait};
use serde_json::Value;
use toml_edit::value;

use crate::certificates::Authority;
use crate::keeping::directly;
use crate::mox::submit;

/// A day, and more than TLS reports are spread over.
const LATER_HOURS: u32 = 30;
/// Where reports are posted.
const PORT: u16 = 8443;
/// A post that gets no answer is given up.
const POST: Duration = Duration::from_secs(60);

/// By their first labels: what posts to a domain's host are answered with.
const DOMAINS: [(&str, &str); 4] = [
    ("good", "201"),
    // Then it works.
    ("later", "503"),
    ("moved", "302"),
    ("hangs", "never"),
];

/// Answers as a file says that is named like the host, and keeps what is posted, with the code it was answered with.
const SERVER: &str = r#"
import http.server, json, os, ssl, sys, time
address, port, folder, cert, key = sys.argv[1:]

class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        host = self.headers["Host"].split(":")[0]
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        answer = open(os.path.join(folder, "answers", host)).read()
        name = "%s %s %s" % (answer, host, (self.headers.get("Content-Type") or "none").replace("/", "-"))
        part = os.path.join(folder, "part-%d" % time.time_ns())
        with open(part, "wb") as file:
            file.write(body)
        os.rename(part, os.path.join(folder, "posts", name))
        if answer == "never":
            time.sleep(1000)
        self.send_response(int(answer))
        if answer == "302":
            self.send_header("Location", "https://good.example:%s/tls" % port)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_POST

class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    def handle_error(self, request, client):
        pass

server = Server((address, int(port)), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(cert, key)
server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
server.serve_forever()
"#;

struct World {
    sender: Mox,
    sink: Sink,
    folder: tempfile::TempDir,
    _dns: Dns,
    _server: Process,
}

impl World {
    fn start(shape: Shape) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("posting-").tempdir()?;
        let path = folder.path();
        fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        let (at, sink) = (free_ip(), Sink::start_on((free_ip(), 25).into(), true)?);
        // Each with a host of its own: with one, they would share a session, which is reported once.
        let mail_host = |domain: &str| {
            let ip = sink.address().ip();
            format!("{domain} MX 10 mx.{domain}\nmx.{domain} A {ip}\n")
        };
        let mut records = mail_host("misnamed.example");
        for (label, _) in DOMAINS {
            let mail = if label == "good" {
                "mailto:tls@good.example,"
            } else {
                ""
            };
            records.push_str(&mail_host(&format!("{label}.example")));
            records.push_str(&format!(
                "{label}.example A {at}\n\
                 _smtp._tls.{label}.example TXT v=TLSRPTv1; rua={mail}https://{label}.example:{PORT}/tls?x=1\n"
            ));
        }
        // A certificate of the same authority that is not for its name.
        records.push_str(&format!(
            "other.example A {at}\n\
             _smtp._tls.misnamed.example TXT v=TLSRPTv1; rua=https://other.example:{PORT}/tls\n"
        ));
        let dns = Dns::serve(free_ip(), &records)?;
        let authority = Authority::new(path)?;
        let names: Vec<String> = DOMAINS.iter().map(|(label, _)| format!("{label}.example")).collect();
        let certificate = authority.issue("posts", &names)?;
        for name in ["posts", "answers"] {
            fs::create_dir(path.join(name))?;
        }
        for (label, answer) in DOMAINS {
            fs::write(path.join("answers").join(format!("{label}.example")), answer)?;
        }
        fs::write(path.join("answers/other.example"), "200")?;
        let args = [
            "-c".to_owned(),
            SERVER.to_owned(),
            at.to_string(),
            PORT.to_string(),
            path.display().to_string(),
            certificate.cert.display().to_string(),
            certificate.key.display().to_string(),
        ];
        let server = Process::start("posts", Path::new("/usr/bin/python3"), &args, &path.join("posts.log"))?;
        wait::until("the host of posts to answer", wait::DEADLINE, || {
            Ok(port_accepts((at, PORT).into()).then_some(()))
        })?;
        let mut sender = Mox::prepare(
            shape,
            &Options {
                host_with_dns: Some(dns.address()),
                ..Options::default()
            },
        )?;
        sender.edit_config(|config| config["hostname"] = value("mail.sender.example"))?;
        directly(&sender, &authority.pem())?;
        sender.start_first()?;
        Ok(Self {
            sender,
            sink,
            folder,
            _dns: dns,
            _server: server,
        })
    }

    fn send(&self, domain: &str) -> Result<()> {
        let to = format!("x@{domain}");
        let message = format!(
            "From: <{USER}>\nTo: <{to}>\nSubject: to {domain}\nMessage-ID: <1@{domain}>\n\
             Date: Mon, 23 Nov 2026 09:00:00 +0000\n\nhello\n"
        );
        submit(&self.sender, &to, &message)
    }

    fn arrived(&self, part: &str) -> bool {
        self.sink.taken().iter().any(|taken| taken.subject.contains(part))
    }

    /// What was posted to a host that answered so, when it is there.
    fn posted(&self, answer: &str, host: &str) -> Result<Value> {
        let file: PathBuf = self
            .folder
            .path()
            .join("posts")
            .join(format!("{answer} {host} application-tlsrpt+gzip"));
        let packed = wait::until(
            &format!("a post to {host}"),
            wait::DEADLINE,
            || Ok(fs::read(&file).ok()),
        )
        .with_context(|| self.sender.log_tails())?;
        let mut text = String::new();
        flate2::read::GzDecoder::new(packed.as_slice()).read_to_string(&mut text)?;
        serde_json::from_str(&text).with_context(|| text.clone())
    }

    /// What is still to be posted, with how often it was tried.
    fn left(&self) -> Result<Vec<(String, u64)>> {
        let list = self.sender.command(&["reports", "waiting", "-json"])?;
        let mut left = Vec::new();
        for line in list.lines().filter(|line| line.starts_with('{')) {
            let bundle: Value = serde_json::from_str(line)?;
            for _ in bundle["left"].as_array().into_iter().flatten() {
                let domain = bundle["domain"].as_str().unwrap_or_default().to_owned();
                left.push((domain, bundle["attempts"].as_u64().unwrap_or_default()));
            }
        }
        Ok(left)
    }

    /// Waits until just these are left, all tried so often.
    fn are_left(&self, domains: &[&str], attempts: u64) -> Result<()> {
        let wanted: Vec<(String, u64)> = domains.iter().map(|domain| ((*domain).to_owned(), attempts)).collect();
        wait::until("posts to be tried", 2 * POST, || {
            let left = self.left()?;
            ensure!(left == wanted, "{left:?} are left, not {wanted:?}");
            Ok(Some(()))
        })
        .with_context(|| self.sender.log_tails())
    }

    fn posts(&self, result: &str) -> Result<u64> {
        let name = format!("mox_queue_delivery_report_posts_total{{result=\"{result}\"}}");
        let figure = self.sender.figure("queue-delivery", &name)?;
        Ok(figure.map_or(Ok(0), |figure| figure.parse())?)
    }
}

#[test]
fn reports_are_posted_to_who_asks_for_that() -> Result<()> {
    posting(Shape::Single)
}

#[test]
fn separate_processes_post_the_same() -> Result<()> {
    posting(Shape::Pieces)
}

fn posting(shape: Shape) -> Result<()> {
    let _lock = lock::shared()?;
    if !rustix::process::geteuid().is_root() {
        eprintln!("not tested: the port 25 needs root");
        return Ok(());
    }
    let mut world = World::start(shape)?;
    let domains = [
        "good.example",
        "later.example",
        "moved.example",
        "hangs.example",
        "misnamed.example",
    ];
    for domain in domains {
        world.send(domain)?;
    }
    wait::until("messages to arrive", wait::DEADLINE, || {
        Ok(domains
            .iter()
            .all(|domain| world.arrived(&format!("to {domain}")))
            .then_some(()))
    })
    .with_context(|| world.sender.log_tails())?;
    wait::until("what is to be reported to be added up", wait::DEADLINE, || {
        let list = world.sender.command(&["reports", "waiting", "-json"])?;
        Ok(domains.iter().all(|domain| list.contains(domain)).then_some(()))
    })?;

    // A day later.
    world.sender.set_ahead(LATER_HOURS);
    world.sender.restart()?;
    let report = world.posted("201", "good.example")?;
    let policy = &report["policies"][0];
    ensure!(
        report["organization-name"] == "mail.sender.example"
            && policy["policy"]["policy-domain"] == "good.example"
            && policy["failure-details"][0]["result-type"] == "starttls-not-supported",
        "{report}"
    );
    // It goes by mail, too, where that is asked for.
    wait::until("the report by mail", wait::DEADLINE, || {
        Ok(world.arrived("Report Domain: good.example").then_some(()))
    })?;
    let first = world.posted("503", "later.example")?;
    // One that hangs is given up after a minute, and holds up none of the others.
    let others = ["hangs.example", "later.example", "misnamed.example", "moved.example"];
    world.are_left(&others, 1)?;
    ensure!((world.posts("taken")?, world.posts("failed")?) == (1, 4));
    ensure!(
        !world
            .folder
            .path()
            .join("posts/200 other.example application-tlsrpt+gzip")
            .exists(),
        "it was posted to a host with the certificate of another"
    );

    // An hour later one works again, of one nothing more is wanted, and the others fail again.
    fs::write(world.folder.path().join("answers/later.example"), "200")?;
    fs::write(world.folder.path().join("answers/hangs.example"), "500")?;
    fs::remove_file(
        world
            .folder
            .path()
            .join("posts/201 good.example application-tlsrpt+gzip"),
    )?;
    let moved = format!("https://moved.example:{PORT}/tls?x=1");
    world.sender.command(&["reports", "suppress", "add", &moved])?;
    ensure!(world.sender.command(&["reports", "suppress", "list"])?.contains(&moved));
    world.sender.set_ahead(LATER_HOURS + 1);
    world.sender.restart()?;
    let second = world.posted("200", "later.example")?;
    ensure!(first == second, "{first} was posted, and then {second}");
    world.are_left(&["hangs.example", "misnamed.example"], 2)?;
    // Nobody was led to another host, and nothing was posted twice that was taken.
    for post in fs::read_dir(world.folder.path().join("posts"))? {
        let name = post?.file_name().into_string().unwrap_or_default();
        ensure!(
            !name.starts_with("201 "),
            "a redirect was followed, or a report posted again: {name}"
        );
    }
    // The mail went once.
    let mails = world
        .sink
        .taken()
        .iter()
        .filter(|t| t.subject.starts_with("Report Domain:"))
        .count();
    ensure!(mails == 1, "{mails} reports by mail");

    // When a day of tries is over, it is given up: each is made when it is due.
    for (attempt, ahead) in [(3, 2), (4, 3), (5, 5), (6, 9)] {
        world.sender.set_ahead(LATER_HOURS + ahead);
        world.sender.restart()?;
        world.are_left(&["hangs.example", "misnamed.example"], attempt)?;
    }
    world.sender.set_ahead(LATER_HOURS + 18);
    world.sender.restart()?;
    world.are_left(&[], 0)
}
