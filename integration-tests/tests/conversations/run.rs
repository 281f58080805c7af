//! Going through the steps of a file.

use std::collections::HashMap;

use anyhow::{Context, Result, bail, ensure};
use mox_integration_tests::Mox;
use mox_integration_tests::client::{base64, output};

use crate::pattern::Names;
use crate::script::{Action, Script, Step, Text};
use crate::talk::Talk;

const PASSWORD: &str = "password of a conversation";
/// How much of what was said before is shown with a failure.
const SHOWN: usize = 40;

/// The account of a file, and of others that it has.
pub fn account_name(script: &str, who: &str) -> String {
    if who.is_empty() {
        script.to_owned()
    } else {
        format!("{script}-{who}")
    }
}

fn address(script: &str, who: &str) -> String {
    format!("{}@localhost", account_name(script, who))
}

struct Run<'r> {
    mox: &'r Mox,
    script: &'r Script,
    names: Names,
    talks: HashMap<usize, Talk>,
    transcript: Vec<String>,
    aloud: bool,
}

/// Runs a file.
pub fn run(mox: &Mox, script: &Script) -> Result<()> {
    let mut names = Names::default();
    for who in script.accounts.keys() {
        let name = account_name(&script.name, who);
        mox.command_with_input(&["setaccountpassword", &name], &format!("{PASSWORD}\n"))?;
        names.set(&format!("user:{who}"), address(&script.name, who));
    }
    let user = address(&script.name, "");
    names.set("plain", base64(&format!("\0{user}\0{PASSWORD}")));
    names.set("user", user);
    names.set("account", account_name(&script.name, ""));
    names.set("password", PASSWORD);
    let mut run = Run {
        mox,
        script,
        names,
        talks: HashMap::new(),
        transcript: Vec::new(),
        aloud: std::env::var_os("CONVERSATIONS").is_some(),
    };
    for step in &script.steps {
        if let Err(failure) = run.step(step) {
            let from = run.transcript.len().saturating_sub(SHOWN);
            bail!(
                "line {}: {failure:#}\n--- what was said ---\n{}",
                step.line,
                run.transcript[from..].join("\n")
            );
        }
    }
    Ok(())
}

