//! control as a process of its own.

use std::process::ExitCode;

use mox_control::Service;
use mox_service::{Running, Spec};

fn main() -> ExitCode {
    mox_service::main(Spec {
        service: "control",
        kinds: &[],
        needs_config: false,
        build: |deps| {
            Box::pin(async {
                let service = Service::build(deps);
                let routes = service.routes();
                Ok(Running::new(|shutdown| service.serve(shutdown)).with_routes(routes))
            })
        },
    })
}
