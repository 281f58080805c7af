//! The gRPC services over reports.

use mox_proto::report::v1::report_admin_service_server::{ReportAdminService, ReportAdminServiceServer};
use mox_proto::report::v1::report_job_service_server::{ReportJobService, ReportJobServiceServer};
use mox_proto::report::v1::report_service_server::{ReportService, ReportServiceServer};
use mox_proto::report::v1::{
    AcquireLeaseRequest, AcquireLeaseResponse, AddSuppressedRequest, AddSuppressedResponse, FinishBundleRequest,
    FinishBundleResponse, GetBundleRequest, GetBundleResponse, GetDmarcReportResponse, GetReportRequest,
    GetTlsReportResponse, ListBundlesRequest, ListBundlesResponse, ListDmarcReportsResponse, ListDueRequest,
    ListDueResponse, ListReportsRequest, ListSuppressedRequest, ListSuppressedResponse, ListTlsReportsResponse,
    RecordEvaluationRequest, RecordEvaluationResponse, RemoveSuppressedRequest, RemoveSuppressedResponse,
};
use tonic::{Request, Response, Status};

use super::Reports;
use crate::keys::ReceivedKind;

type Answer<T> = Result<Response<T>, Status>;

/// For smtp-in.
#[derive(Clone)]
pub struct ReportApi(Reports);

impl ReportApi {
    /// The gRPC service.
    #[must_use]
    pub fn server(reports: Reports) -> ReportServiceServer<Self> {
        ReportServiceServer::new(Self(reports))
    }
}

#[tonic::async_trait]
impl ReportService for ReportApi {
    async fn record_evaluation(&self, request: Request<RecordEvaluationRequest>) -> Answer<RecordEvaluationResponse> {
        self.0.record(request.get_ref()).await?;
        Ok(Response::new(RecordEvaluationResponse {}))
    }
}

/// For queue-delivery.
#[derive(Clone)]
pub struct ReportJobApi(Reports);

impl ReportJobApi {
    /// The gRPC service.
    #[must_use]
    pub fn server(reports: Reports) -> ReportJobServiceServer<Self> {
        ReportJobServiceServer::new(Self(reports))
    }
}

#[tonic::async_trait]
impl ReportJobService for ReportJobApi {
    async fn acquire_lease(&self, request: Request<AcquireLeaseRequest>) -> Answer<AcquireLeaseResponse> {
        let held = self.0.acquire(request.get_ref()).await?;
        Ok(Response::new(AcquireLeaseResponse { held }))
    }

    async fn list_due(&self, request: Request<ListDueRequest>) -> Answer<ListDueResponse> {
        Ok(Response::new(self.0.list_due(request.get_ref()).await?))
    }

    async fn get_bundle(&self, request: Request<GetBundleRequest>) -> Answer<GetBundleResponse> {
        Ok(Response::new(self.0.get_bundle(request.get_ref()).await?))
    }

    async fn finish_bundle(&self, request: Request<FinishBundleRequest>) -> Answer<FinishBundleResponse> {
        // Its own task: a caller that goes away does not end it halfway.
        let (reports, request) = (self.0.clone(), request.into_inner());
        let task = tokio::spawn(async move { reports.finish(&request).await });
        let response = task.await.map_err(|_| Status::internal("sending reports failed"))??;
        Ok(Response::new(response))
    }
}

/// For control.
#[derive(Clone)]
pub struct ReportAdminApi(Reports);

impl ReportAdminApi {
    /// The gRPC service.
    #[must_use]
    pub fn server(reports: Reports) -> ReportAdminServiceServer<Self> {
        ReportAdminServiceServer::new(Self(reports))
    }
}

#[tonic::async_trait]
impl ReportAdminService for ReportAdminApi {
    async fn list_dmarc_reports(&self, request: Request<ListReportsRequest>) -> Answer<ListDmarcReportsResponse> {
        let (reports, next_page_token) = self.0.list_received(ReceivedKind::Dmarc, request.get_ref()).await?;
        Ok(Response::new(ListDmarcReportsResponse {
            reports,
            next_page_token,
        }))
    }

    async fn get_dmarc_report(&self, request: Request<GetReportRequest>) -> Answer<GetDmarcReportResponse> {
        let (summary, report) = self.0.get_dmarc(request.get_ref()).await?;
        Ok(Response::new(GetDmarcReportResponse {
            summary: Some(summary),
            report: Some(report),
        }))
    }

    async fn list_tls_reports(&self, request: Request<ListReportsRequest>) -> Answer<ListTlsReportsResponse> {
        let (reports, next_page_token) = self.0.list_received(ReceivedKind::Tls, request.get_ref()).await?;
        Ok(Response::new(ListTlsReportsResponse {
            reports,
            next_page_token,
        }))
    }

    async fn get_tls_report(&self, request: Request<GetReportRequest>) -> Answer<GetTlsReportResponse> {
        let (summary, report) = self.0.get_tls(request.get_ref()).await?;
        Ok(Response::new(GetTlsReportResponse {
            summary: Some(summary),
            report: Some(report),
        }))
    }

    async fn list_bundles(&self, request: Request<ListBundlesRequest>) -> Answer<ListBundlesResponse> {
        Ok(Response::new(self.0.list_bundles(request.get_ref()).await?))
    }

    async fn list_suppressed(&self, request: Request<ListSuppressedRequest>) -> Answer<ListSuppressedResponse> {
        Ok(Response::new(self.0.list_suppressed(request.get_ref()).await?))
    }

    async fn add_suppressed(&self, request: Request<AddSuppressedRequest>) -> Answer<AddSuppressedResponse> {
        let suppressed = request.into_inner().suppressed.unwrap_or_default();
        self.0.add_suppressed(suppressed).await?;
        Ok(Response::new(AddSuppressedResponse {}))
    }

    async fn remove_suppressed(&self, request: Request<RemoveSuppressedRequest>) -> Answer<RemoveSuppressedResponse> {
        self.0.remove_suppressed(&request.get_ref().address).await?;
        Ok(Response::new(RemoveSuppressedResponse {}))
    }
}
