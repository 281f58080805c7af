//! mailbench: a neutral load generator for any SMTP/IMAP server on loopback.
//!
//! Every mode prints one line `key=value ...` so that runs against two servers can be laid
//! side by side. Message contents are unique per message (Message-ID and body words).
//!
//! modes:
//!   smtp   --addr H:P --to A [--from A] --conns C --count N --size BYTES [--per-conn K] [--user U --pass P]
//!          [--sign KEYFILE:SELECTOR:DOMAIN]   (DKIM, made before the time is taken)
//!   append --addr H:P --user U --pass P --mailbox M --count N --size BYTES [--conns C]
//!   fetch  --addr H:P --user U --pass P --mailbox M --what flags|envelope|body|search:TEXT [--repeat R]
//!   idle   --addr H:P --user U --pass P --conns C --pids P1,P2   (RSS before/after, per connection)
//!   e2e    --smtp H:P --imap H:P --user U --pass P --to A --count N   (SMTP 250 -> IDLE EXISTS latency)
//!   login  --addr H:P --user U --pass P --count N --conns C
use std::collections::HashMap;
use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, BufWriter};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

type Res<T> = Result<T, Box<dyn Error + Send + Sync>>;

struct Conn {
    r: BufReader<OwnedReadHalf>,
    w: BufWriter<OwnedWriteHalf>,
    tag: u32,
}

impl Conn {
    async fn dial(addr: &str) -> Res<Conn> {
        Self::dial_from(addr, None).await
    }
    /// Dials from a given loopback source address, so that per-IP limits and histories are spread.
    async fn dial_from(addr: &str, src: Option<[u8; 4]>) -> Res<Conn> {
        let s = match src {
            None => TcpStream::connect(addr).await?,
            Some(ip) => {
                let k = tokio::net::TcpSocket::new_v4()?;
                k.bind((std::net::Ipv4Addr::from(ip), 0).into())?;
                k.connect(addr.parse()?).await?
            }
        };
        s.set_nodelay(true)?;
        let (r, w) = s.into_split();
        Ok(Conn {
            r: BufReader::with_capacity(256 * 1024, r),
            w: BufWriter::with_capacity(64 * 1024, w),
            tag: 0,
        })
    }
    async fn line(&mut self) -> Res<String> {
        let mut v = Vec::new();
        let n = self.r.read_until(b'\n', &mut v).await?;
        if n == 0 {
            return Err("connection closed".into());
        }
        Ok(String::from_utf8_lossy(&v).trim_end().to_string())
    }
    async fn send(&mut self, s: &str) -> Res<()> {
        self.w.write_all(s.as_bytes()).await?;
        self.w.flush().await?;
        Ok(())
    }
    /// SMTP reply: returns the code and last line.
    async fn reply(&mut self, want: u16) -> Res<String> {
        loop {
            let l = self.line().await?;
            if l.len() >= 4 && l.as_bytes()[3] == b'-' {
                continue;
            }
            let code: u16 = l.get(..3).unwrap_or("0").parse().unwrap_or(0);
            if code != want {
                return Err(format!("smtp: want {want} got {l}").into());
            }
            return Ok(l);
        }
    }
    /// IMAP command; counts untagged lines and bytes, swallowing literals.
    async fn imap(&mut self, cmd: &str) -> Res<(usize, usize)> {
        self.tag += 1;
        let tag = format!("a{}", self.tag);
        self.send(&format!("{tag} {cmd}\r\n")).await?;
        self.imap_until(&tag).await
    }
    async fn imap_until(&mut self, tag: &str) -> Res<(usize, usize)> {
        let (mut lines, mut bytes) = (0usize, 0usize);
        let mut buf = vec![0u8; 64 * 1024];
        loop {
            let l = self.line().await?;
            bytes += l.len() + 2;
            if let Some(n) = literal_len(&l) {
                let mut left = n;
                bytes += n;
                while left > 0 {
                    let k = left.min(buf.len());
                    self.r.read_exact(&mut buf[..k]).await?;
                    left -= k;
                }
                continue;
            }
            if l.starts_with(tag) && l.as_bytes().get(tag.len()) == Some(&b' ') {
                if !l[tag.len() + 1..].starts_with("OK") {
                    return Err(format!("imap: {l}").into());
                }
                return Ok((lines, bytes));
            }
            lines += 1;
        }
    }
    async fn login(&mut self, user: &str, pass: &str) -> Res<()> {
        self.line().await?;
        self.imap(&format!("LOGIN \"{user}\" \"{pass}\"")).await?;
        Ok(())
    }
}

