use proptest::prelude::*;

use super::*;

const REPORT: &str = r#"{
  "organization-name": "Sender Inc.",
  "date-range": {"start-datetime": "2026-04-01T00:00:00Z", "end-datetime": "2026-04-01T23:59:59+00:00"},
  "contact-info": null,
  "report-id": "5065427c",
  "unknown": {"a": [1]},
  "policies": [{
    "policy": {
      "policy-type": "sts",
      "policy-string": ["version: STSv1", "mode: testing", "mx: *.mail.example.org"],
      "policy-domain": "Example.org",
      "mx-host-pattern": "*.mail.example.org"
    },
    "summary": {"total-successful-session-count": 5326, "total-failure-session-count": 303},
    "failure-details": [
      {"result-type": "certificate-expired", "sending-mta-ip": "2001:db8::1", "receiving-mx-hostname": "mx1.mail.example.org",
       "failed-session-count": 100},
      {"result-type": "of-the-future", "failed-session-count": 203}
    ]
  }, {
    "policy": {"policy-type": "no-policy-found", "policy-domain": "example.org", "policy-string": null},
    "summary": {"total-successful-session-count": 1}
  }]
}"#;

#[test]
fn reports_are_read() {
    let report = parse(REPORT.as_bytes()).unwrap();
    assert_eq!((report.start, report.end), (1_775_001_600, 1_775_087_999));
    let [sts, none] = report.policies.as_slice() else {
        panic!()
    };
    assert_eq!(
        (sts.policy_type(), sts.policy_domain.as_str()),
        (TlsPolicyType::Sts, "example.org")
    );
    assert_eq!(
        (sts.policy_strings.len(), sts.mx_host_patterns.as_slice()),
        (3, &["*.mail.example.org".to_owned()][..])
    );
    assert_eq!(sts.failures[0].result_type(), TlsResultType::CertificateExpired);
    assert_eq!(sts.failures[1].failure_reason_code, "of-the-future");
    assert_eq!(
        (none.policy_type(), none.success_count),
        (TlsPolicyType::NoPolicyFound, 1)
    );
    assert_eq!(counts(&report), (5327, 303));
}

#[test]
fn lists_without_end_are_cut_while_they_are_read() {
    let policy = |strings: usize, failures: usize| {
        let (strings, failures) = (vec!["\"\""; strings], vec![r#"{"result-type":""}"#; failures]);
        let (strings, failures) = (strings.join(","), failures.join(","));
        format!(
            r#"{{"policy":{{"policy-type":"sts","policy-string":[{strings}],"mx-host":[{strings}]}},"failure-details":[{failures}]}}"#
        )
    };
    let range = r#""date-range":{"start-datetime":"2026-04-01T00:00:00Z","end-datetime":"2026-04-01T23:59:59Z"}"#;
    let report = |policies: &[String]| {
        let json = format!(r#"{{"policies":[{}],{range}}}"#, policies.join(","));
        parse(json.as_bytes()).unwrap()
    };
    let long = report(&[policy(100_000, 10_000)]);
    let only = &long.policies[0];
    assert_eq!(only.policy_strings.len(), limits::POLICY_LINES);
    assert_eq!(only.mx_host_patterns.len(), limits::POLICY_LINES);
    assert_eq!(only.failures.len(), limits::FAILURES);
    let many = report(&vec![policy(0, 0); limits::POLICIES + 3]);
    assert_eq!((many.policies.len(), many.policies_omitted), (limits::POLICIES, 3));
}

#[test]
fn what_is_no_report_is_refused() {
    let refused = |json: &str| parse(json.as_bytes()).unwrap_err().to_string();
    assert!(refused("{").contains("JSON"));
    assert!(refused("{}").contains("date-range"));
    assert!(refused(&"[".repeat(1000)).contains("JSON"));
    assert!(refused(&REPORT.replace("2026-04-01T00", "yesterday")).contains("start-datetime"));
    assert!(refused(&REPORT.replace("2026-04-01T23", "2026-07-01T23")).contains("within a month"));
    assert!(refused(&REPORT.replace("5326", "-1")).contains("JSON"));
    assert!(refused(&REPORT.replace("\"policies\"", "\"p\"")).contains("policies"));
}

#[test]
fn surplus_policies_are_counted() {
    let one = r#"{"policy": {"policy-type": "tlsa"}}"#;
    let many = vec![one; limits::POLICIES + 3].join(",");
    let json = format!(
        r#"{{"date-range": {{"start-datetime": "2026-04-01T00:00:00Z", "end-datetime": "2026-04-01T23:59:59Z"}}, "policies": [{many}]}}"#
    );
    let report = parse(json.as_bytes()).unwrap();
    assert_eq!((report.policies.len(), report.policies_omitted), (limits::POLICIES, 3));
}

fn text() -> impl Strategy<Value = String> {
    "[ -~ä]{0,20}".prop_map(|t| t.trim().to_owned())
}

prop_compose! {
    fn details()(result_type in 1..=11, texts in proptest::array::uniform6(text()), failed_session_count: u64) -> TlsFailureDetails {
        let [sending_mta_ip, receiving_mx_hostname, receiving_mx_helo, receiving_ip, additional_information, failure_reason_code] = texts;
        TlsFailureDetails {
            result_type, sending_mta_ip, receiving_mx_hostname, receiving_mx_helo, receiving_ip, failed_session_count,
            additional_information, failure_reason_code,
        }
    }
}

prop_compose! {
    fn policy()(
        policy_type in 1..=3, policy_strings in proptest::collection::vec(text(), 0..4),
        mx_host_patterns in proptest::collection::vec(text(), 0..3), counts: (u64, u64),
        failures in proptest::collection::vec(details(), 0..3),
    ) -> TlsResult {
        TlsResult {
            recipient_domain: String::new(), policy_type, policy_strings, policy_domain: "example.org".into(),
            mx_host_patterns, success_count: counts.0, failure_count: counts.1, failures,
        }
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        texts in (text(), text(), text()), start in 0..1i64 << 35, policies in proptest::collection::vec(policy(), 1..4),
    ) {
        let (organization_name, contact_info, report_id) = texts;
        let report = TlsReport {
            organization_name, contact_info, report_id, start, end: start + 86399, policies, policies_omitted: 0,
        };
        prop_assert_eq!(parse(json(&report).as_bytes()).unwrap(), report);
    }

    #[test]
    fn nothing_panics(json in "[{}\\[\\]\":,0-9a-z-]{0,80}", raw: Vec<u8>) {
        let _ = parse(json.as_bytes());
        let _ = parse(&raw);
    }
}
