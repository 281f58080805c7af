//! Everything around the cells: DNS, certificates, policies, and the servers.

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;

use anyhow::{Context, Result};
use mox_integration_tests::client::{python, succeed};
use mox_integration_tests::{Mox, Options, PASSWORD, Process, Shape, USER, binary, free_ip, wait};
use tempfile::TempDir;
use toml_edit::{Array, InlineTable, Item, Table, table, value};

use crate::afterwards;
use crate::between::{self, Way};
use crate::cells::{Cell, Dane, From, Host, Message, Route, Sts, To};
use crate::certificates::{Authority, Certificate, digest};
use crate::dialing;
use crate::dns::Dns;
use crate::policies::{self, Answer, Policies};
use crate::postfix::Postfix;
use crate::seen::Reader;

/// Data of a TLSA record that nothing has.
const NOTHING: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
/// What a record has when it is signed; it becomes another afterwards.
const BEFORE: &str = "b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0";

/// Logs in with smtplib, and sends a message.
const SUBMIT: &str = r#"
import smtplib, ssl, sys
host, port, user, password, sender, to, message, options = sys.argv[1:]
context = ssl.create_default_context()
context.check_hostname = False
context.verify_mode = ssl.CERT_NONE
s = smtplib.SMTP_SSL(host, int(port), context=context)
s.login(user, password)
s.sendmail(sender, [to], message, mail_options=options.split())
s.quit()
"#;

/// Has the account submit a message.
pub fn submit(mox: &Mox, to: &str, message: &str) -> Result<()> {
    submit_with(mox, USER, to, message, "")
}

/// As [`submit`], from another sender, with parameters of MAIL.
fn submit_with(mox: &Mox, sender: &str, to: &str, message: &str, options: &str) -> Result<()> {
    let at = mox.submissions();
    let (host, port) = (at.ip().to_string(), at.port().to_string());
    python(SUBMIT, &[&host, &port, USER, PASSWORD, sender, to, message, options]).map(drop)
}

/// The running world.
pub struct World {
    // Servers before what they use.
    pub sender: Mox,
    pub receiver: Mox,
    pub postfix: Postfix,
    pub sender_mail: Reader,
    pub receiver_mail: Reader,
    _policies: Policies,
    pub dns: Dns,
    /// Who is in between, by what they do to which hosts, and where.
    between: Vec<(Host, IpAddr, Process)>,
    /// The receiver of mox, with TLS.
    tls: IpAddr,
    folder: TempDir,
}

/// Where TLS reports about all cells go: an address of the receiver.
pub const REPORTS: &str = "tls@reports.example";
/// The mailbox of the receiver that they are in.
pub const REPORTS_MAILBOX: &str = "TLSRPT";
/// Who sends from Postfix.
pub const POSTFIX_USER: &str = "x@postfix.example";
/// Of the sender's signatures.
const SELECTOR: &str = "s1";

/// A host whose policy is nobody's.
const TRAP: &str = "trap.plain.example";

/// Addresses of a receiver's hosts.
struct Hosts {
    tls: IpAddr,
    plain: IpAddr,
    no_requiretls: IpAddr,
    expired: IpAddr,
    untrusted: IpAddr,
    /// Where somebody is in between: for [`Host::NoHandshake`], [`Host::LostStartTls`], [`Host::LostHandshake`].
    between: [IpAddr; 3],
}

impl Hosts {
    fn of(&self, host: Host) -> IpAddr {
        match host {
            Host::Tls => self.tls,
            Host::Plain => self.plain,
            Host::NoRequireTls => self.no_requiretls,
            Host::Expired => self.expired,
            Host::Untrusted => self.untrusted,
            Host::NoHandshake => self.between[0],
            Host::LostStartTls => self.between[1],
            Host::LostHandshake => self.between[2],
        }
    }
}

