use mox_proto::report::v1::{DkimResult, DmarcPolicyPublished, DmarcReason, DmarcRow, SpfResult};
use proptest::prelude::*;

use super::*;
use crate::limits;

/// As a sender of today writes it: no name space, fields in an order of its own, some that nobody knows.
const OLD: &str = r#"<?xml version="1.0" encoding="windows-1252"?>
<!-- made by a test -->
<feedback xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:schemaLocation="x y">
  <report_metadata>
    <org_name>Big &amp; Mail, Inc.</org_name>
    <email>reports@big.example</email>
    <extra_contact_info><![CDATA[https://big.example/<help>]]></extra_contact_info>
    <report_id> 123-abc </report_id>
    <date_range><begin>1700006400</begin><end>1700092799.5</end></date_range>
  </report_metadata>
  <policy_published>
    <domain>Example.ORG.</domain><adkim>r</adkim><aspf>s</aspf>
    <p>reject</p><sp>none</sp><pct>100</pct><fo>1</fo>
  </policy_published>
  <record>
    <row>
      <source_ip>2001:DB8:0::1</source_ip><count>3</count>
      <policy_evaluated>
        <disposition>none</disposition><dkim>fail</dkim><spf>pass</spf>
        <reason><type>forwarded</type><comment>by a &#x6c;ist</comment></reason>
        <reason><type>local_policy</type></reason>
      </policy_evaluated>
    </row>
    <identifiers><envelope_to>big.example</envelope_to><header_from>news.example.org</header_from></identifiers>
    <auth_results>
      <dkim><domain>example.org</domain><selector>s1</selector><result>fail</result><human_result>body</human_result></dkim>
      <dkim><domain>other.example</domain><result>pass</result></dkim>
      <spf><domain>example.org</domain><scope>mfrom</scope><result>pass</result></spf>
      <later><thing/></later>
    </auth_results>
  </record>
  <record>
    <row><source_ip>192.0.2.1</source_ip><count>2</count>
      <policy_evaluated><disposition>reject</disposition><dkim>fail</dkim><spf>fail</spf></policy_evaluated></row>
    <identifiers><header_from>example.org</header_from></identifiers>
    <auth_results><spf><domain/><result>none</result></spf></auth_results>
  </record>
</feedback>"#;

#[test]
fn reports_of_today_are_read() {
    let report = parse(OLD.as_bytes()).unwrap();
    assert_eq!(report.org_name, "Big & Mail, Inc.");
    assert_eq!(report.extra_contact_info, "https://big.example/<help>");
    assert_eq!(
        (report.report_id.as_str(), report.begin, report.end),
        ("123-abc", 1_700_006_400, 1_700_092_799)
    );
    let policy = report.policy.clone().unwrap();
    assert_eq!(
        (
            policy.domain.as_str(),
            policy.p.as_str(),
            policy.aspf.as_str(),
            policy.pct
        ),
        ("example.org", "reject", "s", 100)
    );
    let [first, second] = report.rows.as_slice() else {
        panic!()
    };
    assert_eq!(
        (
            first.source_ip.as_str(),
            first.count,
            first.dkim_aligned,
            first.spf_aligned
        ),
        ("2001:db8::1", 3, false, true)
    );
    assert_eq!(
        first.reasons.iter().map(|r| r.r#type.as_str()).collect::<Vec<_>>(),
        ["forwarded", "local_policy"]
    );
    assert_eq!(first.reasons[0].comment, "by a list");
    assert_eq!(
        (
            first.dkim.len(),
            first.dkim[1].selector.as_str(),
            first.spf[0].scope.as_str()
        ),
        (2, "", "mfrom")
    );
    assert_eq!(
        (first.header_from.as_str(), first.envelope_to.as_str()),
        ("news.example.org", "big.example")
    );
    assert_eq!(
        (second.disposition(), second.spf[0].result.as_str()),
        (Disposition::Reject, "none")
    );
    assert_eq!(counts(&report), (3, 2));
}

#[test]
fn what_is_no_report_is_refused() {
    let refused = |xml: &str| parse(xml.as_bytes()).unwrap_err().to_string();
    assert!(refused("<html></html>").contains("feedback"));
    assert!(refused("<feedback><report_metadata>").contains("no valid end"));
    assert!(refused("<feedback></wrong>").contains("byte"));
    assert!(refused("<feedback/>").contains("date_range"));
    assert!(refused(&OLD.replace("Example.ORG.", "non sense")).contains("domain"));
    assert!(refused(&OLD.replace("1700092799.5", "1000")).contains("date_range"));
    assert!(refused(&OLD.replace("1700092799.5", "1800000000")).contains("within a month"));
    assert!(refused(&OLD.replace("record>", "recorb>")).contains("record"));
    let laughs = "<!DOCTYPE f [<!ENTITY a \"ha\"><!ENTITY b \"&a;&a;&a;\">]>";
    assert!(refused(&OLD.replace("<!-- made by a test -->", laughs)).contains("document type"));
    let deep = format!("<feedback>{}", "<a>".repeat(limits::DEPTH));
    assert!(refused(&deep).contains("deep"));
}

#[test]
fn long_texts_are_cut_and_surplus_records_counted() {
    let long = "x".repeat(1 << 20);
    let report = parse(OLD.replace("reports@big.example", &long).as_bytes()).unwrap();
    assert_eq!(report.email.len(), limits::TEXT);
    let (head, tail) = OLD.rsplit_once("</feedback>").unwrap();
    let record = "<record><row><count>1</count></row></record>";
    let many = format!("{head}{}</feedback>{tail}", record.repeat(limits::RECORDS + 5));
    let report = parse(many.as_bytes()).unwrap();
    assert_eq!((report.rows.len(), report.rows_omitted), (limits::RECORDS, 7));
    let results = "<dkim><domain>a</domain></dkim>".repeat(limits::RESULTS + 50);
    let report = parse(OLD.replace("<later><thing/></later>", &results).as_bytes()).unwrap();
    assert_eq!(report.rows[0].dkim.len(), limits::RESULTS);
}

fn text() -> impl Strategy<Value = String> {
    "[ -~äß€]{0,20}".prop_map(|t| t.trim().to_owned())
}

prop_compose! {
    fn row()(
        ip in any::<std::net::IpAddr>(), count in any::<u64>(), disposition in 0..4i32, aligned in any::<(bool, bool)>(),
        reasons in proptest::collection::vec((text(), text()), 0..3), names in (text(), text(), text()),
        dkim in proptest::collection::vec((text(), text(), text(), text()), 0..3),
        spf in proptest::collection::vec((text(), text(), text()), 0..2),
    ) -> DmarcRow {
        DmarcRow {
            source_ip: ip.to_string(), count, disposition, dkim_aligned: aligned.0, spf_aligned: aligned.1,
            reasons: reasons.into_iter().map(|(r#type, comment)| DmarcReason { r#type, comment }).collect(),
            header_from: names.0, envelope_from: names.1, envelope_to: names.2,
            dkim: dkim.into_iter().map(|(domain, selector, result, human_result)| DkimResult { domain, selector, result, human_result }).collect(),
            spf: spf.into_iter().map(|(domain, scope, result)| SpfResult { domain, scope, result, ..SpfResult::default() }).collect(),
        }
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        texts in (text(), text(), text(), text()), begin in 0..1i64 << 39, length in 0..limits::PERIOD, testing: bool,
        rows in proptest::collection::vec(row(), 1..5),
    ) {
        let (org_name, email, report_id, generator) = texts;
        let report = DmarcReport {
            org_name, email, report_id, generator, begin, end: begin + length, version: "1.0".into(), rows,
            policy: Some(DmarcPolicyPublished {
                domain: "example.org".into(), p: "none".into(), sp: "reject".into(), np: "quarantine".into(),
                fo: "1:d".into(), adkim: "s".into(), aspf: "r".into(), testing, discovery_method: "treewalk".into(), pct: 0,
            }),
            ..DmarcReport::default()
        };
        prop_assert_eq!(parse(xml(&report).as_bytes()).unwrap(), report);
    }

    #[test]
    fn nothing_panics(xml in "(<[a-z/!?\\[]{0,8}>?|&[a-z#x0-9]{0,4};?|[ -~]){0,60}", raw: Vec<u8>) {
        let _ = parse(xml.as_bytes());
        let _ = parse(format!("<feedback>{xml}</feedback>").as_bytes());
        let _ = parse(&raw);
    }
}
