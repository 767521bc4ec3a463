//! Connections of the client that serve several messages, their number, and the moment of handing over.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use mairust_core::Body;
use mairust_smtp::client::{
    BeforeFinalDot, Client, ClientConfig, FakeResolver, Handover, LineEnds, Outcome, Protocol, Relay, Route, TlsRule,
    TlsUse,
};
use mairust_smtp::server::Service;
use tokio::time::timeout;

use crate::client::{Rule, Sink, message, outcomes, relay, settings};
use crate::support::{PATIENCE, Running, config};

/// A client that keeps connections, but not for long.
fn keeping(adjust: impl FnOnce(&mut ClientConfig)) -> Client {
    let mut config = settings();
    config.idle_time = Duration::from_millis(500);
    adjust(&mut config);
    Client::new(config, Arc::new(FakeResolver::new()))
}

fn count(heard: &[String], word: &str) -> usize {
    heard.iter().filter(|line| line.starts_with(word)).count()
}

#[tokio::test]
async fn messages_share_a_connection_which_ends_when_it_is_idle() {
    let sink = Sink::start(1, &[("RCPT TO:<no@", Some("550 5.1.1 no"))]).await;
    let client = keeping(|_| {});
    for (to, outcome, reused) in
        [("a@x.y", Outcome::Delivered, false), ("no@x.y", Outcome::Failed, true), ("b@x.y", Outcome::Delivered, true)]
    {
        let reports = client.deliver(&relay(sink.address), &message(&[to]), &()).await;
        assert_eq!((reports[0].outcome, reports[0].facts.reused), (outcome, reused), "{to}");
    }
    let heard = sink.heard().await;
    assert_eq!([count(&heard, "EHLO"), count(&heard, "RSET"), count(&heard, "DATA")], [1, 2, 2], "{heard:?}");
    assert_eq!(heard.last().unwrap(), "QUIT");
}

#[tokio::test]
async fn a_connection_serves_so_many_messages_and_no_more() {
    let sink = Sink::start(2, &[]).await;
    let client = keeping(|config| config.max_transactions = 2);
    for _ in 0..3 {
        client.deliver(&relay(sink.address), &message(&["a@x.y"]), &()).await;
    }
    let heard = sink.heard().await;
    assert_eq!([count(&heard, "EHLO"), count(&heard, "QUIT"), count(&heard, "DATA")], [2, 2, 3], "{heard:?}");
    let limited = Sink::start(2, &[("EHLO", Some("250-sink\r\n250 LIMITS MAILMAX=1"))]).await;
    let client = keeping(|_| {});
    for _ in 0..2 {
        client.deliver(&relay(limited.address), &message(&["a@x.y"]), &()).await;
    }
    assert_eq!(count(&limited.heard().await, "EHLO"), 2, "RFC 9422");
}