impl World {
    /// Starts everything: the sender of mox in a shape.
    pub fn start(cells: &[Cell], shape: Shape) -> Result<Self> {
        let mut folder = tempfile::Builder::new().prefix("security-").tempdir()?;
        folder.disable_cleanup(std::env::var_os("MOX_KEEP").is_some());
        let path = folder.path();
        fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        let authority = Authority::new(path)?;
        let mox_hosts = Hosts {
            tls: free_ip(),
            plain: free_ip(),
            no_requiretls: free_ip(),
            expired: free_ip(),
            untrusted: free_ip(),
            between: [free_ip(), free_ip(), free_ip()],
        };
        let addresses = Postfix::addresses();
        let postfix_hosts = Hosts {
            tls: addresses.0,
            plain: addresses.1,
            no_requiretls: addresses.0,
            expired: addresses.0,
            untrusted: addresses.0,
            between: [addresses.0; 3],
        };
        let domains = |to: To| -> BTreeSet<String> {
            let those = cells.iter().filter(|c| c.to == to);
            those.map(Cell::domain).collect()
        };
        let names = |to: To| -> Vec<String> {
            let named = cells.iter().filter(|c| c.to == to && c.case.named);
            let names: BTreeSet<String> = named.flat_map(|c| [c.mx(), c.base()]).collect();
            names.into_iter().collect()
        };
        let mox_cert = authority.issue("mox", &names(To::Mox))?;
        let postfix_cert = authority.issue("postfix", &names(To::Postfix))?;
        let expired_cert = authority.issue_expired("expired", &names(To::Mox))?;
        let unknown = path.join("unknown");
        fs::create_dir(&unknown)?;
        let untrusted_cert = Authority::new(&unknown)?.issue("untrusted", &names(To::Mox))?;
        let policy_hosts: BTreeSet<String> = cells
            .iter()
            .filter(|c| !matches!(c.case.sts, Sts::None | Sts::Misnamed))
            .map(|c| format!("mta-sts.{}", c.domain()))
            .collect();
        let policy_hosts = policy_hosts.into_iter().chain([TRAP.to_owned()]);
        let policy_cert = authority.issue("policies", &policy_hosts.collect::<Vec<_>>())?;
        let policy_ip = free_ip();

        let dns_ip = free_ip();
        let options = Options {
            host_with_dns: Some((dns_ip, 53).into()),
            ..Options::default()
        };
        let (sender, receiver) = (Mox::prepare(shape, &options)?, Mox::prepare(Shape::Single, &options)?);
        let (key, public) = dkim_key()?;
        let mut records = vec![
            "a.example. MX 10 mail.a.example.".to_owned(),
            format!("mail.a.example. A {}", sender.ip()),
            "a.example. TXT \"v=spf1 ip4:127.0.0.0/8 -all\"".to_owned(),
            "mail.a.example. TXT \"v=spf1 ip4:127.0.0.0/8 -all\"".to_owned(),
            "_dmarc.a.example. TXT \"v=DMARC1; p=reject\"".to_owned(),
            format!(
                "_1993._tcp.mail.a.example. TLSA 3 1 1 {}",
                digest(true, &sender.config_dir().join("localhost.crt"))?
            ),
            dialing::RECORDS.to_owned(),
            format!("{SELECTOR}._domainkey.a.example. TXT \"{public}\""),
            "reports.example. MX 10 mx.reports.example.".to_owned(),
            format!("mx.reports.example. A {}", mox_hosts.tls),
            format!(
                "postfix.example. MX 10 postfix.example.\npostfix.example. A {}",
                addresses.0
            ),
            "postfix.example. TXT \"v=spf1 ip4:127.0.0.0/8 -all\"".to_owned(),
            format!("{TRAP}. A {policy_ip}"),
            // Reports about TLS arrive although nothing that is demanded of their host holds (RFC 8460 §5.3).
            format!("_25._tcp.mx.reports.example. TLSA 3 1 1 {NOTHING}"),
        ];
        records.extend(afterwards::records());
        records.extend(dialing::tlsa(&mox_cert, &authority, &sender)?);
        let (mut policies, mut postfix_policies) = (Vec::new(), Vec::new());
        let mut seen = BTreeSet::new();
        for cell in cells.iter().filter(|c| seen.insert(c.domain())) {
            let (hosts, cert) = match (cell.to, cell.case.host) {
                (To::Mox, Host::Expired) => (&mox_hosts, &expired_cert),
                (To::Mox, Host::Untrusted) => (&mox_hosts, &untrusted_cert),
                (To::Mox, _) => (&mox_hosts, &mox_cert),
                (To::Postfix, _) => (&postfix_hosts, &postfix_cert),
            };
            let (domain, mx, base) = (cell.domain(), cell.mx(), cell.base());
            match cell.case.route {
                Route::Mx => records.push(format!("{domain}. MX 10 {mx}.")),
                Route::Alias => records.push(format!("{domain}. CNAME to.{domain}.\nto.{domain}. MX 10 {mx}.")),
                Route::Itself => {}
                Route::Second => records.push(format!(
                    "{domain}. MX 20 {mx}.\n{domain}. MX 10 first.{domain}.\nfirst.{domain}. A {}\n\
                     _25._tcp.first.{domain}. TLSA 3 1 1 {NOTHING}",
                    hosts.tls
                )),
                Route::Null => records.push(format!("{domain}. MX 0 .")),
            }
            records.push(format!("_smtp._tls.{domain}. TXT \"v=TLSRPTv1; rua=mailto:{REPORTS}\""));
            if cell.case.alias {
                records.push(format!("{mx}. CNAME {base}."));
            }
            records.push(format!("{base}. A {}", hosts.of(cell.case.host)));
            let (key, ca) = (digest(true, &cert.cert)?, digest(false, &authority.pem())?);
            let tlsa = match cell.case.dane {
                Dane::None => vec![],
                Dane::Good => vec![format!("3 1 1 {key}")],
                Dane::Authority => vec![format!("2 0 1 {ca}")],
                Dane::Wrong => vec![format!("3 1 1 {NOTHING}")],
                Dane::Bogus => vec![format!("3 1 1 {BEFORE}")],
                Dane::Unusable => vec![format!("3 7 1 {NOTHING}")],
                Dane::Pkix => vec![format!("1 1 1 {key}"), format!("0 0 1 {ca}")],
                Dane::PkixWrong => vec![format!("1 1 1 {NOTHING}"), format!("3 1 1 {key}")],
                Dane::PkixOnly => vec![format!("1 1 1 {key}"), format!("3 1 1 {NOTHING}")],
            };
            records.extend(tlsa.iter().map(|tlsa| format!("_25._tcp.{base}. TLSA {tlsa}")));
            if cell.case.sts != Sts::None {
                records.push(format!("_mta-sts.{domain}. TXT \"v=STSv1; id=1;\""));
                records.push(format!("mta-sts.{domain}. A {policy_ip}"));
            }
            if cell.case.sts == Sts::Nonsense {
                policies.push((format!("mta-sts.{domain}"), Answer::text("Hello.\r\n")));
            }
            let policy =
                |mode: &str, name: &str| format!("version: STSv1\r\nmode: {mode}\r\nmx: {name}\r\nmax_age: 86400\r\n");
            if cell.case.sts.is_trap() {
                let trap = Answer::text(&policy("enforce", "other.example"));
                let answer = match cell.case.sts {
                    // Whoever follows comes to the policy.
                    Sts::Moved(code) => trap.clone().moved(code, TRAP),
                    Sts::OfType(kind) => trap.clone().of_type(kind),
                    Sts::WithMore(what) => trap.clone().with_more(what),
                    _ => trap.clone(),
                };
                policies.extend([(format!("mta-sts.{domain}"), answer), (TRAP.to_owned(), trap)]);
            }
            if let Sts::Policy(mode, named) = cell.case.sts {
                let name = if named { mx.as_str() } else { "other.example" };
                policies.push((format!("mta-sts.{domain}"), Answer::text(&policy(mode, name))));
                // What programs answer that find MTA-STS policies for Postfix.
                if mode == "enforce" {
                    postfix_policies.push((domain, format!("secure match={name}")));
                }
            }
        }
        let dns = Dns::start(path, dns_ip, &records, &[(BEFORE.into(), NOTHING.into())])?;
        let policies = policies::serve(path, policy_ip, &policy_cert, &policies)?;
        let mut postfix_domains: Vec<String> = domains(To::Postfix).into_iter().collect();
        postfix_domains.extend(POSTFIX_USER.split_once('@').map(|(_, domain)| domain.to_owned()));
        let postfix = Postfix::start(
            addresses,
            dns.ip,
            &authority,
            &postfix_cert,
            &postfix_domains,
            &postfix_policies,
        )?;
        let mut world = Self {
            sender,
            receiver,
            postfix,
            sender_mail: Reader::default(),
            receiver_mail: Reader::default(),
            _policies: policies,
            dns,
            between: Vec::new(),
            tls: mox_hosts.tls,
            folder,
        };
        world.configure_sender(&authority, &key)?;
        let listeners = [
            ("tls", mox_hosts.tls, None, Some(&mox_cert)),
            ("plain", mox_hosts.plain, Some("no_starttls"), None),
            (
                "norequiretls",
                mox_hosts.no_requiretls,
                Some("no_require_tls"),
                Some(&mox_cert),
            ),
            ("expired", mox_hosts.expired, None, Some(&expired_cert)),
            ("untrusted", mox_hosts.untrusted, None, Some(&untrusted_cert)),
        ];
        world.configure_receiver(&listeners, &domains(To::Mox))?;
        world.receiver.start_first()?;
        for (host, at) in [
            (Host::NoHandshake, mox_hosts.between[0]),
            (Host::LostStartTls, mox_hosts.between[1]),
            (Host::LostHandshake, mox_hosts.between[2]),
        ] {
            let way = if host.had_tls() { Way::All } else { Way::NoHandshake };
            let process = between::start(world.folder.path(), at, mox_hosts.tls, way)?;
            world.between.push((host, at, process));
        }
        world.sender.start_first()?;
        Ok(world)
    }

