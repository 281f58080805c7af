use std::net::IpAddr;

use proptest::prelude::*;

use super::*;

fn parse(line: &str) -> Result<Command, ParseError> {
    Command::parse(line.as_bytes())
}

fn mail(line: &str) -> (String, MailParams) {
    match parse(line) {
        Ok(Command::Mail(path, params)) => (path.map(|p| p.to_string()).unwrap_or_default(), params),
        other => panic!("{line}: {other:?}"),
    }
}

fn rcpt(line: &str) -> (String, RcptParams) {
    match parse(line) {
        Ok(Command::Rcpt(path, params)) => (path.to_string(), params),
        other => panic!("{line}: {other:?}"),
    }
}

#[test]
fn what_is_tolerated_is_refused_by_the_strict() {
    for line in [
        "NOOP ",
        "MAIL FROM: <a@example.org>",
        "MAIL  FROM:<a@example.org>",
        "RCPT TO: <a@example.org>",
        "EHLO my_computer!",
        "EHLO a.example b",
        "EHLO my_host.example.org",
        "MAIL FROM:<a@my_host.example.org>",
        "RCPT TO:<a@my_host.example.org>",
        "HELO  a.example",
    ] {
        assert!(parse(line).is_ok(), "{line}");
        assert!(
            matches!(Command::parse_strict(line.as_bytes()), Err(ParseError::Lax(_))),
            "{line}"
        );
    }
    for line in [
        "NOOP",
        "MAIL FROM:<>",
        "mail from:<a@example.org> SIZE=1",
        "RCPT TO:<a@example.org>",
        "EHLO [10.0.0.1]",
    ] {
        assert!(Command::parse_strict(line.as_bytes()).is_ok(), "{line}");
    }
    // The octets of the chunk follow, and must not be taken for commands.
    let chunk = Command::parse_strict(b"BDAT 10 LAST ").unwrap_err();
    assert!(chunk.is_final(), "{chunk:?}");
}

#[test]
fn commands_without_arguments() {
    for (line, command) in [
        ("DATA", Command::Data),
        ("data ", Command::Data),
        ("RSET", Command::Rset),
        ("NOOP", Command::Noop),
        ("NOOP whatever", Command::Noop),
        ("quit", Command::Quit),
        ("STARTTLS", Command::StartTls),
        ("HELP mail", Command::Help),
        ("VRFY  mox", Command::Vrfy("mox".into())),
        ("EXPN list", Command::Expn("list".into())),
        ("AUTH plain", Command::Auth("PLAIN".into(), None)),
        ("AUTH PLAIN =", Command::Auth("PLAIN".into(), Some("=".into()))),
    ] {
        assert_eq!(parse(line), Ok(command), "{line}");
    }
    for line in [
        "DATA x",
        "RSET x",
        "QUIT x",
        "STARTTLS x",
        "VRFY",
        "EXPN ",
        "AUTH",
        "AUTH a b c",
        "EHLO",
        "HELO  ",
    ] {
        assert!(matches!(parse(line), Err(ParseError::Syntax(_))), "{line}");
    }
    for line in ["", " ", " DATA", "DATA\u{7}", "GET / HTTP/1.1", "MAILFROM:<a@b>"] {
        assert!(parse(line).is_err(), "{line}");
    }
    assert_eq!(Command::parse(b"NOOP \xff"), Err(ParseError::NotUtf8));
}

#[test]
fn host_names() {
    let host = |s: &str| match parse(&format!("EHLO {s}")) {
        Ok(Command::Ehlo(name)) => Some(name),
        _ => None,
    };
    assert_eq!(
        host("mail.example.org"),
        Some(HostName::Domain("mail.example.org".parse().unwrap()))
    );
    assert_eq!(host("bücher.example").unwrap().to_string(), "xn--bcher-kva.example");
    assert_eq!(host("[192.0.2.1]"), Some(HostName::Ip("192.0.2.1".parse().unwrap())));
    assert_eq!(host("[IPv6:2001:db8::1]").unwrap().to_string(), "[IPv6:2001:db8::1]");
    assert_eq!(host("-x-"), Some(HostName::Other("-x-".into())));
    assert_eq!(host("a b"), Some(HostName::Domain("a".parse().unwrap())));
    assert_eq!(host("a(b)"), None);
    assert_eq!(host(&"a".repeat(256)), None);
}

