//! One message for recipients of several tenants.

use std::sync::{Arc, Mutex};

use mairust::hook_protocol::Action;
use mairust::testkit::{Folder, Mishap, Server, ServerSetup, StoreErrorKind};
use mairust::{
    Answer, CrossTenant, Domain, EmailAddress, Mail, MessageQuery, ScanAction, ScanError, ScanReport, ScanRequest,
    Scanner, Service, TenantId, Verdict,
};
use mairust_store::{HookInvocation, HookInvocationQuery, NewTenant, NewUser, PasswordRecord};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::within;

const ALICE: &str = "alice@here.example";
const BOB: &str = "bob@remote.example";
const CAROL: &str = "carol@there.example";
const DAVE: &str = "dave@there.example";

/// The recipients that hooks were shown, call by call.
type Seen = Arc<Mutex<Vec<Vec<String>>>>;

/// Two tenants, whose mail is judged by what the subject says: `here=reject there=allow`.
struct Two {
    server: Server,
    here: TenantId,
    there: TenantId,
    seen: Seen,
}

impl Two {
    async fn start(adjust: impl FnOnce(ServerSetup) -> ServerSetup) -> Self {
        let seen = Seen::default();
        let told = seen.clone();
        let hook = move |mail: Mail| {
            let recipients: Vec<_> = mail.envelope().recipients.iter().map(ToString::to_string).collect();
            let answer = answer(mail.subject().unwrap_or_default(), &recipients[0]);
            told.lock().unwrap().push(recipients);
            async move { answer }
        };
        let setup = Server::builder().user(ALICE, "correct horse").with(move |builder| {
            builder
                .cross_tenant(CrossTenant::Split)
                .listen(Service::Lmtp, "127.0.0.1:0")
                .pre_receive("by-subject", hook)
        });
        let server = adjust(setup).start().await.unwrap();
        let directory = server.storage().directory();
        let here = directory.tenants().await.unwrap().remove(0).id;
        let mut tenant = NewTenant::default();
        tenant.name = "there".to_owned();
        let there = directory.create_tenant(tenant).await.unwrap().id;
        directory.create_domain(there, &Domain::parse("there.example").unwrap()).await.unwrap();
        for address in [CAROL, DAVE] {
            let address = EmailAddress::parse(address).unwrap();
            let new = NewUser { address, login: None, password: PasswordRecord::of_hash("hash") };
            directory.create_user(there, new).await.unwrap();
        }
        Self { server, here, there, seen }
    }

    /// The one answer to a message.
    async fn send(&self, to: &[&str], subject: &str) -> String {
        let replies = within(self.server.receive(BOB, to, letter(subject))).await.unwrap();
        assert!(replies.iter().all(|reply| *reply == replies[0]), "{replies:?}");
        replies[0].to_string().trim_end().to_owned()
    }

    /// The folders in which a tenant has messages with this subject.
    async fn folders(&self, tenant: TenantId, subject: &str) -> Vec<Folder> {
        let query = MessageQuery { limit: 100, ..MessageQuery::default() };
        let rows = self.server.storage().messages().list(tenant, &query).await.unwrap().items;
        rows.iter().filter(|row| row.subject.as_deref() == Some(subject)).map(|row| row.folder).collect()
    }

    /// What a tenant can read about calls of hooks, the newest first, once there are as many.
    async fn calls(&self, tenant: TenantId, count: usize) -> Vec<HookInvocation> {
        let query = HookInvocationQuery { limit: 100, ..HookInvocationQuery::default() };
        within(async {
            loop {
                let found = self.server.storage().hooks().invocations(tenant, &query).await.unwrap().items;
                if found.len() >= count {
                    return found;
                }
                tokio::task::yield_now().await;
            }
        })
        .await
    }

    /// What LMTP answers for each recipient.
    async fn lmtp(&self, to: &[&str], subject: &str) -> Vec<String> {
        let listeners = &self.server.addresses().smtp;
        let address = listeners.iter().find(|(service, _)| *service == Service::Lmtp).unwrap().1;
        let mut stream = TcpStream::connect(address).await.unwrap();
        let recipients: String = to.iter().map(|to| format!("RCPT TO:<{to}>\r\n")).collect();
        let envelope = format!("LHLO client.test\r\nMAIL FROM:<{BOB}>\r\n{recipients}DATA\r\n");
        let message = format!("{}.\r\nQUIT\r\n", letter(subject));
        stream.write_all(format!("{envelope}{message}").as_bytes()).await.unwrap();
        let mut answers = String::new();
        within(stream.read_to_string(&mut answers)).await.unwrap();
        let (_, answers) = answers.split_once("\r\n354 ").unwrap();
        let answers: Vec<_> = answers.lines().skip(1).take(to.len()).map(|line| line[..9].to_owned()).collect();
        assert_eq!(answers.len(), to.len());
        answers
    }
}

