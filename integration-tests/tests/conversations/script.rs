//! Reading a file into steps.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};

/// A text, and the literal that follows it, as it is in the file.
#[derive(Debug, Clone, Default)]
pub struct Part {
    pub text: String,
    /// Its lines are joined, with the CRLF that each has.
    pub literal: Option<String>,
}

/// Several where literals are in the middle.
#[derive(Debug, Clone, Default)]
pub struct Text(pub Vec<Part>);

#[derive(Debug, Clone)]
pub enum Action {
    /// The account, if not that of the file.
    Login {
        tls: bool,
        who: String,
    },
    Connect {
        tls: bool,
    },
    StartTls,
    Deflate,
    Close,
    Ended,
    Say(Text),
    Expect(Text),
    /// In any order.
    Await {
        wanted: Vec<Text>,
        unwanted: Vec<Text>,
    },
    Fill {
        count: usize,
        mailbox: String,
    },
    Deliver {
        who: String,
        message: String,
    },
    Run {
        arguments: String,
        fails: bool,
        input: Vec<String>,
        prints: Vec<String>,
    },
}

#[derive(Debug, Clone)]
pub struct Step {
    /// Of the file, from 1.
    pub line: usize,
    pub connection: usize,
    pub action: Action,
}

/// A file.
#[derive(Debug)]
pub struct Script {
    pub name: String,
    pub steps: Vec<Step>,
    /// Settings of the file's account, which is "", and of the others that it uses.
    pub accounts: BTreeMap<String, Vec<String>>,
}

/// The next word, and the rest.
fn word(text: &str) -> (&str, &str) {
    let text = text.trim_start();
    text.split_once(' ').unwrap_or((text, ""))
}

/// `2` of "login 2 tls", which is left out.
fn number(text: &mut &str) -> usize {
    let (first, rest) = word(text);
    match first.parse() {
        Ok(number) => {
            *text = rest;
            number
        }
        Err(_) => 1,
    }
}

/// The mark before the colon with the number in it: `C2` or `S2*`.
fn dialogue(line: &str) -> Option<(&str, usize, &str)> {
    let (mark, text) = line.split_once(':')?;
    let (side, rest) = mark.split_at_checked(1)?;
    if side != "C" && side != "S" {
        return None;
    }
    let digits = rest.trim_end_matches(['*', '!']);
    let kind = &rest[digits.len()..];
    let connection = if digits.is_empty() { 1 } else { digits.parse().ok()? };
    let text = text.strip_prefix(' ').unwrap_or(text);
    match (side, kind) {
        ("C", "") => Some(("C", connection, text)),
        ("S", "") => Some(("S", connection, text)),
        ("S", "*") => Some(("S*", connection, text)),
        ("S", "!") => Some(("S!", connection, text)),
        _ => None,
    }
}

impl Script {
    pub fn parse(name: &str, text: &str) -> Result<Self> {
        let mut script = Self {
            name: name.to_owned(),
            steps: Vec::new(),
            accounts: BTreeMap::from([(String::new(), Vec::new())]),
        };
        for (n, line) in text.lines().enumerate() {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            script
                .line(n + 1, line)
                .with_context(|| format!("{name}.txt:{}: {line:?}", n + 1))?;
        }
        Ok(script)
    }

