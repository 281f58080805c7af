//! A program is told of messages that are sent and that arrive: the receiver of `docs/webhooks.md`.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mox_integration_tests::client::Smtp;
use mox_integration_tests::{Mox, Options, PASSWORD, Process, Shape, Sink, USER, client, port_accepts, wait};
use serde_json::Value;

in_both_shapes!(
    a_program_is_told_of_what_is_sent_and_what_arrives,
    every_event_is_told,
    what_is_told_while_processes_are_killed
);

const PAGE: &str = include_str!("../../../docs/webhooks.md");
const SECRET: &str = "Bearer mysecret";

/// The receiver of the documentation.
struct Receiver {
    port: u16,
    script: PathBuf,
    heard: PathBuf,
    process: Option<Process>,
}

impl Receiver {
    /// A port for one that does not run yet.
    fn new(folder: &Path) -> Result<Self> {
        let (_, rest) = PAGE.split_once("\n```python\n").context("the receiver")?;
        let (script, _) = rest.split_once("\n```").context("the end of the receiver")?;
        let path = folder.join("receiver.py");
        std::fs::write(&path, script)?;
        Ok(Self {
            port: TcpListener::bind("127.0.0.1:0")?.local_addr()?.port(),
            script: path,
            heard: folder.join("heard"),
            process: None,
        })
    }

    fn start(&mut self, folder: &Path) -> Result<()> {
        let args = [
            self.script.as_os_str().to_owned(),
            self.port.to_string().into(),
            SECRET.into(),
            self.heard.as_os_str().to_owned(),
        ];
        let log = folder.join("receiver.log");
        self.process = Some(Process::start("receiver", Path::new("/usr/bin/python3"), &args, &log)?);
        let address = (std::net::Ipv4Addr::LOCALHOST, self.port).into();
        wait::until("the receiver", wait::DEADLINE, || {
            Ok(port_accepts(address).then_some(()))
        })
    }

    fn heard(&self) -> Result<Vec<Value>> {
        let text = std::fs::read_to_string(&self.heard).unwrap_or_default();
        // The last line may be half written.
        let lines = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        lines.map(|line| Ok(serde_json::from_str(line)?)).collect()
    }

    /// Waits for the object that a predicate holds of.
    fn wait_for(&self, what: &str, holds: impl Fn(&Value) -> bool) -> Result<Value> {
        wait::until(what, wait::DEADLINE, || {
            Ok(self.heard()?.into_iter().find(|object| holds(object)))
        })
        .with_context(|| format!("heard: {:?}", self.heard()))
    }
}

/// A system whose account has webhooks, and its receiver, which does not run yet.
fn start(shape: Shape) -> Result<(Mox, Receiver)> {
    let (mut mox, receiver) = prepare(shape, "")?;
    mox.start_first()?;
    Ok((mox, receiver))
}

/// The same, with more settings of the account, before it is started.
fn prepare(shape: Shape, more: &str) -> Result<(Mox, Receiver)> {
    let mox = Mox::prepare(shape, &Options::default())?;
    let receiver = Receiver::new(mox.folder())?;
    let port = receiver.port;
    let domains = mox.config_dir().join("domains.toml");
    let text = std::fs::read_to_string(&domains)?.replace(
        "[accounts.mox]\n",
        &format!(
            "[accounts.mox]\n{more}keep_retired_webhook_period = \"1h\"\n\
             outgoing_webhook = {{ url = \"http://127.0.0.1:{port}/out\", authorization = \"{SECRET}\" }}\n\
             incoming_webhook = {{ url = \"http://localhost:{port}/in\", authorization = \"{SECRET}\" }}\n"
        ),
    );
    std::fs::write(&domains, text)?;
    Ok((mox, receiver))
}

fn login(mox: &Mox) -> Result<Smtp> {
    let mut smtp = Smtp::connect(mox.submission())?;
    let credentials = client::base64(&format!("\0{USER}\0{PASSWORD}"));
    smtp.command(&format!("AUTH PLAIN {credentials}"), 235)?;
    Ok(smtp)
}

fn json(mox: &Mox, args: &[&str]) -> Result<Vec<Value>> {
    let printed = mox.command(&[args, &["-json"]].concat())?;
    let lines = printed.lines().filter(|line| line.starts_with('{'));
    lines.map(|line| Ok(serde_json::from_str(line)?)).collect()
}

