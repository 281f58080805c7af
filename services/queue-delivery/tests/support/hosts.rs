//! Mail hosts of the world, each with its manners.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use mox_queue_delivery::Dialer;
use mox_smtp::Stream;
use parking_lot::Mutex;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWriteExt, BufReader, DuplexStream, ReadHalf, WriteHalf};

/// How a host behaves.
#[derive(Debug, Clone, Default)]
pub struct Manner {
    /// Does not accept connections.
    pub refuse: bool,
    /// Never says anything.
    pub hang: bool,
    /// Says one octet a second.
    pub slow: bool,
    /// Extensions after the host name, one a line.
    pub extensions: &'static [&'static str],
    /// Answers these commands, by their beginning, otherwise than with success.
    pub answers: Vec<(&'static str, &'static str)>,
    /// Takes so many recipients in a transaction.
    pub recipients_max: Option<usize>,
    /// Waits so long before it answers DATA.
    pub data_delay: Duration,
    /// Closes the connection in place of the answer to the end of the message.
    pub drop_at_end: bool,
    /// Closes the connection in place of the answer to the command that begins so; "" is in place of the greeting.
    pub drop_at: Option<&'static str>,
    /// Answers the command that begins so without an end: one line after the other, or one that is endless.
    pub flood: Option<(&'static str, &'static str)>,
}

/// A message that a host took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    pub host: IpAddr,
    pub mail: String,
    pub recipients: Vec<String>,
    pub data: String,
}

/// All hosts, by address. An unknown address is unreachable.
#[derive(Default)]
pub struct Hosts {
    manners: Mutex<HashMap<IpAddr, Manner>>,
    taken: std::sync::Arc<Mutex<Vec<Taken>>>,
    dialed: Mutex<Vec<IpAddr>>,
    /// Commands of all sessions.
    pub commands: std::sync::Arc<Mutex<Vec<String>>>,
    close: std::sync::Arc<tokio::sync::Notify>,
    /// Octets of endless answers that were taken.
    pub flooded: std::sync::Arc<AtomicUsize>,
    /// Sessions of each host, and the most that there were at once.
    open: std::sync::Arc<Mutex<HashMap<IpAddr, (usize, usize)>>>,
}

impl Hosts {
    /// The most sessions that a host had at once.
    pub fn most_open(&self, ip: &str) -> usize {
        self.open.lock().get(&ip.parse().unwrap()).map_or(0, |(_, most)| *most)
    }

    pub fn set(&self, ip: &str, manner: Manner) {
        self.manners.lock().insert(ip.parse().unwrap(), manner);
    }

    pub fn good(&self, ip: &str) {
        self.set(
            ip,
            Manner {
                extensions: &["PIPELINING", "8BITMIME", "SIZE 1000000", "DSN"],
                ..Manner::default()
            },
        );
    }

    /// Closes all connections, at once.
    pub fn close_all(&self) {
        self.close.notify_waiters();
    }

    pub fn taken(&self) -> Vec<Taken> {
        self.taken.lock().clone()
    }

    pub fn dialed(&self, ip: &str) -> usize {
        let ip: IpAddr = ip.parse().unwrap();
        self.dialed.lock().iter().filter(|d| **d == ip).count()
    }
}

#[async_trait]
impl Dialer for Hosts {
    async fn dial(&self, target: SocketAddr, _: Option<SocketAddr>) -> io::Result<Stream> {
        self.dialed.lock().push(target.ip());
        let manner = self.manners.lock().get(&target.ip()).cloned();
        let Some(manner) = manner.filter(|m| !m.refuse) else {
            return Err(io::Error::from(io::ErrorKind::ConnectionRefused));
        };
        let (ours, theirs) = tokio::io::duplex(64 << 10);
        let session = Session {
            host: target.ip(),
            manner,
            taken: self.taken.clone(),
            commands: self.commands.clone(),
            flooded: self.flooded.clone(),
        };
        let close = self.close.clone();
        let (open, host) = (self.open.clone(), target.ip());
        {
            let mut open = open.lock();
            let (now, most) = open.entry(host).or_default();
            *now += 1;
            *most = (*most).max(*now);
        }
        tokio::spawn(async move {
            tokio::select! {
                served = session.serve(theirs) => drop(served),
                () = close.notified() => {}
            }
            open.lock().entry(host).or_default().0 -= 1;
        });
        Ok(Box::new(ours))
    }
}

