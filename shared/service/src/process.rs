//! What a service's `main.rs` is.

mod arguments;
mod network;

use std::fmt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::ExitCode;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use mox_config::Static;
use mox_events::Bus;
use mox_rpc::Listener;
use mox_telemetry::{Format, Level, Settings, Telemetry};
use tokio::signal::unix::{SignalKind, signal};
use tonic::service::Routes;

use self::arguments::{Arguments, CONFIG_VARIABLE, FORMAT_VARIABLE, usage};
use self::network::Network;
use crate::{Clock, ConfigWatch, Deps, GRACE, Kind, Node, Shutdown, ShutdownTrigger, bind, node};

/// From the deadline of a shutdown to the end of a process whose service does not end.
const LAST_WAIT: Duration = Duration::from_secs(5);

/// How often a process that waits for its configuration says so.
const COMPLAIN: Duration = Duration::from_secs(10);

/// A future that is passed around.
type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// What a service is, for [`main`].
pub struct Spec {
    /// Its name, such as `smtp-in`.
    pub service: &'static str,
    /// The sockets it listens on.
    pub kinds: &'static [Kind],
    /// Whether it waits for a configuration to be committed before it is built: all but the store and control do.
    pub needs_config: bool,
    /// Builds it: mostly `|deps| Box::pin(async { … })`.
    pub build: fn(Deps) -> Boxed<Result<Running>>,
}

/// A service that was built, and will run.
pub struct Running {
    routes: Routes,
    serve: Box<dyn FnOnce(Shutdown) -> Boxed<Result<()>> + Send>,
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Running")
    }
}

impl Running {
    /// Runs with `serve`, until the shutdown that it is given.
    pub fn new<F, Fut, E>(serve: F) -> Self
    where
        F: FnOnce(Shutdown) -> Fut + Send + 'static,
        Fut: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<anyhow::Error>,
    {
        let serve = |shutdown| -> Boxed<Result<()>> {
            let serving = serve(shutdown);
            Box::pin(async move { serving.await.map_err(Into::into) })
        };
        Self {
            routes: Routes::default(),
            serve: Box::new(serve),
        }
    }

    /// Answers these besides health and what control asks.
    #[must_use]
    pub fn with_routes(mut self, routes: Routes) -> Self {
        self.routes = routes;
        self
    }
}

/// Runs a service as a process of its own: reads `mox.toml` (`-config FILE`, `--config FILE`, or `MOXCONF`), starts
/// telemetry, binds sockets, connects to store and bus, answers gRPC and `/metrics`, and serves until SIGTERM, SIGINT or
/// control stops it.
#[must_use]
pub fn main(spec: Spec) -> ExitCode {
    let arguments = std::env::args().skip(1);
    match arguments::parse(arguments, std::env::var_os(CONFIG_VARIABLE).map(PathBuf::from)) {
        Ok(Arguments::Run(file)) => match start(spec, &file) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("{error:#}");
                ExitCode::FAILURE
            }
        },
        Ok(Arguments::Version) => {
            println!("mox-{} {}", spec.service, env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
        Ok(Arguments::Help) => {
            println!("{}", usage(spec.service));
            ExitCode::SUCCESS
        }
        Err(unknown) => {
            eprintln!("argument {unknown:?} is not understood\n{}", usage(spec.service));
            ExitCode::from(2)
        }
    }
}

