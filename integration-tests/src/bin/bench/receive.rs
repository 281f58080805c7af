//! `mox-bench receive`: what it costs to receive mail from the internet as it comes: `mox serve` with a DNS server beside
//! it, messages with SPF, a DKIM signature by an RSA key of 2048 bits and a DMARC policy, from a sender without a history
//! that decides, to an account with a junk filter; beside Postfix that only takes them. And what it costs when the
//! account has a long history with the sender's domain and network.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use mox_integration_tests::client::succeed;
use mox_integration_tests::{Dns, Mox, Options, Shape, USER, free_ip, wait};

use crate::load::{Load, Who, median};
use crate::postfix::Postfix;
use crate::table::{Row, Table};

/// Messages that the filter learns from.
const LEARNED: usize = 1000;
/// Bytes of those.
const LEARNED_BYTES: usize = 4096;
/// Messages that are flagged in one command.
const FLAGGED: usize = 500;
const CONNECTIONS: [usize; 2] = [1, 32];

/// How much is measured.
pub(crate) struct Scale {
    pub(crate) rounds: usize,
    /// Of one measurement over one connection; over more it is twice as many.
    pub(crate) messages: usize,
    /// Judged messages that the account has in the end.
    pub(crate) history: usize,
}

/// Without limits, as all comes from one address.
const SETTINGS: &str = "limits.smtp-in = { connections = [0, 0, 0], new_connections_per_minute = [0, 0, 0], \
                        messages_per_minute = [0, 0, 0] }";

const FILTER: &str = "
[accounts.mox.junk_filter.params]
onegrams = true
";

struct World {
    // Before DNS, which it asks.
    mox: Mox,
    pid: u32,
    _dns: Dns,
    /// Options of mailbench.
    sign: String,
    domains: String,
}

impl World {
    fn start() -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("dkim-").tempdir()?.keep();
        let key = folder.join("key.pem").to_string_lossy().into_owned();
        succeed(
            "openssl",
            &[
                "genpkey",
                "-quiet",
                "-algorithm",
                "RSA",
                "-pkeyopt",
                "rsa_keygen_bits:2048",
                "-out",
                &key,
            ],
            "",
        )?;
        let public = succeed("openssl", &["pkey", "-in", &key, "-pubout"], "")?;
        let public: String = public.lines().filter(|line| !line.starts_with('-')).collect();
        let dns = Dns::serve(
            free_ip(),
            &format!(
                "sender.example TXT v=spf1 ip4:127.0.0.0/8 -all\nsender.example MX 10 mx.sender.example\n\
                 mx.sender.example A 127.0.0.1\n1.0.0.127.in-addr.arpa PTR mx.sender.example\n\
                 bench.example TXT v=spf1 ip4:127.0.0.0/8 -all\n\
                 s1._domainkey.sender.example TXT v=DKIM1; k=rsa; p={public}\n\
                 _dmarc.sender.example TXT v=DMARC1; p=reject\n"
            ),
        )?;
        let options = Options {
            host_with_dns: Some(dns.address()),
            settings: SETTINGS.to_owned(),
            ..Options::default()
        };
        let mut mox = Mox::start_with(Shape::Single, &options)?;
        let pid = mox.process("mox")?.id();
        let domains = fs::read_to_string(domains_file(&mox))?;
        Ok(Self {
            mox,
            pid,
            _dns: dns,
            sign: format!("{key}:s1:sender.example"),
            domains,
        })
    }

    /// How often something was logged.
    fn logged(&self, what: &str) -> Result<usize> {
        let log = fs::read_to_string(self.mox.folder().join("mox.log")).context("reading the log")?;
        Ok(log.matches(what).count())
    }

    fn who(&self) -> Who<'static> {
        Who {
            imap: self.mox.imap(),
            user: USER,
        }
    }

    fn load(&self) -> Load<'static> {
        Load {
            smtp: self.mox.smtp(),
            to: USER,
        }
    }

    /// Turns the account's filter on or off, while it serves.
    fn filter(&self, on: bool) -> Result<()> {
        let received = || self.logged("configuration received");
        let before = received()?;
        let more = if on { FILTER } else { "" };
        fs::write(domains_file(&self.mox), format!("{}{more}", self.domains))?;
        wait::until("the configuration to be read", wait::DEADLINE, || {
            Ok((received()? > before).then_some(()))
        })
    }

    /// Lets the filter learn from messages that are flagged junk and from others, half of each.
    fn learn(&self) -> Result<()> {
        let mut imap = self.mox.login()?;
        imap.command("CREATE Learned")?;
        // The words of the messages that are measured.
        self.who().append("Learned", 4, LEARNED / 2, LEARNED_BYTES)?;
        imap.command("SELECT Learned")?;
        imap.command(&format!("STORE 1:{} +FLAGS.SILENT ($NotJunk)", LEARNED / 2))?;
        for n in 0..LEARNED / 2 {
            let text = format!(
                "Subject: offer {n}\r\n\r\n{}\r\n",
                "cheap pills casino winner lottery jackpot ".repeat(20)
            );
            imap.command(&format!("APPEND Learned ($Junk) {{{}+}}\r\n{text}", text.len()))?;
        }
        self.quiet()
    }

    /// Waits until nothing is done in the background.
    fn quiet(&self) -> Result<()> {
        let mut before = f64::MAX;
        wait::until("mox to have nothing to do", Duration::from_secs(1800), || {
            let used = self.cpu_seconds()?;
            let idle = used - before < 0.02 && used >= before;
            before = used;
            if !idle {
                std::thread::sleep(Duration::from_secs(1));
            }
            Ok(idle.then_some(()))
        })
    }

    /// Processor time that was used.
    fn cpu_seconds(&self) -> Result<f64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid)).context("mox does not run")?;
        // proc(5): after the name in parentheses, the 12th and 13th are utime and stime, in ticks of 1/100 s.
        let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        let ticks = fields
            .split_whitespace()
            .skip(11)
            .take(2)
            .filter_map(|t| t.parse::<f64>().ok());
        Ok(ticks.sum::<f64>() / 100.0)
    }

    /// Receives messages of others of the sender's domain, which nobody judges.
    fn grow(&self, messages: usize) -> Result<()> {
        self.load()
            .rate_of(32, messages, &["--from", "others@sender.example"])?;
        self.quiet()
    }

    /// Judges the latest of them: every other one is junk, so that the history does not decide.
    fn judge(&self, messages: usize) -> Result<()> {
        let mut imap = self.mox.login()?;
        imap.command("SELECT INBOX")?;
        let search = imap.command("SEARCH FROM others@sender.example UNKEYWORD $Junk UNKEYWORD $NotJunk")?;
        let found = search.iter().find_map(|line| line.strip_prefix("* SEARCH"));
        let all: Vec<usize> = found
            .unwrap_or_default()
            .split_whitespace()
            .filter_map(|number| number.parse().ok())
            .collect();
        ensure!(
            all.len() == messages,
            "{} messages are there to be judged, of {messages}",
            all.len()
        );
        for part in all.chunks(FLAGGED) {
            for (odd, flag) in [(0, "$Junk"), (1, "$NotJunk")] {
                let numbers: Vec<String> = part.iter().filter(|n| *n % 2 == odd).map(ToString::to_string).collect();
                if !numbers.is_empty() {
                    imap.command(&format!("STORE {} +FLAGS.SILENT ({flag})", numbers.join(",")))?;
                }
            }
        }
        self.quiet()
    }

    fn rate(&self, scale: &Scale, connections: usize) -> Result<f64> {
        let messages = messages(scale, connections);
        self.load().rate_of(connections, messages, &["--sign", &self.sign])
    }
}

