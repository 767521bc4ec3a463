//! The examples and the Python package, asked about mail that comes by SMTP.

use mairust::testkit::{Folder, Server};
use mairust::{Binding, ProcessMode};
use mairust_hooks::protocol::Grants;
use mairust_hooks::protocol::request::Plugin;
use mairust_hooks::{Budgets, Remote};

use super::*;

const ALICE: &str = "alice@here.example";

fn sample(program: &str, mode: ProcessMode, points: &[HookPoint], grants: Value) -> Binding {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/hooks/stdin");
    let mut hook = ProcessHook::new("com.example.sample", program, examples);
    hook.mode = mode;
    bind(hook, points, grants)
}

fn bind(mut hook: ProcessHook, points: &[HookPoint], grants: Value) -> Binding {
    let granted: Grants = serde_json::from_value(grants).unwrap();
    hook.granted = granted.clone();
    let (clock, metrics) = (Arc::new(mairust::SystemClock), Arc::new(Metrics::new()));
    let transport = Arc::new(ProcessTransport::start(hook, clock, metrics));
    let plugin = Plugin {
        id: "com.example.sample".to_owned(),
        version: "1.0.0".to_owned(),
        config_rev: 0,
        config: serde_json::Map::new(),
    };
    let remote = Remote::new(plugin, points.to_vec(), granted.clone(), granted, transport);
    let mut binding = Binding::new(Arc::new(remote)).required();
    // The machine of a test may be slow.
    binding.timeout = Some(LONG);
    binding
}

async fn server(binding: Binding) -> Server {
    let setup = Server::builder()
        .user(ALICE, "correct horse")
        .with(|builder| builder.bind_hook(binding).hook_budgets(Budgets { pre_receive: LONG, pre_send: LONG }));
    setup.start().await.unwrap()
}

/// Brings a message; the reply.
async fn send(server: &Server, fields: &str, body: &str) -> String {
    let letter = format!("From: bob@remote.example\r\n{fields}\r\n\r\n{body}");
    let replies = within(server.receive("bob@remote.example", &[ALICE], letter)).await.unwrap();
    replies[0].to_string()
}

#[tokio::test]
async fn the_worker_tags_quarantines_and_refuses() {
    let grants = json!({
        "read_headers": true, "read_attachments": "metadata", "write_tags": true, "decide": ["reject", "quarantine"],
    });
    let points = [HookPoint::PreReceive, HookPoint::PostReceive];
    let server = server(sample("worker.py", ProcessMode::Worker, &points, grants)).await;
    let reply = send(&server, "Subject: hello\r\nX-Test-Reject: yes", "Hello!\r\n").await;
    assert!(reply.starts_with("550 5.7.1 Not wanted here [inv_"), "{reply}");
    let attached = "--b\r\nContent-Type: text/plain\r\n\r\nLook!\r\n--b\r\nContent-Type: application/octet-stream\r\n\
                    Content-Disposition: attachment; filename=\"Game.EXE\"\r\n\r\nMZ\r\n--b--\r\n";
    let fields = "Subject: a game\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b";
    assert!(send(&server, fields, attached).await.starts_with("250"));
    assert!(send(&server, "Subject: =?utf-8?q?Your_Invoice?=", "Pay!\r\n").await.starts_with("250"));
    assert!(send(&server, "Subject: hello", "Hello!\r\n").await.starts_with("250"));
    server.settled().await.unwrap();
    assert_eq!(server.folder(ALICE, Folder::Quarantine).await.unwrap().len(), 1);
    let tags: Vec<_> = server.inbox(ALICE).await.unwrap().into_iter().map(|mail| mail.row.tags).collect();
    assert_eq!(tags, [vec!["invoice".to_owned()], vec![]]);
    within(server.stop()).await.unwrap();
}

#[tokio::test]
async fn the_program_for_one_message_refuses() {
    let grants = json!({ "read_headers": true, "decide": ["reject"] });
    let server = server(sample("oneshot.py", ProcessMode::Oneshot, &[HookPoint::PreReceive], grants)).await;
    let reply = send(&server, "Subject: hello\r\nX-Test-Reject: yes", "Hello!\r\n").await;
    assert!(reply.starts_with("550 5.7.1 Message rejected [inv_"), "{reply}");
    assert!(send(&server, "Subject: hello", "Hello!\r\n").await.starts_with("250"));
    assert_eq!(server.inbox(ALICE).await.unwrap().len(), 1);
}

/// The same file that the tests of the package run in every other way.
#[tokio::test]
async fn hooks_of_the_python_package_are_a_worker() {
    let package = Path::new(env!("CARGO_MANIFEST_DIR")).join("../mairust-py/python");
    let mut hook = ProcessHook::new("com.example.sample", "/usr/bin/env", package);
    hook.arguments = ["python3", "-m", "mairust.plugin", "../tests/hooks_example.py"].map(Into::into).to_vec();
    let grants = json!({ "read_headers": true, "write_tags": true, "decide": ["reject", "quarantine"] });
    let server = server(bind(hook, &[HookPoint::PreReceive], grants)).await;
    let reply = send(&server, "Subject: refuse", "Hello!\r\n").await;
    assert!(reply.starts_with("550 5.7.1 Not this one [inv_"), "{reply}");
    assert!(send(&server, "Subject: keep apart", "Hello!\r\n").await.starts_with("250"));
    // What a hook raises is a failure of this call, and the worker lives.
    for subject in ["fail", "exit", "bool"] {
        let reply = send(&server, &format!("Subject: {subject}"), "Hello!\r\n").await;
        assert!(reply.starts_with("451 4.3.0 ") && !reply.contains("secret"), "{reply}");
        assert!(send(&server, "Subject: hello", "Hello!\r\n").await.starts_with("250"));
    }
    assert_eq!(server.folder(ALICE, Folder::Quarantine).await.unwrap().len(), 1);
    assert_eq!(server.inbox(ALICE).await.unwrap().len(), 3);
    within(server.stop()).await.unwrap();
}
