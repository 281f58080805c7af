//! The smtp-in service as a process of its own.

use std::process::ExitCode;

use mox_service::{Running, Spec};

fn main() -> ExitCode {
    mox_service::main(Spec {
        service: "smtp-in",
        kinds: mox_smtp_in::KINDS,
        needs_config: true,
        build: |deps| {
            Box::pin(async {
                let service = mox_smtp_in::Service::build(deps).await?;
                Ok(Running::new(|shutdown| service.serve(shutdown)))
            })
        },
    })
}
