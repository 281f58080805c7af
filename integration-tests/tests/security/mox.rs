//! Everything around the cells: DNS, certificates, policies, and the servers.

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;

use anyhow::{Context, Result};
use mox_integration_tests::client::python;
use mox_integration_tests::{Mox, Options, PASSWORD, Process, Shape, USER, free_ip, wait};
use serde_json::Value;
use tempfile::TempDir;
use toml_edit::{Array, InlineTable, Item, Table, table, value};

use crate::cells::{Cell, Dane, From, Host, Message, Sts, To};
use crate::certificates::{Authority, digest};
use crate::dns::Dns;
use crate::policies;
use crate::postfix::Postfix;

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

/// The running world.
pub struct World {
    // Servers before what they use.
    sender: Mox,
    receiver: Mox,
    postfix: Postfix,
    _policies: Process,
    _dns: Dns,
    _folder: TempDir,
}

/// Addresses of a receiver's hosts.
struct Hosts {
    tls: IpAddr,
    plain: IpAddr,
    no_requiretls: IpAddr,
}

impl Hosts {
    fn of(&self, host: Host) -> IpAddr {
        match host {
            Host::Tls => self.tls,
            Host::Plain => self.plain,
            Host::NoRequireTls => self.no_requiretls,
        }
    }
}

impl World {
    pub fn start(cells: &[Cell]) -> Result<Self> {
        let mut folder = tempfile::Builder::new().prefix("security-").tempdir()?;
        folder.disable_cleanup(std::env::var_os("MOX_KEEP").is_some());
        let path = folder.path();
        fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        let authority = Authority::new(path)?;
        let mox_hosts = Hosts {
            tls: free_ip(),
            plain: free_ip(),
            no_requiretls: free_ip(),
        };
        let addresses = Postfix::addresses();
        let postfix_hosts = Hosts {
            tls: addresses.0,
            plain: addresses.1,
            no_requiretls: addresses.0,
        };
        let domains = |to: To| -> BTreeSet<String> {
            let those = cells.iter().filter(|c| c.to == to);
            those.map(Cell::domain).collect()
        };
        let certificate = |to: To, file: &str| {
            let named = cells.iter().filter(|c| c.to == to && c.case.named);
            let names: BTreeSet<String> = named.flat_map(|c| [c.mx(), c.base()]).collect();
            authority.issue(file, &names.into_iter().collect::<Vec<_>>())
        };
        let (mox_cert, postfix_cert) = (certificate(To::Mox, "mox")?, certificate(To::Postfix, "postfix")?);
        let policy_hosts: BTreeSet<String> = cells
            .iter()
            .filter(|c| c.case.sts != Sts::None)
            .map(|c| format!("mta-sts.{}", c.domain()))
            .collect();
        let policy_cert = authority.issue("policies", &policy_hosts.into_iter().collect::<Vec<_>>())?;
        let policy_ip = free_ip();

        let (sender, receiver) = (Mox::prepare(Shape::Single, &Options::default())?, {
            Mox::prepare(Shape::Single, &Options::default())?
        });
        let mut records = vec![
            "a.example. MX 10 mail.a.example.".to_owned(),
            format!("mail.a.example. A {}", sender.ip()),
            "a.example. TXT \"v=spf1 ip4:127.0.0.0/8 -all\"".to_owned(),
            "mail.a.example. TXT \"v=spf1 ip4:127.0.0.0/8 -all\"".to_owned(),
            format!(
                "postfix.example. MX 10 postfix.example.\npostfix.example. A {}",
                addresses.0
            ),
            "postfix.example. TXT \"v=spf1 ip4:127.0.0.0/8 -all\"".to_owned(),
        ];
        let mut policies = Vec::new();
        let mut seen = BTreeSet::new();
        for cell in cells.iter().filter(|c| seen.insert(c.domain())) {
            let (hosts, cert) = match cell.to {
                To::Mox => (&mox_hosts, &mox_cert),
                To::Postfix => (&postfix_hosts, &postfix_cert),
            };
            let (domain, mx, base) = (cell.domain(), cell.mx(), cell.base());
            records.push(format!("{domain}. MX 10 {mx}."));
            if cell.case.alias {
                records.push(format!("{mx}. CNAME {base}."));
            }
            records.push(format!("{base}. A {}", hosts.of(cell.case.host)));
            let tlsa = match cell.case.dane {
                Dane::None => None,
                Dane::Good => Some(format!("3 1 1 {}", digest(true, &cert.cert)?)),
                Dane::Authority => Some(format!("2 0 1 {}", digest(false, &authority.pem())?)),
                Dane::Wrong => Some(format!("3 1 1 {NOTHING}")),
                Dane::Bogus => Some(format!("3 1 1 {BEFORE}")),
                Dane::Unusable => Some(format!("3 7 1 {NOTHING}")),
            };
            if let Some(tlsa) = tlsa {
                records.push(format!("_25._tcp.{base}. TLSA {tlsa}"));
            }
            if cell.case.sts != Sts::None {
                records.push(format!("_mta-sts.{domain}. TXT \"v=STSv1; id=1;\""));
                records.push(format!("mta-sts.{domain}. A {policy_ip}"));
            }
            if let Sts::Policy(mode, named) = cell.case.sts {
                let name = if named { mx.as_str() } else { "other.example" };
                let text = format!("version: STSv1\r\nmode: {mode}\r\nmx: {name}\r\nmax_age: 86400\r\n");
                policies.push((format!("mta-sts.{domain}"), text));
            }
        }
        let dns = Dns::start(path, &records, &[(BEFORE.into(), NOTHING.into())])?;
        let policies = policies::serve(path, policy_ip, &policy_cert, &policies)?;
        let postfix_domains: Vec<String> = domains(To::Postfix).into_iter().collect();
        let postfix = Postfix::start(path, addresses, dns.ip, &authority, &postfix_cert, &postfix_domains)?;
        let mut world = Self {
            sender,
            receiver,
            postfix,
            _policies: policies,
            _dns: dns,
            _folder: folder,
        };
        world.configure_sender(&authority)?;
        world.configure_receiver(
            &mox_hosts,
            &mox_cert.cert.display().to_string(),
            &mox_cert.key.display().to_string(),
            &domains(To::Mox),
        )?;
        world.receiver.start_all()?;
        world.sender.start_all()?;
        Ok(world)
    }

