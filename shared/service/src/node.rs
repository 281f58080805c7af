//! The part of a process that control talks to: who it is, its log levels, its end.

use std::time::{SystemTime, UNIX_EPOCH};

use mox_proto::node::v1::node_service_server::{NodeService, NodeServiceServer};
use mox_proto::node::v1::{
    GetLogLevelsRequest, InfoRequest, InfoResponse, LogLevels, SetLogLevelRequest, StopRequest, StopResponse,
};
use mox_telemetry::{Level, Levels};
use tonic::service::Routes;
use tonic::{Request, Response, Status};

use crate::{ConfigWatch, ShutdownTrigger};

/// The longest package name that is taken: ours are far shorter, and so are those of libraries.
const PACKAGE_MAX: usize = 64;

/// Packages with a level of their own, at most.
const PACKAGES_MAX: usize = 1000;

/// What a process tells about itself, and does when told.
#[derive(Clone, Debug)]
pub struct Node {
    /// Its service, or `mox` for all in one process.
    pub service: String,
    /// Its log levels.
    pub levels: Levels,
    /// The configuration it uses.
    pub config: ConfigWatch,
    /// Names of the transports in its mox.toml.
    pub transports: Vec<String>,
    /// Stops it.
    pub stop: ShutdownTrigger,
}

/// Adds the node service to what a process answers.
#[must_use]
pub fn node(routes: Routes, node: Node) -> Routes {
    let started = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    let started = i64::try_from(started).unwrap_or(i64::MAX);
    routes.add_service(NodeServiceServer::new(Answers { node, started }))
}

struct Answers {
    node: Node,
    started: i64,
}

impl Answers {
    fn log_levels(&self) -> LogLevels {
        let packages = self.node.levels.packages();
        LogLevels {
            default_level: self.node.levels.default_level().to_string(),
            packages: packages
                .into_iter()
                .map(|(package, level)| (package, level.to_string()))
                .collect(),
        }
    }
}

#[tonic::async_trait]
impl NodeService for Answers {
    async fn info(&self, _: Request<InfoRequest>) -> Result<Response<InfoResponse>, Status> {
        Ok(Response::new(InfoResponse {
            service: self.node.service.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started: self.started,
            config_version: self.node.config.version(),
            transports: self.node.transports.clone(),
        }))
    }

    async fn get_log_levels(&self, _: Request<GetLogLevelsRequest>) -> Result<Response<LogLevels>, Status> {
        Ok(Response::new(self.log_levels()))
    }

    async fn set_log_level(&self, request: Request<SetLogLevelRequest>) -> Result<Response<LogLevels>, Status> {
        let SetLogLevelRequest { package, level } = request.into_inner();
        let levels = &self.node.levels;
        let parsed = if level.is_empty() {
            None
        } else {
            Some(level.parse::<Level>())
        };
        let parsed = parsed
            .transpose()
            .map_err(|e| Status::invalid_argument(e.to_string()))?;
        match (package.as_str(), parsed) {
            ("", Some(level)) => levels.set_default(level),
            ("", None) => {
                return Err(Status::invalid_argument(
                    "the default level can be changed, not cleared",
                ));
            }
            (package, _) if package.len() > PACKAGE_MAX || package.contains(|c: char| !c.is_ascii_graphic()) => {
                return Err(Status::invalid_argument(
                    "a package is named with up to 64 characters of ASCII",
                ));
            }
            (package, level) => {
                let known = levels.packages();
                if level.is_some() && known.len() >= PACKAGES_MAX && !known.contains_key(package) {
                    return Err(Status::resource_exhausted(
                        "too many packages have a level of their own",
                    ));
                }
                levels.set(package, level);
            }
        }
        tracing::info!(
            of = if package.is_empty() { "default" } else { &package },
            level,
            "log level changed"
        );
        Ok(Response::new(self.log_levels()))
    }

    async fn stop(&self, _: Request<StopRequest>) -> Result<Response<StopResponse>, Status> {
        tracing::info!("stopping, as control says");
        self.node.stop.begin();
        Ok(Response::new(StopResponse {}))
    }
}

#[cfg(test)]
mod tests {
    use mox_proto::node::v1::node_service_client::NodeServiceClient;
    use mox_rpc::{Channel, Identity};
    use tonic::Code;

    use super::*;
    use crate::Shutdown;

    #[tokio::test]
    async fn control_sees_and_changes_a_process_and_others_do_not() {
        let (stop, shutdown) = Shutdown::new();
        let telemetry = mox_telemetry::Telemetry::detached();
        let routes = node(
            Routes::default(),
            Node {
                service: "imap".into(),
                levels: telemetry.levels.clone(),
                config: ConfigWatch::none(),
                transports: vec!["relay".into()],
                stop,
            },
        );
        let mut client = NodeServiceClient::new(Channel::in_process(routes.clone(), Identity::new("control")));
        let info = client.info(InfoRequest {}).await.unwrap().into_inner();
        assert_eq!(
            (info.service.as_str(), info.transports),
            ("imap", vec!["relay".to_owned()])
        );
        let set = |package: &str, level: &str| SetLogLevelRequest {
            package: package.into(),
            level: level.into(),
        };
        client.set_log_level(set("", "debug")).await.unwrap();
        let levels = client
            .set_log_level(set("imap", "traceauth"))
            .await
            .unwrap()
            .into_inner();
        assert_eq!(
            (levels.default_level.as_str(), levels.packages["imap"].as_str()),
            ("debug", "traceauth")
        );
        let levels = client.set_log_level(set("imap", "")).await.unwrap().into_inner();
        assert!(levels.packages.is_empty());
        for bad in [
            set("", ""),
            set("imap", "loud"),
            set("i map", "info"),
            set(&"x".repeat(65), "info"),
        ] {
            assert_eq!(
                client.set_log_level(bad).await.unwrap_err().code(),
                Code::InvalidArgument
            );
        }
        let mut other = NodeServiceClient::new(Channel::in_process(routes, Identity::new("imap")));
        assert_eq!(
            other.stop(StopRequest {}).await.unwrap_err().code(),
            Code::PermissionDenied
        );
        assert!(!shutdown.has_begun());
        client.stop(StopRequest {}).await.unwrap();
        assert!(shutdown.has_begun());
    }
}
