//! `mox config tlspubkey …`: public keys of TLS certificates that clients log in with.

use std::fs::OpenOptions;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::ArgMatches;
use mox_proto::auth::v1::{AddPublicKeyRequest, ListPublicKeysRequest, PublicKey, RemovePublicKeyRequest};
use mox_service::{CERTIFICATE_MAX, public_key_digest};
use rand::RngCore as _;
use rcgen::{CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use serde_json::json;
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;
use time::{Duration, OffsetDateTime};

use crate::command::{Command, flag, parameter, text};
use crate::context::Context;
use crate::control;
use crate::table::Table;

/// Years that a made certificate is good for. Nothing here looks at it; some clients do.
const YEARS: i64 = 20;

pub const LIST: Command = Command {
    words: &["config", "tlspubkey", "list"],
    parameters: "[account]",
    help: "List the public keys that log in by a TLS client certificate.\n\n\
           Of an account, or of all.",
    arguments: || {
        vec![
            parameter("account").required(false),
            flag("json", "Print a JSON object for each key."),
        ]
    },
    run: list,
};

fn list(context: &Context, matches: &ArgMatches) -> Result<ExitCode> {
    let mut request = ListPublicKeysRequest {
        account: text(matches, "account").to_owned(),
        ..ListPublicKeysRequest::default()
    };
    let keys = control::call(context, |mut client| async move {
        let mut all = Vec::new();
        loop {
            let page = client.list_tls_public_keys(request.clone()).await?.into_inner();
            all.extend(page.keys);
            if page.next_page_token.is_empty() {
                return Ok(all);
            }
            request.page_token = page.next_page_token;
        }
    })?;
    if matches.get_flag("json") {
        for key in &keys {
            println!("{}", as_json(key));
        }
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::new(&["FINGERPRINT", "TYPE", "NAME", "ACCOUNT", "LOGIN", "PREAUTH", "ADDED"]);
    for key in &keys {
        table.row(vec![
            URL_SAFE_NO_PAD.encode(&key.fingerprint),
            key.r#type.clone(),
            key.name.clone(),
            key.account.clone(),
            key.login_address.clone(),
            if key.no_imap_preauth { "no" } else { "yes" }.to_owned(),
            moment(key.created),
        ]);
    }
    table.print();
    Ok(ExitCode::SUCCESS)
}

pub const GET: Command = Command {
    words: &["config", "tlspubkey", "get"],
    parameters: "fingerprint",
    help: "Print a public key that logs in by a TLS client certificate.\n\n\
           With its kind, name, account and login address, and the certificate that it was added with, in PEM.",
    arguments: || vec![parameter("fingerprint"), flag("json", "Print a JSON object.")],
    run: get,
};

fn get(context: &Context, matches: &ArgMatches) -> Result<ExitCode> {
    let request = ListPublicKeysRequest {
        fingerprint: fingerprint(matches)?.into(),
        ..ListPublicKeysRequest::default()
    };
    let answer = control::call(context, |mut client| async move {
        client.list_tls_public_keys(request).await
    })?;
    let Some(key) = answer.into_inner().keys.pop() else {
        bail!("there is no TLS public key with this fingerprint");
    };
    if matches.get_flag("json") {
        println!("{}", as_json(&key));
        return Ok(ExitCode::SUCCESS);
    }
    println!("fingerprint: {}", URL_SAFE_NO_PAD.encode(&key.fingerprint));
    println!("type: {}", key.r#type);
    println!("name: {}", key.name);
    println!("account: {}", key.account);
    println!("address: {}", key.login_address);
    println!("IMAP preauth: {}", if key.no_imap_preauth { "no" } else { "yes" });
    println!("added: {}", moment(key.created));
    print!("\n{}", pem("CERTIFICATE", &key.certificate));
    Ok(ExitCode::SUCCESS)
}

pub const ADD: Command = Command {
    words: &["config", "tlspubkey", "add"],
    parameters: "address [name] <cert.pem",
    help: "Let a TLS client certificate log in to the account of an address.\n\n\
           The certificate is read from standard input, in PEM. Only its public key counts, not who signed it, its names \
           or its dates: clients log in with any certificate for the same key. The name is for people; without one, it \
           is the common name in the certificate.\n\n\
           Clients use SASL EXTERNAL, for IMAP and for sending mail. IMAP connections with TLS from the start are \
           logged in at once, unless -no-imap-preauth is given.",
    arguments: || {
        vec![
            parameter("address"),
            parameter("name").required(false),
            flag(
                "no-imap-preauth",
                "Do not log in IMAP connections at their start. For clients that do not expect it, and try to log in when \
                 they are logged in.",
            ),
        ]
    },
    run: add,
};

fn add(context: &Context, matches: &ArgMatches) -> Result<ExitCode> {
    let certificate = read_certificate().context("reading a certificate from standard input")?;
    let request = AddPublicKeyRequest {
        login_address: text(matches, "address").to_owned(),
        name: text(matches, "name").to_owned(),
        no_imap_preauth: matches.get_flag("no-imap-preauth"),
        certificate: certificate.into(),
    };
    let answer = control::call(
        context,
        |mut client| async move { client.add_tls_public_key(request).await },
    )?;
    let key = answer.into_inner().key.unwrap_or_default();
    println!(
        "public key {} ({}) logs in to account {} as {}",
        URL_SAFE_NO_PAD.encode(&key.fingerprint),
        key.r#type,
        key.account,
        key.login_address
    );
    Ok(ExitCode::SUCCESS)
}

/// The first certificate on standard input. Keys in the same file are left alone.
fn read_certificate() -> Result<Vec<u8>> {
    let mut pem = Vec::new();
    // In base64, with a private key beside it, and others behind it.
    let most = 8 * CERTIFICATE_MAX as u64;
    std::io::stdin().lock().take(most).read_to_end(&mut pem)?;
    let certificate =
        CertificateDer::from_pem_slice(&pem).map_err(|_| anyhow::anyhow!("there is no certificate in PEM in it"))?;
    Ok(certificate.to_vec())
}

pub const RM: Command = Command {
    words: &["config", "tlspubkey", "rm"],
    parameters: "fingerprint",
    help: "Remove a public key that logs in by a TLS client certificate.\n\n\
           Connections that were logged in by it end.",
    arguments: || vec![parameter("fingerprint")],
    run: rm,
};

fn rm(context: &Context, matches: &ArgMatches) -> Result<ExitCode> {
    let request = RemovePublicKeyRequest {
        fingerprint: fingerprint(matches)?.into(),
    };
    control::call(context, |mut client| async move {
        client.remove_tls_public_key(request).await
    })?;
    println!("public key removed");
    Ok(ExitCode::SUCCESS)
}

pub const GEN: Command = Command {
    words: &["config", "tlspubkey", "gen"],
    parameters: "stem",
    help: "Make a key and a certificate that a mail client can log in with.\n\n\
           An Ed25519 private key is written to <stem>.<time>.ed25519privatekey.pkcs8.pem, a minimal certificate for it \
           to <stem>.<time>.certificate.pem, and both to <stem>.<time>.ed25519privatekey-certificate.pem; only you can \
           read them. The fingerprint is printed.\n\n\
           Afterwards, let it log in with: mox config tlspubkey add address <certificate file. mox need not run.",
    arguments: || vec![parameter("stem")],
    run: |_, matches| {
        let made = generate(text(matches, "stem"), OffsetDateTime::now_utc())?;
        for file in [&made.key, &made.certificate, &made.both] {
            println!("wrote {}", file.display());
        }
        println!("fingerprint: {}", made.fingerprint);
        println!(
            "let it log in with: mox config tlspubkey add address [name] <{}",
            made.certificate.display()
        );
        Ok(ExitCode::SUCCESS)
    },
};

/// Files that were made.
struct Made {
    key: PathBuf,
    certificate: PathBuf,
    both: PathBuf,
    fingerprint: String,
}

fn generate(stem: &str, now: OffsetDateTime) -> Result<Made> {
    let time = now
        .format(format_description!("[year][month][day][hour][minute][second]"))
        .context("writing the time")?;
    let private = new_ed25519();
    let key = KeyPair::try_from(&private).context("making a private key")?;
    let mut params = CertificateParams::default();
    let name = Path::new(stem).file_name().unwrap_or_default().to_string_lossy();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name.into_owned());
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    // Clocks of servers may be behind.
    params.not_before = now - Duration::hours(1);
    params.not_after = now + Duration::days(365 * YEARS);
    let certificate = params.self_signed(&key).context("signing the certificate")?;
    let digest = public_key_digest(certificate.der()).context("reading the certificate that was made")?;
    let file = |kind: &str| PathBuf::from(format!("{stem}.{time}.{kind}.pem"));
    let made = Made {
        key: file("ed25519privatekey.pkcs8"),
        certificate: file("certificate"),
        both: file("ed25519privatekey-certificate"),
        fingerprint: URL_SAFE_NO_PAD.encode(digest),
    };
    let (key, certificate) = (
        pem("PRIVATE KEY", private.secret_pkcs8_der()),
        pem("CERTIFICATE", certificate.der()),
    );
    write_private(&made.key, &key)?;
    write_private(&made.certificate, &certificate)?;
    write_private(&made.both, &format!("{key}{certificate}"))?;
    Ok(made)
}

/// A new private key, in the first version of PKCS#8 (RFC 8410 §7): the second, which has the public key too, is not
/// read by every client.
fn new_ed25519() -> PrivatePkcs8KeyDer<'static> {
    const PREFIX: [u8; 16] = [
        0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
    ];
    let mut seed = [0; 32];
    rand::rng().fill_bytes(&mut seed);
    PrivatePkcs8KeyDer::from([&PREFIX[..], &seed].concat())
}

/// Writes a new file that only its owner can read.
fn write_private(path: &Path, text: &str) -> Result<()> {
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    };
    write().with_context(|| format!("writing {}", path.display()))
}

