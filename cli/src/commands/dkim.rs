//! `mox dkim gened25519|genrsa|lookup|txt|verify|sign`

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use clap::ArgMatches;
use mox_config::Selector;
use mox_control::PublicKey;
use mox_dns::Resolver as _;
use mox_mailauth::dkim::Outcome;
use mox_mailauth::sign::{Key, Signer};
use mox_mailauth::{message, spf};

use crate::command::{Command, none, parameter, text};
use crate::commands::dmarc::MESSAGE_BYTES;
use crate::commands::dns::ascii_name;
use crate::context::{Context, folder_of};
use crate::resolver::{block_on, dnssec, resolver, with_options};

pub const GENERATE_ED25519: Command = Command {
    words: &["dkim", "gened25519"],
    parameters: ">selector._domainkey.domain.ed25519.privatekey.pkcs8.pem",
    help: "Print a new Ed25519 private key for DKIM.\n\n\
           Ed25519 keys are small, and so are their DNS records. Not every receiver knows them yet: sign with an RSA key, \
           too.",
    arguments: none,
    run: |_, _| {
        print!("{}", mox_control::new_ed25519()?);
        Ok(ExitCode::SUCCESS)
    },
};

pub const GENERATE_RSA: Command = Command {
    words: &["dkim", "genrsa"],
    parameters: ">selector._domainkey.domain.rsa2048.privatekey.pkcs8.pem",
    help: "Print a new RSA private key of 2048 bits for DKIM.\n\n\
           It is PKCS#8 in PEM, under a comment that says what it is for.",
    arguments: none,
    run: |_, _| {
        print!(
            "# RSA private key for signing mail with DKIM, made by mox\n\n{}",
            mox_control::new_rsa()?
        );
        Ok(ExitCode::SUCCESS)
    },
};

pub const LOOKUP: Command = Command {
    words: &["dkim", "lookup"],
    parameters: "selector domain",
    help: "Look up the public key of a DKIM selector of a domain, and print its record.\n\n\
           The record is checked for mistakes, too.",
    arguments: || with_options(vec![parameter("selector"), parameter("domain")]),
    run: lookup,
};

pub const TXT: Command = Command {
    words: &["dkim", "txt"],
    parameters: "<privatekey.pem",
    help: "Print the TXT record for the public half of a private key from standard input.\n\n\
           The record belongs at selector._domainkey.domain in DNS. The private key is PKCS#8 in PEM.",
    arguments: none,
    run: |_, _| {
        let mut pem = String::new();
        std::io::stdin()
            .take(KEY_BYTES)
            .read_to_string(&mut pem)
            .context("reading a private key from standard input")?;
        let key = PublicKey::of(&pem, Path::new("standard input"))?;
        let record = key
            .dkim_record()
            .context("DKIM has RSA and Ed25519 keys only, and this is another")?;
        println!("{record}");
        Ok(ExitCode::SUCCESS)
    },
};

pub const VERIFY: Command = Command {
    words: &["dkim", "verify"],
    parameters: "message",
    help: "Verify the DKIM signatures of a message in a file, and print the results.\n\n\
           Signatures of older messages may fail because keys are no longer in DNS, or because they expired. \"-\" is \
           standard input. The exit code is 1 if there is no valid signature.",
    arguments: || with_options(vec![parameter("message")]),
    run: verify,
};

pub const SIGN: Command = Command {
    words: &["dkim", "sign"],
    parameters: "message",
    help: "Sign a message in a file, as the configuration has it for the domain in its From field.\n\n\
           The message is printed under its new DKIM-Signature fields. \"-\" is standard input.",
    arguments: || vec![parameter("message")],
    run: sign,
};

/// Octets of a private key that is read.
const KEY_BYTES: u64 = 64 << 10;

fn read(file: &str) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if file == "-" {
        std::io::stdin().take(MESSAGE_BYTES).read_to_end(&mut bytes)
    } else {
        File::open(file).and_then(|opened| opened.take(MESSAGE_BYTES).read_to_end(&mut bytes))
    }
    .with_context(|| format!("reading message {file}"))?;
    Ok(mox_message::to_crlf(&bytes).into_owned())
}