fn literal_len(l: &str) -> Option<usize> {
    let l = l.strip_suffix('}')?;
    let i = l.rfind('{')?;
    l[i + 1..].trim_end_matches('+').parse().ok()
}

struct Rng(u64);
impl Rng {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

const WORDS: &[&str] = &[
    "meeting", "invoice", "project", "garden", "holiday", "schedule", "report", "window", "server", "delivery",
    "message", "station", "morning", "question", "answer", "review", "budget", "coffee", "travel", "ticket", "library",
    "weather", "market", "family", "office", "update", "design", "picture", "music", "number",
];

fn message(id: u64, from: &str, to: &str, size: usize) -> String {
    let mut r = Rng(id.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let mut s = String::with_capacity(size + 512);
    let nanos = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .expect("a clock after 1970")
        .as_nanos();
    s.push_str(&format!(
        "From: Bench <{from}>\r\nTo: <{to}>\r\nSubject: bench {} {id}\r\nDate: Sun, 22 Nov 2026 12:00:00 +0000\r\nMessage-ID: <{id}.{nanos}@bench.example>\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n",
        WORDS[(id % 30) as usize]
    ));
    let mut col = 0;
    while s.len() < size {
        let w = WORDS[(r.next() % 30) as usize];
        s.push_str(w);
        col += w.len() + 1;
        if r.next().is_multiple_of(17) {
            let t = format!("{:x}", r.next() & 0xfffff);
            s.push(' ');
            s.push_str(&t);
            col += t.len() + 1;
        }
        if col > 66 {
            s.push_str("\r\n");
            col = 0;
        } else {
            s.push(' ');
        }
    }
    s.push_str("\r\n");
    s
}

fn pct(v: &mut [f64], p: f64) -> f64 {
    if v.is_empty() {
        return 0.0;
    }
    v.sort_by(f64::total_cmp);
    v[((v.len() - 1) as f64 * p) as usize]
}

fn rss_kb(pids: &str) -> u64 {
    pids.split(',')
        .filter_map(|p| std::fs::read_to_string(format!("/proc/{p}/smaps_rollup")).ok())
        .filter_map(|s| {
            s.lines()
                .find(|l| l.starts_with("Pss:"))
                .and_then(|l| l.split_whitespace().nth(1)?.parse::<u64>().ok())
        })
        .sum()
}

fn b64(d: &[u8]) -> String {
    const T: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut o = String::new();
    for c in d.chunks(3) {
        let n = (c[0] as u32) << 16 | (*c.get(1).unwrap_or(&0) as u32) << 8 | *c.get(2).unwrap_or(&0) as u32;
        o.push(T[(n >> 18 & 63) as usize] as char);
        o.push(T[(n >> 12 & 63) as usize] as char);
        o.push(if c.len() > 1 {
            T[(n >> 6 & 63) as usize] as char
        } else {
            '='
        });
        o.push(if c.len() > 2 { T[(n & 63) as usize] as char } else { '=' });
    }
    o
}

/// Messages with a DKIM signature, made beforehand by as many threads as there are processors.
fn signed(a: &HashMap<String, String>, by: &str, seed: u64, count: usize) -> Res<Vec<String>> {
    let mut parts = by.split(':');
    let (Some(file), Some(selector), Some(domain)) = (parts.next(), parts.next(), parts.next()) else {
        return Err("--sign is KEYFILE:SELECTOR:DOMAIN".into());
    };
    let pem = std::fs::read_to_string(file)?;
    let (from, size) = (get(a, "from", "bench@sender.example"), num(a, "size", 4096));
    let tos: Vec<&str> = a["to"].split(',').collect();
    let threads = std::thread::available_parallelism()?.get();
    let each = count.div_ceil(threads);
    std::thread::scope(|scope| {
        let parts: Vec<_> = (0..threads)
            .map(|n| {
                let (from, tos, pem) = (&from, &tos, &pem);
                scope.spawn(move || -> Res<Vec<String>> {
                    let signer = mox_mailauth::sign::Signer {
                        domain: domain.to_owned(),
                        selector: selector.to_owned(),
                        key: mox_mailauth::sign::Key::from_pem(pem)?,
                        headers: Vec::new(),
                        seal: true,
                        header_relaxed: true,
                        body_relaxed: true,
                        expiration: None,
                    };
                    (n * each..count.min((n + 1) * each))
                        .map(|i| {
                            let m = message(seed + i as u64, from, tos[i % tos.len()], size);
                            Ok(signer.sign(&[m.as_bytes()])? + &m)
                        })
                        .collect()
                })
            })
            .collect();
        let mut all = Vec::with_capacity(count);
        for part in parts {
            all.extend(part.join().map_err(|_| "signing panicked")??);
        }
        Ok(all)
    })
}

/// Sends until the count is reached or the server is gone; what was acknowledged by then is kept in `lat`.
async fn smtp_worker(
    a: Arc<HashMap<String, String>>,
    made: Arc<Vec<String>>,
    next: Arc<AtomicUsize>,
    count: usize,
    seed: u64,
) -> (Vec<f64>, usize) {
    let (mut lat, mut failed) = (Vec::new(), 0);
    if let Err(e) = smtp_sessions(&a, &made, &next, count, seed, &mut lat, &mut failed).await {
        failed += 1;
        eprintln!("worker: {e}");
    }
    (lat, failed)
}

async fn smtp_sessions(
    a: &HashMap<String, String>,
    made: &[String],
    next: &AtomicUsize,
    count: usize,
    seed: u64,
    lat: &mut Vec<f64>,
    failed: &mut usize,
) -> Res<()> {
    let (size, per) = (num(a, "size", 4096), num(a, "per-conn", 100));
    let (from, to) = (get(a, "from", "bench@sender.example"), a["to"].clone());
    let tos: Vec<&str> = to.split(',').collect();
    'outer: loop {
        let k = next.load(Ordering::Relaxed) as u64 + seed % 99991;
        let src = a.contains_key("spread").then(|| [127, (1 + k % 200) as u8, 1, 5]);
        let mut c = Conn::dial_from(&a["addr"], src).await?;
        c.reply(220).await?;
        c.send("EHLO bench.example\r\n").await?;
        c.reply(250).await?;
        if let (Some(u), Some(p)) = (a.get("user"), a.get("pass")) {
            c.send(&format!("AUTH PLAIN {}\r\n", b64(format!("\0{u}\0{p}").as_bytes())))
                .await?;
            c.reply(235).await?;
        }
        for _ in 0..per {
            let i = next.fetch_add(1, Ordering::Relaxed);
            if i >= count {
                c.send("QUIT\r\n").await?;
                break 'outer;
            }
            let to = tos[i % tos.len()];
            let m = match made.get(i) {
                Some(m) => m.clone(),
                None => message(seed + i as u64, &from, to, size),
            };
            let t = Instant::now();
            let r: Res<()> = async {
                c.send(&format!("MAIL FROM:<{from}>\r\n")).await?;
                c.reply(250).await?;
                c.send(&format!("RCPT TO:<{to}>\r\n")).await?;
                c.reply(250).await?;
                c.send("DATA\r\n").await?;
                c.reply(354).await?;
                c.send(&m).await?;
                c.send(".\r\n").await?;
                c.reply(250).await?;
                Ok(())
            }
            .await;
            match r {
                Ok(()) => lat.push(t.elapsed().as_secs_f64() * 1e3),
                Err(e) => {
                    *failed += 1;
                    if *failed < 3 {
                        eprintln!("smtp error: {e}");
                    }
                    continue 'outer;
                }
            }
        }
        c.send("QUIT\r\n").await?;
    }
    Ok(())
}

async fn smtp(a: Arc<HashMap<String, String>>) -> Res<()> {
    let (conns, count) = (num(&a, "conns", 10), num(&a, "count", 1000));
    let seed = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)?
        .as_secs()
        * 1_000_000;
    let made = match a.get("sign") {
        Some(by) => Arc::new(signed(&a, by, seed, count)?),
        None => Arc::default(),
    };
    let next = Arc::new(AtomicUsize::new(0));
    let t = Instant::now();
    let mut hs = Vec::new();
    for _ in 0..conns {
        hs.push(tokio::spawn(smtp_worker(
            a.clone(),
            made.clone(),
            next.clone(),
            count,
            seed,
        )));
    }
    let (mut lat, mut failed) = (Vec::new(), 0);
    for h in hs {
        let (l, f) = h.await?;
        lat.extend(l);
        failed += f;
    }
    let dt = t.elapsed().as_secs_f64();
    println!(
        "smtp ok={} failed={failed} secs={dt:.2} msgs_per_s={:.0} p50_ms={:.1} p99_ms={:.1} max_ms={:.1}",
        lat.len(),
        lat.len() as f64 / dt,
        pct(&mut lat.clone(), 0.5),
        pct(&mut lat.clone(), 0.99),
        pct(&mut lat, 1.0)
    );
    Ok(())
}

