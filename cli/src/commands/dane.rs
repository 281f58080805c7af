//! `mox dane dial|dialmx|makerecord`

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use clap::ArgMatches;
use mox_config::Ca;
use mox_dns::{Answer, Status, SystemResolver, host_addresses, mail_hosts};
use mox_smtp::Stream;
use mox_smtp::client::{Client, ClientError, Timeouts, handshake};
use mox_tlspolicy::dane::{self, Found, Names, PKIX_USAGES, SMTP_USAGES, Selector, Usage};
use mox_tlspolicy::verify::{Checks, Outcome, Require, client_config};
use mox_tlspolicy::{Trust, handshake_fault};
use rustls::ClientConfig;
use rustls::pki_types::pem::{PemObject, SectionKind};
use rustls::pki_types::{
    CertificateDer, PrivateKeyDer, PrivatePkcs1KeyDer, PrivatePkcs8KeyDer, PrivateSec1KeyDer, ServerName,
};
use tokio::io::{AsyncWriteExt, copy};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::command::{Command, option, parameter, text};
use crate::commands::dns::ascii_name;
use crate::context::{Context, folder_of};
use crate::resolver::{block_on, dnssec, resolver, with_options};

/// How long a host may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// The same of a TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(30);
/// RFC 5321 §4.5.4.2.
const SMTP_PORT: u16 = 25;
/// Octets of a file with a certificate or key.
const PEM_MAX: u64 = 1 << 20;

pub const DIAL: Command = Command {
    words: &["dane", "dial"],
    parameters: "host:port",
    help: "Connect with TLS, and verify the certificate with DANE.\n\n\
           The TLSA records of the host and port must be protected by DNSSEC, and one must match (RFC 6698, RFC 7671). \
           Then standard input is copied to the connection, and what comes from it to standard output, until either ends.",
    arguments: || {
        with_options(vec![
            parameter("address"),
            option(
                "usages",
                "list",
                "usages of TLSA records to go by, with commas: pkix-ta,pkix-ee,dane-ta,dane-ee (default: all)",
            ),
        ])
    },
    run: dial,
};

pub const DIALMX: Command = Command {
    words: &["dane", "dialmx"],
    parameters: "domain [destination-host]",
    help: "Connect to a mail host of a domain, using STARTTLS verified with DANE.\n\n\
           Without a destination host, hosts are found as for delivery: CNAMEs of the domain are followed, its MX records \
           looked up, and without any the domain itself is its host. All of this must be protected by DNSSEC. Each host is \
           tried until there is a session with EHLO and STARTTLS whose certificate a TLSA record matches (RFC 7672). Then \
           standard input is copied to the connection, and what comes from it to standard output, until either ends.",
    arguments: || {
        with_options(vec![
            parameter("domain"),
            parameter("host").required(false),
            option("ehlohostname", "name", "name to say in EHLO (default: localhost)"),
        ])
    },
    run: dialmx,
};

pub const MAKERECORD: Command = Command {
    words: &["dane", "makerecord"],
    parameters: "usage selector matchtype [certificate.pem | publickey.pem | privatekey.pem]",
    help: "Print the TLSA record for a certificate or key.\n\n\
           Valid values:\n  usage: pkix-ta (0), pkix-ee (1), dane-ta (2), dane-ee (3)\n  selector: cert (0), spki (1)\n  \
           matchtype: full (0), sha2-256 (1), sha2-512 (2)\n\n\
           Most often it is dane-ee spki sha2-256, or 3 1 1: the SHA-256 of the public key. In a zone:\n\n  \
           _25._tcp.mail.example.org. TLSA 3 1 1 133b919c9d65d8b1488157315327334ead8d83372db57465ecabf53ee5748aee\n\n\
           The first certificate or key in the file that is of use counts; for the selector cert it must be a certificate. \
           Without a file, standard input is read. Private keys are those of PKCS #8, PKCS #1 and SEC 1.",
    arguments: || {
        vec![
            parameter("usage"),
            parameter("selector"),
            parameter("matchtype"),
            parameter("file").required(false),
        ]
    },
    run: makerecord,
};