fn a_program_is_told_of_what_is_sent_and_what_arrives(shape: Shape) -> Result<()> {
    let (mox, mut receiver) = start(shape)?;
    let mut smtp = login(&mox)?;
    let message = |subject: &str| {
        format!(
            "From: <{USER}>\r\nTo: x@elsewhere.example\r\nSubject: {subject}\r\nMessage-ID: <{subject}@here>\r\n\
             X-Mox-Extra-Order: 7\r\n\r\nhello {subject}\r\n"
        )
    };
    // Nobody listens: they wait in the queue.
    smtp.message(USER, "someone@elsewhere.example", &message("good"))?;
    let list = ["queue", "webhook", "list"];
    let queued = wait::until("two webhooks that failed", wait::DEADLINE, || {
        let all = json(&mox, &list)?;
        let tried = |hook: &&Value| hook["attempts"] == 1;
        Ok((all.iter().filter(tried).count() == 2).then_some(all))
    })?;
    let error = queued[0]["results"][0]["error"].as_str().unwrap_or_default();
    ensure!(error.contains("connecting to"), "{error}");
    let of = |event: &str| {
        queued
            .iter()
            .find(|hook| hook["event"] == event)
            .context(event.to_owned())
    };
    let (out, incoming) = (of("delivered")?, of("incoming")?);
    for (args, count) in [
        (&["-account", "mox"][..], 2),
        (&["-account", "other"], 0),
        (&["-event", "incoming"], 1),
        (&["-n", "1"], 1),
        (&["-nextattempt", "<10m", "-submitted", ">-10m"], 2),
        (&["-nextattempt", "<-1m"], 0),
        (&["-ids", &out["id"].to_string()], 1),
    ] {
        let listed = json(&mox, &[&list, args].concat())?;
        ensure!(listed.len() == count, "{args:?}: {listed:?}");
    }
    let table = mox.command(&[&list[..], &["-asc", "-sort", "queued"]].concat())?;
    ensure!(table.lines().count() == 3 && table.contains("delivered\t"), "{table}");
    let printed: Value = serde_json::from_str(&mox.command(&["queue", "webhook", "print", &out["id"].to_string()])?)?;
    ensure!(printed["payload"]["Event"] == "delivered", "{printed}");

    // Somebody does.
    receiver.start(mox.folder())?;
    let changed = mox.command(&["queue", "webhook", "schedule", "-now", "0"])?;
    ensure!(changed.contains("2 webhooks scheduled"), "{changed}");
    let told = receiver.wait_for("delivered", |object| object["Event"] == "delivered")?;
    ensure!(told == printed["payload"], "{told}");
    ensure!(
        told["MessageID"] == "<good@here>" && told["Subject"] == "good",
        "{told}"
    );
    let told = receiver.wait_for("incoming", |object| {
        object["Subject"] == "good" && object.get("Meta").is_some()
    })?;
    ensure!(
        told["Text"] == "hello good\n" && told["Meta"]["MailboxName"] == "Inbox",
        "{told}"
    );
    ensure!(
        told["From"][0]["Address"] == USER && told["Meta"]["MailFrom"] == USER,
        "{told}"
    );

    // What fails at once is told, too; in developer's mode, an address says how it is answered.
    let mut smtp = login(&mox)?;
    smtp.message(USER, "someone550@elsewhere.example", &message("bad"))?;
    let told = receiver.wait_for("failed", |object| object["Event"] == "failed")?;
    ensure!(told["SMTPCode"] == 550 && told["MessageID"] == "<bad@here>", "{told}");

    wait::until("an empty queue", wait::DEADLINE, || {
        Ok(json(&mox, &list)?.is_empty().then_some(()))
    })?;
    let retired = json(&mox, &["queue", "webhook", "retired", "list", "-event", "incoming"])?;
    let first = retired
        .iter()
        .find(|hook| hook["id"] == incoming["id"])
        .context("the first that arrived")?;
    ensure!(first["success"] == true && first["attempts"] == 2, "{first}");
    ensure!(
        first["authorization"] == true && !first.to_string().contains("mysecret"),
        "{first}"
    );
    let number = first["id"].to_string();
    let printed: Value = serde_json::from_str(&mox.command(&["queue", "webhook", "retired", "print", &number])?)?;
    ensure!(printed["payload"]["Text"] == "hello good\n", "{printed}");
    let missing = mox.try_command(&["queue", "webhook", "print", &number], "")?;
    let text = client::output(&missing);
    ensure!(
        !missing.status.success() && text.contains("there is no webhook"),
        "{text}"
    );

    // One that nobody hears is given up when an administrator says so.
    drop(receiver.process.take());
    let mut smtp = login(&mox)?;
    smtp.message(USER, "someone@elsewhere.example", &message("unheard"))?;
    wait::until("webhooks", wait::DEADLINE, || {
        Ok((json(&mox, &list)?.len() == 2).then_some(()))
    })?;
    let changed = mox.command(&["queue", "webhook", "cancel", "-event", "incoming"])?;
    ensure!(changed.contains("1 webhook canceled"), "{changed}");
    ensure!(json(&mox, &list)?.len() == 1);
    Ok(())
}