    /// Directly to recipients' hosts, by the DNS of the test.
    fn configure_sender(&self, authority: &Authority, key: &str) -> Result<()> {
        let server = format!("{}:53", self.dns.ip);
        let anchor = self.dns.anchor.display().to_string();
        self.sender.edit_config(|config| {
            config["hostname"] = value("mail.a.example");
            config["outgoing_tls_reports_for_all_success"] = value(true);
            config.remove("transports");
            let dns = config["dns"].or_insert(table());
            dns["servers"] = list([server.clone()]);
            dns["validate"] = value(true);
            dns["trust_anchor_file"] = value(anchor);
            let ca = config["tls"].or_insert(table())["ca"].or_insert(table());
            ca["cert_files"] = list([authority.pem().display().to_string()]);
        })?;
        let path = self.sender.config_dir().join("domains.toml");
        let text = fs::read_to_string(&path)?;
        let mut domains: toml_edit::DocumentMut = text.parse()?;
        domains.remove("routes");
        let text = format!(
            "{domains}\n[domains.\"a.example\".dkim]\nsign = [\"{SELECTOR}\"]\n\
             [domains.\"a.example\".dkim.selectors.{SELECTOR}]\nprivate_key = \"\"\"\n{key}\"\"\"\n\
             [accounts.mox.destinations.\"mox@a.example\"]\n"
        );
        fs::write(&path, text)?;
        Ok(())
    }

