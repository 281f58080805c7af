//! What nobody should send: thousands of slow connections, endless recipients, messages without end, headers without end,
//! parts within parts, reports that are bombs, a DNS that is slow. While each goes on, ordinary mail is sent, and timed,
//! and the memory of the server is looked at.

pub mod bombs;
mod dns;

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::client::Smtp;
use crate::process::memory_of;
use crate::{Dns, Mox, Shape, free_ip};

/// Between two ordinary messages.
const PROBE_PAUSE: Duration = Duration::from_millis(250);
/// How often memory is looked at.
const MEMORY_PAUSE: Duration = Duration::from_millis(20);
/// For a reply to what takes long to read.
const PATIENCE: Duration = Duration::from_secs(120);

/// How much of each.
#[derive(Debug, Clone)]
pub struct Sizes {
    /// Connections that send a byte a second.
    pub connections: usize,
    /// For how long.
    pub slow: Duration,
    /// RCPT TO of one transaction.
    pub recipients: usize,
    /// Bytes of a message that goes on.
    pub data: u64,
    /// Parts within parts.
    pub nested: usize,
    /// Bytes of a header.
    pub header: usize,
    /// Reports of a kind at the same time.
    pub at_once: usize,
    /// Messages about as large as they may be, at the same time, and bytes of each.
    pub large: (usize, usize),
    /// Senders at the same time whose DNS is slow.
    pub askers: usize,
}

impl Sizes {
    /// For every day: seconds, also in a debug build.
    #[must_use]
    pub fn short() -> Self {
        Self {
            connections: 200,
            slow: Duration::from_secs(3),
            recipients: 5_000,
            data: 300 << 20,
            nested: 10_000,
            header: 8 << 20,
            at_once: 4,
            large: (6, 60 << 20),
            askers: 20,
        }
    }

    /// In full.
    #[must_use]
    pub fn long() -> Self {
        Self {
            connections: 1000,
            slow: Duration::from_secs(60),
            recipients: 50_000,
            data: 10 << 30,
            nested: 10_000,
            header: 100 << 20,
            at_once: 20,
            large: (8, 95 << 20),
            askers: 200,
        }
    }
}

/// How it went.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// What was sent.
    pub what: String,
    /// What was answered.
    pub answer: String,
    /// The most resident memory meanwhile, in bytes.
    pub memory: u64,
    /// The longest that an ordinary message took from connecting to its 250.
    pub slowest: Duration,
    /// Ordinary messages meanwhile.
    pub probes: u64,
}

/// A server under abuse.
pub struct Abuse<'a> {
    /// Where it takes mail.
    pub smtp: SocketAddr,
    /// Its processes.
    pub processes: &'a [u32],
    /// Sender and recipient of ordinary mail.
    pub ordinary: (String, String),
    /// Sender and recipient of the other.
    pub abusive: (String, String),
    /// How much.
    pub sizes: Sizes,
}

/// DNS that verifies `sender.example`, the sender of ordinary mail and of reports.
const RECORDS: &str = "
sender.example TXT v=spf1 ip4:127.0.0.0/8 -all
sender.example MX 10 mx.sender.example
mx.sender.example A 127.0.0.1
1.0.0.127.in-addr.arpa PTR mx.sender.example
_dmarc.sender.example TXT v=DMARC1; p=reject
slow.example TXT v=spf1 include:a.slow.example include:b.slow.example -all
slow.example MX 10 mx.sender.example
a.slow.example TXT v=spf1 -all
b.slow.example TXT v=spf1 ip4:127.0.0.0/8 -all
";

/// A system that is a host, with its DNS, and with [`bombs::SETTINGS`], without limits on connections.
///
/// # Errors
/// If it does not come up.
pub fn internet(shape: Shape) -> Result<(Mox, Dns)> {
    let (mut mox, dns) = Mox::prepare_host(shape, free_ip(), RECORDS)?;
    mox.edit_config(|config| {
        let none = toml_edit::Array::from_iter([0, 0, 0]);
        for limit in ["connections", "new_connections_per_minute", "messages_per_minute"] {
            config["limits"]["smtp-in"][limit] = toml_edit::value(none.clone());
        }
    })?;
    let domains = mox.config_dir().join("domains.toml");
    let text = std::fs::read_to_string(&domains)?;
    std::fs::write(&domains, text + bombs::SETTINGS)?;
    mox.start_first()?;
    Ok((mox, dns))
}

