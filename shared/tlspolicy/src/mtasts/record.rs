//! The TXT record at `_mta-sts` (RFC 8461 §3.1).

use mox_dns::{Error, Resolver, Status};

/// Octets of an id (RFC 8461 §3.1: 1*32).
const ID_MAX: usize = 32;

/// That there is a policy, and which.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Another one says that the policy has changed.
    pub id: String,
}

/// Text that is no record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// It does not begin as one.
    #[error("it does not begin with v=STSv1")]
    Version,
    /// It is not of names and values.
    #[error("{0:?} is not a field with a value")]
    Field(String),
    /// It has no id, or one of another form.
    #[error("it has no id of 1 to 32 letters and digits")]
    Id,
}

/// Why there is no record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LookupError {
    /// DNS has none, or did not answer.
    #[error(transparent)]
    Dns(#[from] Error),
    /// There are several.
    #[error("{0} has several MTA-STS records, and so none that counts")]
    Several(String),
    /// There is one, and it is none.
    #[error("the MTA-STS record of {0} is not valid: {1}")]
    Record(String, RecordError),
}

impl LookupError {
    /// Whether DNS said that there is none.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Dns(e) if e.is_not_found())
    }
}

impl Record {
    /// From a text.
    ///
    /// # Errors
    /// If it is none.
    pub fn parse(text: &str) -> Result<Self, RecordError> {
        let mut fields = text.split(';');
        let version = fields.next().unwrap_or_default();
        if !is_ours(text) || version.trim_end_matches([' ', '\t']) != "v=STSv1" {
            return Err(RecordError::Version);
        }
        let mut id = None;
        let mut fields = fields.map(|f| f.trim_matches([' ', '\t'])).peekable();
        while let Some(field) = fields.next() {
            // The last one may be followed by a semicolon.
            if field.is_empty() && fields.peek().is_none() {
                break;
            }
            let wrong = || RecordError::Field(field.chars().take(64).collect());
            let (name, value) = field.split_once('=').ok_or_else(wrong)?;
            let named = name.len() <= 32
                && name.starts_with(|c: char| c.is_ascii_alphanumeric())
                && name
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'));
            let valued = !value.is_empty() && value.chars().all(|c| c.is_ascii_graphic() && !matches!(c, '=' | ';'));
            if !named || !valued {
                return Err(wrong());
            }
            // RFC 8461 §3.1: of several with the same name, the first counts.
            if name == "id" && id.is_none() {
                id = Some(value.to_owned());
            }
        }
        let fits = |id: &String| id.len() <= ID_MAX && id.chars().all(|c| c.is_ascii_alphanumeric());
        let id = id.filter(fits).ok_or(RecordError::Id)?;
        Ok(Self { id })
    }
}

/// RFC 8461 §3.1: records that do not begin so are of others.
fn is_ours(text: &str) -> bool {
    text.strip_prefix("v=STSv1")
        .is_some_and(|rest| rest.trim_start_matches([' ', '\t']).starts_with(';'))
}

/// The record of a domain, its text, and the DNSSEC status of the answer, which MTA-STS has no need of.
///
/// # Errors
/// If there is none that counts.
pub async fn find_record(resolver: &dyn Resolver, domain: &str) -> Result<(Record, String, Status), LookupError> {
    let name = format!("_mta-sts.{}", domain.trim_end_matches('.'));
    let answer = resolver.txt(&name).await?;
    let texts: Vec<String> = answer
        .records
        .iter()
        .map(|text| String::from_utf8_lossy(text).into_owned())
        .collect();
    let mut ours = texts.iter().filter(|text| is_ours(text));
    let record = match (ours.next(), ours.next()) {
        (Some(one), None) => one,
        (Some(_), Some(_)) => return Err(LookupError::Several(name)),
        (None, _) => return Err(LookupError::Record(name, RecordError::Version)),
    };
    let parsed = Record::parse(record).map_err(|e| LookupError::Record(name, e))?;
    Ok((parsed, record.clone(), answer.status))
}

#[cfg(test)]
mod tests {
    use mox_dns::ZoneResolver;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn records_have_a_version_and_an_id() {
        for text in [
            "v=STSv1; id=20160831085700Z;",
            "v=STSv1;id=20160831085700Z",
            "v=STSv1 ;\tid=20160831085700Z ; x.y-z_1=ok! ;",
            "v=STSv1; id=20160831085700Z; id=other",
        ] {
            assert_eq!(Record::parse(text).unwrap().id, "20160831085700Z", "{text}");
        }
        let long = format!("v=STSv1; id={}", "a".repeat(33));
        for text in [
            "",
            "v=STSv1",
            "v=STSv1;",
            "v=STSv2; id=1",
            "v=stsv1; id=1",
            " v=STSv1; id=1",
            "id=1; v=STSv1",
            "v=STSv1; id=",
            "v=STSv1; id=a-b",
            "v=STSv1; id=1; nonsense",
            "v=STSv1; id=1;; x=y",
            &long,
        ] {
            assert!(Record::parse(text).is_err(), "{text}");
        }
    }

    #[tokio::test]
    async fn one_record_counts_and_two_are_none() {
        let mut zone = ZoneResolver::parse("_mta-sts.one.example TXT v=spf1 -all").unwrap();
        let add = |zone: &mut ZoneResolver, name: &str, text: &str| {
            zone.add(name, mox_dns::Record::Txt(text.as_bytes().to_vec()));
        };
        add(&mut zone, "_mta-sts.one.example", "v=STSv1; id=7;");
        add(&mut zone, "_mta-sts.three.example", "v=STSv1; id=7;");
        add(&mut zone, "_mta-sts.three.example", "v=STSv1; id=8;");
        add(&mut zone, "_mta-sts.four.example", "v=STSv1; id=#;");
        let of = |name: &'static str| find_record(&zone, name);
        assert_eq!(of("one.example").await.unwrap().0.id, "7");
        assert!(matches!(of("three.example").await, Err(LookupError::Several(_))));
        assert!(matches!(of("four.example").await, Err(LookupError::Record(..))));
        assert!(of("none.example").await.unwrap_err().is_not_found());
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(s in ".{0,80}", t in "v=STSv1[; \t]{0,3}[a-z;=é ]{0,40}") {
            let _ = Record::parse(&s);
            let _ = Record::parse(&t);
        }

        #[test]
        fn what_is_an_id_is_found(id in "[A-Za-z0-9]{1,32}", before in "( ?x=y;){0,2}") {
            let text = format!("v=STSv1;{before} id={id};");
            prop_assert_eq!(Record::parse(&text).unwrap().id, id);
        }
    }
}
