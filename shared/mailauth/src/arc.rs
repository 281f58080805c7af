//! ARC (RFC 8617): what earlier hops found out about a message, sealed by them.

use mail_auth::AuthenticatedMessage;
use mail_auth::common::verify::VerifySignature as _;

use crate::answers::Answers;
use crate::dkim::{self, Outcome};

/// Most sets of a chain that are verified. RFC 8617 §4.2.1 allows 50; who has a message pass so many hops is a loop.
pub const SETS: usize = 20;

/// About the chain of a message.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Verdict {
    /// None, Pass, Fail or an error.
    pub outcome: Outcome,
    /// Who sealed what, the last one first. Only with a pass do they mean anything.
    pub sealed: Vec<Sealed>,
    /// Why it is not a pass.
    pub problem: Option<String>,
}

/// One set of a chain: what a hop found out.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sealed {
    /// The domain of the seal, in lower case.
    pub sealer: String,
    /// The value of its ARC-Authentication-Results, unfolded.
    pub results: String,
}

/// Octets of a sealed result that are kept.
const RESULTS_BYTES: usize = 8 << 10;

impl Verdict {
    /// Who of those that are trusted says that a message from `domain` passed DMARC when it came to them
    /// (RFC 8617 §7.2.2). Everybody who sealed since has to be trusted as well: they could have changed anything.
    #[must_use]
    pub fn vouches(&self, domain: &str, trusted: impl Fn(&str) -> bool) -> Option<&str> {
        if self.outcome != Outcome::Pass || domain.is_empty() {
            return None;
        }
        let mut known = self.sealed.iter().take_while(|set| trusted(&set.sealer));
        known
            .find(|set| passed_dmarc(&set.results, domain))
            .map(|set| set.sealer.as_str())
    }
}

/// Whether results (RFC 8601 §2.2) say that DMARC passed for a domain in From.
fn passed_dmarc(results: &str, domain: &str) -> bool {
    let plain = without_comments(results);
    // The first is the identifier of who says so, behind the number of the set.
    plain.split(';').skip(1).any(|result| {
        let mut words = result.split_whitespace();
        let passed = words.next().and_then(|word| word.split_once('='));
        let passed = passed.is_some_and(|(method, result)| {
            // RFC 8601 §2.2: a version may follow the method.
            let method = method.split('/').next().unwrap_or_default();
            method.eq_ignore_ascii_case("dmarc") && result.eq_ignore_ascii_case("pass")
        });
        let about = |word: &str| {
            let property = word.split_once('=');
            property.is_some_and(|(name, value)| {
                name.eq_ignore_ascii_case("header.from") && value.trim_matches('"').eq_ignore_ascii_case(domain)
            })
        };
        passed && words.any(about)
    })
}

/// What is outside of parentheses, and what stands in quotes without what could be taken for more than one value.
fn without_comments(text: &str) -> String {
    let (mut out, mut depth, mut quoted, mut escaped) = (String::new(), 0usize, false, false);
    for c in text.chars() {
        let literal = std::mem::take(&mut escaped);
        match c {
            '\\' if !literal && (quoted || depth > 0) => escaped = true,
            '"' if !literal && depth == 0 => {
                quoted = !quoted;
                out.push('"');
            }
            '(' if !literal && !quoted => depth += 1,
            ')' if !literal && !quoted && depth > 0 => {
                depth -= 1;
                out.push(' ');
            }
            _ if depth > 0 => {}
            ';' | ' ' | '\t' | '=' | '"' if quoted => out.push('_'),
            c => out.push(c),
        }
    }
    out
}

/// Verifies the chain of a message.
pub(crate) async fn verify(answers: &Answers, message: &AuthenticatedMessage<'_>) -> Verdict {
    if message.ams_headers.len().max(message.as_headers.len()) > SETS {
        return Verdict {
            outcome: Outcome::Fail,
            problem: Some(format!("the chain has more than {SETS} sets")),
            ..Verdict::default()
        };
    }
    answers.register(message.ams_headers.iter().map(|h| h.header.domain_key()));
    answers.register(message.as_headers.iter().map(|h| h.header.domain_key()));
    loop {
        let out = answers.authenticator().verify_arc(answers.parameters(message)).await;
        if answers.ask().await {
            continue;
        }
        let (outcome, problem) = dkim::outcome(out.result());
        let sets = out.sets();
        let sealed = sets.iter().rev().map(|set| {
            let value = set.results.value;
            let value = String::from_utf8_lossy(value.get(..RESULTS_BYTES).unwrap_or(value));
            Sealed {
                sealer: set.seal.header.d.to_ascii_lowercase(),
                results: value.split_whitespace().collect::<Vec<_>>().join(" "),
            }
        });
        return Verdict {
            outcome,
            sealed: sealed.collect(),
            problem,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(sets: &[(&str, &str)]) -> Verdict {
        let sealed = sets.iter().map(|(sealer, results)| Sealed {
            sealer: (*sealer).to_owned(),
            results: (*results).to_owned(),
        });
        Verdict {
            outcome: Outcome::Pass,
            sealed: sealed.collect(),
            problem: None,
        }
    }

    const PASS: &str = "i=1; mx.list.example; spf=pass smtp.mailfrom=joe@example.org; \
                        DMARC/1=Pass (p=reject; dmarc=fail) header.from=Example.org";

    #[test]
    fn trusted_sealers_vouch_for_what_they_saw() {
        let list = |sealer: &str| sealer == "list.example";
        assert_eq!(
            chain(&[("list.example", PASS)]).vouches("example.org", list),
            Some("list.example")
        );
        assert_eq!(chain(&[("list.example", PASS)]).vouches("example.net", list), None);
        assert_eq!(chain(&[("evil.example", PASS)]).vouches("example.org", list), None);
        // Others sealed after it, or before it.
        assert_eq!(
            chain(&[("evil.example", PASS), ("list.example", PASS)]).vouches("example.org", list),
            None
        );
        let before = chain(&[
            ("list.example", "i=2; x; dmarc=fail header.from=example.org"),
            ("evil.example", PASS),
        ]);
        assert_eq!(before.vouches("example.org", list), None);
        let both = chain(&[("two.example", "i=2; x; arc=pass"), ("list.example", PASS)]);
        assert_eq!(both.vouches("example.org", list), None);
        assert_eq!(both.vouches("example.org", |_| true), Some("list.example"));
        let failed = Verdict {
            outcome: Outcome::Fail,
            ..chain(&[("list.example", PASS)])
        };
        assert_eq!(failed.vouches("example.org", list), None);
    }

    #[test]
    fn only_a_result_of_dmarc_counts() {
        for results in [
            "",
            "i=1; x",
            "dmarc=pass header.from=example.org",
            "i=1; x; dmarc=pass",
            "i=1; x; dmarc=fail header.from=example.org",
            "i=1; x; (dmarc=pass header.from=example.org)",
            "i=1; x; spf=pass reason=\"; dmarc=pass header.from=example.org\"",
            "i=1; x; spf=pass reason=\"a\\\"; dmarc=pass header.from=example.org\"",
            "i=1; x; spf=pass (\\(; dmarc=pass header.from=example.org)",
            "i=1; x; dmarc=pass header.from=\"example.org evil\"",
            "i=1; x; dmarc=fail (\\); dmarc=pass header.from=example.org",
        ] {
            assert!(!passed_dmarc(results, "example.org"), "{results}");
        }
        assert!(passed_dmarc(PASS, "example.org"));
        assert!(passed_dmarc(
            "i=1; x; dmarc=pass header.from=\"example.org\"",
            "example.org"
        ));
    }
}
