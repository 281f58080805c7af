//! TLS reports: JSON (RFC 8460 §4.4).

use mox_proto::report::v1::{TlsFailureDetails, TlsPolicyType, TlsReport, TlsResult, TlsResultType};
use prost::Message as _;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use bounded::{First, Lines};

use crate::{limits, text};

mod bounded;

/// Why something is no TLS report.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TlsError {
    /// It is no JSON, or not of this form.
    #[error("reading the JSON of a TLS report: {0}")]
    Json(String),
    /// It lacks what it must have.
    #[error("TLS report has no valid {0}")]
    Lacks(&'static str),
}

/// Names of policies, RFC 8460 §4.2.
const POLICIES: [(TlsPolicyType, &str); 3] = [
    (TlsPolicyType::NoPolicyFound, "no-policy-found"),
    (TlsPolicyType::Tlsa, "tlsa"),
    (TlsPolicyType::Sts, "sts"),
];

/// Names of results, RFC 8460 §4.3.
const RESULTS: [(TlsResultType, &str); 11] = [
    (TlsResultType::StarttlsNotSupported, "starttls-not-supported"),
    (TlsResultType::CertificateHostMismatch, "certificate-host-mismatch"),
    (TlsResultType::CertificateExpired, "certificate-expired"),
    (TlsResultType::CertificateNotTrusted, "certificate-not-trusted"),
    (TlsResultType::ValidationFailure, "validation-failure"),
    (TlsResultType::TlsaInvalid, "tlsa-invalid"),
    (TlsResultType::DnssecInvalid, "dnssec-invalid"),
    (TlsResultType::DaneRequired, "dane-required"),
    (TlsResultType::StsPolicyFetchError, "sts-policy-fetch-error"),
    (TlsResultType::StsPolicyInvalid, "sts-policy-invalid"),
    (TlsResultType::StsWebpkiInvalid, "sts-webpki-invalid"),
];

/// The name of a policy.
#[must_use]
pub fn policy_name(policy: TlsPolicyType) -> &'static str {
    let known = POLICIES.iter().find(|(known, _)| *known == policy);
    known.map_or("no-policy-found", |(_, name)| name)
}

