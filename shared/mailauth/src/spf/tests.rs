use mox_dns::ZoneResolver;

use super::*;

/// The zone of RFC 7208 Appendix A, and policies that show what the standard says.
const ZONE: &str = "
example.com            MX 10 mail-a.example.com
example.com            MX 20 mail-b.example.com
example.com            A 192.0.2.10
example.com            A 192.0.2.11
amy.example.com        A 192.0.2.65
bob.example.com        A 192.0.2.66
mail-a.example.com     A 192.0.2.129
mail-b.example.com     A 192.0.2.130
www.example.com        CNAME example.com
example.org            MX 10 mail-c.example.org
mail-c.example.org     A 192.0.2.140
192.0.2.10             PTR example.com
192.0.2.11             PTR example.com
192.0.2.65             PTR amy.example.com
192.0.2.66             PTR bob.example.com
192.0.2.129            PTR mail-a.example.com
192.0.2.130            PTR mail-b.example.com
192.0.2.140            PTR mail-c.example.org
10.0.0.4               PTR bob.example.com
v6.example             AAAA 2001:db8::1

none.example           TXT something else
two.example            TXT v=spf1 a
two.example            TXT v=spf1 mx
bad.example            TXT v=spf1 a:
all.example            TXT v=spf1 +all
a.example              TXT v=spf1 a:example.com -all
anet.example           TXT v=spf1 a:example.com/26 -all
mx.example             TXT v=spf1 mx:example.com -all
mx2.example            TXT v=spf1 mx:example.com mx:example.org -all
mxnet.example          TXT v=spf1 mx:example.com/30 mx:example.org/30 -all
ptr.example            TXT v=spf1 ptr:example.com -all
ip.example             TXT v=spf1 ip4:192.0.2.128/28 -all
ip6.example            TXT v=spf1 ip6:2001:db8::/126 a:v6.example ~all
neutral.example        TXT v=spf1 ?ip4:192.0.2.1
default.example        TXT v=spf1 ip4:192.0.2.1
include.example        TXT v=spf1 include:ip.example -all
includenone.example    TXT v=spf1 include:none.example -all
includebad.example     TXT v=spf1 include:bad.example -all
redirect.example       TXT v=spf1 redirect=ip.example
redirectnone.example   TXT v=spf1 redirect=nowhere.example
temp.example           FAIL servfail
includetemp.example    TXT v=spf1 include:temp.example -all
atemp.example          TXT v=spf1 a:temp.example -all
exists.example         TXT v=spf1 exists:%{ir}.%{l}.list.example -all
9.2.0.192.joe.list.example A 127.0.0.2
exp.example            TXT v=spf1 -all exp=explain.exp.example
explain.exp.example    TXT %{i} is not one of %{d}'s hosts
exptwo.example         TXT v=spf1 -all exp=two.example
includeexp.example     TXT v=spf1 include:exp.example -all
loop.example           TXT v=spf1 include:loop.example -all
ten.example            TXT v=spf1 a:example.com a:example.com a:example.com a:example.com a:example.com a:example.com a:example.com a:example.com a:example.com a:example.com ip4:192.0.2.99 -all
eleven.example         TXT v=spf1 a:example.com a:example.com a:example.com a:example.com a:example.com a:example.com a:example.com a:example.com a:example.com a:example.com a:example.com ip4:192.0.2.99 -all
twovoid.example        TXT v=spf1 a:x1.nowhere.example a:x2.nowhere.example ip4:192.0.2.99 -all
threevoid.example      TXT v=spf1 a:x1.nowhere.example a:x2.nowhere.example a:x3.nowhere.example ip4:192.0.2.99 -all
validated.example      TXT v=spf1 exists:%{p}.known.example -all
example.com.known.example A 127.0.0.2
secure.example         TXT v=spf1 ip4:192.0.2.1 -all
secure.example         STATUS secure
securea.example        TXT v=spf1 a:example.com -all
securea.example        STATUS secure
selfcheck.example      TXT v=spf1 a mx -all
manymx.example         TXT v=spf1 mx -all
";

fn zone() -> ZoneResolver {
    let mut zone = ZoneResolver::parse(ZONE).unwrap();
    for i in 0..11u8 {
        let mx = mox_dns::Mx {
            preference: i.into(),
            host: format!("mx{i}.manymx.example"),
        };
        zone.add("manymx.example", mox_dns::Record::Mx(mx));
        zone.add(
            &format!("mx{i}.manymx.example"),
            mox_dns::Record::A([198, 51, 100, i].into()),
        );
    }
    zone
}

async fn check_from(localpart: &str, domain: &str, ip: &str) -> Verdict {
    let query = Query {
        ip: ip.parse().unwrap(),
        helo: "mx.example.org",
        localpart,
        domain,
        receiver: "mail.example.net",
        now: 0,
    };
    check_host(&zone(), &query).await
}

async fn check(domain: &str, ip: &str) -> Outcome {
    check_from("joe", domain, ip).await.outcome
}