    /// Directly to recipients' hosts, by the DNS of the test.
    fn configure_sender(&self, authority: &Authority) -> Result<()> {
        let server = format!("{}:53", self._dns.ip);
        let anchor = self._dns.anchor.display().to_string();
        self.sender.edit_config(|config| {
            config["hostname"] = value("mail.a.example");
            config.remove("transports");
            let dns = config["dns"].or_insert(table());
            dns["servers"] = list([server.clone()]);
            dns["validate"] = value(true);
            dns["trust_anchor_file"] = value(anchor);
            let ca = config["tls"].or_insert(table())["ca"].or_insert(table());
            ca["cert_files"] = list([authority.pem().display().to_string()]);
            config["package_log_levels"].or_insert(table())["queue-delivery"] = value("debug");
        })?;
        let path = self.sender.config_dir().join("domains.toml");
        let text = fs::read_to_string(&path)?;
        let mut domains: toml_edit::DocumentMut = text.parse()?;
        domains.remove("routes");
        let text = format!("{domains}\n[domains.\"a.example\"]\n\n[accounts.mox.destinations.\"mox@a.example\"]\n");
        fs::write(&path, text)?;
        Ok(())
    }

    fn configure_receiver(&self, hosts: &Hosts, cert: &str, key: &str, domains: &BTreeSet<String>) -> Result<()> {
        let server = format!("{}:53", self._dns.ip);
        self.receiver.edit_config(|config| {
            config["dns"].or_insert(table())["servers"] = list([server.clone()]);
            // With transcripts.
            config["package_log_levels"].or_insert(table())["smtp-in"] = value("trace");
            for (name, ip, switch) in [
                ("tls", hosts.tls, None),
                ("plain", hosts.plain, Some("no_starttls")),
                ("norequiretls", hosts.no_requiretls, Some("no_require_tls")),
            ] {
                let mut smtp = Table::new();
                smtp["enabled"] = value(true);
                smtp["port"] = value(25);
                smtp["first_time_sender_delay"] = value("0s");
                if let Some(switch) = switch {
                    smtp[switch] = value(true);
                }
                let mut listener = Table::new();
                listener["ips"] = list([ip.to_string()]);
                listener["smtp"] = Item::Table(smtp);
                if switch != Some("no_starttls") {
                    let mut pair = InlineTable::new();
                    pair.insert("cert_file", cert.into());
                    pair.insert("key_file", key.into());
                    let mut pairs = Array::new();
                    pairs.push(pair);
                    listener["tls"] = table();
                    listener["tls"]["key_certs"] = value(pairs);
                }
                config["listeners"][name] = Item::Table(listener);
            }
        })?;
        let path = self.receiver.config_dir().join("domains.toml");
        let mut text = fs::read_to_string(&path)?;
        for domain in domains {
            text.push_str(&format!(
                "\n[domains.\"{domain}\"]\n\n[accounts.mox.destinations.\"x@{domain}\"]\n"
            ));
        }
        fs::write(&path, text)?;
        Ok(())
    }

