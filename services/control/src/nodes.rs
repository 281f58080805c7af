//! The other processes: their log levels, and whether they are up.

use std::time::Duration;

use futures::future::join_all;
use mox_proto::control::v1::ServiceStatus;
use mox_proto::node::v1::node_service_client::NodeServiceClient;
use mox_proto::node::v1::{GetLogLevelsRequest, InfoRequest, LogLevels, SetLogLevelRequest, StopRequest};
use mox_rpc::{Channel, with_deadline};
use tonic::Status;

/// A process that does not answer by then counts as away.
const DEADLINE: Duration = Duration::from_secs(5);

/// Has the transports.
const DELIVERING: &str = "queue-delivery";

/// Stops last, since the others finish with its help.
const STORE: &str = "store";

/// A process, by the name of its service. In the single-host shape there is one.
#[derive(Clone, Debug)]
pub struct Node {
    /// Name, for messages.
    pub name: String,
    /// Where it answers.
    pub channel: Channel,
}

impl Node {
    fn client(&self) -> NodeServiceClient<Channel> {
        NodeServiceClient::new(self.channel.clone())
    }
}

/// The levels of all. They are set on all at once, so any that answers tells them.
///
/// # Errors
/// If none answers.
pub async fn log_levels(nodes: &[Node]) -> Result<LogLevels, Status> {
    let mut last = Status::unavailable("there is no process to ask");
    for node in nodes {
        match node
            .client()
            .get_log_levels(with_deadline(GetLogLevelsRequest {}, DEADLINE))
            .await
        {
            Ok(levels) => return Ok(levels.into_inner()),
            Err(status) => last = status,
        }
    }
    Err(last)
}

/// Sets a level on all.
///
/// # Errors
/// If it is refused by one, or one does not answer; the others have it then.
pub async fn set_log_level(nodes: &[Node], request: &SetLogLevelRequest) -> Result<LogLevels, Status> {
    let calls = nodes.iter().map(|node| async move {
        let answer = node
            .client()
            .set_log_level(with_deadline(request.clone(), DEADLINE))
            .await;
        (node.name.clone(), answer.map(tonic::Response::into_inner))
    });
    let mut levels = None;
    let mut failed = Vec::new();
    for (name, answer) in join_all(calls).await {
        match answer {
            Ok(answer) => levels = Some(answer),
            Err(status) if status.code() == tonic::Code::InvalidArgument => return Err(status),
            Err(status) => failed.push(format!("{name} ({})", status.message())),
        }
    }
    match levels {
        Some(levels) if failed.is_empty() => Ok(levels),
        _ => Err(Status::unavailable(format!(
            "the level was not set in {}: try again",
            failed.join(", ")
        ))),
    }
}

/// Stops all but this process: those with sessions first, which get their grace, and then the store. That a process
/// answers no calls any more does not say that its sessions have ended, so the grace is waited for in any case.
pub async fn stop_others(nodes: &[Node], own: &str) {
    let stop = async |node: &Node| {
        if let Err(status) = node.client().stop(with_deadline(StopRequest {}, DEADLINE)).await {
            tracing::warn!(
                service = node.name,
                error = status.message(),
                "process could not be told to stop"
            );
        }
    };
    join_all(nodes.iter().filter(|n| n.name != own && n.name != STORE).map(stop)).await;
    tokio::time::sleep(mox_service::GRACE).await;
    join_all(nodes.iter().filter(|n| n.name != own && n.name == STORE).map(stop)).await;
}

/// Names of the transports that messages can be delivered by: those of the process that delivers.
///
/// # Errors
/// If it is not known, or does not answer.
pub async fn transports(nodes: &[Node]) -> Result<Vec<String>, Status> {
    let delivering = |node: &&Node| node.name == DELIVERING || node.name == crate::SINGLE;
    let node = nodes.iter().find(delivering).ok_or_else(|| {
        Status::failed_precondition(format!(
            "which transports there are is not known: name {DELIVERING} in [rpc.services] of control's mox.toml"
        ))
    })?;
    let info = node.client().info(with_deadline(InfoRequest {}, DEADLINE)).await;
    let info = info.map_err(|status| {
        Status::unavailable(format!(
            "which transports there are is not known while {} does not answer ({}): try again later",
            node.name,
            status.message()
        ))
    })?;
    Ok(info.into_inner().transports)
}

/// Which of all are up.
pub async fn status(nodes: &[Node]) -> Vec<ServiceStatus> {
    join_all(nodes.iter().map(|node| async move {
        match node.client().info(with_deadline(InfoRequest {}, DEADLINE)).await {
            Ok(info) => {
                let info = info.into_inner();
                let detail = format!("version {}, configuration {}", info.version, info.config_version);
                ServiceStatus {
                    service: node.name.clone(),
                    serving: true,
                    detail,
                }
            }
            Err(status) => ServiceStatus {
                service: node.name.clone(),
                serving: false,
                detail: status.message().to_owned(),
            },
        }
    }))
    .await
}