fn letter(subject: &str) -> String {
    format!("From: {BOB}\r\nSubject: {subject}\r\n\r\nHello!\r\n")
}

/// What the subject says about the tenant of this recipient.
fn answer(subject: &str, recipient: &str) -> Answer {
    let tenant = if recipient.ends_with("@here.example") { "here" } else { "there" };
    let said = subject.split(' ').find_map(|part| part.strip_prefix(tenant)?.strip_prefix('='));
    let field = serde_json::json!({"op": "header.add", "name": "X-Seen-By", "value": tenant});
    let seen = |answer: Answer| answer.tag(tenant).then(serde_json::from_value::<Action>(field).unwrap());
    match said {
        Some("reject") => Verdict::reject(format!("Not {tenant}")).into(),
        Some("tempfail") => Verdict::tempfail(format!("Later {tenant}")).into(),
        Some("quarantine") => seen(Verdict::quarantine("odd").into()),
        _ => seen(Answer::allow()),
    }
}

#[tokio::test]
async fn each_tenant_gets_a_copy_and_sees_its_own_recipients() {
    for is_sqlite in [false, true] {
        let two = Two::start(|setup| if is_sqlite { setup.sqlite() } else { setup }).await;
        let reply = two.send(&[CAROL, ALICE, DAVE], "all").await;
        let query = MessageQuery { limit: 100, ..MessageQuery::default() };
        let messages = two.server.storage().messages();
        let (here, there) =
            (messages.list(two.here, &query).await.unwrap(), messages.list(two.there, &query).await.unwrap());
        assert_eq!((here.items.len(), there.items.len()), (1, 2));
        assert!(there.items.iter().any(|row| reply == format!("250 2.0.0 {}", row.id)), "{reply}");
        for (row, tenant) in
            here.items.iter().map(|row| (row, "here")).chain(there.items.iter().map(|row| (row, "there")))
        {
            assert_eq!((&row.tags[..], row.folder), (&[tenant.to_owned()][..], Folder::Inbox));
            let raw = messages.body(row.tenant, row.id).await.unwrap().read_all().unwrap();
            let raw = std::str::from_utf8(&raw).unwrap();
            assert!(raw.contains(&format!("X-Seen-By: {tenant}\r\n")), "{raw}");
            assert_eq!(raw.matches("X-Seen-By").count(), 1, "{raw}");
            assert_eq!(raw.contains("for <alice@here.example>"), tenant == "here", "{raw}");
        }
        let mut seen = two.seen.lock().unwrap().clone();
        seen.sort();
        assert_eq!(seen, [vec![ALICE.to_owned()], vec![CAROL.to_owned(), DAVE.to_owned()]]);
    }
}

#[tokio::test]
async fn verdicts_that_differ_refuse_nothing_and_later_is_later_for_all() {
    use Folder::{Inbox, Quarantine};
    let two = Two::start(|setup| setup).await;
    let none: &[Folder] = &[];
    for (subject, reply, here, there) in [
        ("here=allow there=allow", "250 2.0.0", &[Inbox][..], &[Inbox][..]),
        ("here=reject there=allow", "250 2.0.0", &[Quarantine], &[Inbox]),
        ("here=allow there=reject", "250 2.0.0", &[Inbox], &[Quarantine]),
        ("here=quarantine there=reject", "250 2.0.0", &[Quarantine], &[Quarantine]),
        ("here=quarantine there=allow", "250 2.0.0", &[Quarantine], &[Inbox]),
        ("here=allow there=tempfail", "451 4.7.1 Later there", none, none),
        ("here=reject there=tempfail", "451 4.7.1 Later there", none, none),
        ("here=tempfail there=tempfail", "451 4.7.1 Later here", none, none),
        ("here=reject there=reject", "550 5.7.1 Not here", none, none),
    ] {
        let answer = two.send(&[ALICE, CAROL], subject).await;
        assert!(answer.starts_with(reply), "{subject}: {answer}");
        let kept = (two.folders(two.here, subject).await, two.folders(two.there, subject).await);
        assert_eq!(kept, (here.to_vec(), there.to_vec()), "{subject}");
    }
    assert_eq!(two.send(&[CAROL, ALICE], "here=reject there=reject").await, "550 5.7.1 Not there");
    let calls = two.calls(two.here, 10).await;
    assert_eq!(calls.len(), 10);
    assert!(calls.iter().all(|call| call.report.rcpt_to == [ALICE]), "{calls:?}");
    let refused: Vec<_> = calls.iter().filter(|call| call.outcome == "reject").collect();
    assert_eq!(refused.iter().filter(|call| call.message.is_some()).count(), 1, "the one that went into quarantine");
    assert_eq!(refused.len(), 4);
    // Who hears no refusal sends nothing back.
    assert_eq!(two.folders(two.here, "Undelivered Mail Returned to Sender").await, []);
}