    /// Sends the message of a cell.
    pub fn send(&self, cell: &Cell) -> Result<()> {
        let (to, subject) = (cell.recipient(), cell.subject());
        let sender = match cell.from {
            From::Mox => "mox@a.example",
            From::Postfix => "x@postfix.example",
        };
        let (field, options) = match cell.case.message {
            Message::Plain => ("", ""),
            Message::Required => ("", "REQUIRETLS"),
            Message::NotRequired => ("TLS-Required: No\n", ""),
        };
        let id = format!("{}-{:?}@test.example", cell.domain(), cell.from);
        let message = format!(
            "From: <{sender}>\nTo: <{to}>\nSubject: {subject}\nMessage-ID: <{id}>\n\
             Date: Mon, 23 Nov 2026 09:00:00 +0000\n{field}\nhello\n"
        );
        if cell.from == From::Postfix {
            return self.postfix.send(sender, &to, &message);
        }
        let at = self.sender.submissions();
        let (host, port) = (at.ip().to_string(), at.port().to_string());
        python(SUBMIT, &[&host, &port, USER, PASSWORD, sender, &to, &message, options]).map(drop)
    }

    /// What became of the message of a cell, in words.
    pub fn outcome(&self, cell: &Cell) -> Result<String> {
        match cell.from {
            From::Mox => self.outcome_of_mox(cell),
            From::Postfix => self.outcome_of_postfix(cell),
        }
    }

    fn outcome_of_mox(&self, cell: &Cell) -> Result<String> {
        let recipient = cell.recipient();
        let what = format!("mox to try {recipient}");
        let (outcome, code) = wait::until(&what, wait::DEADLINE, || {
            if let Some(received) = self.received(cell)? {
                return Ok(Some((received, "–".to_owned())));
            }
            if let Some(code) = self.deferred(&recipient)? {
                return Ok(Some(("deferred".to_owned(), code)));
            }
            let status = self.notification(&recipient)?;
            Ok(status.map(|status| ("failed".to_owned(), status)))
        })?;
        Ok(format!("{outcome}; {code}; {}", self.tls_report(cell)?))
    }

    /// How the message arrived, if it did.
    fn received(&self, cell: &Cell) -> Result<Option<String>> {
        let subject = cell.subject();
        let header = match cell.to {
            To::Postfix => self.postfix.message(&cell.recipient(), &subject),
            To::Mox => {
                let mut imap = self.receiver.login()?;
                let count = imap.examine("INBOX")?;
                let uid = match count {
                    0 => None,
                    _ => imap.subjects(1)?.into_iter().find(|(_, s)| *s == subject),
                };
                match uid {
                    Some((uid, _)) => Some(imap.command(&format!("UID FETCH {uid} BODY.PEEK[HEADER]"))?.join("")),
                    None => None,
                }
            }
        };
        let Some(header) = header else { return Ok(None) };
        // The first one is of the host that received it.
        let at = header.find("Received: ").context("the message has no Received field")?;
        let mut lines = header[at..].split('\n');
        let first = lines.next().unwrap_or_default().to_owned();
        let field = lines
            .take_while(|l| l.starts_with([' ', '\t']))
            .fold(first, |field, line| field + line);
        let tls = ["with ESMTPS", "with UTF8SMTPS"]
            .iter()
            .any(|with| field.contains(with));
        let mut text = if tls {
            "delivered with TLS"
        } else {
            "delivered without TLS"
        }
        .to_owned();
        if cell.to == To::Mox && self.receiver_saw_requiretls(cell)? {
            text.push_str(" and REQUIRETLS");
        }
        Ok(Some(text))
    }

