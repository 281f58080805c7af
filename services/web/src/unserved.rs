//! HTTP services of the configuration that this version does not have.

use mox_config::Static;

/// Each that is enabled, as its listener's name and its own.
pub(crate) fn of(config: &Static) -> Vec<(&str, &'static str)> {
    let mut found = Vec::new();
    for (name, l) in &config.listeners {
        let services = [
            ("account_http", l.account_http.enabled),
            ("account_https", l.account_https.enabled),
            ("admin_http", l.admin_http.enabled),
            ("admin_https", l.admin_https.enabled),
            ("webmail_http", l.webmail_http.enabled),
            ("webmail_https", l.webmail_https.enabled),
            ("webapi_http", l.webapi_http.enabled),
            ("webapi_https", l.webapi_https.enabled),
            ("pprof_http", l.pprof_http.enabled),
            ("autoconfig_https", l.autoconfig_https.enabled),
            ("mtasts_https", l.mtasts_https.enabled),
            ("webserver_http", l.webserver_http.enabled),
            ("webserver_https", l.webserver_https.enabled),
        ];
        found.extend(
            services
                .into_iter()
                .filter(|(_, enabled)| *enabled)
                .map(|(service, _)| (name.as_str(), service)),
        );
    }
    found
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn only_what_is_enabled_is_named() {
        let mut config = Static::new("data".into(), "localhost".parse().unwrap());
        let mut listener = mox_config::Listener::new(vec!["127.0.0.1".parse().unwrap()]);
        listener.metrics_http.enabled = true;
        listener.webmail_http.enabled = true;
        config.listeners.insert("local".into(), Arc::new(listener));
        assert_eq!(of(&config), [("local", "webmail_http")]);
    }
}