    /// With listeners: their names, addresses, what they don't do, and certificates.
    fn configure_receiver(
        &self,
        listeners: &[(&str, IpAddr, Option<&str>, Option<&Certificate>)],
        domains: &BTreeSet<String>,
    ) -> Result<()> {
        let server = format!("{}:53", self.dns.ip);
        self.receiver.edit_config(|config| {
            config["dns"].or_insert(table())["servers"] = list([server.clone()]);
            // With transcripts.
            config["package_log_levels"].or_insert(table())["smtp-in"] = value("trace");
            for (name, ip, switch, certificate) in listeners {
                let mut smtp = Table::new();
                smtp["enabled"] = value(true);
                smtp["port"] = value(25);
                smtp["first_time_sender_delay"] = value("0s");
                if let Some(switch) = switch {
                    smtp[*switch] = value(true);
                }
                let mut listener = Table::new();
                listener["ips"] = list([ip.to_string()]);
                listener["smtp"] = Item::Table(smtp);
                // For commands that look at any port.
                if switch.is_none() {
                    listener["imaps"] = table();
                    listener["imaps"]["enabled"] = value(true);
                    listener["imaps"]["port"] = value(993);
                }
                if let Some(certificate) = certificate {
                    let mut pair = InlineTable::new();
                    pair.insert("cert_file", certificate.cert.display().to_string().into());
                    pair.insert("key_file", certificate.key.display().to_string().into());
                    let mut pairs = Array::new();
                    pairs.push(pair);
                    listener["tls"] = table();
                    listener["tls"]["key_certs"] = value(pairs);
                }
                config["listeners"][*name] = Item::Table(listener);
            }
        })?;
        let path = self.receiver.config_dir().join("domains.toml");
        let mut text = fs::read_to_string(&path)?;
        let (localpart, domain) = REPORTS.split_once('@').unwrap_or_default();
        text.push_str(&format!(
            "\n[domains.\"{domain}\".tlsrpt]\nlocalpart = \"{localpart}\"\naccount = \"mox\"\nmailbox = \"{REPORTS_MAILBOX}\"\n"
        ));
        for domain in domains {
            text.push_str(&format!(
                "\n[domains.\"{domain}\"]\n\n[accounts.mox.destinations.\"x@{domain}\"]\n"
            ));
        }
        fs::write(&path, text)?;
        Ok(())
    }