fn lookup(context: &Context, matches: &ArgMatches) -> Result<ExitCode> {
    let domain = ascii_name(text(matches, "domain"))?;
    let name = format!("{}._domainkey.{domain}", text(matches, "selector"));
    let resolver = resolver(context, matches)?;
    let answer = block_on(async { Ok(resolver.txt(&name).await?) })?;
    for record in &answer.records {
        println!("{}", String::from_utf8_lossy(record));
        if let Err(problem) = mox_mailauth::dkim::check_record(record) {
            bail!("the record at {name} is no valid key: {problem}");
        }
    }
    println!("({})", dnssec(answer.status));
    if answer.records.len() > 1 {
        bail!(
            "{name} has {} records: receivers may take any of them",
            answer.records.len()
        );
    }
    Ok(ExitCode::SUCCESS)
}

fn verify(context: &Context, matches: &ArgMatches) -> Result<ExitCode> {
    let bytes = read(text(matches, "message"))?;
    let resolver = Arc::new(resolver(context, matches)?);
    let verdicts = block_on(async {
        let nothing = spf::Verdict::default();
        Ok(message::verify(resolver, bytes.into(), "", &nothing).await?)
    })?;
    if verdicts.dkim.is_empty() {
        println!("the message is not signed");
    }
    for verdict in &verdicts.dkim {
        println!(
            "{}: domain {}, selector {}, {} ({})",
            verdict.outcome.as_str(),
            verdict.domain,
            verdict.selector,
            verdict.algorithm,
            dnssec(verdict.status)
        );
        if let Some(problem) = &verdict.problem {
            println!("  {problem}");
        }
    }
    let valid = verdicts.dkim.iter().any(|v| v.outcome == Outcome::Pass);
    Ok(if valid { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn sign(context: &Context, matches: &ArgMatches) -> Result<ExitCode> {
    let bytes = read(text(matches, "message"))?;
    let header = &bytes[..mox_message::header_end(&bytes)];
    let summary = mox_message::HeaderSummary::of(header);
    let from = summary.from_address().context(
        "the message has no From field with exactly one address, so it is not known whose signature it should have",
    )?;
    let (file, _, config) = context.load()?;
    let domain = config
        .domains
        .get(&from.domain)
        .with_context(|| format!("domain {} is not in the configuration", from.domain))?;
    if domain.dkim.sign.is_empty() {
        bail!(
            "domain {} has no selectors to sign with; see dkim.sign in mox config describe-domains",
            from.domain
        );
    }
    let mut fields = String::new();
    for name in &domain.dkim.sign {
        let selector = domain
            .dkim
            .selectors
            .get(name)
            .with_context(|| format!("domain {} has no selector {name}", from.domain))?;
        let signer = signer(from.domain.ascii(), name, selector, &folder_of(&file))?;
        fields.push_str(&signer.sign(&[&bytes])?);
    }
    use std::io::Write as _;
    let mut out = std::io::stdout().lock();
    out.write_all(fields.as_bytes())?;
    out.write_all(&bytes)?;
    Ok(ExitCode::SUCCESS)
}

fn signer(domain: &str, name: &str, selector: &Selector, folder: &Path) -> Result<Signer> {
    let pem = match (&selector.private_key_file, &selector.private_key) {
        (Some(file), _) => {
            let file = folder.join(file);
            std::fs::read_to_string(&file).with_context(|| format!("reading private key {}", file.display()))?
        }
        (None, Some(key)) => key.expose().to_owned(),
        (None, None) => bail!("selector {name} of domain {domain} has no private key"),
    };
    Ok(Signer {
        domain: domain.to_owned(),
        selector: name.to_owned(),
        key: Key::from_pem(&pem).with_context(|| format!("selector {name} of domain {domain}"))?,
        headers: selector.headers.clone(),
        seal: !selector.dont_seal_headers,
        header_relaxed: selector.canonicalization.header_relaxed,
        body_relaxed: selector.canonicalization.body_relaxed,
        expiration: selector.expiration.map(Into::into),
    })
}
