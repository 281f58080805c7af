//! The files of a new server, and its first account.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use mox_config::{DYNAMIC_FILE, Dynamic, Source, Static};
use mox_control::{
    ADMIN_PASSWORD_FILE, Edit, NewDomain, make_keys, make_private_dir, new_ecdsa_p256, new_rsa, policy_id, replace,
    write_admin_password,
};
use mox_events::Bus;
use mox_proto::config::v1::SetPasswordRequest;
use mox_proto::config::v1::config_admin_service_client::ConfigAdminServiceClient;
use mox_rpc::{Channel, Identity};
use mox_service::{Clock, ConfigWatch, Deps, Peers, Shutdown};
use mox_telemetry::Telemetry;
use tonic::service::Routes;

use crate::quickstart::{Passwords, Plan, certificate};

/// Until it is replaced by a real one.
const CERTIFICATE_DAYS: i64 = 365;
/// First line of `domains.toml`.
const DOMAINS_HEAD: &str = "# Domains and accounts. Changes take effect at once. See: mox config describe-domains";
/// Private keys are for the server only.
const PRIVATE: u32 = 0o600;

/// Writes everything, and answers the configuration.
///
/// # Errors
/// If something cannot be made.
pub fn write(plan: &Plan, passwords: &Passwords, runtime: &tokio::runtime::Runtime) -> Result<(Static, Dynamic)> {
    make_private_dir(&plan.config).with_context(|| format!("making folder {}", plan.config.display()))?;
    let keys = host_keys(plan)?;
    let file = plan.config.join("mox.toml");
    let text = fixed_text(plan, &keys);
    let fixed = Source {
        file: file.clone(),
        text: text.clone(),
    }
    .parse_static()?;
    replace(&file, text.as_bytes(), PRIVATE)?;

    let made = make_keys(&plan.config, &plan.address.domain)?;
    let before = Dynamic::default();
    let mut edit = Edit::new("", &before)?;
    edit.add_domain(&NewDomain {
        domain: plan.address.domain.clone(),
        account: plan.account.clone(),
        localpart: Some(plan.address.localpart.clone()),
        selectors: made.selectors,
        mtasts_policy_id: policy_id(),
    })?;
    let source = Source {
        file: plan.config.join(DYNAMIC_FILE),
        text: format!("{DOMAINS_HEAD}\n\n{}", edit.finish().trim_start()),
    };
    let dynamic = source.parse_dynamic(&fixed)?;
    replace(&source.file, source.text.as_bytes(), PRIVATE)?;
    // As a whole, from the files.
    mox_config::load(&file)?;
    write_admin_password(&plan.config.join(ADMIN_PASSWORD_FILE), &passwords.admin)?;
    runtime.block_on(first_account(plan, &fixed, &passwords.account))?;
    Ok((fixed, dynamic))
}

/// File names of the keys of the host, from the folder of the configuration.
struct HostKeys {
    rsa: String,
    ecdsa: String,
}

/// Keys that stay when certificates are renewed, and a certificate to start with.
fn host_keys(plan: &Plan) -> Result<HostKeys> {
    let host = plan.hostname.ascii();
    for folder in ["hostkeys", "tls"] {
        make_private_dir(&plan.config.join(folder)).with_context(|| format!("making folder {folder}"))?;
    }
    let name = |kind: &str| format!("hostkeys/{host}.{kind}.privatekey.pkcs8.pem");
    let keys = HostKeys {
        rsa: name("rsa2048"),
        ecdsa: name("ecdsap256"),
    };
    let ecdsa = new_ecdsa_p256()?;
    replace(&plan.config.join(&keys.rsa), new_rsa()?.as_bytes(), PRIVATE)?;
    replace(&plan.config.join(&keys.ecdsa), ecdsa.as_bytes(), PRIVATE)?;
    let domain = plan.address.domain.ascii();
    let names = vec![
        host.to_owned(),
        format!("mta-sts.{domain}"),
        format!("autoconfig.{domain}"),
    ];
    let certificate = certificate::self_signed_with(names, CERTIFICATE_DAYS, &ecdsa)?;
    replace(
        &plan.config.join(cert_file(host)),
        certificate.cert_pem.as_bytes(),
        0o644,
    )?;
    replace(
        &plan.config.join(key_file(host)),
        certificate.key_pem.as_bytes(),
        PRIVATE,
    )?;
    Ok(keys)
}

/// The certificate, from the folder of the configuration.
pub fn cert_file(host: &str) -> String {
    format!("tls/{host}.crt")
}

