//! The bytes of a message.

use axum::http::StatusCode;
use serde_json::json;

use super::support::{START, World, mail};

const PREFIX: &[u8] = b"Return-Path: <s@sender.example>\r\n";
const WITH_ATTACHMENTS: &str = "Subject: files\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n\
    --b\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nこんにちは\r\n\
    --b\r\nContent-Type: application/pdf\r\nContent-Disposition: attachment; filename*=UTF-8''%E8%AB%8B%E6%B1%82.pdf\r\n\
    Content-Transfer-Encoding: base64\r\n\r\nAAEC/w==\r\n\
    --b\r\nContent-Type: text/html\r\nContent-Disposition: attachment; filename=\"a.html\"\r\n\r\n<script>1</script>\r\n--b--\r\n";
/// Of the octets 00 01 02 ff.
const PDF_SHA256: &str = "3d1f57c984978ef98a18378c8166c1cb8ede02c03eeb6aee7e2f121dfeee3e56";

fn all_octets() -> Vec<u8> {
    let mut raw = b"Subject: octets\r\n\r\n".to_vec();
    raw.extend(0..=255_u8);
    raw.extend((0..=255_u8).rev());
    raw
}

#[tokio::test]
async fn raw_is_what_was_received() {
    let world = World::new().await;
    let id = world.receive(&world.alice, all_octets(), START).await;
    let answer = world.get(&format!("/api/v1/messages/{id}/raw")).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.body, [PREFIX, &all_octets()].concat());
    assert_eq!(answer.header("content-type"), "message/rfc822");
    assert_eq!(answer.header("content-length"), answer.body.len().to_string());
    assert_eq!(answer.header("accept-ranges"), "bytes");
    assert_eq!(answer.header("x-content-type-options"), "nosniff");
    assert_eq!(answer.header("cache-control"), "no-store");
}

#[tokio::test]
async fn ranges_are_parts_of_it() {
    let world = World::new().await;
    let path = format!("/api/v1/messages/{}/raw", world.receive(&world.alice, all_octets(), START).await);
    let whole = [PREFIX, &all_octets()].concat();
    let size = whole.len();
    for (range, start, end) in [("bytes=0-9", 0, 10), ("bytes=100-", 100, size), ("bytes=-7", size - 7, size)] {
        let part = world.get_with(&path, &[("range", range)]).await;
        assert_eq!(part.status, StatusCode::PARTIAL_CONTENT);
        assert_eq!(part.body, whole[start..end]);
        assert_eq!(part.header("content-range"), format!("bytes {start}-{}/{size}", end - 1));
        assert_eq!(part.header("content-length"), (end - start).to_string());
        assert_eq!(part.header("content-type"), "message/rfc822");
    }
    let outside = world.get_with(&path, &[("range", &format!("bytes={size}-"))]).await;
    outside.expect_problem(416, "range_not_satisfiable");
    assert_eq!(outside.header("content-range"), format!("bytes */{size}"));
    for ignored in ["bytes=0-1,3-4", "lines=1-2", "bytes=9-1"] {
        assert_eq!(world.get_with(&path, &[("range", ignored)]).await.body, whole, "{ignored}");
    }
}

#[tokio::test]
async fn what_the_client_has_is_not_sent_again() {
    let world = World::new().await;
    let id = world.receive(&world.alice, WITH_ATTACHMENTS, START).await;
    for path in ["raw", "attachments/0"] {
        let path = format!("/api/v1/messages/{id}/{path}");
        let tag = world.get(&path).await.header("etag").to_owned();
        assert!(tag.starts_with("\"sha256-") && tag.len() == "\"sha256-\"".len() + 64, "{tag}");
        let again = world.get_with(&path, &[("if-none-match", &tag)]).await;
        assert_eq!((again.status, again.body.len()), (StatusCode::NOT_MODIFIED, 0));
        assert_eq!(again.header("etag"), tag);
        let changed = world.get_with(&path, &[("if-none-match", "\"sha256-00\"")]).await;
        assert_eq!(changed.status, StatusCode::OK);
    }
}

#[tokio::test]
async fn text_is_utf8() {
    let world = World::new().await;
    let id = world.receive(&world.alice, WITH_ATTACHMENTS, START).await;
    let answer = world.get(&format!("/api/v1/messages/{id}/text")).await;
    assert_eq!(answer.header("content-type"), "text/plain; charset=utf-8");
    assert_eq!(std::str::from_utf8(&answer.body).unwrap().trim(), "こんにちは");
}

#[tokio::test]
async fn attachments_are_listed_and_downloaded() {
    let world = World::new().await;
    let id = world.receive(&world.alice, WITH_ATTACHMENTS, START).await;
    let list = world.get(&format!("/api/v1/messages/{id}/attachments")).await.json();
    let pdf =
        json!({"index": 0, "filename": "請求.pdf", "content_type": "application/pdf", "size": 4, "sha256": PDF_SHA256});
    assert_eq!(list["items"][0], pdf);
    assert_eq!(list["items"].as_array().map(Vec::len), Some(2));
    assert_eq!(world.get(&format!("/api/v1/messages/{id}")).await.json()["attachments"], list["items"]);

    let pdf = world.get(&format!("/api/v1/messages/{id}/attachments/0")).await;
    assert_eq!(pdf.body, [0, 1, 2, 255].as_slice());
    assert_eq!(pdf.header("content-type"), "application/pdf");
    assert_eq!(pdf.header("etag"), format!("\"sha256-{PDF_SHA256}\""));
    let disposition = "attachment; filename=\"__.pdf\"; filename*=UTF-8''%E8%AB%8B%E6%B1%82.pdf";
    assert_eq!(pdf.header("content-disposition"), disposition);
    let html = world.get(&format!("/api/v1/messages/{id}/attachments/1")).await;
    assert_eq!(html.header("content-type"), "text/html");
    assert!(html.header("content-disposition").starts_with("attachment;"));
    for answer in [pdf, html] {
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        assert_eq!(answer.header("content-security-policy"), "sandbox");
    }
    world.get(&format!("/api/v1/messages/{id}/attachments/2")).await.expect_problem(404, "not_found");
}

#[tokio::test]
async fn messages_of_any_shape_can_be_read() {
    let world = World::new().await;
    for raw in [Vec::new(), vec![0xff; 300], b"\r\n\r\n".to_vec(), mail("", "")] {
        let id = world.receive(&world.alice, raw, START).await;
        for path in ["", "/raw", "/text", "/attachments"] {
            assert_eq!(world.get(&format!("/api/v1/messages/{id}{path}")).await.status, StatusCode::OK, "{path}");
        }
    }
}
