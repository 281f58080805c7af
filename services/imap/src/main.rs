//! The IMAP service as a process of its own.

use std::process::ExitCode;

use mox_service::{Running, Spec};

fn main() -> ExitCode {
    mox_service::main(Spec {
        service: "imap",
        kinds: mox_imap::KINDS,
        needs_config: true,
        build: |deps| {
            Box::pin(async {
                let service = mox_imap::Service::build(deps).await?;
                Ok(Running::new(|shutdown| service.serve(shutdown)))
            })
        },
    })
}