async fn append(a: Arc<HashMap<String, String>>) -> Res<()> {
    let (conns, count, size) = (num(&a, "conns", 1), num(&a, "count", 1000), num(&a, "size", 4096));
    let next = Arc::new(AtomicUsize::new(0));
    let t = Instant::now();
    let mut hs = Vec::new();
    for _ in 0..conns {
        let (a, next) = (a.clone(), next.clone());
        hs.push(tokio::spawn(async move {
            let mut c = Conn::dial(&a["addr"]).await?;
            c.login(&a["user"], &a["pass"]).await?;
            loop {
                let i = next.fetch_add(1, Ordering::Relaxed);
                if i >= count {
                    return Res::Ok(());
                }
                let m = message(i as u64 + 7_000_000_000, "a@bench.example", "b@bench.example", size);
                c.tag += 1;
                let tag = format!("a{}", c.tag);
                c.send(&format!(
                    "{tag} APPEND \"{}\" (\\Seen) {{{}}}\r\n",
                    a["mailbox"],
                    m.len()
                ))
                .await?;
                let l = c.line().await?;
                if !l.starts_with('+') {
                    return Err(format!("append: {l}").into());
                }
                c.send(&m).await?;
                c.send("\r\n").await?;
                c.imap_until(&tag).await?;
            }
        }));
    }
    for h in hs {
        h.await??;
    }
    let dt = t.elapsed().as_secs_f64();
    println!("append count={count} secs={dt:.2} msgs_per_s={:.0}", count as f64 / dt);
    Ok(())
}

