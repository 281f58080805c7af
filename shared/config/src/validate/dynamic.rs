//! `domains.toml`.

use std::collections::BTreeMap;

use mox_types::{Domain as Name, Localpart};

use crate::account::{Account, Ruleset};
use crate::dynamic::{Domain, Dynamic};
use crate::fixed::Static;
use crate::lookup::Lookup;
use crate::problem::{FieldPath, Problem};
use crate::validate::{mailbox_problem, no_such_account, routes_problems};
use crate::value::AddressPattern;
use crate::web::WebHandler;

/// The longest name of an account, in octets.
const ACCOUNT_NAME_MAX: usize = 64;
/// RFC 8461 §3.1.
const POLICY_ID_MAX: usize = 32;
/// Events of outgoing webhooks.
const EVENTS: [&str; 8] = [
    "delivered",
    "suppressed",
    "delayed",
    "failed",
    "relayed",
    "expanded",
    "canceled",
    "unrecognized",
];

/// What is wrong with the dynamic configuration, given the static one.
#[must_use]
pub fn dynamic_problems(config: &Dynamic, fixed: &Static) -> Vec<Problem> {
    let root = FieldPath::root();
    let mut problems = Vec::new();
    for (name, domain) in &config.domains {
        let at = root.key("domains").key(name);
        domain_problems(config, name, domain, &at, &mut |at, message| {
            problems.push(Problem::new(at, message));
        });
        routes_problems(&domain.routes, &at, &fixed.transports, &mut problems);
    }
    for (name, account) in &config.accounts {
        let at = root.key("accounts").key(name);
        account_problems(config, name, account, &at, &mut |at, message| {
            problems.push(Problem::new(at, message));
        });
        routes_problems(&account.routes, &at, &fixed.transports, &mut problems);
    }
    routes_problems(&config.routes, &root, &fixed.transports, &mut problems);
    let mut bad = |at: FieldPath, message: String| problems.push(Problem::new(at, message));
    same_address_problems(config, &mut bad);
    for (from, to) in &config.web_domain_redirects {
        if from == to {
            bad(
                root.key("web_domain_redirects").key(from),
                "leads to itself: name another domain".to_owned(),
            );
        }
    }
    for (n, handler) in config.web_handlers.iter().enumerate() {
        handler_problems(handler, &root.key("web_handlers").entry(n), &mut bad);
    }
    problems
}

type Bad<'a> = dyn FnMut(FieldPath, String) + 'a;

