//! Messages go by other ways than directly: through another mail server that wants a login, and through a proxy.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, ensure};
use mox_integration_tests::{Messages, Mox, Options, PASSWORD, Shape, Sink, USER, wait};
use serde_json::Value;
use toml_edit::{Array, InlineTable, table, value};

in_both_shapes!(mail_goes_through_a_server_that_wants_a_login, mail_goes_through_a_proxy);

fn listed(mox: &Mox) -> Result<Vec<Value>> {
    let printed = mox.command(&["queue", "list", "-json", "-sort", "queued", "-asc"])?;
    let lines = printed.lines().filter(|line| line.starts_with('{'));
    lines.map(|line| Ok(serde_json::from_str(line)?)).collect()
}

/// Submits messages, which are on hold by a rule; answers their numbers in the queue.
fn submit(mox: &Mox, count: usize, to: &str) -> Result<Vec<String>> {
    mox.command(&["queue", "holdrules", "add"])?;
    let messages = Messages {
        address: mox.submission(),
        login: true,
        from: USER,
        count,
        recipients: 1,
        size: 500,
        connections: 1,
    };
    messages.submit(|_| to.to_owned())?;
    Ok(listed(mox)?.iter().map(|entry| entry["id"].to_string()).collect())
}

fn mail_goes_through_a_server_that_wants_a_login(shape: Shape) -> Result<()> {
    let server = Mox::start(Shape::Single)?;
    let mut mox = Mox::prepare(shape, &Options::default())?;
    let ways = [
        ("submission", "SCRAM-SHA-256-PLUS"),
        ("submission", "SCRAM-SHA-256"),
        ("submission", "SCRAM-SHA-1-PLUS"),
        ("submission", "SCRAM-SHA-1"),
        ("submission", "CRAM-MD5"),
        ("submission", "PLAIN"),
        ("submissions", "SCRAM-SHA-256-PLUS"),
        ("submissions", ""),
    ];
    let at = |kind: &str| match kind {
        "submission" => server.submission(),
        _ => server.submissions(),
    };
    mox.edit_config(|config| {
        let mut add = |name: &str, kind: &str, mechanism: &str, password: &str, verify: bool| {
            let mut auth = InlineTable::new();
            auth.insert("username", USER.into());
            auth.insert("password", password.into());
            if !mechanism.is_empty() {
                auth.insert("mechanisms", Array::from_iter([mechanism]).into());
            }
            let mut way = table();
            way["host"] = value(at(kind).ip().to_string());
            way["port"] = value(i64::from(at(kind).port()));
            way["starttls_insecure_skip_verify"] = value(!verify);
            way["auth"] = value(auth);
            let mut transport = table();
            transport[kind] = way;
            config["transports"][name] = transport;
        };
        for (n, (kind, mechanism)) in ways.iter().enumerate() {
            add(&format!("way{n}"), kind, mechanism, PASSWORD, false);
        }
        add("wrong", "submission", "SCRAM-SHA-256", "not it", false);
        add("verified", "submissions", "", PASSWORD, true);
    })?;
    mox.start_first()?;
    let ids = submit(&mox, ways.len() + 2, "someone@elsewhere.example")?;
    ensure!(ids.len() == ways.len() + 2, "{ids:?}");
    for (n, id) in ids.iter().enumerate() {
        let name = match n.checked_sub(ways.len()) {
            None => format!("way{n}"),
            Some(0) => "wrong".to_owned(),
            Some(_) => "verified".to_owned(),
        };
        mox.command(&["queue", "transport", "-ids", id, &name])?;
    }
    mox.command(&["queue", "unhold"])?;
    for (n, way) in ways.iter().enumerate() {
        server
            .wait_for_subject("INBOX", &format!("n{n}-x"))
            .with_context(|| format!("by {way:?}; queue: {:?}", listed(&mox)))?;
    }
    // A password that is wrong, or a certificate that nobody knows, can be mended: the message waits, and says why.
    let left = wait::until("the two that fail", wait::DEADLINE, || {
        let left = listed(&mox)?;
        let tried = left.iter().all(|entry| entry["attempts"] == 1);
        Ok((left.len() == 2 && tried).then_some(left))
    })?;
    let error = |n: usize| left[n]["results"][0]["error"].as_str().unwrap_or_default().to_owned();
    ensure!(error(0).contains("AUTH") && error(0).contains("535"), "{}", error(0));
    ensure!(error(1).contains("certificate"), "{}", error(1));
    ensure!(left[1]["results"][0]["enhanced_code"] == "4.7.5", "{left:?}");
    // And goes by another way then.
    let id = &ids[ways.len()];
    mox.command(&["queue", "transport", "-ids", id, "way0"])?;
    mox.command(&["queue", "schedule", "-ids", id, "-now", "0"])?;
    server.wait_for_subject("INBOX", &format!("n{}-x", ways.len()))?;
    Ok(())
}

