//! A DNS server for one system: a few records, on loopback, over UDP.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};

const TYPE_A: u16 = 1;
const TYPE_PTR: u16 = 12;
const TYPE_MX: u16 = 15;
const TYPE_TXT: u16 = 16;
const TYPE_AAAA: u16 = 28;
/// Seconds that answers may be kept.
const TTL: u32 = 3600;
/// Names that are not answered for.
const SILENT: &str = "silent.example";
/// Names below this are answered for late, as this name is where they have no records of their own.
const SLOW: &str = "slow.example";
/// How late.
const LATE: Duration = Duration::from_secs(2);
/// How often a server that is asked nothing looks whether it is to end.
const LOOK: Duration = Duration::from_millis(100);

/// A running server; ends when it is dropped.
#[derive(Debug)]
pub struct Dns {
    address: SocketAddr,
    end: Arc<AtomicBool>,
    serving: Option<std::thread::JoinHandle<()>>,
}

type Zone = HashMap<(String, u16), Vec<Vec<u8>>>;

impl Dns {
    /// Serves records, one a line: name, type (A, AAAA, PTR, MX, TXT), data. MX has a preference and a name; TXT is the rest of
    /// the line. Of other names it says that they are not there. What ends in "silent.example" it never answers, what ends in
    /// ".slow.example" late: as "slow.example", where it has no records.
    ///
    /// # Errors
    /// If a line is not understood, or the address can't be used.
    pub fn serve(ip: IpAddr, records: &str) -> Result<Self> {
        let mut zone = Zone::new();
        for line in records.lines().filter(|line| !line.trim().is_empty()) {
            let (name, of_type, data) = record(line).with_context(|| format!("reading the record {line:?}"))?;
            zone.entry((name, of_type)).or_default().push(data);
        }
        let socket = UdpSocket::bind((ip, 0)).context("listening for DNS")?;
        socket.set_read_timeout(Some(LOOK))?;
        let address = socket.local_addr()?;
        let end = Arc::new(AtomicBool::new(false));
        let ends = Arc::clone(&end);
        let serving = std::thread::spawn(move || {
            let mut question = [0; 4096];
            while !ends.load(Ordering::Relaxed) {
                if let Ok((n, from)) = socket.recv_from(&mut question)
                    && let Some(answer) = answer(&zone, &question[..n])
                {
                    if answer.late
                        && let Ok(socket) = socket.try_clone()
                    {
                        std::thread::spawn(move || {
                            std::thread::sleep(LATE);
                            let _ = socket.send_to(&answer.bytes, from);
                        });
                    } else {
                        let _ = socket.send_to(&answer.bytes, from);
                    }
                }
            }
        });
        Ok(Self {
            address,
            end,
            serving: Some(serving),
        })
    }

    /// Where it is asked.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        if let Some(serving) = self.serving.take() {
            let _ = serving.join();
        }
    }
}

fn record(line: &str) -> Result<(String, u16, Vec<u8>)> {
    let mut words = line.trim().splitn(3, char::is_whitespace);
    let (Some(name), Some(of_type), Some(data)) = (words.next(), words.next(), words.next()) else {
        bail!("it needs a name, a type and data");
    };
    let data = data.trim();
    let (of_type, data) = match of_type {
        "A" => (TYPE_A, data.parse::<Ipv4Addr>()?.octets().to_vec()),
        "AAAA" => (TYPE_AAAA, data.parse::<Ipv6Addr>()?.octets().to_vec()),
        "PTR" => (TYPE_PTR, encoded(data)),
        "MX" => {
            let (preference, host) = data.split_once(' ').context("MX has a preference and a name")?;
            let preference = preference.parse::<u16>()?.to_be_bytes();
            (TYPE_MX, [&preference[..], &encoded(host)].concat())
        }
        "TXT" => {
            let strings = data.as_bytes().chunks(255);
            let data = strings.flat_map(|s| std::iter::once(s.len() as u8).chain(s.iter().copied()));
            (TYPE_TXT, data.collect())
        }
        other => bail!("type {other} is not known"),
    };
    Ok((name.trim_end_matches('.').to_lowercase(), of_type, data))
}

fn encoded(name: &str) -> Vec<u8> {
    let labels = name.trim_end_matches('.').split('.').filter(|label| !label.is_empty());
    let labels = labels.flat_map(|label| std::iter::once(label.len() as u8).chain(label.bytes()));
    labels.chain([0]).collect()
}

/// What is answered, and whether late.
struct Answer {
    bytes: Vec<u8>,
    late: bool,
}

/// RFC 1035 §4.1, for a question alone. Whatever else is asked gets no answer.
fn answer(zone: &Zone, question: &[u8]) -> Option<Answer> {
    let mut at = 12;
    let mut labels = Vec::new();
    loop {
        let length = usize::from(*question.get(at)?);
        at += 1;
        if length == 0 {
            break;
        }
        labels.push(String::from_utf8_lossy(question.get(at..at + length)?).to_lowercase());
        at += length;
    }
    let name = labels.join(".");
    if name.ends_with(SILENT) {
        return None;
    }
    let of_type = u16::from_be_bytes(question.get(at..at + 2)?.try_into().ok()?);
    let asked = question.get(12..at + 4)?;
    let none = Vec::new();
    let late = name.ends_with(&format!(".{SLOW}"));
    let known = zone.keys().any(|(known, _)| *known == name);
    let name = if late && !known { SLOW.to_owned() } else { name };
    let found = zone.get(&(name.clone(), of_type)).unwrap_or(&none);
    // A name that has records of another type, or names below it, is there.
    let below = format!(".{name}");
    let exists = zone.keys().any(|(known, _)| *known == name || known.ends_with(&below));
    let mut answer = question.get(..2)?.to_vec();
    // An answer, with authority; recursion as it was asked for, and available; what there is, or no such name.
    let recursion = question.get(2)? & 1;
    answer.extend([0x84 | recursion, 0x80 | if exists { 0 } else { 3 }]);
    for count in [1, found.len() as u16, 0, 0] {
        answer.extend(count.to_be_bytes());
    }
    answer.extend(asked);
    for data in found {
        // The name is that of the question.
        answer.extend([0xc0, 12]);
        answer.extend(of_type.to_be_bytes());
        answer.extend([0, 1]);
        answer.extend(TTL.to_be_bytes());
        answer.extend((data.len() as u16).to_be_bytes());
        answer.extend(data);
    }
    Some(Answer { bytes: answer, late })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_are_answered() {
        let mut zone = Zone::new();
        for line in [
            "a.example A 192.0.2.1",
            "b.a.example TXT some text",
            "a.example MX 10 mx.example",
        ] {
            let (name, of_type, data) = record(line).unwrap();
            zone.entry((name, of_type)).or_default().push(data);
        }
        let ask = |name: &str, of_type: u16| {
            let mut question = vec![7, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
            question.extend(encoded(name));
            question.extend(of_type.to_be_bytes());
            question.extend([0, 1]);
            answer(&zone, &question).unwrap().bytes
        };
        let a = ask("A.example", TYPE_A);
        assert_eq!((a[3], a[7]), (0x80, 1));
        assert!(a.ends_with(&[0, 4, 192, 0, 2, 1]));
        assert_eq!(ask("a.example", TYPE_TXT)[7], 0);
        assert_eq!(ask("example", TYPE_A)[3], 0x80);
        assert_eq!(ask("c.example", TYPE_A)[3], 0x83);
        assert!(record("a.example NONE x").is_err() && record("a.example A").is_err());
    }
}