#[tokio::test]
async fn a_copy_for_both_or_for_nobody() {
    let two = Two::start(|setup| setup.sqlite()).await;
    two.server.mishaps().once("messages.accept", Mishap::Fail(StoreErrorKind::Unavailable));
    assert!(two.send(&[ALICE, CAROL], "first").await.starts_with("451 4.3.0"));
    assert_eq!(two.folders(two.here, "first").await.len() + two.folders(two.there, "first").await.len(), 0);
    // The storage did it, and did not say so: whoever comes again is told, and nobody has it twice.
    two.server.mishaps().once("messages.accept", Mishap::LoseAnswer(StoreErrorKind::Unavailable));
    assert!(two.send(&[ALICE, CAROL], "second").await.starts_with("451 4.3.0"));
    assert!(two.send(&[ALICE, CAROL], "second").await.starts_with("250 2.0.0"));
    assert_eq!((two.folders(two.here, "second").await.len(), two.folders(two.there, "second").await.len()), (1, 1));
    // Also whoever submits to both.
    two.server.mishaps().once("messages.accept", Mishap::LoseAnswer(StoreErrorKind::Unavailable));
    let letter = format!("From: {ALICE}\r\nSubject: third\r\n\r\nx\r\n");
    for reply in ["451 4.3.0", "250 2.0.0"] {
        let replies = within(two.server.submit(ALICE, &[ALICE, CAROL], &letter)).await.unwrap();
        assert!(replies[0].to_string().starts_with(reply), "{replies:?}");
    }
    assert_eq!(two.folders(two.there, "third").await, [Folder::Inbox]);
    assert_eq!(two.folders(two.here, "third").await.len(), 2, "the sender's copy, and that of the recipient");
}

/// Refuses mail for `there.example`.
#[derive(Debug)]
struct Picky;

#[async_trait::async_trait]
impl Scanner for Picky {
    fn name(&self) -> &str {
        "picky"
    }

    async fn scan(&self, request: &ScanRequest) -> Result<ScanReport, ScanError> {
        let is_there = request.mail.envelope().recipients[0].domain().as_str() == "there.example";
        let action = match (is_there, request.mail.subject()) {
            (false, _) => ScanAction::Accept,
            (true, Some("greylisted")) => ScanAction::Defer,
            (true, _) => ScanAction::Reject,
        };
        Ok(ScanReport::new("picky", action, 3.5))
    }
}

#[tokio::test]
async fn scanners_say_it_for_each_tenant() {
    let two = Two::start(|setup| setup.with(|builder| builder.scanner(Picky))).await;
    assert!(two.send(&[ALICE, CAROL], "greylisted").await.starts_with("451 4.7.1"));
    assert_eq!(two.seen.lock().unwrap().len(), 0, "hooks are not asked in vain");
    assert!(two.send(&[ALICE, CAROL], "odd").await.starts_with("250 2.0.0"));
    assert_eq!(
        (two.folders(two.here, "odd").await, two.folders(two.there, "odd").await),
        (vec![Folder::Inbox], vec![Folder::Quarantine])
    );
    assert_eq!(*two.seen.lock().unwrap(), [vec![ALICE.to_owned()]], "what a scanner refuses, hooks do not see");
    assert!(two.send(&[CAROL], "odd").await.starts_with("550 5.7.1"));
}

#[tokio::test]
async fn lmtp_answers_for_each_tenant() {
    for mode in [CrossTenant::Split, CrossTenant::Defer] {
        let two = Two::start(|setup| setup.with(move |builder| builder.cross_tenant(mode))).await;
        for (subject, answers, kept) in [
            ("x here=allow there=allow", ["250 2.0.0"; 3], (1, 2)),
            ("x here=reject there=allow", ["250 2.0.0", "550 5.7.1", "250 2.0.0"], (0, 2)),
            ("x here=allow there=tempfail", ["451 4.7.1", "250 2.0.0", "451 4.7.1"], (1, 0)),
        ] {
            assert_eq!(two.lmtp(&[CAROL, ALICE, DAVE], subject).await, answers, "{subject}");
            let found = (two.folders(two.here, subject).await, two.folders(two.there, subject).await);
            assert_eq!((found.0.len(), found.1.len()), kept, "{subject}");
            assert!(found.0.iter().chain(&found.1).all(|folder| *folder == Folder::Inbox));
        }
        assert!(two.seen.lock().unwrap().iter().all(|seen| seen.len() == if seen[0] == ALICE { 1 } else { 2 }));
    }
}
