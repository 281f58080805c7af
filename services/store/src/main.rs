//! The store as a process of its own.

use std::process::ExitCode;

use mox_service::{Running, Spec};
use mox_store::Service;

fn main() -> ExitCode {
    mox_service::main(Spec {
        service: "store",
        kinds: &[],
        needs_config: false,
        build: |deps| {
            Box::pin(async {
                let service = Service::build(deps).await?;
                let routes = service.routes();
                Ok(Running::new(|shutdown| service.serve(shutdown)).with_routes(routes))
            })
        },
    })
}