/// The authorities of the configuration, or those of the system without one.
///
/// # Errors
/// If a file that is configured can't be read.
pub fn trust(context: &Context) -> Result<Trust> {
    Ok(match context.load_static() {
        Ok((file, fixed)) => Trust::load(&fixed.tls.ca, &folder_of(&file))?,
        Err(_) => Trust::load(&Ca::default(), Path::new("."))?,
    })
}

async fn connect(to: SocketAddr) -> Result<Stream> {
    let stream = timeout(CONNECT_TIMEOUT, TcpStream::connect(to)).await;
    let stream = stream.map_err(|_| anyhow!("connecting to {to}: no answer in time"))?;
    Ok(Box::new(stream.with_context(|| format!("connecting to {to}"))?))
}

/// Between the connection and standard input and output, until either ends.
async fn talk(stream: Stream) -> Result<()> {
    let (mut from, mut to) = tokio::io::split(stream);
    let (mut input, mut output) = (tokio::io::stdin(), tokio::io::stdout());
    let sending = async {
        copy(&mut input, &mut to).await?;
        to.shutdown().await
    };
    let receiving = async {
        let done = copy(&mut from, &mut output).await;
        output.flush().await?;
        done.map(drop)
    };
    tokio::pin!(receiving);
    let done = tokio::select! {
        done = &mut receiving => done,
        done = sending => match done {
            // What was asked may still be answered.
            Ok(()) => receiving.await,
            // It is what there is to read that says how it ended.
            Err(error) if is_end(&error) => receiving.await,
            error => error,
        },
    };
    match done {
        Err(error) if is_end(&error) => Ok(()),
        done => Ok(done?),
    }
}

/// Whether the other side has closed the connection, which not all do as they should: servers often close it after QUIT
/// without reading the end of TLS, and without one of their own.
fn is_end(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::UnexpectedEof
    )
}

/// What TLSA records of a host demand, told on standard error.
async fn records(resolver: &SystemResolver, host: &str, port: u16, addresses: &Answer<IpAddr>) -> Result<Found> {
    let found = dane::find(resolver, host, port, addresses).await?;
    let Some(found) = found else {
        if addresses.status != Status::Secure {
            bail!(
                "the addresses of {host} are {}: DANE needs DNSSEC",
                dnssec(addresses.status)
            );
        }
        bail!("{host} has no TLSA records for port {port} that are protected by DNSSEC");
    };
    for record in &found.records {
        eprintln!("_{port}._tcp.{} TLSA {record}", found.base);
    }
    Ok(found)
}

fn demand(
    trust: &Trust,
    found: &Found,
    wanted: &[Usage],
    names: Vec<String>,
) -> Result<(std::sync::Arc<ClientConfig>, Outcome)> {
    let usable = dane::usable(&found.records, wanted);
    if usable.is_empty() {
        let wanted: Vec<String> = wanted.iter().map(ToString::to_string).collect();
        bail!(
            "none of the TLSA records can be used: none is valid, and of usage {}",
            wanted.join(" or ")
        );
    }
    let checks = Checks {
        dane: Some((usable, Names(names))),
        require: Require::Dane,
        ..Checks::default()
    };
    Ok(client_config(trust, checks)?)
}

fn tell(host: &str, to: SocketAddr, outcome: &Outcome) {
    if let Some(Ok(record)) = outcome.get().dane {
        eprintln!("connected to {host} ({to}), verified by TLSA record {record}");
    }
}

/// What is wrong with the certificate, if that is it.
fn in_words(error: ClientError) -> anyhow::Error {
    match error {
        ClientError::Tls(error) => anyhow!("TLS: {}", handshake_fault(&error).1),
        other => other.into(),
    }
}

