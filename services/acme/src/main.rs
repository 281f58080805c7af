//! The process for certificates, as a process of its own.

use std::process::ExitCode;

use mox_acme::{KINDS, Service};
use mox_service::{Running, Spec};

fn main() -> ExitCode {
    mox_service::main(Spec {
        service: "acme",
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