fn start(spec: Spec, file: &Path) -> Result<()> {
    let config = Arc::new(mox_config::load_static(file)?);
    let config_dir = file
        .parent()
        .filter(|p| !p.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
        .to_owned();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("start the runtime")?;
    runtime.block_on(run(spec, config, config_dir))
}

async fn run(spec: Spec, config: Arc<Static>, config_dir: PathBuf) -> Result<()> {
    let telemetry = Telemetry::start(&settings(spec.service, &config)?)?;
    let sockets = bind(&config, &config_dir, spec.kinds)?;
    let (stop, shutdown) = Shutdown::new();
    on_signals(stop.clone())?;
    let network = Network::new(spec.service, &config, &config_dir)?;
    let listener = network.listener(&config).await?;
    let metrics = metrics(&config, &telemetry, &shutdown).await?;
    let bus = match &config.events.nats_url {
        Some(url) => Bus::nats(url.expose())?,
        None => Bus::in_process(),
    };
    let watch = if spec.needs_config {
        ConfigWatch::follow(network.store.clone(), &bus)
    } else {
        ConfigWatch::none()
    };
    let known = watch.clone();
    if spec.needs_config {
        telemetry
            .readiness()
            .register("configuration", move || match known.version() {
                0 => Err("none received from the store yet".into()),
                _ => Ok(()),
            });
        received(&watch, &shutdown).await;
    }
    let result = if shutdown.has_begun() {
        Ok(())
    } else {
        let deps = Deps {
            service: spec.service,
            static_config: Arc::clone(&config),
            config_dir,
            config: watch.clone(),
            store: network.store.clone(),
            peers: network.peers.clone(),
            bus,
            telemetry: telemetry.clone(),
            clock: Clock::system(),
            sockets,
            stop: stop.clone(),
        };
        let node = Node {
            service: spec.service.to_owned(),
            levels: telemetry.levels.clone(),
            config: watch,
            transports: config.transports.keys().cloned().collect(),
            stop: stop.clone(),
        };
        serve(spec, deps, node, listener, &network, &shutdown).await
    };
    stop.begin();
    if let Some(metrics) = metrics {
        metrics.abort();
    }
    telemetry.stop().await;
    tracing::info!("stopped");
    result
}

async fn serve(
    spec: Spec,
    deps: Deps,
    node_parts: Node,
    listener: Option<Listener>,
    network: &Network,
    shutdown: &Shutdown,
) -> Result<()> {
    let stop = deps.stop.clone();
    let running = (spec.build)(deps)
        .await
        .with_context(|| format!("start {}", spec.service))?;
    let (routes, health) = mox_rpc::health(node(running.routes, node_parts)).await;
    let auth = listener.as_ref().map(|listener| network.auth_for(listener));
    let begun = shutdown.clone();
    let answering = async move {
        match listener.zip(auth) {
            Some((listener, auth)) => mox_rpc::serve(listener, routes, auth, async move { begun.begun().await }).await,
            None => {
                begun.begun().await;
                Ok(())
            }
        }
    };
    health.set_serving(true).await;
    tracing::info!(service = spec.service, version = env!("CARGO_PKG_VERSION"), "serving");
    let mut answering = tokio::spawn(answering);
    let mut serving = tokio::spawn((running.serve)(shutdown.clone()));
    // A handle that has completed must not be polled again.
    let mut answered = None;
    let ended = tokio::select! {
        biased;
        () = shutdown.begun() => {
            tracing::info!("stopping");
            health.set_serving(false).await;
            patiently(&mut serving).await
        }
        ended = &mut serving => {
            if !shutdown.has_begun() {
                tracing::error!("the service ended though nobody asked it to");
            }
            stop.begin();
            ended.context("the service panicked")?
        }
        ended = &mut answering => {
            stop.begin();
            answered = Some(ended);
            patiently(&mut serving).await
        }
    };
    let answered = match answered {
        Some(answered) => answered,
        None => match tokio::time::timeout(GRACE + LAST_WAIT, &mut answering).await {
            Ok(answered) => answered,
            Err(_) => {
                answering.abort();
                return ended;
            }
        },
    };
    ended.and(
        answered
            .context("answering other services panicked")?
            .context("answer other services"),
    )
}

/// Waits for a service that was told to stop, and not for ever.
async fn patiently(serving: &mut tokio::task::JoinHandle<Result<()>>) -> Result<()> {
    match tokio::time::timeout(GRACE + LAST_WAIT, &mut *serving).await {
        Ok(ended) => ended.context("the service panicked")?,
        Err(_) => {
            serving.abort();
            anyhow::bail!("the service did not stop in time, and was ended")
        }
    }
}

/// Waits for the first configuration, saying so now and then.
async fn received(watch: &ConfigWatch, shutdown: &Shutdown) {
    loop {
        tokio::select! {
            () = watch.received() => return,
            () = shutdown.begun() => return,
            () = tokio::time::sleep(COMPLAIN) => {
                tracing::info!("waiting for store and control: no configuration was received yet");
            }
        }
    }
}

/// What the configuration says about telemetry, for a process of this name.
///
/// # Errors
/// If a level is not one.
pub fn settings(service: &str, config: &Static) -> Result<Settings> {
    let level = |level: mox_config::LogLevel| Level::from_str(&level.to_string());
    let packages = config
        .package_log_levels
        .iter()
        .map(|(package, l)| Ok((package.clone(), level(*l)?)));
    Ok(Settings {
        service: service.to_owned(),
        level: level(config.log_level)?,
        packages: packages.collect::<Result<_>>()?,
        format: if std::env::var(FORMAT_VARIABLE).is_ok_and(|v| v == "json") {
            Format::Json
        } else {
            Format::Text
        },
        otlp_endpoint: config.telemetry.otlp_endpoint.clone(),
        sample_ratio: config.telemetry.sample_ratio,
    })
}

/// The first SIGTERM or SIGINT begins the shutdown, a second ends its grace. Within a tokio runtime.
///
/// # Errors
/// If the system does not give signals.
pub fn on_signals(stop: ShutdownTrigger) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("wait for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("wait for SIGINT")?;
    tokio::spawn(async move {
        let mut first = true;
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if first {
                stop.begin();
            } else {
                stop.finish();
            }
            first = false;
        }
    });
    Ok(())
}

