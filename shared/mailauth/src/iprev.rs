//! The names of an address that lead back to it (RFC 8601 §2.7.3).

use std::net::IpAddr;

use mox_dns::{Resolver, Status};

/// Most names of an address that are looked up: as RFC 7208 §5.5 bounds them.
pub const NAMES: usize = 10;

/// RFC 8601 §2.7.3.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Outcome {
    /// A name leads back to the address.
    Pass,
    /// There are names, and none does.
    Fail,
    /// It could not be found out now.
    TempError,
    /// There is no name.
    #[default]
    PermError,
}

impl Outcome {
    /// As in header fields.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::TempError => "temperror",
            Self::PermError => "permerror",
        }
    }
}

/// What was found out.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Verdict {
    /// The answer.
    pub outcome: Outcome,
    /// Names that lead back.
    pub names: Vec<String>,
    /// Least trustworthy of the answers.
    pub status: Status,
}

/// Looks an address up and back.
pub async fn look_up(resolver: &dyn Resolver, ip: IpAddr) -> Verdict {
    let ip = ip.to_canonical();
    let answer = match resolver.ptr(ip).await {
        Ok(answer) => answer,
        Err(error) => {
            return Verdict {
                outcome: if error.is_temporary() {
                    Outcome::TempError
                } else {
                    Outcome::PermError
                },
                status: error.status,
                names: Vec::new(),
            };
        }
    };
    let mut verdict = Verdict {
        outcome: Outcome::Fail,
        names: Vec::new(),
        status: answer.status,
    };
    let mut temporary = false;
    for name in answer.records.into_iter().take(NAMES) {
        let back = match ip {
            IpAddr::V4(ip) => resolver.a(&name).await.map(|a| (a.records.contains(&ip), a.status)),
            IpAddr::V6(ip) => resolver.aaaa(&name).await.map(|a| (a.records.contains(&ip), a.status)),
        };
        match back {
            Ok((true, status)) => {
                verdict.names.push(name);
                verdict.status = verdict.status.min(status);
            }
            Ok((false, _)) => {}
            Err(error) => temporary |= error.is_temporary(),
        }
    }
    if !verdict.names.is_empty() {
        verdict.outcome = Outcome::Pass;
    } else if temporary {
        verdict.outcome = Outcome::TempError;
    }
    verdict
}

#[cfg(test)]
mod tests {
    use mox_dns::ZoneResolver;

    use super::*;

    #[tokio::test]
    async fn only_names_that_lead_back_count() {
        let zone = ZoneResolver::parse(
            "192.0.2.1 PTR a.example\n192.0.2.1 PTR b.example\na.example A 192.0.2.1\nb.example A 192.0.2.2\n\
             192.0.2.2 PTR c.example\n192.0.2.3 PTR d.example\nd.example FAIL servfail\n\
             2001:db8::1 PTR e.example\ne.example AAAA 2001:db8::1\n",
        )
        .unwrap();
        let check = async |ip: &str| {
            let verdict = look_up(&zone, ip.parse().unwrap()).await;
            (verdict.outcome, verdict.names.join(" "))
        };
        assert_eq!(check("192.0.2.1").await, (Outcome::Pass, "a.example".into()));
        assert_eq!(check("::ffff:192.0.2.1").await, (Outcome::Pass, "a.example".into()));
        assert_eq!(check("2001:db8::1").await, (Outcome::Pass, "e.example".into()));
        assert_eq!(check("192.0.2.2").await.0, Outcome::Fail);
        assert_eq!(check("192.0.2.3").await.0, Outcome::TempError);
        assert_eq!(check("192.0.2.4").await.0, Outcome::PermError);
    }
}
