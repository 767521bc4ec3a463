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
    let mut grants = Grants::default();
    (grants.read_headers, grants.read_body) = (true, BodyGrant::Preview);
    (grants.read_attachments, grants.write_tags) = (AttachmentGrant::Metadata, true);
    grants.decide = BTreeSet::from([Decide::Quarantine, Decide::Reject]);
    grants
}

fn remote(url: &str, points: &[HookPoint]) -> Remote {
    let plugin = Plugin { id: PLUGIN.to_owned(), version: "1.0.0".to_owned(), config_rev: 1, config: Map::new() };
    let mut hook = hook(url);
    hook.response_signature = ResponseSignature::Require;
    Remote::new(plugin, points.to_vec(), grants(), grants(), Arc::new(way(hook)))
}

/// Judges by the subject before a message is stored, and puts a tag on it afterwards.
fn judge(got: &Got) -> hyper::Response<Full<bytes::Bytes>> {
    let request: Value = serde_json::from_slice(&got.body).unwrap();
    let headers = request["message"]["headers"].as_array().unwrap();
    let subject = headers.iter().find(|field| field["name"] == "Subject").unwrap()["value"].as_str().unwrap();
    let answer = match subject {
        _ if request["hook"] == "post_receive" => {
            json!({"verdict": "allow", "actions": [{"op": "tag.add", "tags": ["seen"]}]})
        }
        "no" => json!({"verdict": "reject", "smtp": {"code": 554, "enhanced": "5.7.1", "text": "not here"}}),
        "odd" => json!({"verdict": "quarantine"}),
        _ => json!({"verdict": "allow"}),
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
    let handler = remote(&stand.url("/in"), &[HookPoint::PreReceive, HookPoint::PostReceive]);
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
    let refusing =
        stand.got().into_iter().find(|got| refused.contains(got.headers["x-mairust-request-id"].to_str().unwrap()));
    let request: Value = serde_json::from_slice(&refusing.expect("who is refused can ask about it").body).unwrap();
    assert_eq!((&request["hook"], &request["plugin"]["id"]), (&json!("pre_receive"), &json!(PLUGIN)));
    let points: Vec<_> = stand.got().iter().map(|got| got.headers["x-mairust-hook"].clone()).collect();
    assert_eq!(points.iter().filter(|point| *point == "post_receive").count(), 2, "{points:?}");
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
