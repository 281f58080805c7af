//! Composing and signing.

use bytes::Bytes;
use mox_proto::report::v1::{Bundle, DmarcReport, DmarcRow, OutgoingReport, TlsReport, TlsResult};
use mox_reports::compose::{Composed, Letter, dmarc_message, tls_file, tls_message};
use mox_types::Domain;

use super::destinations::{self, Nobody, Wanted};
use super::{Jobs, Plan};

/// Who made a report (RFC 9990 §2.1.1).
const GENERATOR: &str = concat!("mox ", env!("CARGO_PKG_VERSION"));

impl Jobs {
    /// The reports about what DMARC found out.
    pub(super) async fn dmarc(&self, bundle: &Bundle, domain: &str, rows: Vec<DmarcRow>) -> Plan {
        let wanted = match destinations::of_dmarc(&*self.resolver, domain).await {
            Ok(wanted) => wanted,
            Err(Nobody::Wants(why)) => return Plan::nobody(why),
            Err(Nobody::Known) => return Plan::Later,
        };
        let mut errors = Vec::new();
        if bundle.omitted > 0 {
            errors.push(format!(
                "{} messages are left out, as there are too many",
                bundle.omitted
            ));
        }
        let report = DmarcReport {
            org_name: self.host().to_owned(),
            email: self.from(),
            report_id: self.report_id(bundle),
            begin: bundle.begin / 1000,
            end: last_second(bundle),
            errors,
            generator: GENERATOR.into(),
            policy: bundle.policy.clone(),
            rows,
            ..DmarcReport::default()
        };
        let (reports, why) = self
            .letters(wanted, &report.report_id, |letter| dmarc_message(&report, letter))
            .await;
        Plan::Send(reports, Vec::new(), why)
    }

    /// The reports about TLS.
    pub(super) async fn tls(&self, bundle: &Bundle, domain: &str, policies: Vec<TlsResult>) -> Plan {
        let wanted = match destinations::of_tls(&*self.resolver, domain).await {
            Ok(wanted) => wanted,
            Err(Nobody::Wants(why)) => return Plan::nobody(why),
            Err(Nobody::Known) => return Plan::Later,
        };
        if wanted.mail.is_empty() {
            return Plan::Send(Vec::new(), wanted.posts, "to-post");
        }
        let report = self.tls_report(bundle, policies);
        let (reports, why) = self
            .letters(wanted.mail, &report.report_id, |letter| {
                tls_message(&report, domain, letter)
            })
            .await;
        Plan::Send(reports, wanted.posts, why)
    }

    /// Posts the report about TLS to where it is still to be posted to.
    pub(super) async fn post(&self, bundle: &Bundle, domain: &str, policies: Vec<TlsResult>) -> Plan {
        let file = Bytes::from(tls_file(&self.tls_report(bundle, policies)));
        let failed = self.poster.post_all(&bundle.left, &file).await;
        for (uri, error) in &failed {
            tracing::info!(
                domain,
                uri,
                error,
                attempts = bundle.attempts + 1,
                "report was not taken"
            );
        }
        self.metrics.posted(bundle.left.len() - failed.len(), failed.len());
        Plan::Posted(failed.into_iter().map(|(uri, _)| uri).collect())
    }

    fn tls_report(&self, bundle: &Bundle, policies: Vec<TlsResult>) -> TlsReport {
        TlsReport {
            organization_name: self.host().to_owned(),
            contact_info: self.from(),
            report_id: self.report_id(bundle),
            start: bundle.begin / 1000,
            end: last_second(bundle),
            policies,
            ..TlsReport::default()
        }
    }

    /// A signed message for each address, so that nobody learns who else gets one.
    async fn letters(
        &self,
        wanted: Vec<Wanted>,
        id: &str,
        compose: impl Fn(&Letter<'_>) -> Composed,
    ) -> (Vec<OutgoingReport>, &'static str) {
        let (mut reports, mut why) = (Vec::new(), "too-large");
        for (n, (address, max)) in wanted.into_iter().enumerate() {
            // RFC 9990 §2.6.2: it may be made of the report's identifier. Each message has its own.
            let (unique, host) = id.split_once('@').unwrap_or((id, self.host()));
            let message_id = format!("<{unique}.{n}@{host}>");
            let to = [address];
            let letter = Letter {
                from: &self.from(),
                to: &to,
                submitter: self.host(),
                at: self.clock.now(),
                message_id: &message_id,
            };
            let composed = compose(&letter);
            // RFC 9990 §2.6: a destination that it is too large for must not be used.
            if max > 0 && composed.attachment as u64 > max {
                tracing::info!(
                    to = to[0],
                    max,
                    size = composed.attachment,
                    "report is too large for its destination"
                );
                continue;
            }
            let Some(message) = self.signed(composed.message).await else {
                why = "not-signed";
                continue;
            };
            let [address] = to;
            reports.push(OutgoingReport {
                smtputf8: !address.is_ascii(),
                recipients: vec![address],
                mail_from: self.from(),
                msg_from: self.from(),
                message,
                subject: composed.subject,
                message_id: message_id.trim_matches(['<', '>']).to_lowercase(),
            });
        }
        match reports.is_empty() {
            true => (reports, why),
            false => (reports, "sent"),
        }
    }

    fn host(&self) -> &str {
        self.fixed.hostname.ascii()
    }

    fn from(&self) -> String {
        format!("postmaster@{}", self.host())
    }

    /// The same whenever the same is reported (RFC 9990 §2.6.1).
    fn report_id(&self, bundle: &Bundle) -> String {
        let id = bundle.id.clone().unwrap_or_default();
        let version = match bundle.reported {
            0 => bundle.version,
            reported => reported,
        };
        let text = format!("{} {} {} {version}", id.kind, id.domain, id.end);
        let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
        let hex: String = digest.as_ref()[..10].iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{}.{hex}@{}", bundle.begin / 1000, self.host())
    }

    /// With signatures of the host's domain, or of the nearest above it that is ours and signs. Without any, SPF of the
    /// host's name is all that shows who it is from.
    async fn signed(&self, message: Vec<u8>) -> Option<Bytes> {
        let message = Bytes::from(message);
        let mut prepared = match mox_submit::prepare(&message.into(), self.host(), self.clock.now()) {
            Ok(prepared) => prepared,
            Err(error) => {
                tracing::error!(%error, "composing a report");
                return None;
            }
        };
        let (config, version) = (self.config.current(), self.config.version());
        let mut names: Vec<Domain> = vec![self.fixed.hostname.clone()];
        while let Some((_, above)) = names.last().and_then(|name| name.ascii().split_once('.')) {
            match above.parse() {
                Ok(above) => names.push(above),
                Err(_) => break,
            }
        }
        let signs = |name: &Domain| {
            config
                .domains
                .get(name)
                .is_some_and(|domain| !domain.dkim.sign.is_empty())
        };
        match names.into_iter().find(signs) {
            Some(domain) => prepared.msg_from.domain = domain,
            None => tracing::debug!(host = self.host(), "no domain to sign reports with"),
        }
        match self.signing.sign(&config, version, &mut prepared).await {
            Ok(()) => Some(
                [prepared.added.as_bytes(), &prepared.content.to_bytes()]
                    .concat()
                    .into(),
            ),
            Err(error) => {
                tracing::error!(%error, "signing a report: it is not sent");
                None
            }
        }
    }
}

/// RFC 8460 §4.4 has periods end with their last second, and DMARC reports are alike.
fn last_second(bundle: &Bundle) -> i64 {
    bundle.id.as_ref().map_or(0, |id| id.end) / 1000 - 1
}