async fn metrics(
    config: &Static,
    telemetry: &Telemetry,
    shutdown: &Shutdown,
) -> Result<Option<tokio::task::JoinHandle<()>>> {
    let Some(address) = &config.rpc.metrics_listen else {
        return Ok(None);
    };
    let listener = tokio::net::TcpListener::bind(address)
        .await
        .with_context(|| format!("listen on {address} for metrics and health (rpc.metrics_listen)"))?;
    let (telemetry, shutdown) = (telemetry.clone(), shutdown.clone());
    Ok(Some(tokio::spawn(async move {
        // Until the deadline, so that the end can be watched.
        if let Err(error) = telemetry
            .serve_metrics(listener, async move { shutdown.deadline().await })
            .await
        {
            tracing::error!(%error, "metrics and health are not given any more");
        }
    })))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A world without a network, and a service that takes a moment to stop.
    async fn run_and_stop(moment: Duration) -> Result<()> {
        let config = Arc::new(Static::new("data".into(), "localhost".parse().unwrap()));
        let network = Network::new("store", &config, Path::new(".")).unwrap();
        let (stop, shutdown) = Shutdown::new();
        let telemetry = Telemetry::detached();
        let deps = Deps {
            service: "store",
            static_config: config,
            config_dir: ".".into(),
            config: ConfigWatch::none(),
            store: network.store.clone(),
            peers: network.peers.clone(),
            bus: Bus::in_process(),
            telemetry: telemetry.clone(),
            clock: Clock::manual(std::time::UNIX_EPOCH + moment).0,
            sockets: Vec::new(),
            stop: stop.clone(),
        };
        let node = Node {
            service: "store".into(),
            levels: telemetry.levels.clone(),
            config: ConfigWatch::none(),
            transports: Vec::new(),
            stop: stop.clone(),
        };
        let spec = Spec {
            service: "store",
            kinds: &[],
            needs_config: false,
            build: |deps| {
                Box::pin(async move {
                    let moment = Duration::from_millis(deps.clock.unix_millis().unsigned_abs());
                    Ok(Running::new(move |shutdown: Shutdown| async move {
                        shutdown.begun().await;
                        tokio::time::sleep(moment).await;
                        Ok::<_, anyhow::Error>(())
                    }))
                })
            },
        };
        let serving = serve(spec, deps, node, None, &network, &shutdown);
        let stopping = async {
            tokio::task::yield_now().await;
            stop.begin();
        };
        tokio::join!(serving, stopping).0
    }

    /// Service and answering end in any order.
    #[tokio::test(start_paused = true)]
    async fn stopping_is_clean_whatever_ends_first() {
        for moment in [0, 1, 100, 3000] {
            for _ in 0..20 {
                run_and_stop(Duration::from_millis(moment)).await.unwrap();
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_service_that_does_not_stop_is_ended() {
        let error = run_and_stop(Duration::from_secs(3600)).await.unwrap_err();
        assert!(error.to_string().contains("did not stop in time"), "{error}");
    }
}
