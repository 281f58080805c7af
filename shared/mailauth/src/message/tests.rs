use mox_dns::ZoneResolver;

use super::*;

/// The keys and the message of RFC 8463 Appendix A.
const ZONE: &str = "
brisbane._domainkey.football.example.com TXT v=DKIM1\\; k=ed25519\\; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=
test._domainkey.football.example.com TXT v=DKIM1\\; k=rsa\\; p=MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDkHlOQoBTzWRiGs5V6NpP3idY6Wk08a5qhdR6wy5bdOKb2jLQiY/J16JYi0Qvx/byYzCNb3W91y3FutACDfzwQ/BC/e/8uBsCR+yz1Lxj+PL6lHvqMKrM3rG4hstT5QjvHO9PzoxZyVYLzBfO2EeC3Ip3G+2kryOTIKT+l/K4w3QIDAQAB
_dmarc.example.com TXT v=DMARC1\\; p=reject\\; sp=quarantine\\; np=reject\\; rua=mailto:dmarc@example.com
_dmarc.t.example TXT v=DMARC1\\; p=reject\\; t=y
_dmarc.two.example TXT v=DMARC1\\; p=reject
_dmarc.two.example TXT v=DMARC1\\; p=none
_dmarc.strict.example TXT v=DMARC1\\; p=reject\\; aspf=s
_dmarc.broken.example FAIL servfail
exists.example.com A 192.0.2.1
football.example.com A 192.0.2.1
football.example.com STATUS secure
";

const SIGNED: &str = "DKIM-Signature: v=1; a=ed25519-sha256; c=relaxed/relaxed;
 d=football.example.com; i=@football.example.com;
 q=dns/txt; s=brisbane; t=1528637909; h=from : to :
 subject : date : message-id : from : subject : date;
 bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;
 b=/gCrinpcQOoIfuHNQIbq4pgh9kyIK3AQUdt9OdqQehSwhEIug4D11Bus
 Fa3bT3FY5OsU7ZbnKELq+eXdp1Q1Dw==
DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed;
 d=football.example.com; i=@football.example.com;
 q=dns/txt; s=test; t=1528637909; h=from : to : subject :
 date : message-id : from : subject : date;
 bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;
 b=F45dVWDfMbQDGHJFlXUNB2HKfbCeLRyhDXgFpEL8GwpsRe0IeIixNTe3
 DhCVlUrSjV4BwcVcOF6+FF3Zo9Rpo1tFOeS9mPYQTnGdaSGsgeefOsk2Jz
 dA+L10TeYt9BgDfQNZtKdN1WO//KgIqXP7OdEFE4LjFYNcUxZQ4FADY+8=
From: Joe SixPack <joe@football.example.com>
To: Suzie Q <suzie@shopping.example.net>
Subject: Is dinner ready?
Date: Fri, 11 Jul 2003 21:00:37 -0700 (PDT)
Message-ID: <20030712040037.46341.5F8J@football.example.com>

Hi.

We lost the game.  Are you hungry yet?

Joe.
";

/// In zones in memory, ";" starts a comment, so records with it are added one by one.
fn zone() -> Arc<ZoneResolver> {
    let (texts, rest): (Vec<&str>, Vec<&str>) = ZONE.lines().partition(|line| line.contains(" TXT "));
    let mut zone = ZoneResolver::parse(&rest.join("\n")).unwrap();
    for line in texts {
        let (name, text) = line.split_once(" TXT ").unwrap();
        zone.add(name, mox_dns::Record::Txt(text.replace("\\;", ";").into_bytes()));
    }
    Arc::new(zone)
}

async fn check(message: &str, mail_from_domain: &str, spf: spf::Outcome) -> Verdicts {
    let spf = spf::Verdict {
        outcome: spf,
        ..spf::Verdict::default()
    };
    let message = Bytes::from(message.replace('\n', "\r\n"));
    verify(zone(), message, mail_from_domain, &spf).await.unwrap()
}

fn outcomes(verdicts: &Verdicts) -> Vec<dkim::Outcome> {
    verdicts.dkim.iter().map(|v| v.outcome).collect()
}

#[tokio::test]
async fn the_example_of_the_standard_verifies() {
    let verdicts = check(SIGNED, "elsewhere.example", spf::Outcome::None).await;
    assert_eq!(outcomes(&verdicts), [dkim::Outcome::Pass; 2], "{verdicts:?}");
    assert_eq!(verdicts.signers().collect::<Vec<_>>(), ["football.example.com"]);
    assert_eq!(verdicts.dkim[0].algorithm, "ed25519-sha256");
    assert_eq!(verdicts.dkim[0].signature, "/gCrinpc");
    assert_eq!(verdicts.dkim[0].status, mox_dns::Status::Secure);
    let dmarc = &verdicts.dmarc;
    assert_eq!(dmarc.outcome, dmarc::Outcome::Pass);
    assert!(dmarc.dkim_aligned && !dmarc.spf_aligned);
    assert_eq!(
        (dmarc.domain.as_str(), dmarc.policy_domain.as_str()),
        ("football.example.com", "example.com")
    );
    assert_eq!(dmarc.policy, dmarc::Policy::Quarantine);
    assert_eq!(verdicts.arc, arc::Verdict::default());
}

