//! Options of sendmail, of which there are many, and most don't matter here.

/// Options whose value may be the next argument, as the original sendmail has them.
const WITH_VALUE: &[u8] = b"BCFLNOQRVXfhoprx";

/// What was asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Flags {
    /// `-t`: recipients are in the To field.
    pub from_header: bool,
    /// `-F`: name of the sender.
    pub name: Option<String>,
    /// As given.
    pub recipients: Vec<String>,
}

/// What can't be done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FlagsError {
    /// Another mode than sending.
    #[error("option {0} is not supported: mox sendmail sends one message from standard input, and keeps no queue")]
    Mode(String),
    /// An option without its value.
    #[error("option -{0} needs a value")]
    Value(char),
    /// Nobody to send to.
    #[error("there is no recipient; usage: sendmail [-Fname] [ignored flags] [-t] [recipient ...] <message")]
    NoRecipient,
}

impl Flags {
    /// From arguments behind the program's name.
    ///
    /// # Errors
    /// If another mode is asked for, or there is no recipient.
    pub fn parse(arguments: &[String]) -> Result<Self, FlagsError> {
        let mut flags = Self::default();
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            let Some(option) = argument.strip_prefix('-').filter(|o| !o.is_empty()) else {
                flags.recipients.push(argument.clone());
                continue;
            };
            if option == "-" {
                flags.recipients.extend(rest.by_ref().cloned());
                break;
            }
            flags.option(option, &mut rest)?;
        }
        if flags.recipients.is_empty() && !flags.from_header {
            return Err(FlagsError::NoRecipient);
        }
        Ok(flags)
    }

    /// One argument of options: `-ti` are two, `-Fname` one with its value.
    fn option<'a>(&mut self, option: &str, rest: &mut impl Iterator<Item = &'a String>) -> Result<(), FlagsError> {
        // -bm sends, which is the default; the others show the queue, speak SMTP, or make files of aliases.
        if (option.starts_with('b') && option != "bm") || option.starts_with('q') || option.starts_with('I') {
            return Err(FlagsError::Mode(format!("-{option}")));
        }
        for (at, letter) in option.char_indices() {
            let attached = &option[at + letter.len_utf8()..];
            if u8::try_from(letter).is_ok_and(|letter| WITH_VALUE.contains(&letter)) {
                let value = match attached {
                    "" => rest.next().ok_or(FlagsError::Value(letter))?.as_str(),
                    attached => attached,
                };
                if letter == 'F' {
                    self.name = Some(value.to_owned());
                }
                return Ok(());
            }
            match letter {
                't' => self.from_header = true,
                // The rest of these is their value: -bm, -em, -d0.1.
                'b' | 'e' | 'd' | 'M' | 'A' => return Ok(()),
                // -i, -m, -n, -s, -v, -U, -G and whatever else: a line with only a dot never ends the message.
                _ => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Flags, FlagsError> {
        Flags::parse(
            &line
                .split(' ')
                .filter(|w| !w.is_empty())
                .map(str::to_owned)
                .collect::<Vec<_>>(),
        )
    }

    fn flags(from_header: bool, name: Option<&str>, recipients: &[&str]) -> Flags {
        Flags {
            from_header,
            name: name.map(str::to_owned),
            recipients: recipients.iter().map(ToString::to_string).collect(),
        }
    }

    #[test]
    fn what_programs_call_it_with() {
        // cron of Debian, cronie, PHP, git send-email, mutt, at, smartd.
        for (line, expected) in [
            (
                "-i -FCronDaemon -B8BITMIME -oem root",
                flags(false, Some("CronDaemon"), &["root"]),
            ),
            (
                "-FCronDaemon -odi -oem -oi -t -f root",
                flags(true, Some("CronDaemon"), &[]),
            ),
            ("-t -i", flags(true, None, &[])),
            ("-ti", flags(true, None, &[])),
            (
                "-i a@example.org b@example.org",
                flags(false, None, &["a@example.org", "b@example.org"]),
            ),
            (
                "-oem -oi -f me@example.org -- a@example.org",
                flags(false, None, &["a@example.org"]),
            ),
            (
                "-fme@example.org -N failure,delay -R hdrs root",
                flags(false, None, &["root"]),
            ),
            ("-bm -F Joe -em -v root", flags(false, Some("Joe"), &["root"])),
            ("-Ac -O DeliveryMode=b -d0.1 root", flags(false, None, &["root"])),
            ("-- -odd@example.org", flags(false, None, &["-odd@example.org"])),
        ] {
            assert_eq!(parse(line), Ok(expected), "{line}");
        }
    }

    #[test]
    fn what_is_not_sending_is_refused() {
        for line in ["-bs", "-bp", "-q", "-q30m", "-bd -q1h", "-bi", "-I"] {
            assert!(matches!(parse(line), Err(FlagsError::Mode(_))), "{line}");
        }
        assert_eq!(parse("-i"), Err(FlagsError::NoRecipient));
        assert_eq!(parse("-t -f"), Err(FlagsError::Value('f')));
    }

    proptest::proptest! {
        #[test]
        fn nothing_makes_it_panic(line in "(-[a-zA-Z\u{e9}]{0,4} ?){0,6}") {
            let _ = parse(&line);
        }
    }
}
