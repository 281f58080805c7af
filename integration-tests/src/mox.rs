//! One running system.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::Signal;
use tempfile::TempDir;
use toml_edit::DocumentMut;

use crate::client::{self, Imap, Lines, Smtp};
use crate::options::{HOST_USER, Options};
use crate::process::{Process, binary, run};
use crate::{Dns, network, pieces, wait};

/// The account that a new localserve has: its address, which is its login name.
pub const USER: &str = "mox@localhost";
/// Its password.
pub const PASSWORD: &str = "moxmoxmox";

/// How the services are put together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// `mox localserve`: all in one process.
    Single,
    /// Each service as a process, over gRPC, with NATS.
    Pieces,
}

/// A running system: its processes, its address, its folder.
#[derive(Debug)]
pub struct Mox {
    // Before the folder, so that processes are gone when it is removed.
    processes: Vec<Process>,
    shape: Shape,
    ip: IpAddr,
    config_dir: PathBuf,
    /// By `mox serve`.
    host: bool,
    /// Hours that its clock is ahead.
    ahead: u32,
    folder: TempDir,
}

impl Mox {
    /// Starts a new system, and waits until it serves.
    ///
    /// # Errors
    /// If it does not come up: with the end of its logs.
    pub fn start(shape: Shape) -> Result<Self> {
        Self::start_with(shape, &Options::default())
    }

    /// Starts a new system with options, and waits until it serves.
    ///
    /// # Errors
    /// If it does not come up: with the end of its logs.
    pub fn start_with(shape: Shape, options: &Options) -> Result<Self> {
        let mut mox = Self::prepare(shape, options)?;
        mox.start_first()?;
        Ok(mox)
    }

    /// Starts a system that was prepared, for the first time, and waits until it serves.
    ///
    /// # Errors
    /// If it does not come up: with the end of its logs.
    pub fn start_first(&mut self) -> Result<()> {
        self.start_all()?;
        if self.shape == Shape::Pieces || self.host {
            self.command_with_input(&["setaccountpassword", "mox"], &format!("{PASSWORD}\n"))?;
        }
        Ok(())
    }

    /// As [`Mox::prepare`], of a host that asks a DNS server at this address, which is started with these records
    /// ([`Dns::serve`]).
    ///
    /// # Errors
    /// If the server does not come up, or the configuration can't be written.
    pub fn prepare_host(shape: Shape, dns: IpAddr, records: &str) -> Result<(Self, Dns)> {
        let dns = Dns::serve(dns, records)?;
        let options = Options {
            host_with_dns: Some(dns.address()),
            ..Options::default()
        };
        Ok((Self::prepare(shape, &options)?, dns))
    }

