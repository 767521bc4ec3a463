//! What servers record for the timelines of messages.

use std::time::Duration;

use mairust::testkit::{Act, Folder, Server, ServerSetup, Sink, SinkTls, Step, StoredMessage};
use mairust::{Clock, Mail, Service, Verdict};
use mairust_http::trace::{HookCall, TraceEntry, TraceEvent, trace};

const ALICE: &str = "alice@here.example";
const BOB: &str = "bob@remote.example";
const HOUR: Duration = Duration::from_secs(3_600);

fn here() -> ServerSetup {
    Server::builder().user(ALICE, "correct horse")
}

async fn entries(server: &Server, message: &StoredMessage) -> Vec<TraceEntry> {
    trace(server.storage(), message.row.tenant, message.row.id).await.unwrap().unwrap().entries
}

#[tokio::test]
async fn a_message_from_elsewhere_tells_of_its_session_and_the_hooks() {
    let hooks = |builder: mairust::ServerBuilder| {
        builder.pre_receive("calm", |_: Mail| async { Verdict::Allow }).pre_receive("panics", |_: Mail| async {
            if std::hint::black_box(true) { panic!("on purpose") } else { Verdict::Allow }
        })
    };
    for setup in [here(), here().sqlite()] {
        let server = setup.with(hooks).start().await.unwrap();
        server.receive(BOB, &[ALICE], "Subject: x\r\n\r\nx\r\n").await.unwrap();
        let message = server.inbox(ALICE).await.unwrap().remove(0);
        let entries = entries(&server, &message).await;
        assert!(entries.iter().all(|entry| entry.at == message.row.received_at));
        let TraceEvent::Received(session) = &entries[0].event else { panic!("{entries:?}") };
        assert_eq!((session.service.as_str(), session.protocol.as_str(), &session.user), ("mx", "ESMTP", &None));
        assert!(session.client.as_deref().is_some_and(|client| client.starts_with("127.")), "{session:?}");
        let mx = server.addresses().smtp.iter().find(|(service, _)| *service == Service::Mx).unwrap().1;
        assert_eq!(session.listener, Some(mx.to_string()));
        assert!(session.helo.is_some());
        let calls: Vec<&HookCall> = entries
            .iter()
            .filter_map(|entry| match &entry.event {
                TraceEvent::Hook(call) => Some(call),
                _ => None,
            })
            .collect();
        let told: Vec<_> = calls.iter().map(|call| (call.hook.as_str(), call.outcome.as_str())).collect();
        assert_eq!(told, [("calm", "allow"), ("panics", "crash")]);
        assert!(calls[1].reason.is_some() && calls.iter().all(|call| call.point == "pre_receive"));
        assert!(matches!(entries.last().unwrap().event, TraceEvent::Stored { folder: "INBOX", .. }), "{entries:?}");
        server.stop().await.unwrap();
    }
}

#[tokio::test]
async fn attempts_tell_of_hosts_and_of_what_comes_next() {
    for setup in [here(), here().sqlite()] {
        let server = setup.start().await.unwrap();
        let script = Sink::builder().on(Step::Mail, Act::reply("451 4.3.0 later").times(9));
        server.fleet().domain("remote.example", script.tls(SinkTls::SelfSigned)).await.unwrap();
        server.submit(ALICE, &[BOB], "From: alice@here.example\r\n\r\nHello!\r\n").await.unwrap();
        server.settled().await.unwrap();
        let sent = server.folder(ALICE, Folder::Sent).await.unwrap().remove(0);
        let first = entries(&server, &sent).await;
        let TraceEvent::Received(session) = &first[0].event else { panic!("{first:?}") };
        assert_eq!(session.user.as_deref(), Some(ALICE));
        assert!(matches!(&first[1].event, TraceEvent::Policy(facts) if facts.decision == "allow"), "{first:?}");
        let TraceEvent::Attempt { outcome, result, facts, .. } = &first[4].event else { panic!("{first:?}") };
        assert_eq!((*outcome, result.as_str()), ("deferred", "451 4.3.0 later"));
        let facts = facts.as_ref().unwrap();
        let tls = facts.tls.as_ref().unwrap();
        assert_eq!((tls.state.as_str(), tls.verified), ("on", false));
        assert!(tls.session.as_ref().unwrap().version.starts_with("TLSv1"), "{tls:?}");
        assert_eq!(facts.tls_rule.as_deref(), Some("opportunistic"));
        assert!(facts.address.is_some() && facts.source.is_some() && !facts.offered.is_empty(), "{facts:?}");
        let TraceEvent::NextAttempt { recipients, state, attempts, reason, .. } = &first[5].event else {
            panic!("{first:?}")
        };
        assert_eq!((recipients.as_slice(), *state, *attempts), (&[BOB.to_owned()][..], "waiting", 1));
        assert_eq!(reason.as_deref(), Some("451 4.3.0 later"));
        let wait = first[5].at.since(server.clock().now());
        assert!(wait > Duration::from_secs(90) && wait <= Duration::from_secs(120), "{wait:?}");

        server.pass(24 * HOUR).await.unwrap();
        let all = entries(&server, &sent).await;
        assert!(all.windows(2).all(|pair| pair[0].at <= pair[1].at));
        assert_eq!(all.last().unwrap().event, TraceEvent::Settled { status: "sent" });
        let attempts = all.iter().filter(|entry| matches!(entry.event, TraceEvent::Attempt { .. })).count();
        assert_eq!(attempts, 10);
        let notice = server.inbox(ALICE).await.unwrap().remove(0);
        let told = all.iter().find_map(|entry| match &entry.event {
            TraceEvent::Notice { message_id, about } => Some((entry.at, message_id.clone(), about.clone())),
            _ => None,
        });
        let (at, id, about) = told.unwrap();
        assert_eq!((at, id), (notice.row.received_at, notice.row.id.to_string()));
        assert_eq!((about[0].recipient.as_str(), about[0].what), (BOB, "delay"));
        server.stop().await.unwrap();
    }
}