#[test]
fn paths() {
    for (given, read) in [
        ("<>", ""),
        ("<a@Example.ORG>", "a@example.org"),
        (" <a@b>", "a@b"),
        ("<@relay.example,@other.example:a@b>", "a@b"),
        ("<\"a b\"@c>", "\"a b\"@c"),
        ("<\"a>b\"@c>", "\"a>b\"@c"),
        ("<\"a\\\"@b\"@c>", "\"a\\\"@b\"@c"),
        ("<\"ab\"@c>", "ab@c"),
        ("<a@[192.0.2.1]>", "a@[192.0.2.1]"),
        ("<a@[IPv6:::1]>", "a@[IPv6:::1]"),
        ("<mox@xn--bcher-kva.example>", "mox@bücher.example"),
    ] {
        assert_eq!(mail(&format!("MAIL FROM:{given}")).0, read, "{given}");
    }
    for bad in [
        "a@b",
        "<a@b",
        "<a>",
        "<@b>",
        "<a@>",
        "<a b@c>",
        "<a@b>x",
        "<@r:>",
        "<@r>",
        "<a@[999.1.1.1]>",
        "<\"a@b>",
        "",
        "<a@b..c>",
    ] {
        assert!(
            matches!(parse(&format!("MAIL FROM:{bad}")), Err(ParseError::Sender(_))),
            "{bad}"
        );
        assert!(
            matches!(parse(&format!("RCPT TO:{bad}")), Err(ParseError::Recipient(_))),
            "{bad}"
        );
    }
    let long = format!("RCPT TO:<{}@{}>", "a".repeat(64), "b.".repeat(300));
    assert!(parse(&long).is_err());
    assert!(matches!(parse("RCPT TO:<>"), Err(ParseError::Recipient(_))));
    assert_eq!(
        parse("rcpt to:<PostMaster>"),
        Ok(Command::Rcpt(Recipient::Postmaster, RcptParams::default()))
    );
    assert_eq!(rcpt("RCPT TO:<postmaster@a.example>").0, "postmaster@a.example");
    let Ok(Command::Mail(Some(path), _)) = parse("MAIL FROM:<mox@bücher.example>") else {
        panic!()
    };
    assert!(path.international);
    let Ok(Command::Mail(Some(path), _)) = parse("MAIL FROM:<mox@xn--bcher-kva.example>") else {
        panic!()
    };
    assert!(!path.international);
    assert_eq!(path.address().unwrap().to_string(), "mox@bücher.example");
    let Ok(Command::Mail(Some(path), _)) = parse("MAIL FROM:<a@[192.0.2.1]>") else {
        panic!()
    };
    assert_eq!(path.host, PathHost::Ip(IpAddr::from([192, 0, 2, 1])));
}