fn domain_problems(config: &Dynamic, name: &Name, domain: &Domain, at: &FieldPath, bad: &mut Bad<'_>) {
    let both = domain.localpart_catchall_separator.is_some() && !domain.localpart_catchall_separators.is_empty();
    if both {
        let message = "localpart_catchall_separator and localpart_catchall_separators exclude each other: use one";
        bad(at.clone(), message.to_owned());
    }
    let one = domain.localpart_catchall_separator.iter().flat_map(|s| &s.0);
    if one.chain(&domain.localpart_catchall_separators).any(String::is_empty) {
        bad(
            at.key("localpart_catchall_separator"),
            "a separator must not be empty: remove it".to_owned(),
        );
    }
    for (selector, key) in &domain.dkim.selectors {
        let at = at.key("dkim").key("selectors").key(selector);
        if selector.parse::<Name>().is_err() {
            bad(
                at.clone(),
                format!("{selector:?} is not a selector: use letters, digits and dashes"),
            );
        }
        if key.private_key_file.is_some() == key.private_key.is_some() {
            bad(
                at.clone(),
                "must have either private_key_file or private_key".to_owned(),
            );
        }
        // RFC 6376 §5.4: the From header field must be signed.
        if !key.headers.is_empty() && !key.headers.iter().any(|h| h.eq_ignore_ascii_case("from")) {
            bad(
                at.key("headers"),
                "must have From, which a signature has to cover".to_owned(),
            );
        }
    }
    for (n, selector) in domain.dkim.sign.iter().enumerate() {
        if !domain.dkim.selectors.contains_key(selector) {
            bad(
                at.key("dkim").key("sign").entry(n),
                format!("there is no selector {selector:?} in dkim.selectors"),
            );
        }
    }
    let dmarc = domain
        .dmarc
        .as_ref()
        .map(|r| ("dmarc", &r.domain, &r.account, &r.mailbox));
    let tlsrpt = domain
        .tlsrpt
        .as_ref()
        .map(|r| ("tlsrpt", &r.domain, &r.account, &r.mailbox));
    for (section, report_domain, account, mailbox) in dmarc.into_iter().chain(tlsrpt) {
        let at = at.key(section);
        if !config.accounts.contains_key(account) {
            bad(at.key("account"), no_such_account(account));
        }
        if let Some(message) = mailbox_problem(mailbox) {
            bad(at.key("mailbox"), message);
        }
        if let Some(other) = report_domain.as_ref().filter(|d| !config.domains.contains_key(*d)) {
            bad(at.key("domain"), format!("{other} is not one of the domains here"));
        }
    }
    if let Some(policy) = &domain.mtasts {
        let id = &policy.policy_id;
        if id.is_empty() || id.len() > POLICY_ID_MAX || !id.bytes().all(|b| b.is_ascii_alphanumeric()) {
            bad(
                at.key("mtasts").key("policy_id"),
                format!("{id:?} must be up to {POLICY_ID_MAX} letters and digits"),
            );
        }
    }
    for (localpart, alias) in &domain.aliases {
        let at = at.key("aliases").key(localpart);
        if alias.addresses.is_empty() {
            bad(
                at.key("addresses"),
                "must not be empty: add an address, or remove the alias".to_owned(),
            );
        }
        for (n, address) in alias.addresses.iter().enumerate() {
            let at = at.key("addresses").entry(n);
            match config.configured(address) {
                Lookup::Account(_) | Lookup::DomainDisabled => {}
                Lookup::Alias { .. } => bad(at, format!("{address} is an alias itself: list its members here")),
                Lookup::UnknownAddress | Lookup::UnknownDomain => {
                    bad(
                        at,
                        format!("no account has the address {address}: aliases lead to local addresses only"),
                    );
                }
            }
        }
        if domain.separators().any(|s| localpart.as_str().contains(s)) {
            bad(
                at,
                format!("{localpart} of {name} has a separator in it: such an alias is never found without"),
            );
        }
    }
}

