//! Reports about DMARC and TLS: passed on to the store.

use mox_proto::report::v1::report_admin_service_client::ReportAdminServiceClient;
use mox_proto::report::v1::report_control_service_server::{ReportControlService, ReportControlServiceServer};
use mox_proto::report::v1::{
    AddSuppressedRequest, AddSuppressedResponse, GetDmarcReportResponse, GetReportRequest, GetTlsReportResponse,
    ListBundlesRequest, ListBundlesResponse, ListDmarcReportsResponse, ListReportsRequest, ListSuppressedRequest,
    ListSuppressedResponse, ListTlsReportsResponse, RemoveSuppressedRequest, RemoveSuppressedResponse,
};
use mox_rpc::Channel;
use tonic::{Request, Response, Status};

/// Answers [`ReportControlService`] by asking the store.
#[derive(Clone)]
pub struct Reports(ReportAdminServiceClient<Channel>);

type Answer<T> = Result<Response<T>, Status>;

impl Reports {
    /// Of a store, which is to know the caller as control.
    #[must_use]
    pub fn new(store: Channel) -> Self {
        Self(ReportAdminServiceClient::new(store))
    }

    /// The gRPC service.
    #[must_use]
    pub fn server(self) -> ReportControlServiceServer<Self> {
        ReportControlServiceServer::new(self)
    }
}

#[tonic::async_trait]
impl ReportControlService for Reports {
    async fn list_dmarc_reports(&self, request: Request<ListReportsRequest>) -> Answer<ListDmarcReportsResponse> {
        self.0.clone().list_dmarc_reports(request.into_inner()).await
    }

    async fn get_dmarc_report(&self, request: Request<GetReportRequest>) -> Answer<GetDmarcReportResponse> {
        self.0.clone().get_dmarc_report(request.into_inner()).await
    }

    async fn list_tls_reports(&self, request: Request<ListReportsRequest>) -> Answer<ListTlsReportsResponse> {
        self.0.clone().list_tls_reports(request.into_inner()).await
    }

    async fn get_tls_report(&self, request: Request<GetReportRequest>) -> Answer<GetTlsReportResponse> {
        self.0.clone().get_tls_report(request.into_inner()).await
    }

    async fn list_bundles(&self, request: Request<ListBundlesRequest>) -> Answer<ListBundlesResponse> {
        self.0.clone().list_bundles(request.into_inner()).await
    }

    async fn list_suppressed(&self, request: Request<ListSuppressedRequest>) -> Answer<ListSuppressedResponse> {
        self.0.clone().list_suppressed(request.into_inner()).await
    }

    async fn add_suppressed(&self, request: Request<AddSuppressedRequest>) -> Answer<AddSuppressedResponse> {
        let request = request.into_inner();
        tracing::info!(suppressed = ?request.suppressed, "sending no reports to an address, as asked");
        self.0.clone().add_suppressed(request).await
    }

    async fn remove_suppressed(&self, request: Request<RemoveSuppressedRequest>) -> Answer<RemoveSuppressedResponse> {
        let request = request.into_inner();
        tracing::info!(
            address = request.address,
            "sending reports to an address again, as asked"
        );
        self.0.clone().remove_suppressed(request).await
    }
}
