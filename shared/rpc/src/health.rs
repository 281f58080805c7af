//! The standard health service (grpc.health.v1), which every process answers.

use tonic::service::Routes;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

/// Says whether this process serves. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Health(HealthReporter);

impl Health {
    /// Changes what is answered for the process as a whole (the empty service name).
    pub async fn set_serving(&self, serving: bool) {
        let status = if serving {
            ServingStatus::Serving
        } else {
            ServingStatus::NotServing
        };
        self.0.set_service_status("", status).await;
    }
}

/// `routes` with the health service added, and the handle that sets what it answers: not serving, at first.
pub async fn health(routes: Routes) -> (Routes, Health) {
    let (reporter, service) = tonic_health::server::health_reporter();
    let health = Health(reporter);
    health.set_serving(false).await;
    (routes.add_service(service), health)
}