fn account_problems(config: &Dynamic, name: &str, account: &Account, at: &FieldPath, bad: &mut Bad<'_>) {
    if let Some(message) = account_name_problem(name) {
        bad(at.clone(), message);
    }
    if !config.domains.contains_key(&account.domain) {
        bad(
            at.key("domain"),
            format!(
                "{} is not one of the domains here: add it, or name another",
                account.domain
            ),
        );
    }
    for (pattern, destination) in &account.destinations {
        let at = at.key("destinations").key(pattern);
        match config.domains.get(pattern.domain()) {
            None => bad(
                at.clone(),
                format!("{} is not one of the domains here: add it first", pattern.domain()),
            ),
            Some(domain) => {
                if let AddressPattern::Address(address) = pattern
                    && let Some(separator) = domain.separators().find(|s| address.localpart.as_str().contains(s))
                {
                    bad(
                        at.clone(),
                        format!("{address} has the separator {separator:?} of its domain: leave out what follows"),
                    );
                }
            }
        }
        if !destination.mailbox.is_empty()
            && let Some(message) = mailbox_problem(&destination.mailbox)
        {
            bad(at.key("mailbox"), message);
        }
        let error = &destination.smtp_error;
        if !(error.is_empty() || error.starts_with("421 ") || error.starts_with("550 ")) {
            bad(
                at.key("smtp_error"),
                format!("{error:?} must begin with 421 or 550, and have a text"),
            );
        }
        for (n, ruleset) in destination.rulesets.iter().enumerate() {
            ruleset_problems(ruleset, &at.key("rulesets").entry(n), bad);
        }
    }
    for (field, mailbox) in [
        ("rejects_mailbox", &account.rejects_mailbox),
        ("introbox", &account.introbox),
    ] {
        if !mailbox.is_empty()
            && let Some(message) = mailbox_problem(mailbox)
        {
            bad(at.key(field), message);
        }
    }
    for (field, url) in [
        ("outgoing_webhook", account.outgoing_webhook.as_ref().map(|w| &w.url)),
        ("incoming_webhook", account.incoming_webhook.as_ref().map(|w| &w.url)),
    ] {
        if let Some(url) = url.filter(|u| !is_http(u)) {
            bad(
                at.key(field).key("url"),
                format!("{url:?} must begin with http:// or https://"),
            );
        }
    }
    for (n, event) in account.outgoing_webhook.iter().flat_map(|w| &w.events).enumerate() {
        if !EVENTS.contains(&event.as_str()) {
            let message = format!("{event:?} is not an event: these are {}", EVENTS.join(", "));
            bad(at.key("outgoing_webhook").key("events").entry(n), message);
        }
    }
    for (n, address) in account.from_id_login_addresses.iter().enumerate() {
        let at = at.key("from_id_login_addresses").entry(n);
        let own = |found: Lookup<'_>| matches!(found, Lookup::Account(r) if r.account == name);
        match address.parse::<mox_types::Address>() {
            Err(e) => bad(at, e.to_string()),
            Ok(address) if !own(config.configured(&address)) => {
                bad(at, format!("{address} does not lead to this account"));
            }
            Ok(address) => {
                let domain = config.domains.get(&address.domain);
                if domain.is_none_or(|d| d.separators().next().is_none()) {
                    bad(
                        at,
                        format!("{} needs a localpart_catchall_separator for this", address.domain),
                    );
                }
            }
        }
    }
    if let Some(filter) = &account.junk_filter {
        let params = &filter.params;
        let at = at.key("junk_filter");
        if !(params.onegrams || params.twograms || params.threegrams) {
            bad(
                at.clone(),
                "counts nothing: set one of params.onegrams, twograms and threegrams".to_owned(),
            );
        }
        for (at, value, most) in [
            (at.key("threshold"), filter.threshold, 1.0),
            (at.key("params").key("max_power"), params.max_power, 0.5),
            (at.key("params").key("ignore_words"), params.ignore_words, 0.5),
        ] {
            if !(0.0..=most).contains(&value) {
                bad(at, format!("must be from 0 to {most}"));
            }
        }
    }
}

/// What is wrong with the name of an account. Names are part of paths and printed in lists.
#[must_use]
pub fn account_name_problem(name: &str) -> Option<String> {
    let fine = !name.is_empty()
        && name.len() <= ACCOUNT_NAME_MAX
        && !name.starts_with(['.', '-'])
        && !name
            .chars()
            .any(|c| c.is_control() || c.is_whitespace() || "/\\@\"".contains(c));
    (!fine).then(|| {
        format!(
            "{name:?} cannot be the name of an account: use up to {ACCOUNT_NAME_MAX} letters, digits, dashes and dots"
        )
    })
}

fn ruleset_problems(ruleset: &Ruleset, at: &FieldPath, bad: &mut Bad<'_>) {
    let none = ruleset.smtp_mail_from_regexp.is_none()
        && ruleset.msg_from_regexp.is_none()
        && ruleset.verified_domain.is_none()
        && ruleset.headers_regexp.is_empty();
    if none {
        let message = "has no condition: add smtp_mail_from_regexp, msg_from_regexp, verified_domain or headers_regexp";
        bad(at.clone(), message.to_owned());
    }
    if ruleset.is_forward && ruleset.list_allow_domain.is_some() {
        bad(
            at.clone(),
            "is_forward and list_allow_domain exclude each other: remove one of them".to_owned(),
        );
    }
    if ruleset.is_forward && ruleset.verified_domain.is_none() {
        bad(
            at.key("is_forward"),
            "anybody could say so: add verified_domain of who forwards".to_owned(),
        );
    }
    if let Some(message) = mailbox_problem(&ruleset.mailbox) {
        bad(at.key("mailbox"), message);
    }
    if !ruleset.accept_rejects_to_mailbox.is_empty()
        && let Some(message) = mailbox_problem(&ruleset.accept_rejects_to_mailbox)
    {
        bad(at.key("accept_rejects_to_mailbox"), message);
    }
}

