//! Mail of the server itself, and the hooks at `pre_send` that want to see it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use mairust::hook_protocol::Action;
use mairust::hook_protocol::request::SessionOrigin;
use mairust::testkit::{Folder, Server, Sink, Step};
use mairust::{Answer, Binding, HookCall, HookError, HookHandler, HookPoint, ReversePath, Verdict};
use serde_json::json;

const ALICE: &str = "alice@here.example";

/// Lets mail of users pass, and says the same about all mail of the server.
#[derive(Debug)]
struct Says {
    name: &'static str,
    about_notices: Result<Answer, HookError>,
    seen: Mutex<Vec<(SessionOrigin, String)>>,
}

impl Says {
    fn new(name: &'static str, about_notices: Result<Verdict, HookError>) -> Arc<Self> {
        let field = json!({"op": "header.add", "name": "X-Seen-By", "value": name});
        let actions = [field, json!({"op": "move", "folder": "Junk"})];
        let actions = actions.map(|action| serde_json::from_value::<Action>(action).unwrap());
        let answer = |verdict| actions.into_iter().fold(Answer::from(verdict).tag(name), Answer::then);
        Arc::new(Self { name, about_notices: about_notices.map(answer), seen: Mutex::default() })
    }

    fn seen(&self) -> Vec<SessionOrigin> {
        self.seen.lock().unwrap().iter().map(|(origin, _)| *origin).collect()
    }
}

#[async_trait::async_trait]
impl HookHandler for Says {
    fn name(&self) -> &str {
        self.name
    }

    fn points(&self) -> &[HookPoint] {
        &[HookPoint::PreSend]
    }

    async fn call(&self, call: &HookCall) -> Result<Answer, HookError> {
        let origin = call.facts.origin;
        self.seen.lock().unwrap().push((origin, call.mail.subject().unwrap_or_default().to_owned()));
        if origin != SessionOrigin::Internal {
            return Ok(Answer::allow());
        }
        assert_eq!(call.mail.envelope().sender, ReversePath::Null);
        assert_eq!(call.mail.envelope().recipients[0].to_string(), ALICE);
        self.about_notices.clone()
    }
}

fn wants_internal(hook: &Arc<Says>) -> Binding {
    let mut binding = Binding::new(hook.clone());
    binding.include_internal = true;
    binding
}

/// The notice that comes of a letter to nobody.
async fn notice(server: &Server) -> mairust::testkit::StoredMessage {
    let refuses = Sink::builder().on(Step::Rcpt, "550 5.1.1 no such user");
    let _sink = server.fleet().domain("remote.example", refuses).await.unwrap();
    let letter = format!("From: {ALICE}\r\nSubject: hello\r\n\r\nBob\r\n");
    let replies = server.submit(ALICE, &["bob@remote.example"], letter).await.unwrap();
    assert!(replies[0].is_positive(), "{replies:?}");
    server.settled().await.unwrap();
    let mut inbox = server.inbox(ALICE).await.unwrap();
    assert_eq!(inbox.len(), 1);
    let notice = inbox.remove(0);
    assert_eq!(notice.row.subject.as_deref(), Some("Undelivered Mail Returned to Sender"));
    notice
}

#[tokio::test]
async fn hooks_add_to_notices_and_refuse_none() {
    use SessionOrigin::{Internal, Submission};
    let refuses = Says::new("a-refuses", Ok(Verdict::reject("never")));
    let defers = Says::new("b-defers", Ok(Verdict::tempfail("later")));
    let keeps = Says::new("c-keeps", Ok(Verdict::quarantine("odd")));
    let fails = Says::new("d-fails", Err(HookError::new("no idea")));
    let others = Says::new("e-others", Ok(Verdict::reject("never")));
    let mut early = wants_internal(&refuses);
    (early.priority, early.before_policy) = (1, true);
    let (defer, keep, fail, other) = (
        wants_internal(&defers),
        wants_internal(&keeps),
        wants_internal(&fails).required(),
        Binding::new(others.clone()),
    );
    let setup = Server::builder().user(ALICE, "correct horse").with(move |builder| {
        [early, defer, keep, fail, other].into_iter().fold(builder, |builder, binding| builder.bind_hook(binding))
    });
    let server = setup.start().await.unwrap();
    let notice = notice(&server).await;
    for hook in [&refuses, &defers, &keeps, &fails] {
        assert_eq!(hook.seen(), [Submission, Internal], "{}", hook.name);
    }
    assert_eq!(others.seen(), [Submission]);
    for name in ["a-refuses", "b-defers", "c-keeps"] {
        assert!(notice.contains(&format!("X-Seen-By: {name}\r\n")), "{notice:?}");
    }
    assert_eq!(
        (&notice.row.tags[..], notice.row.folder),
        (&["a-refuses", "b-defers", "c-keeps"].map(str::to_owned)[..], Folder::Inbox)
    );
    let query = mairust_store::HookInvocationQuery { limit: 100, ..Default::default() };
    let calls = loop {
        let found = server.storage().hooks().invocations(notice.row.tenant, &query).await.unwrap().items;
        if found.len() == 9 {
            break found;
        }
        tokio::task::yield_now().await;
    };
    let about: Vec<_> = calls.iter().filter(|call| call.message == Some(notice.row.id)).collect();
    let mut said: Vec<_> =
        about.iter().map(|call| (call.binding.as_str(), call.outcome.as_str(), call.report.let_pass)).collect();
    said.sort_unstable();
    let expected = [
        ("a-refuses", "reject", false),
        ("b-defers", "tempfail", false),
        ("c-keeps", "quarantine", false),
        ("d-fails", "crash", true),
    ];
    assert_eq!(said, expected);
    let moved = about.iter().flat_map(|call| &call.report.actions).filter(|action| action.op == "move");
    assert!(moved.into_iter().all(|action| action.result != "applied"), "a notice goes where it goes");
}

#[tokio::test]
async fn a_hook_that_is_left_alone_holds_up_no_notice() {
    let hook = Says::new("hangs", Err(HookError::new("no idea")));
    let mut binding = wants_internal(&hook).required();
    binding.circuit = mairust::Circuit::ForcedOpen;
    binding.recipients = Some(mairust::RecipientFilter::parse("alice@.*").unwrap());
    let setup = Server::builder().user(ALICE, "correct horse").with(move |builder| builder.bind_hook(binding));
    let server = setup.start().await.unwrap();
    let notice = notice(&server).await;
    assert!(!notice.contains("X-Seen-By"));
    assert_eq!(hook.seen(), [], "mail of the user was for somebody else");
    server.pass(Duration::from_secs(3_600)).await.unwrap();
    assert_eq!(server.inbox(ALICE).await.unwrap().len(), 1);
}