    /// Whether the host of mox that received a message was told REQUIRETLS.
    fn receiver_saw_requiretls(&self, cell: &Cell) -> Result<bool> {
        let log = fs::read_to_string(self.receiver.folder().join("mox.log"))?;
        let recipient = cell.recipient();
        // Lines of one connection have the same cid.
        let cid = |line: &str| {
            line.split_whitespace()
                .find(|w| w.starts_with("cid="))
                .map(str::to_owned)
        };
        let rcpt = log.lines().find(|l| l.contains("RCPT TO") && l.contains(&recipient));
        let connection = rcpt
            .and_then(cid)
            .context("the transcript does not have the recipient")?;
        Ok(log
            .lines()
            .any(|line| line.contains("MAIL FROM") && line.contains(" REQUIRETLS") && line.contains(&connection)))
    }

    /// The code with which the message waits, if it was tried.
    fn deferred(&self, recipient: &str) -> Result<Option<String>> {
        let list = self.sender.command(&["queue", "list", "-json", "-to", recipient])?;
        for line in list.lines().filter(|l| l.starts_with('{')) {
            let entry: Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
            let text = entry.to_string();
            // The last result has the code.
            if let Some(code) = text
                .split("\"enhanced_code\":\"")
                .last()
                .and_then(|t| t.split('"').next())
                && code.starts_with("4.")
            {
                return Ok(Some(code.to_owned()));
            }
        }
        Ok(None)
    }

    /// The status in the notification about a recipient, if there is one.
    fn notification(&self, recipient: &str) -> Result<Option<String>> {
        let mut imap = self.sender.login()?;
        if imap.examine("INBOX")? == 0 {
            return Ok(None);
        }
        for (uid, _) in imap.subjects(1)? {
            let text = imap.command(&format!("UID FETCH {uid} BODY.PEEK[]"))?.join("");
            if !text.contains(&format!("Final-Recipient: rfc822; {recipient}"))
                && !text.contains(&format!("Final-Recipient: rfc822;{recipient}"))
            {
                continue;
            }
            let status = text
                .split("\nStatus: ")
                .nth(1)
                .context("the notification has no status")?;
            return Ok(status.split_whitespace().next().map(str::to_owned));
        }
        Ok(None)
    }

    /// What a TLS report will say.
    fn tls_report(&self, cell: &Cell) -> Result<String> {
        let log = fs::read_to_string(self.sender.folder().join("mox.log"))?;
        let domain = format!("domain={}", cell.domain());
        let mut found = Vec::new();
        for line in log.lines().filter(|l| l.contains("what TLS led to")) {
            let words: Vec<&str> = line.split_whitespace().collect();
            if !words.contains(&domain.as_str()) {
                continue;
            }
            let value = |name: &str| {
                let at = line.find(&format!(" {name}="))? + name.len() + 2;
                let rest = &line[at..];
                match rest.strip_prefix('"') {
                    Some(quoted) => quoted.split('"').next(),
                    None => rest.split_whitespace().next(),
                }
            };
            let policy = value("policy").unwrap_or_default();
            let policy = policy
                .trim_start_matches("TLS_POLICY_TYPE_")
                .to_lowercase()
                .replace('_', "-");
            let kinds = value("kinds").unwrap_or_default();
            let kinds = kinds.replace("TLS_RESULT_TYPE_", "").to_lowercase().replace('_', "-");
            let text = format!("{policy}: {}", if kinds.is_empty() { "ok" } else { &kinds });
            if !found.contains(&text) {
                found.push(text);
            }
        }
        Ok(if found.is_empty() {
            "–".to_owned()
        } else {
            found.join(", ")
        })
    }

    fn outcome_of_postfix(&self, cell: &Cell) -> Result<String> {
        let line = self.postfix.outcome(&cell.recipient())?;
        if !line.contains("status=sent") {
            let code = line
                .split("dsn=")
                .nth(1)
                .and_then(|t| t.split(',').next())
                .unwrap_or("?");
            return Ok(format!("deferred; {code}"));
        }
        wait::until("the message of Postfix", wait::DEADLINE, || self.received(cell))?;
        let log = self.postfix.log();
        let with = |kind: &str| {
            [cell.mx(), cell.base()]
                .iter()
                .any(|host| log.contains(&format!("{kind} TLS connection established to {host}[")))
        };
        Ok(if with("Verified") {
            "delivered with TLS, verified"
        } else if with("Untrusted") || with("Trusted") || with("Anonymous") {
            "delivered with TLS"
        } else {
            "delivered without TLS"
        }
        .to_owned())
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

fn list<const N: usize>(values: [String; N]) -> Item {
    value(values.into_iter().collect::<Array>())
}
