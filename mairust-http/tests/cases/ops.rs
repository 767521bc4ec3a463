//! Health, metrics, version.

use axum::http::StatusCode;
use mairust_http::Scope;
use mairust_store::StoreErrorKind;
use serde_json::json;

use super::support::{Failure, World, call, request};

#[tokio::test]
async fn health_is_public() {
    let world = World::new().await;
    let live = world.get_as("", "/health/live").await;
    assert_eq!((live.status, live.json()), (StatusCode::OK, json!({"status": "ok"})));
    let ready = world.get_as("", "/health/ready").await;
    let components = json!({"bodies": {"status": "up"}, "database": {"status": "up"}});
    assert_eq!((ready.status, ready.json()), (StatusCode::OK, json!({"status": "ready", "components": components})));
    let app = world.failing(Failure::Bodies(StoreErrorKind::Full));
    let down = call(&app, request("GET", "/health/ready", "", &[])).await;
    let components = json!({"bodies": {"status": "down", "reason": "full"}, "database": {"status": "up"}});
    assert_eq!(down.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(down.json(), json!({"status": "unavailable", "components": components}));
}

#[tokio::test]
async fn metrics_are_text() {
    let world = World::new().await;
    let app = world.with_metrics();
    let key = world.key(&[Scope::MetricsRead]).await;
    let answer = call(&app, request("GET", "/metrics", &key, &[])).await;
    assert_eq!(answer.body, "mairust_up 1\n# EOF\n");
    assert!(answer.header("content-type").starts_with("application/openmetrics-text"));
    call(&app, request("GET", "/metrics", "", &[])).await.expect_problem(401, "unauthenticated");
}

#[tokio::test]
async fn the_version_is_public() {
    let world = World::new().await;
    let version = world.get_as("", "/api/v1/version").await.json();
    assert_eq!(version, json!({"name": "mairust", "version": env!("CARGO_PKG_VERSION"), "api": "v1"}));
}