/// Watches meanwhile.
struct Watch {
    end: Arc<AtomicBool>,
    peak: Arc<AtomicU64>,
    memory: JoinHandle<()>,
    probe: JoinHandle<Result<(Duration, u64)>>,
}

/// One kind of abuse: does it, and answers what the server said.
type Kind<'k, A> = &'k dyn Fn(&A) -> Result<String>;

impl Abuse<'_> {
    /// Everything, one after the other.
    ///
    /// # Errors
    /// If the server does not answer as it should.
    pub fn run(&self) -> Result<Vec<Outcome>> {
        let Sizes {
            connections,
            recipients,
            data,
            nested,
            header,
            ..
        } = self.sizes;
        let all: [(String, Kind<'_, Self>); 6] = [
            (
                format!("{connections} connections, a byte a second"),
                &Self::slow_connections,
            ),
            (format!("{recipients} RCPT TO"), &Self::endless_recipients),
            (format!("DATA of {} MiB", data >> 20), &Self::endless_data),
            (format!("BDAT of {} MiB", data >> 20), &Self::endless_chunk),
            (format!("MIME nested {nested} deep"), &Self::nested_parts),
            (format!("header of {} MiB", header >> 20), &Self::endless_header),
        ];
        all.into_iter()
            .map(|(what, abuse)| self.watched(&what, abuse).with_context(|| what.clone()))
            .collect()
    }

    /// What comes from the internet, to a host that looks who sends, and is made ready by [`internet`].
    ///
    /// # Errors
    /// If the server does not answer as it should.
    pub fn run_from_internet(&self) -> Result<Vec<Outcome>> {
        let mut outcomes = Vec::new();
        for bomb in bombs::all()? {
            let what = format!("{} as a report", bomb.name);
            outcomes.push(self.watched(&what, &|abuse| abuse.bomb(&bomb)).context(what)?);
        }
        let (askers, (many, bytes)) = (self.sizes.askers, self.sizes.large);
        let all: [(String, Kind<'_, Self>); 3] = [
            (
                format!("{many} messages of {} MiB at once", bytes >> 20),
                &Self::large_messages,
            ),
            (format!("{askers} senders whose DNS never answers"), &Self::silent_dns),
            (format!("{askers} senders whose DNS is slow"), &Self::slow_dns),
        ];
        for (what, abuse) in all {
            outcomes.push(self.watched(&what, abuse).context(what)?);
        }
        Ok(outcomes)
    }

    /// Does it while ordinary mail is sent.
    ///
    /// # Errors
    /// If it fails, or ordinary mail does.
    pub fn watched(&self, what: &str, abuse: &dyn Fn(&Self) -> Result<String>) -> Result<Outcome> {
        let watch = self.watch();
        let answer = abuse(self);
        watch.end.store(true, Ordering::Relaxed);
        let panicked = |_| anyhow::anyhow!("a thread panicked");
        watch.memory.join().map_err(panicked)?;
        let (slowest, probes) = watch
            .probe
            .join()
            .map_err(panicked)?
            .context("ordinary mail meanwhile")?;
        Ok(Outcome {
            what: what.to_owned(),
            answer: answer?,
            memory: watch.peak.load(Ordering::Relaxed),
            slowest,
            probes,
        })
    }

    fn watch(&self) -> Watch {
        let end = Arc::new(AtomicBool::new(false));
        let peak = Arc::new(AtomicU64::new(0));
        let (ends, peaks, processes) = (Arc::clone(&end), Arc::clone(&peak), self.processes.to_vec());
        let memory = std::thread::spawn(move || {
            while !ends.load(Ordering::Relaxed) {
                // Of the largest: each process is to be small.
                let now = processes.iter().filter_map(|id| memory_of(*id).ok()).max().unwrap_or(0);
                peaks.fetch_max(now, Ordering::Relaxed);
                std::thread::sleep(MEMORY_PAUSE);
            }
        });
        let (ends, smtp, (from, to)) = (Arc::clone(&end), self.smtp, self.ordinary.clone());
        let probe = std::thread::spawn(move || {
            let (mut slowest, mut count) = (Duration::ZERO, 0);
            while !ends.load(Ordering::Relaxed) {
                let started = Instant::now();
                let mut session = Smtp::connect(smtp)?;
                let reply = session.message(
                    &from,
                    &to,
                    &format!("From: <{from}>\r\nSubject: ordinary {count}\r\n\r\nhello\r\n"),
                )?;
                ensure!(reply.code == 250, "ordinary mail got {reply:?}");
                slowest = slowest.max(started.elapsed());
                count += 1;
                std::thread::sleep(PROBE_PAUSE);
            }
            Ok((slowest, count))
        });
        Watch {
            end,
            peak,
            memory,
            probe,
        }
    }

    fn begun(&self) -> Result<Smtp> {
        let mut session = Smtp::connect(self.smtp)?;
        session.lines.set_timeout(PATIENCE)?;
        session.command(&format!("MAIL FROM:<{}>", self.abusive.0), 250)?;
        session.command(&format!("RCPT TO:<{}>", self.abusive.1), 250)?;
        Ok(session)
    }

    /// Half of them never end a command, the others never a message.
    fn slow_connections(&self) -> Result<String> {
        let open = |n: usize| -> Result<TcpStream> {
            let mut stream = TcpStream::connect(self.smtp)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            if n.is_multiple_of(2) {
                let (from, to) = &self.abusive;
                write!(
                    stream,
                    "EHLO slow.example\r\nMAIL FROM:<{from}>\r\nRCPT TO:<{to}>\r\nDATA\r\n"
                )?;
            }
            Ok(stream)
        };
        let mut streams = Vec::with_capacity(self.sizes.connections);
        for n in 0..self.sizes.connections {
            streams.push(open(n).with_context(|| format!("connection {n}"))?);
        }
        let started = Instant::now();
        while started.elapsed() < self.sizes.slow {
            for stream in &mut streams {
                stream.write_all(b"x").context("a slow connection was closed")?;
            }
            std::thread::sleep(Duration::from_secs(1));
        }
        // Those that have begun a message were answered.
        let mut answered = 0;
        for stream in streams.iter_mut().step_by(2) {
            let mut seen = Vec::new();
            let mut buffer = [0; 4096];
            while !seen.windows(4).any(|w| w == b"354 ") {
                match stream.read(&mut buffer)? {
                    0 => bail!("closed after {:?}", String::from_utf8_lossy(&seen)),
                    n => seen.extend_from_slice(&buffer[..n]),
                }
            }
            answered += 1;
        }
        Ok(format!("all open, {answered} in DATA"))
    }

    fn endless_recipients(&self) -> Result<String> {
        let mut session = Smtp::connect(self.smtp)?;
        session.lines.set_timeout(PATIENCE)?;
        session.command(&format!("MAIL FROM:<{}>", self.abusive.0), 250)?;
        let domain = self
            .abusive
            .1
            .rsplit_once('@')
            .map_or("localhost", |(_, domain)| domain);
        let (mut accepted, mut later) = (0, 0);
        let mut n = 0;
        while n < self.sizes.recipients {
            let count = 100.min(self.sizes.recipients - n);
            let commands: String = (n..n + count)
                .map(|n| format!("RCPT TO:<u{n}x@{domain}>\r\n"))
                .collect();
            session.lines.send(commands)?;
            for _ in 0..count {
                match session.reply()?.code {
                    250 => accepted += 1,
                    452 => later += 1,
                    other => bail!("RCPT got {other}"),
                }
            }
            n += count;
        }
        ensure!(accepted <= 1000, "{accepted} recipients of one message");
        session.command("QUIT", 221)?;
        Ok(format!("250 {accepted} times, 452 {later} times"))
    }

    /// Sends so much, or until the server has had enough; the last reply.
    fn pour(&self, mut session: Smtp, line: &[u8], bytes: u64) -> Result<String> {
        let block = line.repeat((1 << 20) / line.len());
        let mut sent = 0;
        while sent < bytes {
            if session.lines.send(&block).is_err() {
                break;
            }
            sent += block.len() as u64;
        }
        let _ = session.lines.send(b".\r\n");
        let said = session.lines.rest().unwrap_or_default();
        let reply = said
            .lines()
            .rfind(|line| line.starts_with(['4', '5']))
            .unwrap_or("closed")
            .to_owned();
        Ok(format!(
            "after {} MiB: {}",
            sent >> 20,
            reply.chars().take(60).collect::<String>()
        ))
    }

    fn endless_data(&self) -> Result<String> {
        let mut session = self.begun()?;
        session.command("DATA", 354)?;
        let said = self.pour(session, &[&b"x".repeat(76)[..], b"\r\n"].concat(), self.sizes.data)?;
        // The reply can be lost with a connection that is closed while more is sent.
        ensure!(said.contains("552") || said.contains("closed"), "{said}");
        Ok(said)
    }

    fn endless_chunk(&self) -> Result<String> {
        let mut session = self.begun()?;
        session.lines.send(format!("BDAT {} LAST\r\n", self.sizes.data))?;
        let reply = session.reply()?;
        ensure!(reply.code == 552, "{reply:?}");
        Ok(format!(
            "at once: 552 {}",
            reply.lines.concat().chars().take(50).collect::<String>()
        ))
    }

    fn nested_parts(&self) -> Result<String> {
        let mut message = format!("From: <{}>\r\nSubject: nested\r\nMIME-Version: 1.0\r\n", self.abusive.0);
        for n in 0..self.sizes.nested {
            message.push_str(&format!(
                "Content-Type: multipart/mixed; boundary=b{n}\r\n\r\n--b{n}\r\n"
            ));
        }
        message.push_str("\r\nend\r\n");
        let mut session = self.begun()?;
        session.command("DATA", 354)?;
        session.lines.send(format!("{message}.\r\n"))?;
        let reply = session.reply()?;
        ensure!(reply.code == 250, "{reply:?}");
        Ok(format!("{} {}", reply.code, reply.lines.concat()))
    }

    /// With a field to be removed, and a signature to be verified: all of it is read, and most of it kept.
    ///
    /// # Errors
    /// If one is not taken.
    pub fn large_messages(&self) -> Result<String> {
        let (from, to) = (&self.ordinary.0, &self.ordinary.1);
        let (many, bytes) = self.sizes.large;
        let header = format!(
            "Received: from a\r\nReturn-Path: <x@y>\r\nDKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d=sender.example; \
             s=none; h=from;\r\n bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=; b=AAAA\r\nFrom: <{from}>\r\nSubject: large\r\n\
             MIME-Version: 1.0\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n\r\n"
        );
        let block = [&b"QUJD".repeat(19)[..], b"\r\n"].concat().repeat(1 << 13);
        std::thread::scope(|scope| {
            let send = || -> Result<()> {
                let mut session = Smtp::connect(self.smtp)?;
                session.lines.set_timeout(PATIENCE)?;
                session.command(&format!("MAIL FROM:<{from}>"), 250)?;
                session.command(&format!("RCPT TO:<{to}>"), 250)?;
                session.command("DATA", 354)?;
                session.lines.send(&header)?;
                for _ in 0..bytes / block.len() {
                    session.lines.send(&block)?;
                }
                session.command(".", 250).map(drop)
            };
            let threads: Vec<_> = (0..many).map(|_| scope.spawn(send)).collect();
            for thread in threads {
                thread.join().map_err(|_| anyhow::anyhow!("a thread panicked"))??;
            }
            Ok(format!("250, {many} times"))
        })
    }

    fn endless_header(&self) -> Result<String> {
        let mut session = self.begun()?;
        session.command("DATA", 354)?;
        let field = [&b"X-Endless: "[..], &b"y".repeat(60), b"\r\n"].concat();
        let block = field.repeat((1 << 20) / field.len());
        let mut sent = 0;
        while sent < self.sizes.header {
            match session.lines.send(&block) {
                Ok(()) => sent += block.len(),
                Err(error) => match error.downcast_ref::<std::io::Error>().map(std::io::Error::kind) {
                    Some(ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => break,
                    _ => return Err(error),
                },
            }
        }
        session.lines.send(b"\r\nbody\r\n.\r\n")?;
        let reply = session.expect(552)?;
        Ok(format!("{} {}", reply.code, reply.lines.concat()))
    }
}
