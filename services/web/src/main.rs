//! The web server as a process of its own.

use std::process::ExitCode;

use mox_service::{Running, Spec};
use mox_web::{KINDS, Service};

fn main() -> ExitCode {
    mox_service::main(Spec {
        service: "web",
        kinds: KINDS,
        needs_config: true,
        build: |deps| {
            Box::pin(async {
                let service = Service::build(deps).await?;
                Ok(Running::new(|shutdown| service.serve(shutdown)))
            })
        },
    })
}
