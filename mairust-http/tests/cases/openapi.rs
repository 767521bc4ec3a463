//! The description of the API.

use std::path::Path;

use axum::http::StatusCode;
use serde_json::Value;

use super::support::World;

#[test]
fn the_description_is_the_committed_one() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/openapi.json");
    let now = mairust_http::openapi_json();
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&golden, &now).unwrap();
    }
    let committed = std::fs::read_to_string(&golden).unwrap_or_default();
    assert!(committed == now, "docs/openapi.json is not up to date: run the tests with UPDATE=1");
}

#[test]
fn every_operation_is_described_in_full() {
    let description: Value = serde_json::from_str(&mairust_http::openapi_json()).unwrap();
    let mut operations = Vec::new();
    for (path, item) in description["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            operations.push(format!("{method} {path}"));
            assert!(operation["operationId"].is_string() && operation["summary"].is_string(), "{method} {path}");
            assert!(operation["responses"]["500"].is_object(), "{method} {path}");
            let protected = operation["security"].is_array();
            assert_eq!(protected, operation["responses"]["401"].is_object(), "{method} {path}");
            assert_eq!(path.contains("{id}"), operation["responses"]["404"].is_object(), "{method} {path}");
        }
    }
    let expected = [
        "delete /api/v1/hooks/{id}",
        "delete /api/v1/messages/{id}",
        "delete /api/v1/suppressions/{id}",
        "delete /api/v1/webhooks/{id}",
        "get /api/plugin/v1/messages/{id}",
        "get /api/plugin/v1/messages/{id}/attachments/{index}",
        "get /api/plugin/v1/messages/{id}/body",
        "get /api/plugin/v1/messages/{id}/raw",
        "get /api/plugin/v1/self",
        "get /api/v1/audit",
        "get /api/v1/audit/export",
        "get /api/v1/audit/verify",
        "get /api/v1/audit/{id}",
        "get /api/v1/events",
        "get /api/v1/events/stream",
        "get /api/v1/hooks",
        "get /api/v1/hooks/{id}",
        "get /api/v1/hooks/{id}/circuit",
        "get /api/v1/hooks/{id}/deliveries",
        "get /api/v1/hooks/{id}/deliveries/{delivery_id}",
        "get /api/v1/messages",
        "get /api/v1/messages/wait",
        "get /api/v1/messages/{id}",
        "get /api/v1/messages/{id}/attachments",
        "get /api/v1/messages/{id}/attachments/{index}",
        "get /api/v1/messages/{id}/raw",
        "get /api/v1/messages/{id}/text",
        "get /api/v1/messages/{id}/trace",
        "get /api/v1/openapi.json",
        "get /api/v1/queue",
        "get /api/v1/queue/destinations",
        "get /api/v1/queue/items",
        "get /api/v1/queue/items/{id}",
        "get /api/v1/queue/items/{id}/attempts",
        "get /api/v1/search",
        "get /api/v1/sends/{id}",
        "get /api/v1/sends/{id}/events",
        "get /api/v1/suppressions",
        "get /api/v1/suppressions/{id}",
        "get /api/v1/version",
        "get /api/v1/webhooks",
        "get /api/v1/webhooks/{id}",
        "get /api/v1/webhooks/{id}/deliveries",
        "get /api/v1/webhooks/{id}/deliveries/{delivery_id}",
        "get /health/live",
        "get /health/ready",
        "get /metrics",
        "patch /api/v1/hooks/{id}",
        "patch /api/v1/webhooks/{id}",
        "post /api/plugin/v1/invocations/{id}/complete",
        "post /api/plugin/v1/invocations/{id}/progress",
        "post /api/plugin/v1/logs",
        "post /api/plugin/v1/messages/{id}/actions",
        "post /api/v1/hooks",
        "post /api/v1/hooks/{id}/circuit",
        "post /api/v1/hooks/{id}/circuit/reset",
        "post /api/v1/hooks/{id}/deliveries/{delivery_id}/replay",
        "post /api/v1/hooks/{id}/deliveries/{delivery_id}/retry",
        "post /api/v1/hooks/{id}/disable",
        "post /api/v1/hooks/{id}/enable",
        "post /api/v1/hooks/{id}/retry",
        "post /api/v1/hooks/{id}/rotate-secret",
        "post /api/v1/hooks/{id}/rotate-secret/revoke-previous",
        "post /api/v1/hooks/{id}/test",
        "post /api/v1/messages/{id}/archive",
        "post /api/v1/messages/{id}/restore",
        "post /api/v1/queue/batch",
        "post /api/v1/queue/items/{id}/cancel",
        "post /api/v1/queue/items/{id}/hold",
        "post /api/v1/queue/items/{id}/release",
        "post /api/v1/queue/items/{id}/retry",
        "post /api/v1/queue/pause",
        "post /api/v1/queue/resume",
        "post /api/v1/send",
        "post /api/v1/send/preview",
        "post /api/v1/sends/{id}/cancel",
        "post /api/v1/sends/{id}/retry",
        "post /api/v1/suppressions",
        "post /api/v1/webhooks",
        "post /api/v1/webhooks/{id}/deliveries/{delivery_id}/replay",
        "post /api/v1/webhooks/{id}/disable",
        "post /api/v1/webhooks/{id}/enable",
        "post /api/v1/webhooks/{id}/rotate-secret",
        "post /api/v1/webhooks/{id}/test",
    ];
    operations.sort();
    assert_eq!(operations, expected);
}

#[test]
fn references_lead_somewhere() {
    let text = mairust_http::openapi_json();
    let description: Value = serde_json::from_str(&text).unwrap();
    let references: Vec<_> = text.split("\"$ref\": \"#").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    assert!(!references.is_empty());
    for reference in references {
        assert!(description.pointer(reference).is_some(), "{reference}");
    }
}

#[tokio::test]
async fn it_is_served_to_everybody() {
    let world = World::new().await;
    let answer = world.get_as("", "/api/v1/openapi.json").await;
    assert_eq!(answer.body, mairust_http::openapi_json());
    assert_eq!(answer.header("content-type"), "application/json");
    assert_eq!(answer.header("cache-control"), "no-cache");
    let tag = answer.header("etag").to_owned();
    let again = world.get_with("/api/v1/openapi.json", &[("if-none-match", &tag)]).await;
    assert_eq!(again.status, StatusCode::NOT_MODIFIED);
}
