use std::path::Path;

use mairust_core::EnhancedCode;
use serde_json::json;

use super::*;

const AT: Timestamp = Timestamp::from_micros(1_763_780_646_123_456);

fn id(last: u8) -> String {
    format!("019aaa68-dd6b-7000-8000-0000000000{last:02x}")
}

fn message(number: u8) -> MessageFacts {
    let message_id = Some("20251122030406.1@sender.example".to_owned());
    MessageFacts { id: id(number), mailbox_id: id(0x20), message_id, size: 12_345 }
}

fn result(reply: Option<&Reply>, next: Option<Timestamp>) -> DeliveryResult {
    DeliveryResult {
        message: message(0x11),
        mail_from: Some("alice@example.com".to_owned()),
        recipient: "bob@remote.example".to_owned(),
        attempt: 1,
        host: Some("mx.remote.example".to_owned()),
        reply: reply.map(ReplyFacts::from),
        result: reply.map_or_else(|| "the connection broke off".to_owned(), |reply| reply.lines().join(" ")),
        next_attempt_at: next.map(Timestamp::to_rfc3339),
        notice_id: None,
        late: false,
    }
}

fn limited(reason: &str, score: f64, until: Option<Timestamp>) -> SendingLimited {
    SendingLimited {
        account: "alice@example.com".to_owned(),
        user_id: Some(id(0x50)),
        reason: reason.to_owned(),
        score,
        until: until.map(|until| until.plus(std::time::Duration::from_secs(24 * 3_600)).to_rfc3339()),
    }
}

/// An example of each kind, as it is posted.
fn examples() -> Vec<String> {
    let reply = |code, class, text| Reply::new(code, EnhancedCode(class, 1, 1), text);
    let (taken, later, no) = (reply(250, 2, "OK"), reply(451, 4, "come back"), reply(550, 5, "no such user"));
    let data = |kind: EventKind| match kind {
        EventKind::HookAlert => json!(HookAlert {
            hook_id: id(0x60),
            plugin_id: "com.example.spam-filter".to_owned(),
            point: "pre_receive".to_owned(),
            reason: "auth".to_owned(),
            detail: "it answered 401: the keys differ".to_owned(),
            invocation_id: Some("inv_01JABCDEFGHJKMNPQRSTVWXYZ0".to_owned()),
        }),
        EventKind::MessageAccepted => json!(MessageAccepted {
            message: message(0x11),
            mail_from: Some("alice@example.com".to_owned()),
            recipients: vec!["bob@remote.example".to_owned()],
            status: "queued".to_owned(),
        }),
        EventKind::MessageBounced => json!(DeliveryResult { notice_id: Some(id(0x12)), ..result(Some(&no), None) }),
        EventKind::MessageDeferred => json!(result(Some(&later), Some(AT.plus(std::time::Duration::from_secs(120))))),
        EventKind::MessageHeld => json!(result(None, None)),
        EventKind::MessageReceived => json!(MessageReceived {
            message: message(0x10),
            mail_from: Some("a@sender.example".to_owned()),
            recipient: "alice@example.com".to_owned(),
            folder: "INBOX".to_owned(),
            status: "stored".to_owned(),
            spam: Some(SpamFacts { score: 0.5, verdict: "ham" }),
        }),
        EventKind::MessageSent => json!(result(Some(&taken), None)),
        EventKind::SendingSlowed => json!(limited("score", 0.62, None)),
        EventKind::SendingSuspended => {
            json!(limited("score 0.84: burst 1.00, repeated 0.60, refused 1.00", 0.84, Some(AT)))
        }
        EventKind::WebhookTest => json!(WebhookTest { webhook_id: id(0x30) }),
    };
    let tenant = id(0x40).parse().unwrap();
    let body = |(number, kind): (u8, &EventKind)| {
        let body = EventBody::new(id(number).parse().unwrap(), kind.as_str(), AT, tenant, data(*kind));
        let posted = body.to_json();
        assert_eq!(posted, serde_json::to_string(&body).unwrap());
        serde_json::to_string_pretty(&body).unwrap()
    };
    (1..).zip(EventKind::ALL).map(body).collect()
}

#[test]
fn kinds_read_back() {
    for kind in EventKind::ALL {
        assert_eq!(EventKind::parse(kind.as_str()), Some(*kind));
    }
    assert_eq!(EventKind::parse("message.lost"), None);
}

/// What stands between two marks in the guide is written by this test.
#[test]
fn the_guide_has_an_example_of_each_kind() {
    const MARKS: [&str; 2] = ["<!-- examples -->\n", "<!-- end of examples -->\n"];
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/webhooks.md");
    let guide = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = guide.split_once(MARKS[0]).unwrap();
    let (now, after) = rest.split_once(MARKS[1]).unwrap();
    let wanted: String = examples().iter().map(|example| format!("```json\n{example}\n```\n")).collect();
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, format!("{before}{}{wanted}{}{after}", MARKS[0], MARKS[1])).unwrap();
    } else {
        assert_eq!(now, wanted, "run the tests with UPDATE=1");
    }
}