/// A notification of another host (RFC 3464).
fn notification(action: &str, status: &str, recipient: &str) -> String {
    format!(
        "From: Mailer <mailer@remote.example>\r\nTo: <{USER}>\r\nSubject: about your mail\r\nMIME-Version: 1.0\r\n\
         Content-Type: multipart/report; report-type=delivery-status; boundary=b\r\n\r\n--b\r\n\r\nsorry\r\n\
         --b\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; mx.remote.example\r\n\r\n\
         Final-Recipient: rfc822; {recipient}\r\nAction: {action}\r\nStatus: {status}\r\n\
         Diagnostic-Code: smtp; 550 {status} so it is\r\n\r\n--b--\r\n"
    )
}

/// Logs in with an address whose messages have senders of their own, so that what comes back finds them.
fn every_event_is_told(shape: Shape) -> Result<()> {
    let (mut mox, mut receiver) = prepare(
        shape,
        "from_id_login_addresses = [\"mox+ids@localhost\"]\nkeep_retired_message_period = \"1h\"\n",
    )?;
    let plain = Sink::start(mox.ip(), true)?;
    plain.set_plain();
    mox.deliver_domain_to("plain.example", plain.address())?;
    mox.start_first()?;
    receiver.start(mox.folder())?;
    let submit = |subject: &str, recipient: &str, parameters: &str| -> Result<()> {
        let mut smtp = Smtp::connect(mox.submission())?;
        let credentials = client::base64(&format!("\0mox+ids@localhost\0{PASSWORD}"));
        smtp.command(&format!("AUTH PLAIN {credentials}"), 235)?;
        smtp.command(&format!("MAIL FROM:<{USER}>"), 250)?;
        smtp.command(&format!("RCPT TO:<{recipient}>{parameters}"), 250)?;
        smtp.command("DATA", 354)?;
        let fields = format!("From: <{USER}>\r\nSubject: {subject}\r\nx-mox-extra-order-ID: {subject}\r\n");
        smtp.lines.send(format!("{fields}\r\nhello\r\n.\r\n"))?;
        smtp.expect(250)?;
        Ok(())
    };
    let about = |subject: &str, event: &str| {
        receiver.wait_for(&format!("{event} of {subject}"), |object| {
            object["Subject"] == subject && object["Event"] == event
        })
    };
    submit("sent", "jo@elsewhere.example", "")?;
    let sent = about("sent", "delivered")?;
    let fromid = sent["FromID"].as_str().unwrap_or_default().to_owned();
    ensure!(fromid.len() == 16 && sent["Extra"]["Order-Id"] == "sent", "{sent}");
    ensure!(sent["DSN"] == false && sent["Suppressing"] == false, "{sent}");
    // What arrived is without the field, and the sender has the id.
    let arrived = receiver.wait_for("incoming", |object| {
        object["Subject"] == "sent" && object.get("Meta").is_some()
    })?;
    ensure!(
        arrived["Meta"]["MailFrom"] == format!("mox+{fromid}@localhost"),
        "{arrived}"
    );
    submit("relayed", "jo@plain.example", " NOTIFY=SUCCESS")?;
    about("relayed", "relayed")?;
    submit("delayed", "someone451@elsewhere.example", "")?;
    let delayed = about("delayed", "delayed")?;
    ensure!(delayed["SMTPCode"] == 451 && !delayed["Error"].is_null(), "{delayed}");
    mox.command(&["queue", "fail", "-to", "someone451@elsewhere.example"])?;
    about("delayed", "canceled")?;

    // What other hosts say to the address that only this message was sent from.
    let back = |text: &str| -> Result<()> {
        let reply = mox.session()?.message("", &format!("mox+{fromid}@localhost"), text)?;
        ensure!(reply.code == 250, "{reply:?}");
        Ok(())
    };
    back(&notification("expanded", "2.0.0", "jo@elsewhere.example"))?;
    let told = about("sent", "expanded")?;
    ensure!(
        told["DSN"] == true && told["QueueMsgID"] == sent["QueueMsgID"],
        "{told}"
    );
    back("From: <jo@elsewhere.example>\r\nSubject: I am away\r\n\r\nuntil tomorrow\r\n")?;
    let told = about("sent", "unrecognized")?;
    ensure!(told["DSN"] == false && told["Extra"]["Order-Id"] == "sent", "{told}");
    back(&notification("failed", "5.1.1", "jo@elsewhere.example"))?;
    let told = about("sent", "failed")?;
    ensure!(
        told["DSN"] == true && told["Suppressing"] == true && told["SMTPCode"] == 550,
        "{told}"
    );
    ensure!(
        told["SMTPEnhancedCode"] == "5.1.1" && told["FromID"] == *fromid,
        "{told}"
    );
    let retired = json(
        &mox,
        &["queue", "retired", "list", "-ids", &sent["QueueMsgID"].to_string()],
    )?;
    ensure!(
        retired.len() == 1 && retired[0]["outcome"] == "failed" && retired[0]["success"] == false,
        "{retired:?}"
    );
    // So nothing more is sent there.
    let found = json(&mox, &["queue", "suppress", "lookup", "j.o@elsewhere.example"])?;
    ensure!(found.len() == 1 && found[0]["manual"] == false, "{found:?}");
    submit("more", "Jo+x@elsewhere.example", "")?;
    let told = about("more", "suppressed")?;
    ensure!(told["SMTPEnhancedCode"] == "5.7.1" || told["SMTPCode"] == 0, "{told}");
    mox.wait_for_subject("INBOX", "Mail could not be delivered: more")?;

    // What was not heard before something newer happened is not told any more.
    drop(receiver.process.take());
    submit("stale", "someone451@elsewhere.example", "")?;
    let list = ["queue", "webhook", "list"];
    let one = |event: &str| {
        wait::until(&format!("one webhook, {event}"), wait::DEADLINE, || {
            let all = json(&mox, &list)?;
            Ok((all.len() == 1 && all[0]["event"] == event).then(|| all[0].clone()))
        })
    };
    let first = one("delayed")?;
    mox.command(&["queue", "drop", "-to", "someone451@elsewhere.example"])?;
    let second = one("canceled")?;
    let retired = json(
        &mox,
        &["queue", "webhook", "retired", "list", "-ids", &first["id"].to_string()],
    )?;
    ensure!(
        retired.len() == 1 && retired[0]["success"] == false && retired[0]["superseded_by"] == second["id"],
        "{retired:?}"
    );
    let table = mox.command(&["queue", "webhook", "retired", "list", "-event", "delayed", "-asc"])?;
    ensure!(table.contains("\tsuperseded\t"), "{table}");
    Ok(())
}

