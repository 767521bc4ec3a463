//! What happens after 250.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use mairust::{Actions, HookError, Mail};

use crate::TestServer;

#[tokio::test]
async fn a_post_receive_hook_puts_tags_on_a_stored_message() {
    let server = TestServer::start(|builder| {
        builder.post_receive("tagger", |mail: Mail| async move {
            assert!(mail.id().is_some(), "the message is stored");
            let name = mail.header("x-kind").unwrap_or("none").to_owned();
            Ok::<_, HookError>(Actions::none().tag(format!("kind:{name}")).tag("not a tag!"))
        })
    })
    .await;
    server.send(&["alice@example.com"], "Subject: x\r\nX-Kind: invoice\r\n\r\nx\r\n").await;
    let rows = server.messages(|rows| rows.iter().any(|row| !row.tags.is_empty())).await;
    assert_eq!(rows[0].tags, ["kind:invoice"]);
}

#[tokio::test]
async fn a_job_for_each_hook_and_a_panic_harms_nobody_else() {
    let calls = Arc::new(AtomicU32::new(0));
    let counter = calls.clone();
    let server = TestServer::start(|builder| {
        builder
            .post_receive("a-panics", move |_: Mail| {
                counter.fetch_add(1, Ordering::SeqCst);
                async { if std::hint::black_box(true) { panic!("on purpose") } else { Ok(Actions::none()) } }
            })
            .post_receive("b-tags", |_: Mail| async { Ok(Actions::none().tag("done")) })
    })
    .await;
    server.send(&["alice@example.com"], "Subject: x\r\n\r\nx\r\n").await;
    let rows = server.messages(|rows| rows.iter().any(|row| !row.tags.is_empty())).await;
    assert_eq!(rows[0].tags, ["done"]);
    assert!(calls.load(Ordering::SeqCst) <= 1, "a failed hook is called again later, not at once");
}
