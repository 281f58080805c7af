//! The trait.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use async_trait::async_trait;

use crate::error::{Error, Reason};
use crate::record::{Answer, Mx, Record, RecordType, Tlsa};

/// Answers questions about names. CNAMEs are followed. Every question ends within seconds, also when no server answers.
///
/// Every method fails with an [`Error`] that tells "there is none" from "it could not be found out".
#[async_trait]
pub trait Resolver: Send + Sync + 'static {
    /// The records of one type that a name has. An answer has at least one record, all of the type asked for.
    ///
    /// # Errors
    /// As said above, and so for each of the following.
    async fn lookup(&self, name: &str, record: RecordType) -> Result<Answer<Record>, Error>;

    /// IPv4 addresses.
    async fn a(&self, name: &str) -> Result<Answer<Ipv4Addr>, Error> {
        let answer = self.lookup(name, RecordType::A).await?;
        Ok(answer.filter_map(|r| if let Record::A(ip) = r { Some(ip) } else { None }))
    }

    /// IPv6 addresses.
    async fn aaaa(&self, name: &str) -> Result<Answer<Ipv6Addr>, Error> {
        let answer = self.lookup(name, RecordType::Aaaa).await?;
        Ok(answer.filter_map(|r| if let Record::Aaaa(ip) = r { Some(ip) } else { None }))
    }

    /// Mail exchangers, by preference.
    async fn mx(&self, name: &str) -> Result<Answer<Mx>, Error> {
        let answer = self.lookup(name, RecordType::Mx).await?;
        let mut answer = answer.filter_map(|r| if let Record::Mx(mx) = r { Some(mx) } else { None });
        answer.records.sort();
        Ok(answer)
    }

    /// Texts.
    async fn txt(&self, name: &str) -> Result<Answer<Vec<u8>>, Error> {
        let answer = self.lookup(name, RecordType::Txt).await?;
        Ok(answer.filter_map(|r| if let Record::Txt(text) = r { Some(text) } else { None }))
    }

    /// TLSA records.
    async fn tlsa(&self, name: &str) -> Result<Answer<Tlsa>, Error> {
        let answer = self.lookup(name, RecordType::Tlsa).await?;
        Ok(answer.filter_map(|r| if let Record::Tlsa(tlsa) = r { Some(tlsa) } else { None }))
    }

    /// The names of an address.
    async fn ptr(&self, ip: IpAddr) -> Result<Answer<String>, Error> {
        let answer = self.lookup(&reverse_name(ip), RecordType::Ptr).await?;
        Ok(answer.filter_map(|r| if let Record::Ptr(name) = r { Some(name) } else { None }))
    }

    /// IPv4 and IPv6 addresses. Those of one family are an answer also when the other's could not be found out, unless
    /// what failed was validation: an attacker must not be able to choose which addresses are used.
    async fn addresses(&self, name: &str) -> Result<Answer<IpAddr>, Error> {
        let (v6, v4) = tokio::join!(self.aaaa(name), self.a(name));
        match (v6, v4) {
            (Ok(v6), Ok(v4)) => Ok(Answer {
                records: v6
                    .records
                    .into_iter()
                    .map(IpAddr::V6)
                    .chain(v4.records.into_iter().map(IpAddr::V4))
                    .collect(),
                status: v6.status.min(v4.status),
                canonical: v4.canonical,
            }),
            (Err(e), _) | (_, Err(e)) if e.reason == Reason::Bogus => Err(e),
            (Ok(v6), Err(_)) => Ok(v6.filter_map(|ip| Some(IpAddr::V6(ip)))),
            (Err(_), Ok(v4)) => Ok(v4.filter_map(|ip| Some(IpAddr::V4(ip)))),
            // "There is none" is only certain when both say so.
            (Err(v6), Err(v4)) => Err(if v6.is_temporary() { v6 } else { v4 }),
        }
    }
}

/// The name below which an address has its PTR records (RFC 1035 §3.5, RFC 3596 §2.5).
#[must_use]
pub fn reverse_name(ip: IpAddr) -> String {
    use std::fmt::Write;
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            let [a, b, c, d] = ip.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        IpAddr::V6(ip) => {
            let mut name = String::with_capacity(72);
            for octet in ip.octets().iter().rev() {
                let _ = write!(name, "{:x}.{:x}.", octet & 0xf, octet >> 4);
            }
            name + "ip6.arpa"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reverse_names_are_as_the_rfcs_say() {
        assert_eq!(reverse_name("192.0.2.1".parse().unwrap()), "1.2.0.192.in-addr.arpa");
        assert_eq!(
            reverse_name("::ffff:192.0.2.1".parse().unwrap()),
            "1.2.0.192.in-addr.arpa"
        );
        assert_eq!(
            reverse_name("4321:0:1:2:3:4:567:89ab".parse().unwrap()),
            "b.a.9.8.7.6.5.0.4.0.0.0.3.0.0.0.2.0.0.0.1.0.0.0.0.0.0.0.1.2.3.4.ip6.arpa"
        );
    }
}