fn dial(context: &Context, matches: &ArgMatches) -> Result<ExitCode> {
    let address = text(matches, "address");
    let split = address
        .rsplit_once(':')
        .and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?)));
    let (host, port) = split.with_context(|| format!("{address:?} is not host:port, such as mail.example.org:993"))?;
    let usages = match text(matches, "usages") {
        "" => PKIX_USAGES.to_vec(),
        list => list
            .split(',')
            .map(|usage| usage.trim().parse())
            .collect::<Result<Vec<Usage>, _>>()?,
    };
    let host = ascii_name(host)?.trim_end_matches('.').to_ascii_lowercase();
    let (trust, resolver) = (trust(context)?, resolver(context, matches)?);
    block_on(async {
        let addresses = host_addresses(&resolver, &host).await?;
        let found = records(&resolver, &host, port, &addresses).await?;
        let names = vec![found.base.clone(), host.clone()];
        let mut last = anyhow!("{host} has no addresses");
        for ip in &addresses.records {
            let to = SocketAddr::new(*ip, port);
            let (config, outcome) = demand(&trust, &found, &usages, names.clone())?;
            let name = ServerName::try_from(found.base.clone())?;
            let opened = async {
                let stream = connect(to).await?;
                let secured = handshake(stream, config, name, HANDSHAKE_TIMEOUT).await;
                Ok::<_, anyhow::Error>(secured.map_err(in_words).with_context(|| format!("{host} ({to})"))?.0)
            };
            match opened.await {
                Ok(stream) => {
                    tell(&host, to, &outcome);
                    talk(stream).await?;
                    return Ok(ExitCode::SUCCESS);
                }
                Err(error) => {
                    eprintln!("{error:#}");
                    last = error;
                }
            }
        }
        Err(last.context("no address gave a verified connection"))
    })
}

fn dialmx(context: &Context, matches: &ArgMatches) -> Result<ExitCode> {
    let domain: mox_types::Domain = {
        let given = text(matches, "domain");
        given.parse().with_context(|| format!("{given:?} is no domain name"))?
    };
    let given = text(matches, "host");
    let hello = Some(text(matches, "ehlohostname")).filter(|name| !name.is_empty());
    let hello = ascii_name(hello.unwrap_or("localhost"))?;
    let (trust, resolver) = (trust(context)?, resolver(context, matches)?);
    block_on(async {
        let mut names = vec![domain.ascii().to_owned()];
        let hosts = if given.is_empty() {
            let hosts = mail_hosts(&resolver, &domain, rand::random()).await?;
            let list: Vec<&str> = hosts.hosts.iter().map(|host| host.name.as_str()).collect();
            eprintln!("hosts of {domain}: {} ({})", list.join(", "), dnssec(hosts.status));
            if hosts.status != Status::Secure {
                bail!(
                    "the hosts of {domain} are found {}: DANE needs DNSSEC",
                    dnssec(hosts.status)
                );
            }
            names.push(hosts.canonical);
            hosts.hosts.into_iter().map(|host| host.name).collect()
        } else {
            vec![ascii_name(given)?.trim_end_matches('.').to_ascii_lowercase()]
        };
        for host in &hosts {
            match open_mx(&trust, &resolver, host, &names, &hello).await {
                Ok(stream) => {
                    talk(stream).await?;
                    return Ok(ExitCode::SUCCESS);
                }
                Err(error) => eprintln!("{host}: {error:#}"),
            }
        }
        bail!("no host of {domain} gave a session verified with DANE")
    })
}

async fn open_mx(
    trust: &Trust,
    resolver: &SystemResolver,
    host: &str,
    names: &[String],
    hello: &str,
) -> Result<Stream> {
    let addresses = host_addresses(resolver, host).await?;
    let found = records(resolver, host, SMTP_PORT, &addresses).await?;
    let mut last = anyhow!("it has no addresses");
    for ip in &addresses.records {
        let to = SocketAddr::new(*ip, SMTP_PORT);
        let all = [vec![found.base.clone()], names.to_vec()].concat();
        let (config, outcome) = demand(trust, &found, SMTP_USAGES, all)?;
        let opened = async {
            let client = Client::connect(connect(to).await?, None, hello, Timeouts::default()).await?;
            let client = client
                .starttls(config, ServerName::try_from(found.base.clone())?)
                .await
                .map_err(in_words)?;
            client.into_stream().context("the server speaks before it is spoken to")
        };
        match opened.await {
            Ok(stream) => {
                tell(host, to, &outcome);
                return Ok(stream);
            }
            Err(error) => last = error.context(to.to_string()),
        }
    }
    Err(last)
}

