//! The submission service as a process of its own.

use std::process::ExitCode;

use mox_service::{Running, Spec};

fn main() -> ExitCode {
    mox_service::main(Spec {
        service: "submission",
        kinds: mox_submission::KINDS,
        needs_config: true,
        build: |deps| {
            Box::pin(async {
                let service = mox_submission::Service::build(deps).await?;
                Ok(Running::new(|shutdown| service.serve(shutdown)))
            })
        },
    })
}
