//! What a message's record says of its sender, from the SMTP transaction.

use std::net::IpAddr;

use mox_proto::delivery::v1 as api;
use mox_proto::delivery::v1::Validation;
use mox_proto::record::v1 as record;
use mox_types::Domain;

/// Adds what the SMTP transaction says to what the content says.
pub(super) fn of_envelope(envelope: &api::Envelope, content: record::Message) -> record::Message {
    let (mail_from_localpart, mail_from_domain) = split(&envelope.mail_from);
    let (from_localpart, from_domain) = match envelope.msg_from.as_str() {
        "" => (content.msg_from_localpart.clone(), content.msg_from_domain.clone()),
        from => split(from),
    };
    let [network1, network2, network3] = networks(&envelope.remote_ip);
    record::Message {
        remote_ip: envelope.remote_ip.clone(),
        remote_ip_network1: network1,
        remote_ip_network2: network2,
        remote_ip_network3: network3,
        ehlo: envelope.ehlo.clone(),
        mail_from: envelope.mail_from.clone(),
        mail_from_localpart,
        mail_from_domain,
        msg_from_localpart: from_localpart,
        msg_from_domain: from_domain,
        msg_from_org_domain: envelope.msg_from_org_domain.clone(),
        ehlo_validation: envelope.ehlo_validation,
        mail_from_validation: envelope.mail_from_validation,
        msg_from_validation: envelope.msg_from_validation,
        dkim_domains: envelope.dkim_domains.clone(),
        dsn: envelope.dsn || (content.dsn && envelope.mail_from.is_empty()),
        tls_version: envelope.tls_version.clone(),
        tls_cipher: envelope.tls_cipher.clone(),
        requiretls: envelope.requiretls,
        cid: envelope.cid,
        ..content
    }
}

/// Marks a message as forwarded. The previous hop is the forwarder, whose names say nothing about the sender: they are
/// kept apart, so that they gain or lose no reputation by it. Signatures of others are the sender's. `forwarder` is the
/// verified domain by which it was recognized, if it was by one.
pub(super) fn mark_forwarded(message: &mut record::Message, forwarder: &str) {
    message.forward = true;
    let mut names: Vec<Domain> = vec![];
    names.extend(forwarder.parse().ok());
    names.extend(message.ehlo.parse().ok());
    if message.mail_from_validation() == Validation::Pass {
        names.extend(message.mail_from_domain.parse().ok());
    }
    // A forwarder signs for its host's domain, or for one above or below it.
    let is_forwarders = |domain: &String| match domain.parse::<Domain>() {
        Ok(domain) => names.iter().any(|n| n.is_within(&domain) || domain.is_within(n)),
        Err(_) => true,
    };
    message.original_ehlo = std::mem::take(&mut message.ehlo);
    let signers = std::mem::take(&mut message.dkim_domains);
    (message.original_dkim_domains, message.dkim_domains) = signers.into_iter().partition(is_forwarders);
}

/// Localpart and domain of an address as given; a localpart alone has no domain.
pub(super) fn split(address: &str) -> (String, String) {
    let (localpart, domain) = address.rsplit_once('@').unwrap_or((address, ""));
    (localpart.to_owned(), domain.to_lowercase())
}

/// The networks that an address's reputation is kept by: the address itself (or what one subscriber of IPv6 has), and
/// two wider ones.
fn networks(ip: &str) -> [String; 3] {
    let network = |ip: IpAddr, v4: u32, v6: u32| match ip {
        IpAddr::V4(ip) => std::net::Ipv4Addr::from(u32::from(ip) & (u32::MAX << (32 - v4))).to_string(),
        IpAddr::V6(ip) => std::net::Ipv6Addr::from(u128::from(ip) & (u128::MAX << (128 - v6))).to_string(),
    };
    match ip.parse::<IpAddr>().map(|ip| ip.to_canonical()) {
        Ok(ip) => [network(ip, 32, 64), network(ip, 26, 48), network(ip, 21, 32)],
        Err(_) => Default::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_cut() {
        assert_eq!(networks("192.0.2.201"), ["192.0.2.201", "192.0.2.192", "192.0.0.0"]);
        assert_eq!(networks("::ffff:192.0.2.201")[0], "192.0.2.201");
        assert_eq!(
            networks("2001:db8:1:2:3::4"),
            ["2001:db8:1:2::", "2001:db8:1::", "2001:db8::"]
        );
        assert_eq!(networks(""), ["", "", ""]);
    }

    #[test]
    fn addresses_are_split() {
        assert_eq!(split("\"a@b\"@C.example"), ("\"a@b\"".into(), "c.example".into()));
        assert_eq!(split("postmaster"), ("postmaster".into(), String::new()));
        assert_eq!(split(""), (String::new(), String::new()));
    }

    #[test]
    fn signatures_of_the_sender_outlast_forwarding() {
        let mut message = record::Message {
            ehlo: "mx1.forwarder.example".into(),
            mail_from_domain: "srs.example".into(),
            mail_from_validation: Validation::Pass.into(),
            dkim_domains: ["forwarder.example", "srs.example", "rule.example", "sender.example"]
                .map(str::to_owned)
                .into(),
            ..Default::default()
        };
        mark_forwarded(&mut message, "rule.example");
        assert_eq!(message.dkim_domains, ["sender.example"]);
        assert_eq!(message.original_dkim_domains.len(), 3);
        assert_eq!(
            (message.ehlo.as_str(), message.original_ehlo.as_str()),
            ("", "mx1.forwarder.example")
        );
    }
}
