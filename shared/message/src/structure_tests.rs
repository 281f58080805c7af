use proptest::prelude::*;
use prost::Message;

use super::*;
use crate::{computed, computed_with_prefix, header_end};

/// A part in one line: type, encoding, lines, its body, and what is inside.
fn shown(message: &[u8], part: &Part) -> String {
    let body = &message[part.body_offset as usize..part.end_offset as usize];
    let body = String::from_utf8_lossy(body).replace("\r\n", "|").replace('\n', "|");
    let name = format!("{}/{}", part.media_type, part.media_subtype);
    if let Some(m) = &part.message {
        return format!("{name} {} [{}]", part.lines, shown(message, m));
    }
    if part.parts.is_empty() {
        return format!("{name} {} '{body}'", part.lines);
    }
    let parts: Vec<String> = part.parts.iter().map(|p| shown(message, p)).collect();
    format!("{name} ({})", parts.join(", "))
}

fn structure(message: &str) -> String {
    let message = message.replace('\n', "\r\n");
    shown(message.as_bytes(), &scan(message.as_bytes()).1)
}

fn multipart(body: &str) -> String {
    structure(&format!("Content-Type: multipart/mixed; boundary=b\n\n{body}"))
}

#[test]
fn messages_without_structure_are_text() {
    assert_eq!(structure("A: b\n\nx\ny\n"), "text/plain 2 'x|y|'");
    assert_eq!(structure("A: b\n\nx"), "text/plain 1 'x'");
    assert_eq!(structure("A: b"), "text/plain 0 ''");
    assert_eq!(structure(""), "text/plain 0 ''");
    assert_eq!(structure("Content-Type: nonsense\n\nx\n"), "text/plain 1 'x|'");
    assert_eq!(structure("Content-Type: image/png\n\nx\n"), "image/png 1 'x|'");
}

#[test]
fn multiparts_are_split_at_their_boundaries() {
    assert_eq!(
        multipart("preamble\n--b\n\none\n--b  \nContent-Type: text/html\n\ntwo\n\n--b--\nepilogue\n"),
        "multipart/mixed (text/plain 1 'one', text/html 1 'two|')"
    );
    // Without a closing delimiter, without a body, with a delimiter inside of a header.
    assert_eq!(multipart("--b\n\none"), "multipart/mixed (text/plain 1 'one')");
    assert_eq!(
        multipart("--b\n\n--b\nA: b\n--b--\n"),
        "multipart/mixed (text/plain 0 '', text/plain 0 '')"
    );
    // What only looks like a delimiter.
    assert_eq!(
        multipart("--b\n\n--bc\n --b\n--b-\n--b--\n"),
        "multipart/mixed (text/plain 3 '--bc| --b|--b-')"
    );
    // None at all.
    assert_eq!(multipart("nothing\n"), "application/octet-stream 1 'nothing|'");
    assert_eq!(
        structure("Content-Type: multipart/mixed\n\nx\n"),
        "application/octet-stream 1 'x|'"
    );
}

#[test]
fn nested_multiparts_end_where_the_outer_does() {
    let inner = "--b\nContent-Type: multipart/alternative; boundary=\"c d\"\n\n--c d\n\none\n--c d\n\ntwo\n";
    assert_eq!(
        multipart(&format!("{inner}--c d--\nepilogue\n--b\n\nthree\n--b--\n")),
        "multipart/mixed (multipart/alternative (text/plain 1 'one', text/plain 1 'two'), text/plain 1 'three')"
    );
    assert_eq!(
        multipart(&format!("{inner}--b\n\nthree\n--b--\n")),
        "multipart/mixed (multipart/alternative (text/plain 1 'one', text/plain 1 'two'), text/plain 1 'three')"
    );
}

#[test]
fn messages_within_messages_have_envelopes() {
    let m = "Content-Type: multipart/digest; boundary=b\n\n--b\n\nSubject: one\n\nx\n--b\n\
             Content-Type: text/plain\n\ny\n--b\n\nSubject: two\n--b--\n";
    assert_eq!(
        structure(m),
        "multipart/digest (message/rfc822 3 [text/plain 1 'x'], text/plain 1 'y', message/rfc822 1 [text/plain 0 ''])"
    );
    let m = m.replace('\n', "\r\n");
    let root = scan(m.as_bytes()).1;
    assert_eq!(
        root.parts[0].envelope.as_ref().unwrap().subject.as_deref(),
        Some(&b"one"[..])
    );
    assert_eq!(
        root.parts[2].envelope.as_ref().unwrap().subject.as_deref(),
        Some(&b"two"[..])
    );
}

#[test]
fn fields_of_a_part_are_kept_raw() {
    let m = "Content-Type: Text/Plain; Charset=\"utf-8\"; name*0*=utf-8''a%20\r\nContent-Transfer-Encoding: base64 (x)\r\n\
             Content-ID: <a@b>\r\nContent-Description: =?utf-8?q?x?=\r\n y\r\nContent-Disposition: Inline; filename=a b\r\n\
             Content-Language: de, en-GB\r\nContent-Location: http://x\r\nContent-MD5: abc=\r\n\r\n";
    let p = scan(m.as_bytes()).1;
    let names: Vec<_> = p.parameters.iter().map(|p| (p.name.as_str(), &p.value[..])).collect();
    assert_eq!(names, [("charset", &b"utf-8"[..]), ("name*0*", b"utf-8''a%20")]);
    assert_eq!(p.encoding, "BASE64");
    assert_eq!(p.content_id.as_deref(), Some(&b"<a@b>"[..]));
    assert_eq!(p.description.as_deref(), Some(&b"=?utf-8?q?x?= y"[..]));
    assert_eq!(p.disposition.as_deref(), Some("inline"));
    assert_eq!(&p.disposition_parameters[0].value[..], b"a b");
    assert_eq!(p.languages, ["de", "en-gb"]);
    assert_eq!(
        (p.location.as_deref(), p.md5.as_deref()),
        (Some(&b"http://x"[..]), Some(&b"abc="[..]))
    );
}