async fn fetch(a: Arc<HashMap<String, String>>) -> Res<()> {
    let mut c = Conn::dial(&a["addr"]).await?;
    c.login(&a["user"], &a["pass"]).await?;
    let t = Instant::now();
    c.imap(&format!("SELECT \"{}\"", a["mailbox"])).await?;
    let sel = t.elapsed().as_secs_f64() * 1e3;
    let what = get(&a, "what", "flags");
    let cmd = match what.as_str() {
        "flags" => "UID FETCH 1:* (UID FLAGS)".to_string(),
        "envelope" => "UID FETCH 1:* (UID FLAGS INTERNALDATE RFC822.SIZE ENVELOPE BODYSTRUCTURE)".to_string(),
        "body" => "UID FETCH 1:* (UID BODY.PEEK[])".to_string(),
        w => match w.strip_prefix("search:") {
            Some(t) => format!("UID SEARCH {t}"),
            None => return Err("what?".into()),
        },
    };
    let mut ms = Vec::new();
    let (mut lines, mut bytes) = (0, 0);
    for _ in 0..num(&a, "repeat", 3) {
        let t = Instant::now();
        (lines, bytes) = c.imap(&cmd).await?;
        ms.push(t.elapsed().as_secs_f64() * 1e3);
    }
    let med = pct(&mut ms, 0.5);
    println!(
        "fetch what={what} select_ms={sel:.1} first_to_last_ms={ms:.1?} median_ms={med:.1} lines={lines} bytes={bytes} MB_per_s={:.1} msgs_per_s={:.0}",
        bytes as f64 / 1e3 / med,
        lines as f64 / med * 1e3
    );
    Ok(())
}

async fn idle(a: Arc<HashMap<String, String>>) -> Res<()> {
    let pids = a["pids"].clone();
    let before = rss_kb(&pids);
    let n = num(&a, "conns", 1000);
    let mut cs = Vec::new();
    let t = Instant::now();
    for _ in 0..n {
        let mut c = Conn::dial(&a["addr"]).await?;
        c.login(&a["user"], &a["pass"]).await?;
        c.imap("SELECT INBOX").await?;
        c.send("x IDLE\r\n").await?;
        loop {
            if c.line().await?.starts_with('+') {
                break;
            }
        }
        cs.push(c);
    }
    let dt = t.elapsed().as_secs_f64();
    tokio::time::sleep(Duration::from_secs(3)).await;
    let after = rss_kb(&pids);
    println!(
        "idle conns={n} setup_secs={dt:.1} pss_before_kb={before} pss_after_kb={after} kb_per_conn={:.1}",
        (after.saturating_sub(before)) as f64 / n as f64
    );
    Ok(())
}

