//! A resolver for tests, answering from a zone in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use async_trait::async_trait;
use tokio::time::{Duration, sleep};

use crate::error::{Error, Reason};
use crate::record::{Answer, Mx, Record, RecordType, Srv, Status, Tlsa};
use crate::resolver::{Resolver, reverse_name};

/// CNAMEs that are followed, as recursive resolvers bound them.
const MAX_CNAMES: usize = 8;

/// Text that is no zone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the zone: {what}")]
pub struct ZoneError {
    line: usize,
    what: String,
}

/// Answers from memory. Made by methods, or from text with one record a line, names absolute:
///
/// ```text
/// ; a comment
/// example.org       MX   10 mail.example.org
/// nomail.example    MX   0 .
/// mail.example.org  A    192.0.2.1
/// mail.example.org  TXT  any text to the end of the line
/// www.example.org   CNAME mail.example.org
/// 192.0.2.1         PTR  mail.example.org
/// _imaps._tcp.example.org SRV 0 1 993 mail.example.org
/// _25._tcp.mail.example.org TLSA 3 1 1 00ff
/// broken.example    FAIL servfail        ; or timeout, or unreachable: every type fails
/// slow.example      DELAY 1500           ; milliseconds before any answer
/// example.org       STATUS secure        ; of this name and those below it; the longest match counts
/// ```
#[derive(Debug, Clone, Default)]
pub struct ZoneResolver {
    names: BTreeMap<String, Vec<Record>>,
    failures: BTreeMap<String, Reason>,
    delays: BTreeMap<String, Duration>,
    statuses: BTreeMap<String, Status>,
}

fn clean(name: &str) -> String {
    name.trim_end_matches('.').to_ascii_lowercase()
}

impl ZoneResolver {
    /// Without any name.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// From text.
    ///
    /// # Errors
    /// If a line is none of the above.
    pub fn parse(text: &str) -> Result<Self, ZoneError> {
        let mut zone = Self::new();
        for (i, line) in text.lines().enumerate() {
            let line = line.split(';').next().unwrap_or_default().trim();
            if !line.is_empty() {
                zone.line(line).map_err(|what| ZoneError { line: i + 1, what })?;
            }
        }
        Ok(zone)
    }

    fn line(&mut self, line: &str) -> Result<(), String> {
        let (name, rest) = line
            .split_once(char::is_whitespace)
            .ok_or("a name must be followed by a type")?;
        let (kind, data) = rest
            .trim_start()
            .split_once(char::is_whitespace)
            .ok_or("a type must be followed by data")?;
        let data = data.trim();
        let ip = |e: std::net::AddrParseError| format!("{data:?}: {e}");
        let number = |e: std::num::ParseIntError| format!("{data:?}: {e}");
        let record = match kind.to_ascii_uppercase().as_str() {
            "A" => Record::A(data.parse().map_err(ip)?),
            "AAAA" => Record::Aaaa(data.parse().map_err(ip)?),
            "CNAME" => Record::Cname(clean(data)),
            "NS" => Record::Ns(clean(data)),
            "TXT" => Record::Txt(data.as_bytes().to_vec()),
            "MX" => {
                let (preference, host) = data
                    .split_once(char::is_whitespace)
                    .ok_or("MX needs preference and host")?;
                Record::Mx(Mx {
                    preference: preference.parse().map_err(number)?,
                    host: clean(host.trim()),
                })
            }
            "SRV" => {
                let parts: Vec<&str> = data.split_whitespace().collect();
                let [priority, weight, port, target] = parts[..] else {
                    return Err("SRV needs priority, weight, port and target".into());
                };
                Record::Srv(Srv {
                    priority: priority.parse().map_err(number)?,
                    weight: weight.parse().map_err(number)?,
                    port: port.parse().map_err(number)?,
                    target: clean(target),
                })
            }
            "PTR" => {
                let name = name.parse::<IpAddr>().map_or_else(|_| name.to_owned(), reverse_name);
                self.add(&name, Record::Ptr(clean(data)));
                return Ok(());
            }
            "TLSA" => {
                let parts: Vec<&str> = data.split_whitespace().collect();
                let [usage, selector, matching, hex] = parts[..] else {
                    return Err("TLSA needs usage, selector, matching type and data".into());
                };
                let octet = |i: usize| hex.get(2 * i..2 * i + 2).and_then(|s| u8::from_str_radix(s, 16).ok());
                Record::Tlsa(Tlsa {
                    usage: usage.parse().map_err(number)?,
                    selector: selector.parse().map_err(number)?,
                    matching: matching.parse().map_err(number)?,
                    data: (0..hex.len() / 2)
                        .map(octet)
                        .collect::<Option<_>>()
                        .ok_or("TLSA data is not hexadecimal")?,
                })
            }
            "FAIL" => {
                let reason = match data {
                    "servfail" => Reason::Server("SERVFAIL".into()),
                    "timeout" => Reason::Timeout,
                    "unreachable" => Reason::Unreachable("no connection".into()),
                    _ => return Err(format!("{data:?} is not a failure")),
                };
                self.failures.insert(clean(name), reason);
                return Ok(());
            }
            "DELAY" => {
                self.delays
                    .insert(clean(name), Duration::from_millis(data.parse().map_err(number)?));
                return Ok(());
            }
            "STATUS" => {
                let status = match data {
                    "secure" => Status::Secure,
                    "insecure" => Status::Insecure,
                    "indeterminate" => Status::Indeterminate,
                    "bogus" => Status::Bogus,
                    _ => return Err(format!("{data:?} is not a status")),
                };
                self.statuses.insert(clean(name), status);
                return Ok(());
            }
            other => return Err(format!("{other:?} is not a type")),
        };
        self.add(name, record);
        Ok(())
    }