    /// Writes the configuration of a new system, and starts nothing.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn prepare(shape: Shape, options: &Options) -> Result<Self> {
        let mut folder = tempfile::Builder::new()
            .prefix("mox-")
            .tempdir()
            .context("creating a temporary folder")?;
        folder.disable_cleanup(std::env::var_os("MOX_KEEP").is_some());
        let config_dir = folder.path().join("config");
        let ip = network::free_ip();
        let dir = text(&config_dir);
        let args = ["localserve", "-initonly", "-ip", &ip.to_string(), "-dir", &dir];
        let done = run(&text(&binary("mox")?), &args, "")?;
        if !done.status.success() {
            bail!("mox {args:?} failed:\n{}", client::output(&done));
        }
        let mox = Self {
            processes: Vec::new(),
            shape,
            ip,
            config_dir,
            host: options.host_with_dns.is_some(),
            ahead: 0,
            folder,
        };
        mox.edit_config(|config| {
            if let Some(dns) = options.host_with_dns {
                config.remove("localserve");
                if rustix::process::geteuid().is_root() {
                    config["user"] = toml_edit::value(HOST_USER);
                }
                config["dns"]["servers"] = toml_edit::value(toml_edit::Array::from_iter([dns.to_string()]));
            }
            if let Some(data_dir) = &options.data_dir {
                config["data_dir"] = toml_edit::value(text(data_dir));
            }
            if let Some(bytes) = options.reserve_bytes {
                config["store"].or_insert(toml_edit::table())["reserve_bytes"] =
                    toml_edit::value(i64::try_from(bytes).unwrap_or(i64::MAX));
            }
        })?;
        if !options.settings.is_empty() {
            let text = std::fs::read_to_string(mox.config_file())?;
            std::fs::write(mox.config_file(), format!("{}\n{text}", options.settings))?;
        }
        if mox.host && shape == Shape::Single && rustix::process::geteuid().is_root() {
            client::succeed("chown", &["-R", HOST_USER, &text(mox.folder())], "")?;
            // It executes itself again as that user, who can't look into every folder that programs are built in. After
            // the change of owner, as a link has the owner of the program.
            let (built, own) = (binary("mox")?, mox.own_program());
            if std::fs::hard_link(&built, &own).is_err() {
                std::fs::copy(&built, &own).with_context(|| format!("copying {}", built.display()))?;
            }
        }
        Ok(mox)
    }

    /// Where the program is that a host started as root runs.
    fn own_program(&self) -> PathBuf {
        self.folder.path().join("mox")
    }

    /// Changes `mox.toml`. Takes effect at the next start.
    ///
    /// # Errors
    /// If the file can't be read or written.
    pub fn edit_config(&self, edit: impl FnOnce(&mut DocumentMut)) -> Result<()> {
        let path = self.config_file();
        let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        let mut document: DocumentMut = text.parse().with_context(|| format!("reading {}", path.display()))?;
        edit(&mut document);
        std::fs::write(&path, document.to_string()).with_context(|| format!("writing {}", path.display()))
    }

    /// Makes the queue deliver everything to another host. Takes effect at the next start.
    ///
    /// # Errors
    /// If the configuration can't be changed.
    pub fn deliver_to(&self, address: SocketAddr) -> Result<()> {
        self.edit_config(|config| {
            let smtp = &mut config["transports"]["self"]["smtp"];
            smtp["host"] = toml_edit::value(address.ip().to_string());
            smtp["port"] = toml_edit::value(i64::from(address.port()));
        })
    }

    /// Makes the queue deliver what is for one domain to another host. Takes effect at the next start.
    ///
    /// # Errors
    /// If the configuration can't be changed.
    pub fn deliver_domain_to(&self, domain: &str, address: SocketAddr) -> Result<()> {
        self.edit_config(|config| {
            let mut smtp = toml_edit::table();
            smtp["host"] = toml_edit::value(address.ip().to_string());
            smtp["port"] = toml_edit::value(i64::from(address.port()));
            smtp["no_starttls"] = toml_edit::value(true);
            let mut transport = toml_edit::table();
            transport["smtp"] = smtp;
            config["transports"][domain.replace('.', "-")] = transport;
        })?;
        let path = self.config_dir.join("domains.toml");
        let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        // The first route that matches counts.
        let route = format!(
            "[[routes]]\nto_domain = [\"{domain}\"]\ntransport = \"{}\"\n\n[[routes]]",
            domain.replace('.', "-")
        );
        std::fs::write(&path, text.replacen("[[routes]]", &route, 1)).context("writing domains.toml")
    }

    /// Sets its clock so many hours ahead, from the next start on.
    pub fn set_ahead(&mut self, hours: u32) {
        self.ahead = hours;
    }

    pub(crate) fn ahead(&self) -> u32 {
        self.ahead
    }

    /// How it is put together.
    #[must_use]
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// Where it listens.
    #[must_use]
    pub fn ip(&self) -> IpAddr {
        self.ip
    }

    /// A temporary folder that goes with it.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The folder of `mox.toml` and `domains.toml`.
    #[must_use]
    pub fn config_dir(&self) -> &Path {
        &self.config_dir
    }

    /// `mox.toml`.
    #[must_use]
    pub fn config_file(&self) -> PathBuf {
        self.config_dir.join("mox.toml")
    }

    fn at(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.ip, port)
    }

    /// Where the figures of a service are.
    #[must_use]
    pub fn metrics(&self, service: &str) -> SocketAddr {
        match self.shape {
            Shape::Single => self.at(9010),
            Shape::Pieces => self.at(pieces::metrics_port(service)),
        }
    }

    /// A figure of a service, by its name with labels, if it has it by now.
    ///
    /// # Errors
    /// If they can't be asked for.
    pub fn figure(&self, service: &str, name: &str) -> Result<Option<String>> {
        let at = self.metrics(service);
        let texts = client::succeed("curl", &["-sS", &format!("http://{at}/metrics")], "")?;
        let line = texts.lines().find(|line| line.starts_with(name));
        Ok(line.and_then(|line| line.rsplit(' ').next()).map(str::to_owned))
    }

    /// Receiving mail.
    #[must_use]
    pub fn smtp(&self) -> SocketAddr {
        self.at(1025)
    }

    /// Sending mail, with STARTTLS.
    #[must_use]
    pub fn submission(&self) -> SocketAddr {
        self.at(1587)
    }

    /// Sending mail, over TLS.
    #[must_use]
    pub fn submissions(&self) -> SocketAddr {
        self.at(1465)
    }

    /// Reading mail, with STARTTLS.
    #[must_use]
    pub fn imap(&self) -> SocketAddr {
        self.at(1143)
    }

    /// Reading mail, over TLS.
    #[must_use]
    pub fn imaps(&self) -> SocketAddr {
        self.at(1993)
    }

    /// A new IMAP session of the account.
    ///
    /// # Errors
    /// If logging in fails.
    pub fn login(&self) -> Result<Imap> {
        Imap::login(self.imap(), USER, PASSWORD).with_context(|| self.log_tails())
    }

    /// A new SMTP session, as from another server.
    ///
    /// # Errors
    /// If there is none.
    pub fn session(&self) -> Result<Smtp> {
        Smtp::connect(self.smtp()).with_context(|| self.log_tails())
    }

    /// Names of the processes: "mox", or "nats" and the services.
    #[must_use]
    pub fn names(&self) -> Vec<&'static str> {
        match self.shape {
            Shape::Single => vec!["mox"],
            Shape::Pieces => ["nats"].into_iter().chain(pieces::SERVICES).collect(),
        }
    }

    /// A process that runs, or has ended.
    ///
    /// # Errors
    /// If there is none of that name.
    pub fn process(&mut self, name: &str) -> Result<&mut Process> {
        let found = self.processes.iter_mut().find(|p| p.name() == name);
        found.with_context(|| format!("{name} was not started"))
    }

    /// All processes that were started.
    pub fn processes(&mut self) -> impl Iterator<Item = &mut Process> {
        self.processes.iter_mut()
    }

    /// Starts one process that does not run, without waiting for it.
    ///
    /// # Errors
    /// If it can't be started.
    pub fn start_one(&mut self, name: &str) -> Result<()> {
        self.processes.retain(|p| p.name() != name);
        let log = self.folder.path().join(format!("{name}.log"));
        let dir = text(&self.config_dir);
        let file = text(&self.config_file());
        let process = match (self.shape, name) {
            (Shape::Single, _) if self.host => {
                let own = self.own_program();
                let user = own.exists().then_some(HOST_USER);
                let program = if own.exists() { own } else { binary("mox")? };
                let args = ["-config", &file, "serve"];
                Process::start_ahead(name, &program, &args, &log, self.ahead, user)?
            }
            (Shape::Single, _) => Process::start(name, &binary("mox")?, &["localserve", "-dir", &dir], &log)?,
            (Shape::Pieces, "nats") => pieces::start_nats(self.ip, &log)?,
            (Shape::Pieces, service) => pieces::start_service(self, service, &log)?,
        };
        self.processes.push(process);
        Ok(())
    }

    /// Starts all processes, and waits until they serve.
    ///
    /// # Errors
    /// If one does not come up: with the end of its log.
    pub fn start_all(&mut self) -> Result<()> {
        if self.shape == Shape::Pieces {
            pieces::write_configs(self)?;
        }
        for name in self.names() {
            self.start_one(name)?;
        }
        self.wait_until_ready()
    }

    /// Waits until everything serves.
    ///
    /// # Errors
    /// If a process ends, or the deadline passes: with the end of the logs.
    pub fn wait_until_ready(&mut self) -> Result<()> {
        let ready = wait::until("all services to be ready", wait::DEADLINE, || {
            // One that has ended does not come back: there is nothing to wait for.
            if let Err(ended) = self.still_running() {
                return Ok(Some(Err(ended)));
            }
            self.serves().map(|()| Some(Ok(())))
        });
        let ready = ready.and_then(|outcome| outcome);
        ready.with_context(|| self.log_tails())
    }

    fn serves(&self) -> Result<()> {
        if self.shape == Shape::Pieces {
            pieces::all_ready(self.ip)?;
        }
        for (address, greeting) in [(self.smtp(), "220"), (self.submission(), "220"), (self.imap(), "* OK")] {
            let mut lines = Lines::connect(address)?;
            lines.set_timeout(Duration::from_secs(5))?;
            let line = lines.line()?;
            if !line.starts_with(greeting) {
                bail!("{address} greets with {line:?}");
            }
        }
        for address in [self.submissions(), self.imaps()] {
            if !network::port_accepts(address) {
                bail!("{address} accepts no connection");
            }
        }
        Ok(())
    }

    fn still_running(&mut self) -> Result<()> {
        for process in &mut self.processes {
            if let Some(status) = process.exited()? {
                bail!("{} ended with {status}:\n{}", process.name(), process.log_tail());
            }
        }
        Ok(())
    }

    /// Kills one process with SIGKILL, and waits until it is gone.
    ///
    /// # Errors
    /// If it does not run.
    pub fn kill(&mut self, name: &str) -> Result<()> {
        self.process(name)?.kill()
    }

    /// Stops all processes with SIGTERM.
    ///
    /// # Errors
    /// If one does not end in time, or not with success.
    pub fn terminate(&mut self) -> Result<()> {
        for process in &self.processes {
            process.signal(Signal::TERM)?;
        }
        for process in &mut self.processes {
            let status = process.wait(Duration::from_secs(15))?;
            // nats-server says by its status that it was ended by a signal.
            if !status.success() && process.name() != "nats" {
                bail!("{} ended with {status}:\n{}", process.name(), process.log_tail());
            }
        }
        self.processes.clear();
        Ok(())
    }

    /// Stops all processes, and starts them again on the same data.
    ///
    /// # Errors
    /// If one does not stop, or not come up.
    pub fn restart(&mut self) -> Result<()> {
        self.terminate()?;
        self.start_all()
    }

    /// The end of all logs.
    #[must_use]
    pub fn log_tails(&self) -> String {
        self.processes
            .iter()
            .map(Process::log_tail)
            .collect::<Vec<_>>()
            .join("\n")
    }

    /// Runs `mox` with this system's configuration.
    ///
    /// # Errors
    /// If it can't be started.
    pub fn try_command(&self, args: &[&str], input: &str) -> Result<Output> {
        let config = text(&self.config_file());
        run(&text(&binary("mox")?), &[&["-config", &config], args].concat(), input)
    }

    /// Runs a `mox` command that must succeed, and gives what it printed.
    ///
    /// # Errors
    /// If it fails: with what it printed.
    pub fn command_with_input(&self, args: &[&str], input: &str) -> Result<String> {
        let done = self.try_command(args, input)?;
        if !done.status.success() {
            bail!(
                "mox {args:?} failed with {}:\n{}\n{}",
                done.status,
                client::output(&done),
                self.log_tails()
            );
        }
        Ok(client::output(&done))
    }

    /// Runs a `mox` command that must succeed, and gives what it printed.
    ///
    /// # Errors
    /// If it fails: with what it printed.
    pub fn command(&self, args: &[&str]) -> Result<String> {
        self.command_with_input(args, "")
    }

    /// Waits until a message with this subject is in a mailbox of the account, and gives its UID.
    ///
    /// # Errors
    /// If it does not arrive.
    pub fn wait_for_subject(&self, mailbox: &str, subject: &str) -> Result<u32> {
        let mut imap = self.login()?;
        let what = format!("a message with the subject {subject:?} in {mailbox}");
        let found = wait::until(&what, wait::DEADLINE, || {
            if imap.examine(mailbox)? == 0 {
                return Ok(None);
            }
            Ok(imap
                .subjects(1)?
                .into_iter()
                .find(|(_, s)| s == subject)
                .map(|(uid, _)| uid))
        });
        found.with_context(|| self.log_tails())
    }
}

pub(crate) fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