async fn e2e(a: Arc<HashMap<String, String>>) -> Res<()> {
    let mut c = Conn::dial(&a["imap"]).await?;
    c.login(&a["user"], &a["pass"]).await?;
    c.imap("SELECT INBOX").await?;
    c.send("x IDLE\r\n").await?;
    while !c.line().await?.starts_with('+') {}
    let mut s = Conn::dial(&a["smtp"]).await?;
    s.reply(220).await?;
    s.send("EHLO bench.example\r\n").await?;
    s.reply(250).await?;
    let (mut acc, mut lat) = (Vec::new(), Vec::new());
    for i in 0..num(&a, "count", 50) {
        let m = message(i as u64 + 9_000_000_000, "bench@sender.example", &a["to"], 4096);
        s.send("MAIL FROM:<bench@sender.example>\r\n").await?;
        s.reply(250).await?;
        s.send(&format!("RCPT TO:<{}>\r\n", a["to"])).await?;
        s.reply(250).await?;
        s.send("DATA\r\n").await?;
        s.reply(354).await?;
        let t0 = Instant::now();
        s.send(&m).await?;
        s.send(".\r\n").await?;
        s.reply(250).await?;
        acc.push(t0.elapsed().as_secs_f64() * 1e3);
        loop {
            let l = tokio::time::timeout(Duration::from_secs(30), c.line()).await??;
            if l.contains("EXISTS") {
                break;
            }
        }
        lat.push(t0.elapsed().as_secs_f64() * 1e3);
    }
    println!(
        "e2e count={} accept_p50_ms={:.1} accept_p99_ms={:.1} notify_p50_ms={:.1} notify_p99_ms={:.1}",
        lat.len(),
        pct(&mut acc.clone(), 0.5),
        pct(&mut acc, 0.99),
        pct(&mut lat.clone(), 0.5),
        pct(&mut lat, 0.99)
    );
    Ok(())
}

async fn login(a: Arc<HashMap<String, String>>) -> Res<()> {
    let (conns, count) = (num(&a, "conns", 1), num(&a, "count", 50));
    let next = Arc::new(AtomicUsize::new(0));
    let t = Instant::now();
    let mut hs = Vec::new();
    for _ in 0..conns {
        let (a, next) = (a.clone(), next.clone());
        hs.push(tokio::spawn(async move {
            while next.fetch_add(1, Ordering::Relaxed) < count {
                let mut c = Conn::dial(&a["addr"]).await?;
                c.login(&a["user"], &a["pass"]).await?;
                c.imap("LOGOUT").await?;
            }
            Res::Ok(())
        }));
    }
    for h in hs {
        h.await??;
    }
    let dt = t.elapsed().as_secs_f64();
    println!("login count={count} secs={dt:.2} logins_per_s={:.1}", count as f64 / dt);
    Ok(())
}

fn num(a: &HashMap<String, String>, k: &str, d: usize) -> usize {
    a.get(k).map_or(d, |v| v.parse().expect("number"))
}
fn get(a: &HashMap<String, String>, k: &str, d: &str) -> String {
    a.get(k).cloned().unwrap_or_else(|| d.to_string())
}

#[tokio::main]
async fn main() -> Res<()> {
    let mut args = std::env::args().skip(1);
    let mode = args.next().ok_or("mode: smtp append fetch idle e2e login")?;
    let mut m = HashMap::new();
    while let Some(k) = args.next() {
        m.insert(
            k.trim_start_matches("--").to_string(),
            args.next().ok_or("value missing")?,
        );
    }
    let a = Arc::new(m);
    match mode.as_str() {
        "smtp" => smtp(a).await,
        "append" => append(a).await,
        "fetch" => fetch(a).await,
        "idle" => idle(a).await,
        "e2e" => e2e(a).await,
        "login" => login(a).await,
        _ => Err("unknown mode".into()),
    }
}