    /// Adds a record.
    pub fn add(&mut self, name: &str, record: Record) {
        self.names.entry(clean(name)).or_default().push(record);
    }

    fn status(&self, name: &str) -> Status {
        let mut rest = name;
        loop {
            if let Some(status) = self.statuses.get(rest) {
                return *status;
            }
            match rest.split_once('.') {
                Some((_, parent)) => rest = parent,
                None => return Status::Insecure,
            }
        }
    }

    fn exists(&self, name: &str) -> bool {
        // RFC 8020: a name exists when one below it does.
        self.names.keys().any(|n| {
            n.strip_suffix(name)
                .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        })
    }
}

#[async_trait]
impl Resolver for ZoneResolver {
    async fn lookup(&self, name: &str, record: RecordType) -> Result<Answer<Record>, Error> {
        let mut at = clean(name);
        let mut status = Status::Secure;
        let mut seen = BTreeSet::new();
        loop {
            if let Some(delay) = self.delays.get(&at) {
                sleep(*delay).await;
            }
            status = status.min(self.status(&at));
            let fail = |reason| Error::new(name, record, reason, status);
            if let Some(reason) = self.failures.get(&at) {
                return Err(fail(reason.clone()));
            }
            if status == Status::Bogus {
                return Err(fail(Reason::Bogus));
            }
            let Some(found) = self.names.get(&at) else {
                return Err(fail(if self.exists(&at) {
                    Reason::NoData
                } else {
                    Reason::NoName
                }));
            };
            let records: Vec<Record> = found.iter().filter(|r| r.record_type() == record).cloned().collect();
            if !records.is_empty() {
                return Ok(Answer {
                    records,
                    status,
                    canonical: at,
                });
            }
            let Some(next) = found
                .iter()
                .find_map(|r| if let Record::Cname(to) = r { Some(to) } else { None })
            else {
                return Err(fail(Reason::NoData));
            };
            if !seen.insert(std::mem::replace(&mut at, next.clone())) || seen.len() > MAX_CNAMES {
                return Err(fail(Reason::Loop));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ZONE: &str = "
        ; a zone
        a.example        A     192.0.2.1
        a.example        AAAA  2001:db8::1
        c.example        CNAME a.example.
        d.example        CNAME c.example
        l1.example       CNAME l2.example
        l2.example       CNAME l1.example
        192.0.2.1        PTR   a.example
        deep.sub.example TXT   v=spf1 -all
        x.example        FAIL  servfail
        t.example        TLSA  3 1 1 00ff
        example          STATUS secure
        c.example        STATUS insecure
        b.example        STATUS bogus
        b.example        A     192.0.2.9
    ";

    #[tokio::test]
    async fn it_answers_as_a_resolver_does() {
        let zone = ZoneResolver::parse(ZONE).unwrap();
        let a = zone.a("A.example.").await.unwrap();
        assert_eq!((a.records.len(), a.status), (1, Status::Secure));
        let a = zone.a("d.example").await.unwrap();
        assert_eq!(
            (a.canonical.as_str(), a.status),
            ("a.example", Status::Insecure),
            "the least of the chain"
        );
        assert_eq!(zone.addresses("a.example").await.unwrap().records.len(), 2);
        assert_eq!(
            zone.ptr("192.0.2.1".parse().unwrap()).await.unwrap().records,
            ["a.example"]
        );
        assert_eq!(zone.txt("deep.sub.example").await.unwrap().records, [b"v=spf1 -all"]);
        assert_eq!(zone.tlsa("t.example").await.unwrap().records[0].data, [0, 255]);
        assert_eq!(zone.a("l1.example").await.unwrap_err().reason, Reason::Loop);
        assert_eq!(zone.mx("a.example").await.unwrap_err().reason, Reason::NoData);
        assert_eq!(
            zone.a("sub.example").await.unwrap_err().reason,
            Reason::NoData,
            "an empty non-terminal"
        );
        let none = zone.a("none.example").await.unwrap_err();
        assert!(none.reason == Reason::NoName && none.is_not_found() && !none.is_temporary());
        assert!(zone.a("x.example").await.unwrap_err().is_temporary());
        let bogus = zone.addresses("b.example").await.unwrap_err();
        assert!(bogus.reason == Reason::Bogus && bogus.is_temporary());
    }

    #[test]
    fn a_bad_line_is_named() {
        let error = ZoneResolver::parse("a A 192.0.2.1\nb WHAT 1").unwrap_err();
        assert_eq!(error.to_string(), "line 2 of the zone: \"WHAT\" is not a type");
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(s in "(.{0,40}\n){0,4}") {
            let _ = ZoneResolver::parse(&s);
        }

        #[test]
        fn no_tlsa_makes_it_panic(s in "[0-9a-fé]{0,9}") {
            let _ = ZoneResolver::parse(&format!("a TLSA 3 1 1 {s}"));
        }
    }
}