fn messages(scale: &Scale, connections: usize) -> usize {
    if connections == 1 {
        scale.messages
    } else {
        2 * scale.messages
    }
}

fn domains_file(mox: &Mox) -> std::path::PathBuf {
    Path::new(mox.config_dir()).join("domains.toml")
}

/// Medians of what was measured in turns, so that a machine that is slower for a while is so for both.
struct Measured {
    ours: f64,
    theirs: Option<f64>,
    /// Of ours to theirs; ours alone without them.
    ratio: f64,
}

impl Measured {
    fn of(world: &World, postfix: Option<&Postfix>, scale: &Scale, connections: usize) -> Result<Self> {
        let (mut ours, mut theirs, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..scale.rounds {
            let mut unit = 1.0;
            if let Some(postfix) = postfix {
                postfix.empty()?;
                let messages = messages(scale, connections);
                unit = postfix.rate_of(connections, messages, &["--sign", &world.sign])?;
                theirs.push(unit);
            }
            let rate = world.rate(scale, connections)?;
            ours.push(rate);
            ratios.push(rate / unit);
        }
        Ok(Self {
            ours: median(ours),
            theirs: (!theirs.is_empty()).then(|| median(theirs)),
            ratio: median(ratios),
        })
    }
}

/// Measures, and gives the table.
pub(crate) fn measure(scale: &Scale, beside: bool, step: &dyn Fn(&str)) -> Result<Table> {
    step("starting");
    let postfix = if beside { Some(Postfix::start()?) } else { None };
    let world = World::start()?;
    let mut rows = Vec::new();
    let mut first = Vec::new();
    step("teaching the filter");
    world.filter(true)?;
    world.learn()?;
    for connections in CONNECTIONS {
        let what = format!("accepted/s, connections: {connections}");
        step(&what);
        let measured = Measured::of(&world, postfix.as_ref(), scale, connections)?;
        rows.push(Row::rate(&what, measured.ours).beside(measured.theirs, 0.8));
        first.push(measured);
    }
    // Nothing is to be learned from the history, so that what is measured is the history alone.
    let mut with = |what: &str, before: &[Measured], change: &dyn Fn() -> Result<()>| -> Result<Vec<Measured>> {
        step(what);
        world.filter(false)?;
        let begin = Instant::now();
        change()?;
        let took = begin.elapsed();
        world.filter(true)?;
        let mut all = Vec::new();
        for (connections, before) in CONNECTIONS.into_iter().zip(before) {
            let what = format!(
                "connections: {connections}, {} messages {what}, to the ratio before",
                scale.history
            );
            step(&what);
            let measured = Measured::of(&world, postfix.as_ref(), scale, connections)?;
            let row = Row::rate(&what, measured.ours).ratio(measured.ratio / before.ratio, 0.9);
            rows.push(match measured.theirs {
                Some(theirs) => row.theirs(theirs),
                None => row,
            });
            all.push(measured);
        }
        rows.push(Row::seconds(&format!("until those were {what}, s"), took));
        Ok(all)
    };
    let received = with("received", &first, &|| world.grow(scale.history))?;
    with("judged", &received, &|| world.judge(scale.history))?;
    Ok(Table {
        title: "4 KiB messages: SPF, DKIM RSA-2048, DMARC, filter".into(),
        others: "Postfix",
        rows,
    })
}
