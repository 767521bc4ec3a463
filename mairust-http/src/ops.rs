//! For whoever runs the server: health and metrics, at the root.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use mairust_store::{StoreError, StoreErrorKind};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::auth::{Authenticated, Scope};
use crate::openapi::{AccessErrors, FailureErrors};
use crate::problem::Problem;
use crate::state::ApiState;

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Whether the process runs.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Liveness {
    /// Always `ok`.
    status: &'static str,
}

/// Whether requests can be served.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Readiness {
    /// `ready` or `unavailable`.
    status: &'static str,
    components: BTreeMap<&'static str, ComponentHealth>,
}

/// Whether a part answers.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ComponentHealth {
    /// `up` or `down`.
    status: &'static str,
    /// Why it is down: `full`, when there is too little room, or `unavailable`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    reason: Option<&'static str>,
}

impl ComponentHealth {
    /// Nothing that only operators should know.
    fn of(health: &Result<(), StoreError>) -> Self {
        let reason = health.as_ref().err().map(|error| match error.kind() {
            StoreErrorKind::Full => "full",
            _ => "unavailable",
        });
        Self { status: if reason.is_none() { "up" } else { "down" }, reason }
    }
}

/// All of them.
pub(crate) fn routes(with_metrics: bool) -> OpenApiRouter<ApiState> {
    let health = OpenApiRouter::new().routes(routes!(live)).routes(routes!(ready));
    if with_metrics { health.routes(routes!(metrics)) } else { health }
}

/// Check that the process runs
#[utoipa::path(
    get, path = "/health/live", tag = "operations", operation_id = "check_liveness",
    responses((status = 200, description = "It runs", body = Liveness), FailureErrors)
)]
async fn live() -> Json<Liveness> {
    Json(Liveness { status: "ok" })
}

/// Check that requests can be served
#[utoipa::path(
    get, path = "/health/ready", tag = "operations", operation_id = "check_readiness",
    responses(
        (status = 200, description = "All parts answer", body = Readiness),
        (status = 503, description = "At least one part doesn't", body = Readiness),
        FailureErrors,
    )
)]
async fn ready(State(state): State<ApiState>) -> Response {
    let mut components = BTreeMap::new();
    let mut all_up = true;
    for (name, health) in state.storage().health().await {
        if let Err(error) = &health {
            tracing::warn!(part = name, %error, "not ready");
        }
        all_up &= health.is_ok();
        components.insert(name, ComponentHealth::of(&health));
    }
    let (code, status) =
        if all_up { (StatusCode::OK, "ready") } else { (StatusCode::SERVICE_UNAVAILABLE, "unavailable") };
    (code, Json(Readiness { status, components })).into_response()
}

/// Read the metrics
#[utoipa::path(
    get, path = "/metrics", tag = "operations", operation_id = "read_metrics",
    security(("api_key" = ["metrics:read"])),
    responses(
        (status = 200, description = "OpenMetrics", body = String,
            content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8"),
        AccessErrors,
    )
)]
async fn metrics(State(state): State<ApiState>, Authenticated(principal): Authenticated) -> Result<Response, Problem> {
    principal.require(Scope::MetricsRead)?;
    let source = state.metrics().ok_or_else(Problem::not_found)?;
    Ok(([(CONTENT_TYPE, OPENMETRICS)], source.render()).into_response())
}