fn fingerprint(matches: &ArgMatches) -> Result<Vec<u8>> {
    let given = text(matches, "fingerprint");
    match URL_SAFE_NO_PAD.decode(given.trim_end_matches('=')) {
        Ok(bytes) if bytes.len() == 32 => Ok(bytes),
        _ => bail!("{given:?} is no fingerprint: mox config tlspubkey list shows those there are"),
    }
}

/// A time as RFC 3339 has it.
fn moment(seconds: i64) -> String {
    let at = OffsetDateTime::from_unix_timestamp(seconds).ok();
    at.and_then(|at| at.format(&Rfc3339).ok())
        .unwrap_or_else(|| seconds.to_string())
}

/// RFC 7468 §2.
fn pem(label: &str, der: &[u8]) -> String {
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let mut out = format!("-----BEGIN {label}-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(64));
        out.push_str(line);
        out.push('\n');
        rest = after;
    }
    out.push_str(&format!("-----END {label}-----\n"));
    out
}

fn as_json(key: &PublicKey) -> serde_json::Value {
    json!({
        "fingerprint": URL_SAFE_NO_PAD.encode(&key.fingerprint), "type": key.r#type, "name": key.name,
        "account": key.account, "login_address": key.login_address, "no_imap_preauth": key.no_imap_preauth,
        "created": moment(key.created), "certificate": pem("CERTIFICATE", &key.certificate),
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn made_files_belong_together_and_are_private() {
        let dir = tempfile::tempdir().unwrap();
        let stem = dir.path().join("laptop").to_string_lossy().into_owned();
        let now = OffsetDateTime::from_unix_timestamp(1_700_000_000).unwrap();
        let made = generate(&stem, now).unwrap();
        let name = made.key.file_name().unwrap().to_string_lossy();
        assert_eq!(name, "laptop.20231114221320.ed25519privatekey.pkcs8.pem");
        let read = |path: &Path| std::fs::read_to_string(path).unwrap();
        for file in [&made.key, &made.certificate, &made.both] {
            assert_eq!(std::fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
        }
        assert_eq!(read(&made.both), read(&made.key) + &read(&made.certificate));
        let certificate = CertificateDer::from_pem_slice(read(&made.both).as_bytes()).unwrap();
        assert_eq!(pem("CERTIFICATE", &certificate), read(&made.certificate));
        let digest = public_key_digest(&certificate).unwrap();
        assert_eq!(URL_SAFE_NO_PAD.encode(digest), made.fingerprint);
        assert!(generate(&stem, now).is_err(), "nothing is overwritten");
    }
}