/// The name of a result. What is not known is a failure of validation, the most general of them.
#[must_use]
pub fn result_name(result: TlsResultType) -> &'static str {
    let known = RESULTS.iter().find(|(known, _)| *known == result);
    known.map_or("validation-failure", |(_, name)| name)
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Report {
    #[serde(default)]
    organization_name: String,
    date_range: DateRange,
    #[serde(default)]
    contact_info: Option<String>,
    #[serde(default)]
    report_id: String,
    #[serde(default)]
    policies: First<Policy, { limits::POLICIES }>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct DateRange {
    start_datetime: String,
    end_datetime: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Policy {
    policy: PolicyDetails,
    #[serde(default)]
    summary: Summary,
    #[serde(default, skip_serializing_if = "First::is_empty")]
    failure_details: First<Failure, { limits::FAILURES }>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct PolicyDetails {
    policy_type: String,
    #[serde(default, skip_serializing_if = "Lines::is_empty")]
    policy_string: Lines,
    #[serde(default)]
    policy_domain: String,
    // RFC 8460 §4.4 names it mx-host, and mx-host-pattern in one place.
    #[serde(default, alias = "mx-host-pattern", skip_serializing_if = "Lines::is_empty")]
    mx_host: Lines,
}

#[derive(Serialize, Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
struct Summary {
    #[serde(default)]
    total_successful_session_count: u64,
    #[serde(default)]
    total_failure_session_count: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Failure {
    result_type: String,
    #[serde(default, skip_serializing_if = "is_empty")]
    sending_mta_ip: Option<String>,
    #[serde(default, skip_serializing_if = "is_empty")]
    receiving_mx_hostname: Option<String>,
    #[serde(default, skip_serializing_if = "is_empty")]
    receiving_mx_helo: Option<String>,
    #[serde(default, skip_serializing_if = "is_empty")]
    receiving_ip: Option<String>,
    #[serde(default)]
    failed_session_count: u64,
    #[serde(default, skip_serializing_if = "is_empty")]
    additional_information: Option<String>,
    #[serde(default, skip_serializing_if = "is_empty")]
    failure_reason_code: Option<String>,
}

#[allow(clippy::ref_option)]
fn is_empty(value: &Option<String>) -> bool {
    value.as_ref().is_none_or(String::is_empty)
}

/// Reads a report.
///
/// # Errors
/// If it is no JSON, or lacks what a report must have.
pub fn parse(json: &[u8]) -> Result<TlsReport, TlsError> {
    // Depth is bounded by serde_json (128), lists by `bounded`, and texts by what may be unpacked.
    let report: Report = serde_json::from_slice(json).map_err(|e| TlsError::Json(text::clean(&e.to_string())))?;
    let start = seconds(&report.date_range.start_datetime).ok_or(TlsError::Lacks("start-datetime"))?;
    let end = seconds(&report.date_range.end_datetime).ok_or(TlsError::Lacks("end-datetime"))?;
    if start > end || end - start > limits::PERIOD {
        return Err(TlsError::Lacks(
            "date-range: it must end after it starts, and within a month",
        ));
    }
    if report.policies.is_empty() {
        return Err(TlsError::Lacks("policies"));
    }
    let mut policies = Vec::new();
    let (mut omitted, mut kept) = (report.policies.omitted, 0);
    for policy in &report.policies.items {
        let policy = result_of(policy);
        let size = policy.encoded_len() + 8;
        if kept + size <= limits::KEPT {
            kept += size;
            policies.push(policy);
        } else {
            omitted = omitted.saturating_add(1);
        }
    }
    Ok(TlsReport {
        organization_name: text::clean(&report.organization_name),
        contact_info: text::clean(&report.contact_info.unwrap_or_default()),
        report_id: text::clean(&report.report_id),
        start,
        end,
        policies,
        policies_omitted: omitted,
    })
}

fn clean(lines: &Lines) -> Vec<String> {
    lines.0.items.iter().map(|line| text::clean(line)).collect()
}

fn lines(of: &[String]) -> Lines {
    Lines(of.iter().cloned().collect())
}

fn result_of(policy: &Policy) -> TlsResult {
    let optional = |value: &Option<String>| value.as_deref().map(text::clean).unwrap_or_default();
    let failures = policy.failure_details.items.iter().map(|failure| {
        let known = RESULTS.iter().find(|(_, name)| *name == failure.result_type);
        let mut details = TlsFailureDetails {
            result_type: known.map_or(TlsResultType::Unspecified, |(result, _)| *result).into(),
            sending_mta_ip: optional(&failure.sending_mta_ip),
            receiving_mx_hostname: optional(&failure.receiving_mx_hostname),
            receiving_mx_helo: optional(&failure.receiving_mx_helo),
            receiving_ip: optional(&failure.receiving_ip),
            failed_session_count: failure.failed_session_count,
            additional_information: optional(&failure.additional_information),
            failure_reason_code: optional(&failure.failure_reason_code),
        };
        if known.is_none() && details.failure_reason_code.is_empty() {
            details.failure_reason_code = text::clean(&failure.result_type);
        }
        details
    });
    let details = &policy.policy;
    let known = POLICIES.iter().find(|(_, name)| *name == details.policy_type);
    TlsResult {
        recipient_domain: String::new(),
        policy_type: known.map_or(TlsPolicyType::Unspecified, |(policy, _)| *policy).into(),
        policy_strings: clean(&details.policy_string),
        policy_domain: text::domain(&details.policy_domain).unwrap_or_else(|| text::clean(&details.policy_domain)),
        mx_host_patterns: clean(&details.mx_host),
        success_count: policy.summary.total_successful_session_count,
        failure_count: policy.summary.total_failure_session_count,
        failures: failures.collect(),
    }
}

/// The JSON of a report.
#[must_use]
pub fn json(report: &TlsReport) -> String {
    let policies = report.policies.iter().map(|result| Policy {
        policy: PolicyDetails {
            policy_type: policy_name(result.policy_type()).to_owned(),
            policy_string: lines(&result.policy_strings),
            policy_domain: result.policy_domain.clone(),
            mx_host: lines(&result.mx_host_patterns),
        },
        summary: Summary {
            total_successful_session_count: result.success_count,
            total_failure_session_count: result.failure_count,
        },
        failure_details: result.failures.iter().map(failure).collect(),
    });
    let whole = Report {
        organization_name: report.organization_name.clone(),
        date_range: DateRange {
            start_datetime: datetime(report.start),
            end_datetime: datetime(report.end),
        },
        contact_info: Some(report.contact_info.clone()),
        report_id: report.report_id.clone(),
        policies: policies.collect(),
    };
    serde_json::to_string_pretty(&whole).unwrap_or_default()
}

fn failure(details: &TlsFailureDetails) -> Failure {
    Failure {
        result_type: result_name(details.result_type()).to_owned(),
        sending_mta_ip: Some(details.sending_mta_ip.clone()),
        receiving_mx_hostname: Some(details.receiving_mx_hostname.clone()),
        receiving_mx_helo: Some(details.receiving_mx_helo.clone()),
        receiving_ip: Some(details.receiving_ip.clone()),
        failed_session_count: details.failed_session_count,
        additional_information: Some(details.additional_information.clone()),
        failure_reason_code: Some(details.failure_reason_code.clone()),
    }
}

/// How many sessions a report is about: those that succeeded, and those that failed.
#[must_use]
pub fn counts(report: &TlsReport) -> (u64, u64) {
    report.policies.iter().fold((0, 0), |(succeeded, failed), policy| {
        (
            policy.success_count.saturating_add(succeeded),
            policy.failure_count.saturating_add(failed),
        )
    })
}

/// RFC 3339, in seconds since 1970.
fn seconds(value: &str) -> Option<i64> {
    let at = OffsetDateTime::parse(value.trim(), &Rfc3339).ok()?;
    Some(at.unix_timestamp()).filter(|at| (0..1 << 40).contains(at))
}

fn datetime(seconds: i64) -> String {
    let at = OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    at.format(&Rfc3339).unwrap_or_default()
}

#[cfg(test)]
mod tests;