/// Its key.
pub fn key_file(host: &str) -> String {
    format!("tls/{host}.key")
}

fn fixed_text(plan: &Plan, keys: &HostKeys) -> String {
    let list = |ips: &[std::net::IpAddr]| ips.iter().map(|ip| format!("\"{ip}\"")).collect::<Vec<_>>().join(", ");
    let host = plan.hostname.ascii();
    let user = toml_edit::Value::from(plan.user.as_str()).to_string();
    let user = user.trim();
    let nat = if plan.nat_ips.is_empty() {
        String::new()
    } else {
        format!(
            "# The public addresses, from which ports are forwarded to here.\nnat_ips = [{}]\n",
            list(&plan.nat_ips)
        )
    };
    let helpers = |listener: &str, settings: &str| {
        format!(
            "# Settings for mail clients, and the policy about TLS of the domain.\n\
             [listeners.{listener}.autoconfig_https]\n{settings}\n[listeners.{listener}.mtasts_https]\n{settings}"
        )
    };
    let (public_web, internal_web) = if plan.existing_webserver {
        // Behind the other web server, which does TLS.
        (
            String::new(),
            helpers(
                "internal",
                "enabled = true\nport = 81\nnon_tls = true\nforwarded = true\n",
            ),
        )
    } else {
        (helpers("public", "enabled = true\n"), String::new())
    };
    format!(
        r#"# Configuration of mox. Changes take effect when mox is started again. See: mox config describe-static

data_dir = "../data"
log_level = "info"
user = {user}
hostname = "{host}"
admin_password_file = "{ADMIN_PASSWORD_FILE}"

# Who receives mail for the postmaster.
[postmaster]
account = "{account}"
mailbox = "Postmaster"

# Where others report about TLS of this host.
[host_tls_rpt]
account = "{account}"
mailbox = "TLSRPT"
localpart = "tlsreports"

# What faces the internet.
[listeners.public]
ips = [{ips}]
{nat}
[listeners.public.tls]
# Signed by itself, so that mox starts at once. Replace the two files by ones of a certificate authority.
key_certs = [{{ cert_file = "{cert}", key_file = "{key}" }}]
# Long-lived keys for certificates, which DANE records in DNS are about.
host_private_key_files = ["{rsa}", "{ecdsa}"]

[listeners.public.smtp]
enabled = true

[listeners.public.submissions]
enabled = true

[listeners.public.submission]
enabled = true

[listeners.public.imaps]
enabled = true

[listeners.public.imap]
enabled = true

{public_web}
# For this machine only.
[listeners.internal]
ips = ["127.0.0.1"]

[listeners.internal.metrics_http]
enabled = true

{internal_web}"#,
        account = plan.account,
        ips = list(&plan.ips),
        cert = cert_file(host),
        key = key_file(host),
        rsa = keys.rsa,
        ecdsa = keys.ecdsa,
    )
}

/// Opens the store, makes the account with its mailboxes there, and sets its password.
async fn first_account(plan: &Plan, fixed: &Static, password: &str) -> Result<()> {
    let (stop, shutdown) = Shutdown::new();
    let fixed = Arc::new(fixed.clone());
    let telemetry = Telemetry::detached();
    let bus = Bus::in_process();
    let deps = |service: &'static str, routes: &Routes| Deps {
        service,
        static_config: Arc::clone(&fixed),
        config_dir: plan.config.clone(),
        config: ConfigWatch::none(),
        store: Channel::in_process(routes.clone(), Identity::new(service)),
        peers: Peers::default(),
        bus: bus.clone(),
        telemetry: telemetry.clone(),
        clock: Clock::system(),
        sockets: Vec::new(),
        stop: stop.clone(),
    };
    let store = mox_store::Service::build(deps("store", &Routes::default()))
        .await
        .context("making the store")?;
    let routes = store.routes();
    let storing = tokio::spawn(store.serve(shutdown));
    let control = mox_control::Service::build(deps("control", &routes));
    control.commit().await.context("making the account")?;
    let mut admin = ConfigAdminServiceClient::new(Channel::in_process(routes, Identity::new("control")));
    let request = SetPasswordRequest {
        key: mox_rpc::key(),
        account: plan.account.clone(),
        password: password.to_owned(),
    };
    admin
        .set_password(request)
        .await
        .context("setting the password of the account")?;
    stop.finish();
    storing
        .await
        .context("closing the store")?
        .context("closing the store")?;
    Ok(())
}

/// The folder of the server, for what is printed.
pub fn folder(plan: &Plan) -> &Path {
    plan.config.parent().unwrap_or(Path::new("."))
}
