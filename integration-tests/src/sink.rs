//! A mail host that takes everything, but for mailboxes that it says are gone, and counts: where a queue delivers to in scenarios and measurements.

use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// What begins so has no mailbox, if it is remembered what is taken.
const GONE: &str = "gone";

/// A message that was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// Recipients, without brackets.
    pub recipients: Vec<String>,
    /// Its Subject field.
    pub subject: String,
    /// When its end was read, before it was answered.
    pub at: Instant,
}

#[derive(Default)]
struct State {
    stop: AtomicBool,
    connections: AtomicUsize,
    count: AtomicUsize,
    delay_millis: AtomicUsize,
    plain: AtomicBool,
    keep: bool,
    taken: Mutex<Vec<Taken>>,
}

/// The host.
pub struct Sink {
    address: SocketAddr,
    state: Arc<State>,
}

impl Sink {
    /// Listens on port 2600 of an address. With `keep`, what it takes is remembered; else only counted.
    ///
    /// # Errors
    /// If it can't listen.
    pub fn start(ip: IpAddr, keep: bool) -> Result<Self> {
        Self::start_on(SocketAddr::new(ip, 2600), keep)
    }

    /// As [`Sink::start`], on another port.
    ///
    /// # Errors
    /// If it can't listen.
    pub fn start_on(address: SocketAddr, keep: bool) -> Result<Self> {
        let listener = TcpListener::bind(address).with_context(|| format!("listening on {address}"))?;
        let state = Arc::new(State {
            keep,
            ..State::default()
        });
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if shared.stop.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let state = Arc::clone(&shared);
                state.connections.fetch_add(1, Ordering::Relaxed);
                std::thread::spawn(move || drop(serve(&stream, &state)));
            }
        });
        Ok(Self { address, state })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on, each message is answered only after so long.
    pub fn set_delay(&self, delay: Duration) {
        let millis = usize::try_from(delay.as_millis()).unwrap_or(usize::MAX);
        self.state.delay_millis.store(millis, Ordering::Relaxed);
    }

    /// From now on, it offers no extensions: it sends no notifications, for example.
    pub fn set_plain(&self) {
        self.state.plain.store(true, Ordering::Relaxed);
    }

    /// How many messages it has taken.
    #[must_use]
    pub fn count(&self) -> usize {
        self.state.count.load(Ordering::Relaxed)
    }

    /// How many connections there were.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.state.connections.load(Ordering::Relaxed)
    }

    /// What it has taken.
    #[must_use]
    pub fn taken(&self) -> Vec<Taken> {
        self.state.taken.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.state.stop.store(true, Ordering::Relaxed);
        // Lets it see that.
        drop(TcpStream::connect(self.address));
    }
}

fn serve(stream: &TcpStream, state: &State) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut input = BufReader::with_capacity(64 << 10, stream);
    let mut output = BufWriter::new(stream);
    let mut line = Vec::new();
    let mut recipients = Vec::new();
    output.write_all(b"220 sink.example ESMTP\r\n")?;
    loop {
        // Commands that came together are answered together.
        if input.buffer().is_empty() {
            output.flush()?;
        }
        line.clear();
        if input.read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        let start: Vec<u8> = line.iter().take(4).map(u8::to_ascii_uppercase).collect();
        match start.as_slice() {
            b"EHLO" if state.plain.load(Ordering::Relaxed) => output.write_all(b"250 sink.example\r\n")?,
            b"EHLO" => output.write_all(
                b"250-sink.example\r\n250-PIPELINING\r\n250-SIZE\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250 DSN\r\n",
            )?,
            b"RCPT" => {
                if state.keep {
                    let text = String::from_utf8_lossy(&line);
                    let address = text.split(['<', '>']).nth(1).unwrap_or_default();
                    if address.starts_with(GONE) {
                        output.write_all(b"550 5.1.1 no such mailbox\r\n")?;
                        continue;
                    }
                    recipients.push(address.to_owned());
                }
                output.write_all(b"250 2.1.5 ok\r\n")?;
            }
            b"DATA" if state.keep && recipients.is_empty() => output.write_all(b"554 5.5.1 for nobody\r\n")?,
            b"DATA" => {
                output.write_all(b"354 go on\r\n")?;
                output.flush()?;
                let mut subject = String::new();
                loop {
                    line.clear();
                    if input.read_until(b'\n', &mut line)? == 0 {
                        return Ok(());
                    }
                    if line == b".\r\n" {
                        break;
                    }
                    if state.keep && subject.is_empty() && line.starts_with(b"Subject: ") {
                        subject = String::from_utf8_lossy(&line[9..]).trim_end().to_owned();
                    }
                }
                let at = Instant::now();
                state.count.fetch_add(1, Ordering::Relaxed);
                if state.keep {
                    let taken = Taken {
                        recipients: std::mem::take(&mut recipients),
                        subject,
                        at,
                    };
                    state.taken.lock().unwrap_or_else(PoisonError::into_inner).push(taken);
                }
                let delay = state.delay_millis.load(Ordering::Relaxed);
                if delay > 0 {
                    std::thread::sleep(Duration::from_millis(delay as u64));
                }
                output.write_all(b"250 2.0.0 taken\r\n")?;
            }
            b"QUIT" => {
                output.write_all(b"221 2.0.0 bye\r\n")?;
                return output.flush();
            }
            _ => output.write_all(b"250 2.0.0 ok\r\n")?,
        }
    }
}