#[test]
fn parameters_of_mail() {
    let (_, params) = mail(
        "MAIL FROM:<a@b> SIZE=100 body=8bitmime SMTPUTF8 RET=HDRS ENVID=QQ+2B1 AUTH=e+3Dmc2@example.com REQUIRETLS HOLDFOR=60",
    );
    assert_eq!(
        params,
        MailParams {
            size: Some(100),
            body: Some(Body::EightBitMime),
            smtputf8: true,
            ret: Some(Ret::Headers),
            envid: Some("QQ+2B1".into()),
            auth: Some(AuthIdentity::Address("e=mc2@example.com".into())),
            requiretls: true,
            hold: Some(Hold::For(60)),
        }
    );
    assert_eq!(mail("MAIL FROM:<> AUTH=<>").1.auth, Some(AuthIdentity::Unknown));
    let until = mail("MAIL FROM:<a@b> HOLDUNTIL=2005-01-20T09:00:00+01:00").1.hold;
    assert_eq!(until, Some(Hold::Until(1_106_208_000)));
    assert_eq!(mail("MAIL FROM:<a@b> SIZE=99999999999999999999").1.size, Some(u64::MAX));
    for bad in [
        "SIZE",
        "SIZE=",
        "SIZE=-1",
        "SIZE=1 SIZE=1",
        "SIZE=999999999999999999999",
        "BODY=BINARYMIME",
        "BODY",
        "SMTPUTF8=1",
        "SMTPUTF8 SMTPUTF8",
        "RET=ALL",
        "ENVID=",
        "ENVID=a=b",
        "HOLDFOR=1234567890",
        "HOLDFOR=1 HOLDFOR=1",
        "HOLDFOR=1 HOLDUNTIL=2005-01-20T09:00:00Z",
        "HOLDUNTIL=tomorrow",
        "AUTH=",
        "AUTH",
    ] {
        let parsed = parse(&format!("MAIL FROM:<a@b> {bad}"));
        assert!(matches!(parsed, Err(ParseError::Parameter(..))), "{bad}: {parsed:?}");
    }
    let unknown = parse("MAIL FROM:<a@b> MT-PRIORITY=3").unwrap_err();
    assert_eq!(unknown, ParseError::UnknownParameter("MT-PRIORITY".into()));
    assert_eq!(
        unknown.reply().to_string(),
        "555 5.5.4 parameter MT-PRIORITY is not known"
    );
    assert!(parse(&format!("MAIL FROM:<a@b>{}", " X".repeat(40))).is_err());
}

#[test]
fn parameters_of_rcpt() {
    let (_, params) = rcpt("RCPT TO:<a@b> NOTIFY=success,DELAY ORCPT=rfc822;Bob@Example.ORG");
    assert_eq!(params.notify.unwrap().to_string(), "SUCCESS,DELAY");
    assert_eq!(params.orcpt.unwrap().as_str(), "rfc822;Bob@Example.ORG");
    assert_eq!(
        rcpt("RCPT TO:<a@b> NOTIFY=NEVER").1.notify.unwrap().to_string(),
        "NEVER"
    );
    assert!(rcpt("RCPT TO:<a@b> ORCPT=utf-8;bücher\\x{2603}@b").1.orcpt.is_some());
    for bad in [
        "NOTIFY=",
        "NOTIFY=NEVER,SUCCESS",
        "NOTIFY=SUCCESS,SUCCESS",
        "NOTIFY=x",
        "ORCPT=",
        "ORCPT=rfc822",
        "ORCPT=rfc822;",
        "ORCPT=;a@b",
        "ORCPT=rfc822;a=b",
    ] {
        assert!(
            matches!(parse(&format!("RCPT TO:<a@b> {bad}")), Err(ParseError::Parameter(..))),
            "{bad}"
        );
    }
    assert!(matches!(
        parse("RCPT TO:<a@b> SIZE=1"),
        Err(ParseError::UnknownParameter(_))
    ));
}

proptest! {
    #[test]
    fn no_octets_make_it_panic(line: Vec<u8>) {
        let _ = Command::parse(&line);
    }

    #[test]
    fn nearly_right_commands_do_not_make_it_panic(line in "(MAIL FROM:|RCPT TO:|EHLO |AUTH )[<>@:\"\\\\a-c.\\[\\]é =;,+]{0,30}( (SIZE|BODY|NOTIFY|ORCPT|ENVID|AUTH|HOLDUNTIL)=[!-~é]{0,12}){0,3}") {
        if let Err(error) = parse(&line) {
            prop_assert!(error.reply().is_permanent());
        }
    }

    #[test]
    fn what_is_printed_is_read(localpart in "[a-z \"\\\\@>]{1,10}", host in "([a-z]{1,5}\\.){0,2}[a-z]{1,5}") {
        let Ok(localpart) = mox_types::Localpart::from_unquoted(&localpart) else { return Ok(()) };
        let path = Path { localpart, host: PathHost::Domain(host.parse().unwrap()), international: false };
        let line = format!("MAIL FROM:<{path}> SIZE=1");
        prop_assert_eq!(parse(&line), Ok(Command::Mail(Some(path), MailParams { size: Some(1), ..MailParams::default() })));
    }
}