#[tokio::test]
async fn the_mechanisms() {
    use Outcome::*;
    for (domain, ip, want) in [
        ("all.example", "203.0.113.1", Pass),
        ("a.example", "192.0.2.10", Pass),
        ("a.example", "192.0.2.12", Fail),
        ("anet.example", "192.0.2.40", Pass),
        ("anet.example", "192.0.2.64", Fail),
        ("mx.example", "192.0.2.129", Pass),
        ("mx.example", "192.0.2.10", Fail),
        ("mx2.example", "192.0.2.140", Pass),
        ("mxnet.example", "192.0.2.131", Pass),
        ("mxnet.example", "192.0.2.143", Pass),
        ("mxnet.example", "192.0.2.132", Fail),
        ("ptr.example", "192.0.2.65", Pass),
        ("ptr.example", "192.0.2.140", Fail),
        // Its name does not lead back to it.
        ("ptr.example", "10.0.0.4", Fail),
        ("ip.example", "192.0.2.129", Pass),
        ("ip.example", "192.0.2.65", Fail),
        ("ip6.example", "2001:db8::3", Pass),
        ("ip6.example", "2001:db8::1", Pass),
        ("ip6.example", "2001:db8::4", SoftFail),
        ("ip6.example", "192.0.2.1", SoftFail),
        ("ip.example", "::ffff:192.0.2.129", Pass),
        ("neutral.example", "192.0.2.1", Neutral),
        ("default.example", "192.0.2.2", Neutral),
    ] {
        assert_eq!(check(domain, ip).await, want, "{domain} {ip}");
    }
}

#[tokio::test]
async fn other_policies() {
    use Outcome::*;
    for (domain, ip, want) in [
        ("none.example", "192.0.2.1", None),
        ("nowhere.example", "192.0.2.1", None),
        ("localhost", "127.0.0.1", None),
        ("192.0.2.1", "192.0.2.1", None),
        ("a..example", "192.0.2.1", None),
        ("two.example", "192.0.2.1", PermError),
        ("bad.example", "192.0.2.1", PermError),
        ("temp.example", "192.0.2.1", TempError),
        ("include.example", "192.0.2.129", Pass),
        ("include.example", "192.0.2.1", Fail),
        ("includenone.example", "192.0.2.1", PermError),
        ("includebad.example", "192.0.2.1", PermError),
        ("includetemp.example", "192.0.2.1", TempError),
        ("atemp.example", "192.0.2.1", TempError),
        ("redirect.example", "192.0.2.129", Pass),
        ("redirect.example", "192.0.2.1", Fail),
        ("redirectnone.example", "192.0.2.1", PermError),
        ("selfcheck.example", "192.0.2.1", Fail),
        ("exists.example", "192.0.2.9", Pass),
        ("exists.example", "192.0.2.8", Fail),
        ("validated.example", "192.0.2.10", Pass),
        ("validated.example", "192.0.2.65", Fail),
    ] {
        assert_eq!(check(domain, ip).await, want, "{domain} {ip}");
    }
    assert_eq!(
        check_from("j\u{f6}rg", "exists.example", "192.0.2.9").await.outcome,
        Fail
    );
}

#[tokio::test]
async fn there_are_bounds() {
    use Outcome::*;
    assert_eq!(check("loop.example", "192.0.2.1").await, PermError);
    assert_eq!(check("ten.example", "192.0.2.99").await, Pass);
    assert_eq!(check("eleven.example", "192.0.2.99").await, PermError);
    assert_eq!(check("twovoid.example", "192.0.2.99").await, Pass);
    assert_eq!(check("threevoid.example", "192.0.2.99").await, PermError);
    assert_eq!(check("manymx.example", "198.51.100.3").await, Pass);
    assert_eq!(check("manymx.example", "192.0.2.1").await, PermError);
}

#[tokio::test]
async fn an_evaluation_ends_in_time() {
    let mut zone = "slow.example TXT v=spf1 a:s1.example a:s2.example a:s3.example +all\n".to_owned();
    for i in 1..4 {
        zone.push_str(&format!("s{i}.example A 192.0.2.1\ns{i}.example DELAY 400\n"));
    }
    let query = Query {
        ip: "192.0.2.2".parse().unwrap(),
        helo: "h",
        localpart: "a",
        domain: "slow.example",
        receiver: "r",
        now: 0,
    };
    let verdict = check_within(&ZoneResolver::parse(&zone).unwrap(), &query, Duration::from_millis(500)).await;
    assert_eq!(verdict.outcome, Outcome::TempError);
}

#[tokio::test]
async fn what_decided_is_said() {
    let verdict = check_from("joe", "exp.example", "192.0.2.7").await;
    assert_eq!(verdict.outcome, Outcome::Fail);
    assert_eq!(verdict.mechanism.as_deref(), Some("-all"));
    assert_eq!(
        verdict.explanation.as_deref(),
        Some("192.0.2.7 is not one of exp.example's hosts")
    );
    // Of several texts none is taken; the explanation of an included policy is not used.
    for domain in ["exptwo.example", "includeexp.example"] {
        let verdict = check_from("joe", domain, "192.0.2.7").await;
        assert_eq!(
            (verdict.outcome, verdict.explanation),
            (Outcome::Fail, None),
            "{domain}"
        );
    }
    assert_eq!(
        check_from("joe", "default.example", "192.0.2.2")
            .await
            .mechanism
            .as_deref(),
        Some("default")
    );
    let problem = check_from("joe", "includenone.example", "192.0.2.2").await.problem;
    assert!(problem.is_some_and(|p| p.contains("include:none.example")));
}

#[tokio::test]
async fn a_verdict_is_as_trustworthy_as_its_least_answer() {
    assert_eq!(
        check_from("j", "secure.example", "192.0.2.1").await.status,
        Status::Secure
    );
    assert_ne!(
        check_from("j", "securea.example", "192.0.2.1").await.status,
        Status::Secure
    );
    assert_eq!(
        check_from("j", "localhost", "192.0.2.1").await.status,
        Status::Indeterminate
    );
}
