//! Mail through a whole server, with a hook over HTTP.

use std::collections::BTreeSet;
use std::sync::Arc;

use http_body_util::Full;
use mairust::hook_protocol::request::Plugin;
use mairust::hook_protocol::{AttachmentGrant, BodyGrant, Decide, Grants};
use mairust::testkit::{Folder, Server};
use mairust::{Binding, HookHandler, HookPoint, Remote, ResponseSignature};
use serde_json::{Map, Value, json};

use super::{Act, Got, PLUGIN, Stand, Step, hook, keys, response, signature, way};

const ALICE: &str = "alice@here.example";

fn grants() -> Grants {
    Grants {
        read_headers: true,
        read_body: BodyGrant::Preview,
        read_attachments: AttachmentGrant::Metadata,
        write_tags: true,
        decide: BTreeSet::from([Decide::Quarantine, Decide::Reject]),
        ..Grants::default()
    }
}

fn remote(url: &str, points: &[HookPoint]) -> Remote {
    let plugin = Plugin { id: PLUGIN.to_owned(), version: "1.0.0".to_owned(), config_rev: 1, config: Map::new() };
    let mut hook = hook(url);
    hook.response_signature = ResponseSignature::Require;
    Remote::new(plugin, points.to_vec(), grants(), grants(), Arc::new(way(hook)))
}

/// Judges by the subject.
fn judge(got: &Got) -> hyper::Response<Full<bytes::Bytes>> {
    let request: Value = serde_json::from_slice(&got.body).unwrap();
    let headers = request["message"]["headers"].as_array().unwrap();
    let subject = headers.iter().find(|field| field["name"] == "Subject").unwrap()["value"].as_str().unwrap();
    let answer = match subject {
        "no" => json!({"verdict": "reject", "smtp": {"code": 554, "enhanced": "5.7.1", "text": "not here"}}),
        "odd" => json!({"verdict": "quarantine"}),
        _ => json!({"verdict": "allow", "actions": [{"op": "tag.add", "tags": ["seen"]}]}),
    }
    .to_string();
    let signature = signature(got, &answer, &keys().0);
    response(200).header("x-mairust-response-signature", signature).body(Full::from(answer)).unwrap()
}

async fn send(server: &Server, subject: &str) -> String {
    let letter = format!("From: bob@remote.example\r\nSubject: {subject}\r\n\r\nHello!\r\n");
    server.receive("bob@remote.example", &[ALICE], letter).await.unwrap()[0].to_string()
}

#[tokio::test]
async fn a_hook_elsewhere_decides_about_mail() {
    let stand = Stand::start(|_| Act::Serve(Arc::new(judge))).await;
    let handler = remote(&stand.url("/in"), &[HookPoint::PreReceive]);
    let setup = Server::builder().user(ALICE, "correct horse").with(|builder| builder.hook(handler));
    let server = setup.start().await.unwrap();
    assert!(send(&server, "hello").await.starts_with("250"));
    assert!(send(&server, "odd").await.starts_with("250"));
    let refused = send(&server, "no").await;
    assert!(refused.starts_with("554 5.7.1 not here [inv_"), "{refused}");
    server.settled().await.unwrap();
    let inbox = server.inbox(ALICE).await.unwrap();
    assert_eq!(inbox.iter().map(|mail| mail.row.tags.clone()).collect::<Vec<_>>(), [["seen"]]);
    assert_eq!(server.folder(ALICE, Folder::Quarantine).await.unwrap().len(), 1);
    let got = stand.got();
    let request: Value = serde_json::from_slice(&got[2].body).unwrap();
    let id = got[2].headers["x-mairust-request-id"].to_str().unwrap();
    assert_eq!((&request["invocation_id"], &request["plugin"]["id"]), (&json!(id), &json!(PLUGIN)));
    assert!(refused.contains(id), "who is refused can ask about it");
    assert_eq!(stand.connections(), 1);
}

#[tokio::test]
async fn a_hook_that_does_not_answer_costs_mail_its_time_and_no_more() {
    let stand = Stand::start(|_| Act::Steps(vec![Step::Hang])).await;
    let handler: Arc<dyn HookHandler> = Arc::new(remote(&stand.url("/in"), &[HookPoint::PreReceive]));
    let mut binding = Binding::new(handler).required();
    binding.timeout = Some(std::time::Duration::from_millis(200));
    let setup = Server::builder().user(ALICE, "correct horse").with(|builder| builder.bind_hook(binding));
    let server = setup.start().await.unwrap();
    let refused = send(&server, "hello").await;
    assert!(refused.starts_with("451 4.3.0 Policy service unavailable"), "{refused}");
}