impl Run<'_> {
    fn note(&mut self, line: usize, connection: usize, side: char, bytes: &[u8]) {
        /// Of one response; long literals are cut.
        const LONGEST: usize = 2000;
        let text = String::from_utf8_lossy(&bytes[..bytes.len().min(LONGEST)]).replace('\r', "");
        let entry = format!("{line:4} {side}{connection}: {}", text.trim_end_matches('\n'));
        if self.aloud {
            println!("{} {entry}", self.script.name);
        }
        self.transcript.push(entry);
    }

    fn talk(&mut self, connection: usize) -> Result<&mut Talk> {
        let talk = self.talks.get_mut(&connection);
        talk.with_context(|| format!("connection {connection} is not open: use login or connect first"))
    }

    fn hear(&mut self, step: &Step) -> Result<Vec<u8>> {
        let response = self.talk(step.connection)?.response()?;
        self.note(step.line, step.connection, 'S', &response);
        Ok(response)
    }

    fn step(&mut self, step: &Step) -> Result<()> {
        match &step.action {
            Action::Login { tls, who } => {
                let mut talk = Talk::connect(self.mox, *tls)?;
                talk.response()?;
                let user = address(&self.script.name, who);
                talk.command(&format!("LOGIN \"{user}\" \"{PASSWORD}\""))?;
                self.talks.insert(step.connection, talk);
                Ok(())
            }
            Action::Connect { tls } => {
                let talk = Talk::connect(self.mox, *tls)?;
                self.talks.insert(step.connection, talk);
                Ok(())
            }
            Action::StartTls => self.talk(step.connection)?.lines.start_tls(),
            Action::Deflate => self.talk(step.connection)?.lines.deflate(),
            Action::Close => {
                self.talk(step.connection)?;
                self.talks.remove(&step.connection);
                Ok(())
            }
            Action::Ended => {
                let rest = self.talk(step.connection)?.lines.rest()?;
                ensure!(rest.is_empty(), "something came before the end: {rest:?}");
                self.talks.remove(&step.connection);
                Ok(())
            }
            Action::Say(text) => self.say(step, text),
            Action::Expect(text) => {
                let response = self.hear(step)?;
                ensure!(self.names.matches(text, &response)?, "expected: {}", shown(text));
                Ok(())
            }
            Action::Await { wanted, unwanted } => self.wait_for(step, wanted, unwanted),
            Action::Fill { count, mailbox } => self.fill(*count, mailbox),
            Action::Deliver { who, message } => self.deliver(who, message),
            Action::Run {
                arguments,
                fails,
                input,
                prints,
            } => self.run_mox(arguments, *fails, input, prints),
        }
    }

    fn say(&mut self, step: &Step, text: &Text) -> Result<()> {
        for chunk in self.names.command(text)? {
            self.note(step.line, step.connection, 'C', &chunk.bytes);
            self.talk(step.connection)?.lines.send(&chunk.bytes)?;
            if chunk.waits {
                self.until_asked(step)?;
            }
        }
        Ok(())
    }

    /// Waits until the server asks for a literal.
    fn until_asked(&mut self, step: &Step) -> Result<()> {
        loop {
            let response = self.hear(step)?;
            if response.starts_with(b"+") {
                return Ok(());
            }
            ensure!(response.starts_with(b"* "), "the literal was not asked for");
        }
    }

    fn wait_for(&mut self, step: &Step, wanted: &[Text], unwanted: &[Text]) -> Result<()> {
        let mut wanted: Vec<&Text> = wanted.iter().collect();
        while !wanted.is_empty() {
            let missing = || wanted.iter().map(|t| shown(t)).collect::<Vec<_>>().join("\n");
            let response = self
                .hear(step)
                .with_context(|| format!("these did not come:\n{}", missing()))?;
            let mut found = None;
            for (n, text) in wanted.iter().enumerate() {
                if self.names.matches(text, &response)? {
                    found = Some(n);
                    break;
                }
            }
            if let Some(n) = found {
                wanted.remove(n);
                continue;
            }
            ensure!(
                response.starts_with(b"* "),
                "only untagged responses are skipped; these did not come:\n{}",
                missing()
            );
            for text in unwanted {
                ensure!(
                    !self.names.matches(text, &response)?,
                    "this must not come: {}",
                    shown(text)
                );
            }
        }
        Ok(())
    }

    fn fill(&mut self, count: usize, mailbox: &str) -> Result<()> {
        let mut talk = Talk::connect(self.mox, false)?;
        talk.response()?;
        let user = address(&self.script.name, "");
        talk.command(&format!("LOGIN \"{user}\" \"{PASSWORD}\""))?;
        for n in 1..=count {
            let message = format!("From: fill@example.org\r\nSubject: message {n}\r\n\r\ntext {n}\r\n");
            talk.command(&format!("APPEND {mailbox} {{{}+}}\r\n{message}", message.len()))?;
        }
        Ok(())
    }

    fn deliver(&mut self, who: &str, message: &str) -> Result<()> {
        let message = self.names.render(message)?;
        let message = String::from_utf8(message).context("SMTP needs text here")?;
        let to = address(&self.script.name, who);
        let reply = self.mox.session()?.message("sender@example.org", &to, &message)?;
        ensure!(reply.code == 250, "{reply:?}");
        Ok(())
    }

    fn run_mox(&mut self, arguments: &str, fails: bool, input: &[String], prints: &[String]) -> Result<()> {
        let arguments = String::from_utf8(self.names.render(arguments)?)?;
        let arguments: Vec<&str> = arguments.split_whitespace().collect();
        let input: String = input.iter().map(|line| format!("{line}\n")).collect();
        let done = self.mox.try_command(&arguments, &input)?;
        let printed = output(&done);
        ensure!(
            done.status.success() != fails,
            "mox ended with {}:\n{printed}",
            done.status
        );
        for text in prints {
            let text = Text(vec![crate::script::Part {
                text: format!("{{{{*}}}}{text}{{{{*}}}}"),
                literal: None,
            }]);
            ensure!(
                self.names.matches(&text, printed.as_bytes())?,
                "expected: {}, printed:\n{printed}",
                shown(&text)
            );
        }
        Ok(())
    }
}

fn shown(text: &Text) -> String {
    text.0
        .iter()
        .map(|part| format!("{}{}", part.text, part.literal.as_deref().unwrap_or_default()))
        .collect()
}