struct Session {
    host: IpAddr,
    manner: Manner,
    taken: std::sync::Arc<Mutex<Vec<Taken>>>,
    commands: std::sync::Arc<Mutex<Vec<String>>>,
    flooded: std::sync::Arc<AtomicUsize>,
}

async fn line<R: AsyncRead + Unpin>(input: &mut BufReader<R>) -> io::Result<String> {
    let mut line = String::new();
    if input.read_line(&mut line).await? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

impl Session {
    async fn say(&self, output: &mut WriteHalf<DuplexStream>, text: &str) -> io::Result<()> {
        if !self.manner.slow {
            return output.write_all(format!("{text}\r\n").as_bytes()).await;
        }
        for octet in format!("{text}\r\n").bytes() {
            tokio::time::sleep(Duration::from_secs(1)).await;
            output.write_all(&[octet]).await?;
        }
        Ok(())
    }

    async fn serve(self, stream: DuplexStream) -> io::Result<()> {
        let (input, mut output): (ReadHalf<_>, _) = tokio::io::split(stream);
        let mut input = BufReader::new(input);
        if self.manner.hang {
            return line(&mut input).await.map(drop);
        }
        let (mut mail, mut recipients) = (String::new(), Vec::new());
        if self.manner.drop_at == Some("") {
            return Ok(());
        }
        self.say(&mut output, "220 host.example ready").await?;
        loop {
            let command = line(&mut input).await?;
            self.commands.lock().push(command.clone());
            let upper = command.to_uppercase();
            if self.manner.drop_at.is_some_and(|start| upper.starts_with(start)) {
                return Ok(());
            }
            if let Some((_, text)) = self.manner.flood.filter(|(start, _)| upper.starts_with(start)) {
                // A gigabyte, if somebody reads as much.
                for _ in 0..(1 << 30) / text.len() {
                    output.write_all(text.as_bytes()).await?;
                    self.flooded.fetch_add(text.len(), Ordering::Relaxed);
                }
                return Ok(());
            }
            if let Some((_, answer)) = self.manner.answers.iter().find(|(start, _)| upper.starts_with(start)) {
                self.say(&mut output, answer).await?;
                continue;
            }
            if upper.starts_with("EHLO") {
                let mut lines = vec!["host.example"];
                lines.extend(self.manner.extensions);
                let last = lines.len() - 1;
                for (i, text) in lines.iter().enumerate() {
                    self.say(&mut output, &format!("250{}{text}", if i == last { ' ' } else { '-' }))
                        .await?;
                }
            } else if upper.starts_with("STARTTLS") {
                self.say(&mut output, "220 go ahead").await?;
                // What follows is no TLS.
                self.say(&mut output, "500 what?").await?;
                return Ok(());
            } else if upper.starts_with("MAIL") {
                mail = command;
                recipients.clear();
                self.say(&mut output, "250 2.1.0 ok").await?;
            } else if upper.starts_with("RCPT") {
                if self.manner.recipients_max.is_some_and(|max| recipients.len() >= max) {
                    self.say(&mut output, "452 4.5.3 too many recipients").await?;
                } else {
                    recipients.push(command);
                    self.say(&mut output, "250 2.1.5 ok").await?;
                }
            } else if upper == "DATA" {
                if recipients.is_empty() {
                    self.say(&mut output, "554 5.5.1 no recipients").await?;
                    continue;
                }
                tokio::time::sleep(self.manner.data_delay).await;
                self.say(&mut output, "354 go on").await?;
                let mut data = String::new();
                loop {
                    let text = line(&mut input).await?;
                    if text == "." {
                        break;
                    }
                    data.push_str(text.strip_prefix('.').unwrap_or(&text));
                    data.push_str("\r\n");
                }
                let (mail, recipients) = (mail.clone(), std::mem::take(&mut recipients));
                self.taken.lock().push(Taken {
                    host: self.host,
                    mail,
                    recipients,
                    data,
                });
                if self.manner.drop_at_end {
                    return Ok(());
                }
                self.say(&mut output, "250 2.0.0 taken").await?;
            } else if upper == "QUIT" {
                return self.say(&mut output, "221 2.0.0 bye").await;
            } else {
                self.say(&mut output, "250 2.0.0 ok").await?;
            }
        }
    }
}
