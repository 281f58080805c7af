//! The process.

use mox_queue_delivery::Service;
use mox_service::{Running, Spec};

fn main() -> std::process::ExitCode {
    mox_service::main(Spec {
        service: "queue-delivery",
        kinds: &[],
        needs_config: true,
        build: |deps| {
            Box::pin(async move {
                let service = Service::build(deps).await?;
                Ok(Running::new(move |shutdown| service.serve(shutdown)))
            })
        },
    })
}