fn makerecord(_: &Context, matches: &ArgMatches) -> Result<ExitCode> {
    let usage: Usage = text(matches, "usage").parse()?;
    let selector: Selector = text(matches, "selector").parse()?;
    let matching: dane::Matching = text(matches, "matchtype").parse()?;
    let pem = match text(matches, "file") {
        "" => read(io::stdin()).context("reading standard input")?,
        path => std::fs::File::open(path)
            .and_then(read)
            .with_context(|| format!("reading {path}"))?,
    };
    let selected = select(selector, &pem)?;
    let record = mox_dns::Tlsa {
        usage: usage.number(),
        selector: selector.number(),
        matching: matching.number(),
        data: dane::association(matching, &selected),
    };
    println!("{record}");
    Ok(ExitCode::SUCCESS)
}

fn read(from: impl io::Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    io::Read::read_to_end(&mut io::Read::take(from, PEM_MAX), &mut bytes)?;
    Ok(bytes)
}

/// What the selector asks for, from the first section of a PEM file that has it.
fn select(selector: Selector, pem: &[u8]) -> Result<Vec<u8>> {
    let private = |key: PrivateKeyDer<'static>| {
        let key = rustls::crypto::ring::sign::any_supported_type(&key).ok()?;
        Some(key.public_key()?.as_ref().to_vec())
    };
    for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(pem) {
        let (kind, der) = section.map_err(|e| anyhow!("the file is not PEM: {e}"))?;
        let selected = match (kind, selector) {
            (SectionKind::Certificate, Selector::Cert) => Some(der),
            (SectionKind::Certificate, Selector::Spki) => {
                mox_tlspolicy::subject_public_key_info(&CertificateDer::from(der)).map(<[u8]>::to_vec)
            }
            (_, Selector::Cert) => None,
            (SectionKind::PublicKey, _) => Some(der),
            (SectionKind::PrivateKey, _) => private(PrivatePkcs8KeyDer::from(der).into()),
            (SectionKind::RsaPrivateKey, _) => private(PrivatePkcs1KeyDer::from(der).into()),
            (SectionKind::EcPrivateKey, _) => private(PrivateSec1KeyDer::from(der).into()),
            _ => None,
        };
        if let Some(selected) = selected {
            return Ok(selected);
        }
    }
    match selector {
        Selector::Cert => bail!("the file has no certificate in PEM"),
        Selector::Spki => bail!("the file has no certificate or key in PEM that can be read"),
    }
}

#[cfg(test)]
mod tests {
    use mox_tlspolicy::dane::Matching;
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    #[test]
    fn certificate_and_keys_have_the_same_record() {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["mail.example.org".to_owned()]).unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let of = |pem: &str| select(Selector::Spki, pem.as_bytes()).unwrap();
        let spki = of(&certificate.pem());
        assert_eq!(of(&key.serialize_pem()), spki);
        assert_eq!(of(&key.public_key_pem()), spki);
        assert_eq!(of(&format!("{}{}", key.serialize_pem(), certificate.pem())), spki);
        let whole = select(
            Selector::Cert,
            format!("{}{}", key.serialize_pem(), certificate.pem()).as_bytes(),
        );
        assert_eq!(whole.unwrap(), certificate.der().as_ref());
        assert!(select(Selector::Cert, key.serialize_pem().as_bytes()).is_err());
        assert!(select(Selector::Spki, b"nothing").is_err());
        assert_eq!(dane::association(Matching::Sha512, &spki).len(), 64);
    }
}