    /// Sends a first message to hosts that have TLS until then. Afterwards, somebody in between takes it away.
    pub fn take_away_tls(&mut self, cells: &[Cell]) -> Result<()> {
        let before = |cell: &Cell| format!("before {}", cell.subject());
        let those: Vec<&Cell> = cells.iter().filter(|c| c.case.host.had_tls()).collect();
        for cell in &those {
            self.submit(cell, &before(cell), Message::Plain)?;
        }
        wait::until("the first messages", wait::DEADLINE, || {
            let subjects = self.receiver_mail.subjects(&self.receiver)?;
            Ok(those.iter().all(|c| subjects.contains(&before(c))).then_some(()))
        })
        .with_context(|| self.logs())?;
        for (host, at, process) in self.between.iter_mut().filter(|(host, ..)| host.had_tls()) {
            let way = match host {
                Host::LostStartTls => Way::NoStartTls,
                _ => Way::NoHandshake,
            };
            // With its connections.
            process.kill()?;
            *process = between::start(self.folder.path(), *at, self.tls, way)?;
        }
        Ok(())
    }

    /// Sends the message of a cell.
    pub fn send(&self, cell: &Cell) -> Result<()> {
        self.submit(cell, &cell.subject(), cell.case.message)
    }

    fn submit(&self, cell: &Cell, subject: &str, message: Message) -> Result<()> {
        let to = cell.recipient();
        let sender = match cell.from {
            From::Mox => "mox@a.example",
            From::Postfix => POSTFIX_USER,
        };
        let (field, options) = match message {
            Message::Plain => ("", ""),
            Message::Required => ("", "REQUIRETLS"),
            Message::NotRequired => ("TLS-Required: No\n", ""),
        };
        let id = format!("{}@test.example", subject.replace(' ', "."));
        let message = format!(
            "From: <{sender}>\nTo: <{to}>\nSubject: {subject}\nMessage-ID: <{id}>\n\
             Date: Mon, 23 Nov 2026 09:00:00 +0000\n{field}\nhello\n"
        );
        if cell.from == From::Postfix {
            return self.postfix.send(sender, &to, &message);
        }
        submit_with(&self.sender, sender, &to, &message, options)
    }

    /// Everything that was logged, for failures.
    pub fn logs(&self) -> String {
        format!(
            "{}\n{}\n{}",
            self.sender.log_tails(),
            self.receiver.log_tails(),
            self.postfix.log()
        )
    }
}

/// A new DKIM key, and the text of its record.
fn dkim_key() -> Result<(String, String)> {
    let mox = binary("mox")?.display().to_string();
    let key = succeed(&mox, &["dkim", "gened25519"], "")?;
    let record = succeed(&mox, &["dkim", "txt"], &key)?;
    let text = record.lines().find(|line| line.contains("v=DKIM1"));
    let text = text.context("mox dkim txt prints no record")?.trim().trim_matches('"');
    Ok((key, text.to_owned()))
}

fn list<const N: usize>(values: [String; N]) -> Item {
    value(values.into_iter().collect::<Array>())
}
