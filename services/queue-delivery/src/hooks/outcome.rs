//! What is to be done with a webhook, and what the store is told afterwards.

use std::time::Duration;

use mox_config::{Dynamic, Secret};
use mox_proto::hook::v1::complete_hook_request::Outcome;
use mox_proto::hook::v1::{CompleteHookRequest, Hook, HookResult};
use mox_proto::queue::v1::Lease;

use super::client::Answer;
use super::schedule;

/// For so long after it was queued, an account's settings may be newer in the store than here.
const SETTLE_MILLIS: i64 = 60_000;
/// When to look again then.
pub(super) const SETTLE_DELAY: Duration = Duration::from_secs(1);

/// Where a webhook is to be posted.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Where<'a> {
    /// As the account has it now.
    Url {
        url: &'a str,
        authorization: Option<&'a str>,
    },
    /// Its settings are about to arrive here.
    Unsettled,
    /// It wants no webhooks of this kind any more.
    Nowhere,
}

/// Where the account of a webhook wants it now: when a URL is changed, what was queued before goes to the new one.
pub(super) fn place<'a>(hook: &Hook, config: &'a Dynamic, now: i64) -> Where<'a> {
    let account = config.accounts.get(&hook.account);
    let settings = account.and_then(|account| {
        if hook.arrival.is_some() {
            let webhook = account.incoming_webhook.as_ref()?;
            Some((webhook.url.as_str(), webhook.authorization.as_ref()))
        } else {
            let webhook = account.outgoing_webhook.as_ref()?;
            Some((webhook.url.as_str(), webhook.authorization.as_ref()))
        }
    });
    let young = now < hook.queued.saturating_add(SETTLE_MILLIS);
    match settings {
        Some((url, authorization)) if url == hook.url || !young => Where::Url {
            url,
            authorization: authorization.map(Secret::expose).filter(|text| !text.is_empty()),
        },
        _ if young => Where::Unsettled,
        _ => Where::Nowhere,
    }
}

/// What was attempted.
pub(super) struct Made<'a> {
    pub url: &'a str,
    pub authorization: bool,
    /// Milliseconds since 1970.
    pub start: i64,
    pub end: i64,
}

/// What the store is told of an answer. All failures are alike: whatever a receiver answers but 200, it may be repaired.
/// `random` is from 0 to 1.
pub(super) fn outcome(hook: &Hook, lease: Lease, answer: Answer, made: &Made<'_>, random: f64) -> CompleteHookRequest {
    let mut request = CompleteHookRequest {
        lease: Some(lease),
        authorization: made.authorization,
        ..CompleteHookRequest::default()
    };
    if answer.success() {
        request.set_outcome(Outcome::Delivered);
    } else if let Some(delay) = schedule::delay(hook.attempts + 1, random) {
        request.set_outcome(Outcome::Retry);
        request.next_attempt = made
            .end
            .saturating_add(i64::try_from(delay.as_millis()).unwrap_or(i64::MAX));
    } else {
        request.set_outcome(Outcome::Failed);
    }
    request.result = Some(HookResult {
        start: made.start,
        duration: (made.end - made.start).max(0),
        url: made.url.to_owned(),
        success: answer.success(),
        code: answer.code.into(),
        error: answer.error,
        response: answer.text,
    });
    request
}

/// What the store is told of a webhook that nobody wants any more.
pub(super) fn unwanted(hook: &Hook, lease: Lease, now: i64) -> CompleteHookRequest {
    let kind = if hook.arrival.is_some() { "incoming" } else { "outgoing" };
    let mut request = CompleteHookRequest {
        lease: Some(lease),
        result: Some(HookResult {
            start: now,
            error: format!("account has no {kind}_webhook any more"),
            ..HookResult::default()
        }),
        ..CompleteHookRequest::default()
    };
    request.set_outcome(Outcome::Failed);
    request
}

#[cfg(test)]
mod tests {
    use mox_config::{Account, IncomingWebhook, OutgoingWebhook};
    use mox_proto::hook::v1::Arrival;

    use super::*;

    #[test]
    fn it_goes_where_the_account_says_now() {
        let mut account = Account::new("ours.example".parse().unwrap());
        account.outgoing_webhook = Some(OutgoingWebhook {
            url: "http://out/".into(),
            authorization: Some(Secret::new("Bearer x")),
            events: Vec::new(),
        });
        let mut config = Dynamic::default();
        config.accounts.insert("me".into(), account.clone());
        let mut hook = Hook {
            account: "me".into(),
            url: "http://out/".into(),
            queued: 1000,
            ..Hook::default()
        };
        let to = |url, authorization| Where::Url { url, authorization };
        assert_eq!(place(&hook, &config, 1000), to("http://out/", Some("Bearer x")));
        hook.url = "http://new/".into();
        assert_eq!(place(&hook, &config, 1000), Where::Unsettled);
        assert_eq!(place(&hook, &config, 61_000), to("http://out/", Some("Bearer x")));
        hook.arrival = Some(Arrival::default());
        assert_eq!(place(&hook, &config, 1000), Where::Unsettled);
        assert_eq!(place(&hook, &config, 61_000), Where::Nowhere);
        account.incoming_webhook = Some(IncomingWebhook {
            url: "http://in/".into(),
            authorization: Some(Secret::new("")),
        });
        config.accounts.insert("me".into(), account);
        assert_eq!(place(&hook, &config, 61_000), to("http://in/", None));
        hook.account = "gone".into();
        assert_eq!(place(&hook, &config, 61_000), Where::Nowhere);
        let told = unwanted(&hook, Lease::default(), 5);
        assert!(told.result.unwrap().error.contains("incoming_webhook"));
    }

    #[test]
    fn all_failures_are_tried_again_until_the_last() {
        let made = Made {
            url: "http://out/",
            authorization: true,
            start: 1000,
            end: 3000,
        };
        let told = |attempts, code, error: &str| {
            let hook = Hook {
                attempts,
                ..Hook::default()
            };
            let answer = Answer {
                code,
                error: error.into(),
                text: "text".into(),
            };
            outcome(&hook, Lease { id: 1, attempt: 2 }, answer, &made, 0.0)
        };
        let good = told(0, 200, "");
        assert_eq!(good.outcome(), Outcome::Delivered);
        let result = good.result.unwrap();
        assert!(result.success && result.code == 200 && result.duration == 2000 && result.response == "text");
        for code in [0, 301, 400, 401, 403, 404, 410, 500] {
            let bad = told(0, code, "no");
            assert_eq!((bad.outcome(), bad.next_attempt), (Outcome::Retry, 63_000), "{code}");
        }
        assert_eq!(told(10, 500, "no").next_attempt, 3000 + 16 * 3_600_000);
        assert_eq!(told(11, 500, "no").outcome(), Outcome::Failed);
    }
}
