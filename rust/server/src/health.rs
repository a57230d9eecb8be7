//! Liveness, readiness and metrics.

use std::sync::OnceLock;

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use backend_protocol::Code;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

use crate::http::{ApiError, ApiResult};
use crate::state::AppState;

static METRICS: OnceLock<Option<PrometheusHandle>> = OnceLock::new();

/// Starts collecting, once per process.
pub fn collect_metrics() {
    METRICS.get_or_init(|| match PrometheusBuilder::new().install_recorder() {
        Ok(handle) => Some(handle),
        Err(error) => {
            tracing::warn!(%error, "no metrics");
            None
        }
    });
}

/// Folds what histograms collected, which otherwise grows with every request between two scrapes.
pub fn run_metrics_upkeep() {
    if let Some(handle) = METRICS.get().and_then(Option::as_ref) {
        handle.run_upkeep();
    }
}

/// Returns 200 while the process runs.
#[utoipa::path(get, path = "/healthz", operation_id = "health_live", tag = "operation", responses((status = 200)))]
pub async fn healthz() -> &'static str {
    "ok\n"
}

/// Returns 200 while the backend can serve: its database answers and it is not stopping.
#[utoipa::path(get, path = "/readyz", operation_id = "health_ready", tag = "operation", responses((status = 200), (status = 503, body = backend_protocol::Problem)))]
pub async fn readyz(State(state): State<AppState>) -> ApiResult<&'static str> {
    if state.is_stopping() {
        return Err(ApiError::new(Code::Unavailable, "stopping"));
    }
    state.database.now().await?;
    Ok("ready\n")
}

/// Returns metrics in the Prometheus text format.
#[utoipa::path(get, path = "/metrics", operation_id = "health_metrics", tag = "operation", responses((status = 200, content_type = "text/plain")))]
pub async fn metrics() -> impl IntoResponse {
    let handle = METRICS.get().and_then(Option::as_ref);
    run_metrics_upkeep();
    let text = handle.map(PrometheusHandle::render);
    (StatusCode::OK, [(CONTENT_TYPE, "text/plain; version=0.0.4")], text.unwrap_or_default())
}
