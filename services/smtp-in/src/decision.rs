//! What the store decided, on its way: completed by blocklists, and told in the header.

use std::net::IpAddr;

use mox_proto::delivery::v1::Verdict;

use crate::session::Place;

/// Most characters of the field that tells the reason: RFC 5322 §2.1.1 allows lines of 998.
const REASON_CHARS: usize = 900;

/// How long mail of strangers waits on a listener, in milliseconds.
pub(crate) fn first_time_delay(place: &Place) -> u32 {
    let delay = place.listener.smtp.first_time_sender_delay.0;
    u32::try_from(delay.as_millis()).unwrap_or(u32::MAX)
}

/// Asks blocklists, if something hangs on it, and puts what then holds in place of verdicts.
pub(crate) async fn ask_blocklists(place: &Place, ip: IpAddr, verdicts: &mut [Verdict]) {
    let zones = &place.listener.smtp.dnsbls;
    let Some(resolver) = &place.shared.resolver else { return };
    if zones.is_empty() || verdicts.iter().all(|v| v.if_listed.is_none()) {
        return;
    }
    let lists = &place.shared.blocklists;
    let found = lists.find(&**resolver, zones, ip.to_canonical(), &place.shared.clock);
    let Some(listed) = found.await else {
        return;
    };
    tracing::info!(zone = %listed.zone, reason = listed.reason, "the client's address is in a blocklist");
    for verdict in verdicts {
        if let Some(instead) = verdict.if_listed.take() {
            *verdict = Verdict {
                detail: format!("{}: {} ({})", instead.detail, listed.zone, listed.reason),
                ..*instead
            };
        }
    }
}

/// A header field that says why a message is where it is; empty in developer's mode, where nothing is decided.
pub(crate) fn field(verdict: &Verdict) -> String {
    if matches!(verdict.reason.as_str(), "" | "accepted") {
        return String::new();
    }
    let text = match verdict.detail.as_str() {
        "" => verdict.reason.clone(),
        detail => format!("{}; {detail}", verdict.reason),
    };
    // Names of senders may be in it: whatever is not of a plain field is no part of it.
    let plain = text.chars().map(|c| if matches!(c, ' '..='~') { c } else { '?' });
    format!("X-Mox-Reason: {}\r\n", plain.take(REASON_CHARS).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_one_plain_field() {
        let of = |reason: &str, detail: &str| {
            field(&Verdict {
                reason: reason.into(),
                detail: detail.into(),
                ..Verdict::default()
            })
        };
        assert_eq!(of("accepted", ""), "");
        assert_eq!(of("list", ""), "X-Mox-Reason: list\r\n");
        assert_eq!(of("known", "a\r\nX: é"), "X-Mox-Reason: known; a??X: ?\r\n");
        assert!(of("known", &"x".repeat(5000)).len() < 998);
    }
}