/// A SOCKS5 proxy (RFC 1928), that leads everywhere to one address, and remembers where it should have led to and what
/// clients said.
struct Proxy {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<(SocketAddr, String)>>>,
}

impl Proxy {
    fn start(to: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let seen = Arc::<Mutex<Vec<(SocketAddr, String)>>>::default();
        let all = Arc::clone(&seen);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let all = Arc::clone(&all);
                std::thread::spawn(move || drop(serve(client, to, &all)));
            }
        });
        Ok(Self { address, seen })
    }

    fn seen(&self) -> Vec<(SocketAddr, String)> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn serve(mut client: TcpStream, to: SocketAddr, seen: &Mutex<Vec<(SocketAddr, String)>>) -> Result<()> {
    let mut greeting = [0; 3];
    client.read_exact(&mut greeting)?;
    client.write_all(&[5, 0])?;
    let mut request = [0; 10];
    client.read_exact(&mut request)?;
    ensure!(request[..4] == [5, 1, 0, 1], "{request:?}");
    let ip = Ipv4Addr::new(request[4], request[5], request[6], request[7]);
    let target = SocketAddr::from((ip, u16::from_be_bytes([request[8], request[9]])));
    let mut server = TcpStream::connect(to)?;
    client.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0])?;
    let (mut back, mut from) = (client.try_clone()?, server.try_clone()?);
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut from, &mut back);
        let _ = back.shutdown(std::net::Shutdown::Both);
    });
    let mut first = true;
    let mut piece = [0; 4096];
    loop {
        let n = client.read(&mut piece)?;
        if n == 0 {
            server.shutdown(std::net::Shutdown::Write)?;
            return Ok(());
        }
        if std::mem::take(&mut first) {
            let said = String::from_utf8_lossy(&piece[..n]).into_owned();
            seen.lock().unwrap_or_else(PoisonError::into_inner).push((target, said));
        }
        server.write_all(&piece[..n])?;
    }
}

fn mail_goes_through_a_proxy(shape: Shape) -> Result<()> {
    let (mut mox, _dns) = Mox::prepare_host(
        shape,
        Ipv4Addr::LOCALHOST.into(),
        "elsewhere.example MX 10 mx.elsewhere.example\nmx.elsewhere.example A 192.0.2.25\n",
    )?;
    let sink = Sink::start(mox.ip(), true)?;
    let proxy = Proxy::start(sink.address())?;
    mox.edit_config(|config| {
        let mut socks = InlineTable::new();
        socks.insert("address", proxy.address.to_string().into());
        socks.insert("remote_hostname", "outside.example".into());
        let mut transport = table();
        transport["socks"] = value(socks);
        config["transports"]["proxy"] = transport;
    })?;
    mox.start_first()?;
    let ids = submit(&mox, 1, "someone@elsewhere.example")?;
    mox.command(&["queue", "transport", "proxy"])?;
    mox.command(&["queue", "unhold"])?;
    wait::until("the message", wait::DEADLINE, || Ok((sink.count() == 1).then_some(())))
        .with_context(|| format!("{ids:?}: {:?}\n{}", listed(&mox), mox.log_tails()))?;
    ensure!(sink.taken()[0].recipients == ["someone@elsewhere.example"]);
    // To the recipient's host, under the name that the proxy's addresses have.
    let seen = proxy.seen();
    ensure!(
        seen.len() == 1 && seen[0].0 == "192.0.2.25:25".parse()? && seen[0].1 == "EHLO outside.example\r\n",
        "{seen:?}"
    );
    Ok(())
}
