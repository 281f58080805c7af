//! `/metrics`, `/livez` and `/readyz`.

use std::fmt::Write;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;

use crate::Telemetry;

/// OpenMetrics 1.0, which is what the registry writes.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

pub(crate) async fn serve(
    telemetry: Telemetry,
    listener: TcpListener,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let app = Router::new()
        .route("/metrics", get(metrics))
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .with_state(telemetry);
    axum::serve(listener, app).with_graceful_shutdown(shutdown).await
}

async fn metrics(State(telemetry): State<Telemetry>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, OPEN_METRICS)], telemetry.metrics())
}

async fn ready(State(telemetry): State<Telemetry>) -> impl IntoResponse {
    let failing = telemetry.readiness().failing();
    if failing.is_empty() {
        return (StatusCode::OK, "ok\n".to_owned());
    }
    let mut text = String::new();
    for (name, why) in failing {
        let _ = writeln!(text, "{name}: {why}");
    }
    (StatusCode::SERVICE_UNAVAILABLE, text)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;

    async fn fetch(address: std::net::SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn answers_metrics_and_health_and_stops() {
        let telemetry = Telemetry::detached();
        let up = Arc::new(AtomicBool::new(false));
        let known = Arc::clone(&up);
        telemetry.readiness().register("store", move || {
            if known.load(Ordering::Relaxed) {
                Ok(())
            } else {
                Err("not connected".into())
            }
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let serving =
            tokio::spawn(async move { telemetry.serve_metrics(listener, async { drop(stopped.await) }).await });
        assert!(fetch(address, "/livez").await.starts_with("HTTP/1.1 200"));
        let answer = fetch(address, "/readyz").await;
        assert!(
            answer.starts_with("HTTP/1.1 503") && answer.contains("store: not connected"),
            "{answer}"
        );
        up.store(true, Ordering::Relaxed);
        assert!(fetch(address, "/readyz").await.starts_with("HTTP/1.1 200"));
        let answer = fetch(address, "/metrics").await;
        assert!(
            answer.contains("mox_build_info{version=") && answer.ends_with("# EOF\n"),
            "{answer}"
        );
        assert!(fetch(address, "/other").await.starts_with("HTTP/1.1 404"));
        drop(stop);
        serving.await.unwrap().unwrap();
    }
}