#[tokio::test]
async fn a_connection_that_died_while_idle_costs_nothing() {
    let cut: [&'static [Rule]; 4] =
        [&[("RSET", None)], &[("RSET", Some("421 bye"))], &[("RCPT TO:<b@", None)], &[("MAIL FROM:<b", None)]];
    for first in cut {
        let sink = Sink::listen("127.0.0.1:0", vec![first, &[]]).await;
        let client = keeping(|_| {});
        let reports = client.deliver(&relay(sink.address), &message(&["a@x.y"]), &()).await;
        assert_eq!(outcomes(&reports), [Outcome::Delivered]);
        let mut second = message(&["b@x.y"]);
        second.sender = mairust_core::ReversePath::Address("b@out.test".parse().unwrap());
        let reports = client.deliver(&relay(sink.address), &second, &()).await;
        assert_eq!((reports[0].outcome, reports[0].facts.reused), (Outcome::Delivered, false), "{first:?}");
        assert_eq!(count(&sink.heard().await, "."), 2 + 2, "two dots, and two lines that begin with one");
    }
}

#[tokio::test]
async fn what_was_sent_to_its_end_is_not_sent_again() {
    let sink = Sink::listen("127.0.0.1:0", vec![&[(".", None)], &[]]).await;
    let client = keeping(|_| {});
    let reports = client.deliver(&relay(sink.address), &message(&["a@x.y"]), &()).await;
    assert_eq!(outcomes(&reports), [Outcome::InDoubt]);
    // The second connection is for this one.
    client.deliver(&relay(sink.address), &message(&["b@x.y"]), &()).await;
    let heard = sink.heard().await;
    assert_eq!([count(&heard, "RCPT TO:<a@"), count(&heard, "RCPT TO:<b@")], [1, 1], "{heard:?}");
}

#[tokio::test]
async fn who_finds_all_connections_busy_waits() {
    // The sink takes one connection at a time, and a second one never.
    let sink = Sink::start(1, &[]).await;
    let client = keeping(|config| config.max_connections_per_host = 1);
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..10 {
        let (client, route) = (client.clone(), relay(sink.address));
        tasks.spawn(async move { client.deliver(&route, &message(&[&format!("r{number}@x.y")]), &()).await });
    }
    while let Some(reports) = timeout(PATIENCE, tasks.join_next()).await.unwrap() {
        assert_eq!(outcomes(&reports.unwrap()), [Outcome::Delivered]);
    }
    let heard = sink.heard().await;
    assert_eq!([count(&heard, "EHLO"), count(&heard, "DATA")], [1, 10]);
}

#[tokio::test]
async fn idle_connections_of_another_kind_make_room() {
    let server = Running::start(config(), Service::Lmtp);
    let client = keeping(|config| config.max_connections_per_host = 1);
    for (name, reused) in [("127.0.0.1", false), ("[127.0.0.1]", false), ("[127.0.0.1]", true)] {
        let mut lmtp = Relay::new(name, server.address.port());
        lmtp.protocol = Protocol::Lmtp;
        let reports = client.deliver(&Route::Relay(lmtp), &message(&["a@x.y"]), &()).await;
        assert_eq!((reports[0].outcome, reports[0].facts.reused), (Outcome::Delivered, reused), "{name}");
    }
}

#[tokio::test]
async fn lmtp_answers_for_each_recipient() {
    let server = Running::start(config(), Service::Lmtp);
    let mut lmtp = Relay::new("127.0.0.1", server.address.port());
    lmtp.protocol = Protocol::Lmtp;
    let route = Route::Relay(lmtp);
    let to = ["a@x.y", "full@x.y", "nobody@x.y", "b@x.y"];
    let reports = keeping(|_| {}).deliver(&route, &message(&to), &()).await;
    let expected = [Outcome::Delivered, Outcome::Deferred, Outcome::Failed, Outcome::Delivered];
    assert_eq!(outcomes(&reports), expected, "{reports:?}");
    assert_eq!(reports[1].detail, "452 4.2.2 mailbox full");
    assert_eq!(server.script.taken()[0].recipients.len(), 3);
}

#[tokio::test]
async fn a_doubt_under_lmtp_is_about_those_without_an_answer() {
    let sink = Sink::start(1, &[(".", Some("250 2.0.0 first"))]).await;
    let mut lmtp = Relay::new("127.0.0.1", sink.address.port());
    lmtp.protocol = Protocol::Lmtp;
    let mut config = settings();
    config.final_dot_timeout = Duration::from_millis(200);
    let client = Client::new(config, Arc::new(FakeResolver::new()));
    let reports = client.deliver(&Route::Relay(lmtp), &message(&["a@x.y", "b@x.y"]), &()).await;
    assert_eq!(outcomes(&reports), [Outcome::Delivered, Outcome::InDoubt]);
    assert_eq!(sink.heard().await[0], "LHLO out.test");
}

/// Keeps what it is told, and answers.
struct Witness(Mutex<Vec<(String, Vec<usize>)>>, Result<(), String>);

#[async_trait]
impl BeforeFinalDot for Witness {
    async fn permit(&self, handover: &Handover<'_>) -> Result<(), String> {
        assert!(handover.facts.address.is_some());
        self.0.lock().unwrap().push((handover.host.to_owned(), handover.accepted.to_vec()));
        self.1.clone()
    }
}

#[tokio::test]
async fn somebody_is_asked_before_the_final_dot() {
    let rules: &[Rule] = &[("RCPT TO:<no@", Some("550 no")), ("EHLO", Some("250-x\r\n250-CHUNKING\r\n250 BINARYMIME"))];
    for binary in [false, true] {
        let mut outgoing = message(&["no@x.y", "a@x.y", "b@x.y"]);
        if binary {
            outgoing.line_ends = LineEnds::Keep;
            outgoing.body = Body::from(b"A: b\r\n\r\n\n".to_vec());
        }
        for answer in [Ok(()), Err("not now".to_owned())] {
            let server = Running::start(config(), Service::Mx);
            let witness = Witness(Mutex::default(), answer.clone());
            outgoing.recipients[0].address = "nobody@x.y".parse().unwrap();
            let reports = keeping(|_| {}).deliver(&relay(server.address), &outgoing, &witness).await;
            let told = witness.0.into_inner().unwrap();
            assert_eq!(told, [(reports[1].host.clone().unwrap(), vec![1, 2])]);
            let rest = if answer.is_ok() { Outcome::Delivered } else { Outcome::Deferred };
            assert_eq!(outcomes(&reports), [Outcome::Failed, rest, rest], "{answer:?}");
            assert_eq!(server.script.taken().len(), usize::from(answer.is_ok()));
            assert_eq!(reports[1].detail == "not now", answer.is_err());
        }
    }
    // Nobody is asked when there is nobody to take the message.
    let sink = Sink::start(1, rules).await;
    let witness = Witness(Mutex::default(), Ok(()));
    keeping(|config| config.idle_time = Duration::ZERO)
        .deliver(&relay(sink.address), &message(&["no@x.y"]), &witness)
        .await;
    assert!(witness.0.into_inner().unwrap().is_empty());
}

#[tokio::test]
async fn attempts_know_where_they_got() {
    let sink = Sink::start(1, &[]).await;
    let client = keeping(|config| config.source_addresses = vec!["127.0.0.5".parse().unwrap(), "::1".parse().unwrap()]);
    let facts = client.deliver(&relay(sink.address), &message(&["a@x.y"]), &()).await.remove(0).facts;
    assert_eq!((facts.host.as_deref(), facts.address), (Some("127.0.0.1"), Some(sink.address)));
    assert_eq!((facts.tls, facts.rule, facts.reused), (TlsUse::NotOffered, Some(TlsRule::Opportunistic), false));
    assert_eq!(facts.source, Some("127.0.0.5".parse().unwrap()));
    assert!(facts.elapsed > Duration::ZERO && facts.elapsed < PATIENCE);
    let server = Running::start(config(), Service::Mx);
    let client = keeping(|config| config.source_addresses = vec!["127.0.0.7".parse().unwrap()]);
    client.deliver(&relay(server.address), &message(&["a@x.y"]), &()).await;
    assert_eq!(server.script.peers.lock().unwrap()[0].ip().to_string(), "127.0.0.7");
    let foreign = keeping(|config| config.source_addresses = vec!["192.0.2.1".parse().unwrap()]);
    let reports = foreign.deliver(&relay(server.address), &message(&["a@x.y"]), &()).await;
    assert_eq!(outcomes(&reports), [Outcome::Deferred]);
    assert!(reports[0].detail.contains("192.0.2.1"), "{}", reports[0].detail);
}
