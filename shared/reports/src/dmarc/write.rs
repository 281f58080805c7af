//! Writing, as RFC 9990 §2.1.1 says.

use mox_proto::report::v1::{DmarcReport, DmarcRow};
use quick_xml::escape::escape;

use super::disposition;

/// RFC 9990 §2.1.1.
const NAMESPACE: &str = "urn:ietf:params:xml:ns:dmarc-2.0";

/// The XML of a report. Empty values are left out where they may be.
#[must_use]
pub fn xml(report: &DmarcReport) -> String {
    let mut out = Writer::default();
    out.line("<?xml version=\"1.0\" encoding=\"UTF-8\"?>");
    out.line(&format!("<feedback xmlns=\"{NAMESPACE}\">"));
    out.depth = 1;
    out.element("version", "1.0");
    out.within("report_metadata", |out| {
        out.element("org_name", &report.org_name);
        out.element("email", &report.email);
        out.optional("extra_contact_info", &report.extra_contact_info);
        out.element("report_id", &report.report_id);
        out.within("date_range", |out| {
            out.element("begin", &report.begin.to_string());
            out.element("end", &report.end.to_string());
        });
        for error in &report.errors {
            out.element("error", error);
        }
        out.optional("generator", &report.generator);
    });
    let policy = report.policy.clone().unwrap_or_default();
    out.within("policy_published", |out| {
        out.element("domain", &policy.domain);
        out.optional("discovery_method", &policy.discovery_method);
        out.element("p", &policy.p);
        out.optional("sp", &policy.sp);
        out.optional("np", &policy.np);
        out.optional("fo", &policy.fo);
        out.optional("adkim", &policy.adkim);
        out.optional("aspf", &policy.aspf);
        out.element("testing", if policy.testing { "y" } else { "n" });
    });
    for row in &report.rows {
        out.within("record", |out| record(out, row));
    }
    out.depth = 0;
    out.line("</feedback>");
    out.text
}

fn record(out: &mut Writer, row: &DmarcRow) {
    let aligned = |yes| if yes { "pass" } else { "fail" };
    out.within("row", |out| {
        out.element("source_ip", &row.source_ip);
        out.element("count", &row.count.to_string());
        out.within("policy_evaluated", |out| {
            out.element("disposition", disposition(row.disposition()));
            out.element("dkim", aligned(row.dkim_aligned));
            out.element("spf", aligned(row.spf_aligned));
            for reason in &row.reasons {
                out.within("reason", |out| {
                    out.element("type", &reason.r#type);
                    out.optional("comment", &reason.comment);
                });
            }
        });
    });
    out.within("identifiers", |out| {
        out.element("header_from", &row.header_from);
        // Empty for the null reverse-path.
        out.element("envelope_from", &row.envelope_from);
        out.optional("envelope_to", &row.envelope_to);
    });
    out.within("auth_results", |out| {
        for dkim in &row.dkim {
            out.within("dkim", |out| {
                out.element("domain", &dkim.domain);
                out.element("selector", &dkim.selector);
                out.element("result", &dkim.result);
                out.optional("human_result", &dkim.human_result);
            });
        }
        for spf in &row.spf {
            out.within("spf", |out| {
                out.element("domain", &spf.domain);
                out.optional("scope", &spf.scope);
                out.element("result", &spf.result);
                out.optional("human_result", &spf.human_result);
            });
        }
    });
}

#[derive(Default)]
struct Writer {
    text: String,
    depth: usize,
}

impl Writer {
    fn line(&mut self, line: &str) {
        self.text.push_str(&"  ".repeat(self.depth));
        self.text.push_str(line);
        self.text.push('\n');
    }

    fn element(&mut self, name: &str, value: &str) {
        // XML 1.0 §2.2 has no control characters, not even escaped.
        let value: String = value.chars().filter(|c| !c.is_control()).collect();
        self.line(&format!("<{name}>{}</{name}>", escape(value)));
    }

    fn optional(&mut self, name: &str, value: &str) {
        if !value.is_empty() {
            self.element(name, value);
        }
    }

    fn within(&mut self, name: &str, fill: impl FnOnce(&mut Self)) {
        self.line(&format!("<{name}>"));
        self.depth += 1;
        fill(self);
        self.depth -= 1;
        self.line(&format!("</{name}>"));
    }
}