    fn line(&mut self, line: usize, text: &str) -> Result<()> {
        if let Some((mark, connection, text)) = dialogue(text) {
            return self.dialogue(line, mark, connection, text);
        }
        if let Some(rest) = text.strip_prefix('|') {
            let (rest, end) = match rest.strip_prefix('-') {
                Some(rest) => (rest, ""),
                None => (rest, "\r\n"),
            };
            return self.literal(rest.strip_prefix(' ').unwrap_or(rest), end);
        }
        if let Some(rest) = text.strip_prefix('&') {
            let part = Part {
                text: rest.strip_prefix(' ').unwrap_or(rest).to_owned(),
                literal: None,
            };
            self.last_text()?.0.push(part);
            return Ok(());
        }
        let (what, mut rest) = word(text);
        let step = |connection, action| Step {
            line,
            connection,
            action,
        };
        match what {
            "login" => {
                let connection = number(&mut rest);
                let (tls, who) = self.options(rest)?;
                self.steps.push(step(connection, Action::Login { tls, who }));
            }
            "connect" => {
                let connection = number(&mut rest);
                let (tls, _) = self.options(rest)?;
                self.steps.push(step(connection, Action::Connect { tls }));
            }
            "starttls" => self.steps.push(step(number(&mut rest), Action::StartTls)),
            "deflate" => self.steps.push(step(number(&mut rest), Action::Deflate)),
            "close" => self.steps.push(step(number(&mut rest), Action::Close)),
            "ended" => self.steps.push(step(number(&mut rest), Action::Ended)),
            "fill" => {
                let (count, mailbox) = word(rest);
                let count = count.parse().context("fill: how many?")?;
                let mailbox = mailbox.to_owned();
                self.steps.push(step(0, Action::Fill { count, mailbox }));
            }
            "deliver" => {
                let (_, who) = self.options(rest)?;
                let message = String::new();
                self.steps.push(step(0, Action::Deliver { who, message }));
            }
            "setting" => {
                ensure!(self.steps.is_empty(), "settings are at the top");
                let (who, rest) = match rest.strip_prefix("as ") {
                    Some(rest) => word(rest),
                    None => ("", rest),
                };
                self.accounts.entry(who.to_owned()).or_default().push(rest.to_owned());
            }
            "$" | "$!" => self.steps.push(step(
                0,
                Action::Run {
                    arguments: rest.to_owned(),
                    fails: what == "$!",
                    input: Vec::new(),
                    prints: Vec::new(),
                },
            )),
            "<" | ">" => match self.steps.last_mut().map(|s| &mut s.action) {
                Some(Action::Run { input, .. }) if what == "<" => input.push(rest.to_owned()),
                Some(Action::Run { prints, .. }) => prints.push(rest.to_owned()),
                _ => bail!("this belongs behind a command"),
            },
            _ => bail!("no kind of line starts so: see the top of tests/conversations/main.rs"),
        }
        Ok(())
    }

    /// `tls` and `as NAME`.
    fn options(&mut self, text: &str) -> Result<(bool, String)> {
        let (mut tls, mut who) = (false, String::new());
        let mut words = text.split_whitespace();
        while let Some(option) = words.next() {
            match option {
                "tls" => tls = true,
                "as" => words.next().context("as whom?")?.clone_into(&mut who),
                _ => bail!("{option:?} is unknown here"),
            }
        }
        self.accounts.entry(who.clone()).or_default();
        Ok((tls, who))
    }

    fn dialogue(&mut self, line: usize, mark: &str, connection: usize, text: &str) -> Result<()> {
        let text = Text(vec![Part {
            text: text.to_owned(),
            literal: None,
        }]);
        let action = match mark {
            "C" => Action::Say(text),
            "S" => Action::Expect(text),
            _ => {
                // Joins those before it.
                if let Some(last) = self.steps.last_mut()
                    && last.connection == connection
                    && let Action::Await { wanted, unwanted } = &mut last.action
                    && (mark == "S*" || wanted.is_empty())
                {
                    if mark == "S*" { wanted } else { unwanted }.push(text);
                    return Ok(());
                }
                let (wanted, unwanted) = match mark {
                    "S*" => (vec![text], Vec::new()),
                    _ => (Vec::new(), vec![text]),
                };
                Action::Await { wanted, unwanted }
            }
        };
        self.steps.push(Step {
            line,
            connection,
            action,
        });
        Ok(())
    }

    /// What `|` and `&` lines add to.
    fn last_text(&mut self) -> Result<&mut Text> {
        match self.steps.last_mut().map(|s| &mut s.action) {
            Some(Action::Say(text) | Action::Expect(text)) => Ok(text),
            Some(Action::Await { wanted, unwanted }) => wanted
                .last_mut()
                .or(unwanted.last_mut())
                .context("this belongs behind a text"),
            _ => bail!("this belongs behind a text"),
        }
    }

    fn literal(&mut self, text: &str, end: &str) -> Result<()> {
        if let Some(Step {
            action: Action::Deliver { message, .. },
            ..
        }) = self.steps.last_mut()
        {
            message.push_str(text);
            message.push_str(end);
            return Ok(());
        }
        let part = self.last_text()?.0.last_mut().context("no text")?;
        ensure!(
            part.text.ends_with("{}") || part.text.ends_with("{+}"),
            "a literal belongs behind {{}} or {{+}}"
        );
        let literal = part.literal.get_or_insert_default();
        literal.push_str(text);
        literal.push_str(end);
        Ok(())
    }
}