#[test]
fn envelopes_have_raw_values_and_defaults() {
    let m = b"From: =?utf-8?q?J?= <j@x>\r\nSubject: a\r\n\tb\r\nTo: g:a@b;\r\nTo: c@d\r\nReply-To:\r\nDate: x\r\n\r\n";
    let e = scan(m).0;
    assert_eq!(e.subject.as_deref(), Some(&b"a\tb"[..]));
    assert_eq!(e.from[0].name.as_deref(), Some(&b"=?utf-8?q?J?="[..]));
    assert_eq!((&e.sender, &e.reply_to), (&e.from, &e.from));
    assert_eq!(e.to.len(), 4);
    assert_eq!((e.to[0].mailbox.as_deref(), &e.to[0].host), (Some(&b"g"[..]), &None));
    assert_eq!((&e.to[2].mailbox, &e.to[2].host), (&None, &None));
    assert_eq!(e.message_id, None);
}

#[test]
fn a_prefix_counts_as_the_start_of_the_message() {
    let prefix = b"Received: x\r\nSubject: first\r\n";
    let content = b"Subject: second\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nx\r\n--b--\r\n";
    let whole = [&prefix[..], content].concat();
    assert_eq!(computed_with_prefix(prefix, content), computed(&whole));
}

#[test]
fn what_a_message_can_cause_is_bounded() {
    // Nesting: both kinds, deeper than is reported.
    let mut nested = String::new();
    for n in 0..200 {
        nested += &format!("Content-Type: multipart/mixed; boundary=b{n}\r\n\r\n--b{n}\r\n");
    }
    let messages = "Content-Type: message/rfc822\r\n\r\n".repeat(200);
    for m in [nested, messages] {
        let c = computed(m.as_bytes());
        assert_eq!(
            mox_proto::mail::v1::Computed::decode(c.encode_to_vec().as_slice()).unwrap(),
            c
        );
    }
    // Numbers: parts, addresses, parameters, long values.
    let parts = format!(
        "Content-Type: multipart/mixed; boundary=b\r\n\r\n{}",
        "--b\r\n\r\n".repeat(50_000)
    );
    assert_eq!(scan(parts.as_bytes()).1.parts.len(), limits::PARTS - 1);
    let long = format!(
        "To: {}\r\nSubject: {}\r\nContent-Type: text/plain; {}\r\n\r\n",
        "a@b,".repeat(500_000),
        "x".repeat(1_000_000),
        "a=b;".repeat(100_000)
    );
    for m in [parts, long] {
        assert!(
            computed(m.as_bytes()).encoded_len() < 2 * limits::COMPUTED,
            "{}",
            computed(m.as_bytes()).encoded_len()
        );
    }
}

fn check(message: &[u8], part: &Part, from: u64, to: u64) {
    assert!(from <= part.header_offset && part.header_offset <= part.body_offset);
    assert!(part.body_offset <= part.end_offset && part.end_offset <= to);
    assert_eq!(part.media_type == "multipart", !part.parts.is_empty());
    assert_eq!(part.message.is_some(), part.envelope.is_some());
    let body = &message[part.body_offset as usize..part.end_offset as usize];
    if part.media_type != "multipart" {
        let ends = body.iter().filter(|b| **b == b'\n').count() as u64;
        let open = !body.is_empty() && !body.ends_with(b"\n");
        assert_eq!(
            part.lines,
            ends + u64::from(open),
            "{:?}",
            String::from_utf8_lossy(message)
        );
    }
    let mut last = part.body_offset;
    for inner in part.parts.iter().chain(part.message.as_deref()) {
        check(message, inner, last, part.end_offset);
        last = inner.end_offset;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn any_sequence_of_lines_gives_a_consistent_structure(lines in proptest::collection::vec(proptest::sample::select(vec![
        "\r\n", "\n", "text\r\n", "--b\r\n", "--b--\r\n", "--c\r\n", "--c--\n", "--b", "\r", " ", "Subject: x\r\n",
        "Content-Type: multipart/mixed; boundary=b\r\n", "Content-Type: multipart/digest;\r\n boundary=c\r\n",
        "Content-Type: message/rfc822\r\n", "Content-Type: text/html; charset=utf-16\r\n",
        "Content-Transfer-Encoding: base64\r\n", "Content-Transfer-Encoding: quoted-printable\n", "=C3=\r\n", "From: a@b\r\n",
    ]), 0..40)) {
        let m = lines.concat().into_bytes();
        let c = computed(&m);
        let root = c.structure.unwrap();
        check(&m, &root, 0, m.len() as u64);
        prop_assert_eq!(root.header_offset, 0);
        prop_assert_eq!(root.body_offset as usize, header_end(&m));
        prop_assert_eq!(root.end_offset as usize, m.len());
        crate::decoded_text(&m, &mut |_| {});
        let split = crate::headers(&m).next().map_or(0, |f| f.end);
        if crate::headers(&m).next().is_some_and(|f| f.start == 0 && !f.is("content-type") && !f.is("content-transfer-encoding")) {
            prop_assert_eq!(computed_with_prefix(&m[..split], &m[split..]).structure.unwrap(), root);
        }
    }

    #[test]
    fn no_bytes_make_it_panic(m in proptest::collection::vec(any::<u8>(), 0..300), html in "[<>a-z!&#;/ \\-\u{e4}]{0,100}") {
        let _ = computed(&m);
        let _ = computed(format!("Content-Type: text/html\r\n\r\n{html}").as_bytes());
    }
}