/// Messages that are sent while processes are killed.
const MESSAGES: usize = 60;

fn what_is_told_while_processes_are_killed(shape: Shape) -> Result<()> {
    let (mut mox, mut receiver) = start(shape)?;
    receiver.start(mox.folder())?;
    let mut acknowledged = Vec::new();
    for round in 0..6 {
        for n in 0..MESSAGES / 6 {
            let subject = format!("m{round}-{n}-x");
            let text = format!("From: <{USER}>\r\nSubject: {subject}\r\n\r\nhello\r\n");
            // A session ends with the process; what was not acknowledged is not counted.
            let sent = login(&mox).and_then(|mut smtp| smtp.message(USER, "someone@elsewhere.example", &text));
            if sent.is_ok_and(|reply| reply.code == 250) {
                acknowledged.push(subject);
            }
        }
        let name = match (shape, round % 2) {
            (Shape::Single, _) => "mox",
            (Shape::Pieces, 0) => "queue-delivery",
            (Shape::Pieces, _) => "store",
        };
        mox.kill(name)?;
        mox.start_one(name)?;
        mox.wait_until_ready()?;
    }
    ensure!(acknowledged.len() > MESSAGES / 2, "{} were taken", acknowledged.len());
    // A lease of a killed process ends by itself.
    wait::until("all of them", Duration::from_secs(180), || {
        let heard = receiver.heard()?;
        let told = |subject: &String| {
            let about = |object: &&Value| object["Subject"] == subject.as_str();
            heard.iter().filter(about).any(|object| object["Event"] == "delivered")
                && heard.iter().filter(about).any(|object| object.get("Meta").is_some())
        };
        let missing: Vec<&String> = acknowledged.iter().filter(|subject| !told(subject)).collect();
        ensure!(missing.is_empty(), "not told of: {missing:?}");
        Ok(Some(()))
    })
    .with_context(|| mox.log_tails())
}