/// Two that claim the same address.
fn same_address_problems(config: &Dynamic, bad: &mut Bad<'_>) {
    let mut taken: BTreeMap<(Name, String), String> = BTreeMap::new();
    let root = FieldPath::root();
    let folded = |name: &Name, localpart: &Localpart| {
        let keeps_case = config.domains.get(name).is_some_and(|d| d.localpart_case_sensitive);
        if keeps_case {
            localpart.as_str().to_owned()
        } else {
            localpart.as_str().to_lowercase()
        }
    };
    let accounts = config
        .accounts
        .iter()
        .flat_map(|(name, account)| account.destinations.keys().map(move |pattern| (name, pattern)));
    for (account, pattern) in accounts {
        let localpart = match pattern {
            AddressPattern::Address(a) => folded(&a.domain, &a.localpart),
            AddressPattern::Domain(_) => String::new(),
        };
        if let Some(other) = taken.insert((pattern.domain().clone(), localpart), format!("account {account}")) {
            let at = root.key("accounts").key(account).key("destinations").key(pattern);
            bad(
                at,
                format!("{pattern} is an address of {other} already: remove it from one of them"),
            );
        }
    }
    for (name, domain) in &config.domains {
        for localpart in domain.aliases.keys() {
            let owner = format!("the alias {localpart}");
            if let Some(other) = taken.insert((name.clone(), folded(name, localpart)), owner) {
                let at = root.key("domains").key(name).key("aliases").key(localpart);
                bad(
                    at,
                    format!("{localpart}@{name} is an address of {other} already: remove one of them"),
                );
            }
        }
    }
}

fn is_http(url: &str) -> bool {
    url.starts_with("https://") || url.starts_with("http://")
}

fn handler_problems(handler: &WebHandler, at: &FieldPath, bad: &mut Bad<'_>) {
    if !handler.path_regexp.as_str().starts_with('^') {
        bad(
            at.key("path_regexp"),
            format!("{:?} must begin with ^", handler.path_regexp.as_str()),
        );
    }
    let ways = usize::from(handler.web_static.is_some())
        + usize::from(handler.web_redirect.is_some())
        + usize::from(handler.web_forward.is_some())
        + usize::from(handler.web_internal.is_some());
    if ways != 1 {
        let message = "must have exactly one of web_static, web_redirect, web_forward and web_internal";
        bad(at.clone(), format!("{message}, not {ways}"));
    }
    if let Some(redirect) = &handler.web_redirect {
        let at = at.key("web_redirect");
        if redirect.base_url.is_none() && redirect.orig_path_regexp.is_none() {
            bad(
                at.clone(),
                "leads nowhere else: set base_url, or orig_path_regexp with replace_path".to_owned(),
            );
        }
        if !redirect.replace_path.is_empty() && redirect.orig_path_regexp.is_none() {
            bad(at.key("replace_path"), "needs orig_path_regexp".to_owned());
        }
        if !matches!(redirect.status_code, 301 | 302 | 303 | 307 | 308) {
            bad(
                at.key("status_code"),
                format!("{} must be 301, 302, 303, 307 or 308", redirect.status_code),
            );
        }
    }
    if let Some(forward) = handler.web_forward.as_ref().filter(|f| !is_http(&f.url)) {
        bad(
            at.key("web_forward").key("url"),
            format!("{:?} must begin with http:// or https://", forward.url),
        );
    }
    if let Some(internal) = &handler.web_internal
        && !(internal.base_path.starts_with('/') && internal.base_path.ends_with('/'))
    {
        let message = format!("{:?} must begin and end with a slash", internal.base_path);
        bad(at.key("web_internal").key("base_path"), message);
    }
}