#[tokio::test]
async fn what_was_changed_fails() {
    let body = check(&SIGNED.replace("hungry", "thirsty"), "", spf::Outcome::None).await;
    assert_eq!(outcomes(&body), [dkim::Outcome::Fail; 2]);
    assert_eq!(body.dkim[0].problem.as_deref(), Some("the body was changed"));
    assert_eq!(body.dmarc.outcome, dmarc::Outcome::Fail);
    let header = check(&SIGNED.replace("dinner", "lunch"), "", spf::Outcome::None).await;
    assert_eq!(outcomes(&header), [dkim::Outcome::Fail; 2], "{header:?}");
    // A second From, above the signed one: "from" is signed once more than it was there.
    let second = SIGNED.replace("To: Suzie", "From: evil@football.example.com\nTo: Suzie");
    assert_eq!(
        outcomes(&check(&second, "", spf::Outcome::None).await),
        [dkim::Outcome::Fail; 2]
    );
    // Relaxed: white space may change.
    let spaces = SIGNED
        .replace("Subject: Is", "SUBJECT:   Is")
        .replace("game.  Are", "game. Are");
    assert_eq!(
        outcomes(&check(&spaces, "", spf::Outcome::None).await),
        [dkim::Outcome::Pass; 2]
    );
}

#[tokio::test]
async fn signatures_that_are_not_accepted() {
    let key = check(&SIGNED.replace("s=brisbane", "s=sydney"), "", spf::Outcome::None).await;
    assert_eq!(outcomes(&key), [dkim::Outcome::PermError, dkim::Outcome::Pass]);
    assert_eq!(key.dkim[0].problem.as_deref(), Some("there is no key"));
    let part = check(
        &SIGNED.replace("q=dns/txt; s=test;", "q=dns/txt; l=5; s=test;"),
        "",
        spf::Outcome::None,
    )
    .await;
    let policy = part.dkim.iter().filter(|v| v.outcome == dkim::Outcome::Policy).count();
    assert_eq!(policy, 1, "{part:?}");
    let expired = check(
        &SIGNED.replace(
            "t=1528637909; h=from : to :\n",
            "t=1528637909; x=1528637910; h=from : to :\n",
        ),
        "",
        spf::Outcome::None,
    )
    .await;
    assert_eq!(expired.dkim[0].outcome, dkim::Outcome::PermError, "{expired:?}");
    let misformed = check(
        &SIGNED.replace("v=1; a=ed25519-sha256", "v=1; a=foo"),
        "",
        spf::Outcome::None,
    )
    .await;
    assert!(
        misformed
            .dkim
            .iter()
            .any(|v| v.domain.is_empty() && v.outcome != dkim::Outcome::Pass)
    );
}

#[tokio::test]
async fn there_is_a_bound_on_signatures() {
    let (first, rest) = SIGNED.split_at(SIGNED.find("DKIM-Signature: v=1; a=rsa").unwrap());
    let many = format!("{}{rest}", first.repeat(100));
    let verdicts = check(&many, "", spf::Outcome::None).await;
    assert_eq!(outcomes(&verdicts), [dkim::Outcome::Pass; dkim::SIGNATURES]);
}

#[tokio::test]
async fn policies_apply() {
    use dmarc::{Outcome, Policy};
    for (from, mail_from, spf, want) in [
        (
            "a@example.com",
            "example.com",
            spf::Outcome::Pass,
            (Outcome::Pass, Policy::Reject),
        ),
        (
            "a@example.com",
            "sub.example.com",
            spf::Outcome::Pass,
            (Outcome::Pass, Policy::Reject),
        ),
        (
            "a@example.com",
            "sub.example.com",
            spf::Outcome::Fail,
            (Outcome::Fail, Policy::Reject),
        ),
        (
            "a@example.com",
            "other.example",
            spf::Outcome::Pass,
            (Outcome::Fail, Policy::Reject),
        ),
        (
            "a@exists.example.com",
            "x.example",
            spf::Outcome::None,
            (Outcome::Fail, Policy::Quarantine),
        ),
        (
            "a@missing.example.com",
            "x.example",
            spf::Outcome::None,
            (Outcome::Fail, Policy::Reject),
        ),
        (
            "a@t.example",
            "x.example",
            spf::Outcome::None,
            (Outcome::Fail, Policy::Quarantine),
        ),
        (
            "a@strict.example",
            "strict.example",
            spf::Outcome::Pass,
            (Outcome::Pass, Policy::Reject),
        ),
        (
            "a@strict.example",
            "sub.strict.example",
            spf::Outcome::Pass,
            (Outcome::Fail, Policy::Reject),
        ),
        (
            "a@two.example",
            "two.example",
            spf::Outcome::Pass,
            (Outcome::None, Policy::None),
        ),
        (
            "a@nothing.example",
            "nothing.example",
            spf::Outcome::Pass,
            (Outcome::None, Policy::None),
        ),
        (
            "a@broken.example",
            "broken.example",
            spf::Outcome::Pass,
            (Outcome::TempError, Policy::None),
        ),
        (
            "a@example.com, b@other.example",
            "example.com",
            spf::Outcome::Pass,
            (Outcome::None, Policy::None),
        ),
    ] {
        let message = format!("From: {from}\nSubject: hi\n\nhi\n");
        let verdict = check(&message, mail_from, spf).await.dmarc;
        assert_eq!(
            (verdict.outcome, verdict.policy),
            want,
            "{from} {mail_from} {spf}: {verdict:?}"
        );
    }
}

#[tokio::test]
async fn what_is_no_message_has_no_verdicts() {
    for message in ["", "\n", "no header", "\n\nbody"] {
        assert!(check(message, "example.com", spf::Outcome::Pass).await.dkim.is_empty());
    }
}

#[tokio::test]
async fn a_large_message_is_verified_elsewhere() {
    let large = format!("{SIGNED}{}", "x".repeat(LARGE));
    assert_eq!(
        outcomes(&check(&large, "", spf::Outcome::None).await),
        [dkim::Outcome::Fail; 2]
    );
}
