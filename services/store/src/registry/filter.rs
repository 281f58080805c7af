//! What of the configuration a caller is sent: secrets reach only those who use them.

use std::borrow::Cow;

use mox_config::{Dynamic, Secret};
use mox_rpc::Identity;

/// Who signs messages with the keys of a domain: those who send, and control, which keeps the files.
const SIGNERS: [&str; 4] = ["submission", "web", "queue-delivery", "control"];
/// Who calls webhooks, or shows their settings.
const CALLERS_OF_WEBHOOKS: [&str; 3] = ["queue-delivery", "web", "control"];

/// The part of a configuration that `caller` may see.
pub(super) fn visible<'a>(dynamic: &'a Dynamic, caller: &Identity) -> Cow<'a, Dynamic> {
    let signs = SIGNERS.contains(&caller.as_str());
    let calls = CALLERS_OF_WEBHOOKS.contains(&caller.as_str());
    if signs && calls {
        return Cow::Borrowed(dynamic);
    }
    let mut part = dynamic.clone();
    if !signs {
        for selector in part
            .domains
            .values_mut()
            .flat_map(|domain| domain.dkim.selectors.values_mut())
        {
            hide(&mut selector.private_key);
        }
    }
    if !calls {
        for account in part.accounts.values_mut() {
            if let Some(webhook) = &mut account.outgoing_webhook {
                hide(&mut webhook.authorization);
            }
            if let Some(webhook) = &mut account.incoming_webhook {
                hide(&mut webhook.authorization);
            }
        }
    }
    Cow::Owned(part)
}

/// That there is a secret may be known: some settings are valid only with one.
fn hide(secret: &mut Option<Secret>) {
    if let Some(secret) = secret {
        *secret = Secret::new("");
    }
}
