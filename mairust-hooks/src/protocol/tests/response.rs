use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

use super::super::response::SmtpAnswer;
use super::*;
use crate::handler::{FailureKind, HookError};
use crate::verdict::Verdict;

/// Answers that are good or bad, and why. The end-to-end suite holds the schema against the same ones.
const TABLE: &str = include_str!("responses.json");

fn parse(octets: &[u8]) -> Result<HookResponse, ResponseError> {
    HookResponse::parse(octets, HookPoint::PreReceive)
}

fn answer(value: &Value) -> Answer {
    Answer::parse(value.to_string().as_bytes(), HookPoint::PreReceive, &invocation()).unwrap()
}

#[test]
fn answers_are_good_or_bad_as_a_whole() {
    let table: Vec<Value> = serde_json::from_str(TABLE).unwrap();
    assert!(table.len() > 60);
    for row in table {
        let (why, error) = (row["why"].as_str().unwrap(), row["error"].as_str());
        let parsed = parse(row["response"].to_string().as_bytes());
        match (&parsed, error) {
            (Ok(response), None) => {
                // What is written again is read the same.
                assert_eq!(parse(&serde_json::to_vec(response).unwrap()).as_ref(), Ok(response), "{why}");
                assert!(response.clone().into_answer(&invocation()).is_ok());
            }
            (Err(found), Some(error)) => assert!(found.to_string().contains(error), "{why}: {found}"),
            _ => panic!("{why}: {parsed:?}"),
        }
    }
}

#[test]
fn the_form_of_an_answer() {
    let deep = |levels: usize| format!("{{\"verdict\":\"allow\",\"x\":{}1{}}}", "[".repeat(levels), "]".repeat(levels));
    let long = |octets: usize| format!("{{\"verdict\":\"allow\",\"x\":\"{}\"}}", "y".repeat(octets - 26));
    assert_eq!(long(100).len(), 100);
    for good in [
        deep(15),
        long(64 << 10),
        "\r\n {\"verdict\":\"allow\"}\n".to_owned(),
        r#"{"verdict":"allow","x":"[[[[[[[[[[[[[[[[[[\"{{"}"#.to_owned(),
    ] {
        assert_eq!(parse(good.as_bytes()).unwrap().verdict, VerdictName::Allow);
    }
    assert_eq!(parse(deep(16).as_bytes()), Err(ResponseError::TooDeep));
    let too_large = ResponseError::TooLarge { size: (64 << 10) + 1, limit: 64 << 10 };
    assert_eq!(parse(long((64 << 10) + 1).as_bytes()), Err(too_large));
    assert!(HookResponse::parse(long(1 << 20).as_bytes(), HookPoint::PostReceive).is_ok());
    assert!(HookResponse::parse(long((1 << 20) + 1).as_bytes(), HookPoint::PostReceive).is_err());
    for bad in [
        &b""[..],
        b"null",
        b"{\"verdict\":\"allow\"} {}",
        b"{\"verdict\":\"allow\"}x",
        b"{\"verdict\":\"allow\",\"verdict\":\"reject\"}",
        b"{\"verdict\":\"allow\",\"actions\":[{\"op\":\"move\",\"folder\":\"a\",\"folder\":\"b\"}]}",
        b"{\"verdict\":\"allow\",\"reason\":\"caf\xe9\"}",
        b"\xef\xbb\xbf{\"verdict\":\"allow\"}",
        b"{\"verdict\":\"allow\",\"score\":1e999}",
        b"{\"verdict\":\"allow\",\"score\":NaN}",
        b"{\"verdict\":\"allow\",}",
        b"{'verdict':'allow'}",
        b"<html>502 Bad Gateway</html>",
    ] {
        let error = parse(bad).unwrap_err();
        assert!(matches!(error, ResponseError::Malformed(_)), "{error}");
    }
}

#[test]
fn a_refusal_says_what_the_sender_is_told() {
    let told = |value: Value| match answer(&value).verdict {
        Verdict::Reject(rejection) | Verdict::Tempfail(rejection) => {
            (rejection.reply().to_string(), rejection.reason().to_owned())
        }
        other => panic!("no refusal: {other:?}"),
    };
    let id = invocation();
    let (reply, reason) = told(json!({"verdict": "reject"}));
    assert_eq!(
        (reply.as_str(), reason.as_str()),
        (&*format!("550 5.7.1 Message rejected [{id}]"), &*format!("Message rejected [{id}]"))
    );
    assert_eq!(told(json!({"verdict": "tempfail"})).0, format!("451 4.7.1 Try again later [{id}]"));
    let smtp = json!({"code": 552, "enhanced": "5.3.4", "text": "Too odd"});
    let (reply, reason) = told(json!({"verdict": "reject", "smtp": smtp, "reason": "p=0.98\nmodel=v3"}));
    assert_eq!((reply, reason.as_str()), (format!("552 5.3.4 Too odd [{id}]"), "p=0.98 model=v3"));
    assert_eq!(
        told(json!({"verdict": "tempfail", "smtp": {"code": 450}})).0,
        format!("450 4.7.1 Try again later [{id}]")
    );
    assert_eq!(answer(&json!({"verdict": "quarantine", "reason": "odd"})).verdict, Verdict::quarantine("odd"));
    assert_eq!(answer(&json!({"verdict": "allow"})), Answer::allow());
}

#[test]
fn an_answer_that_was_put_together_is_checked_too() {
    let smtp = Some(SmtpAnswer { code: 250, enhanced: None, text: None });
    let made =
        HookResponse { verdict: VerdictName::Reject, smtp, score: Some(f64::NAN), reason: None, actions: Vec::new() };
    assert!(made.clone().into_answer(&invocation()).is_err());
    assert!(HookResponse { smtp: None, ..made }.into_answer(&invocation()).is_err());
}

fn all_grants() -> Grants {
    Grants {
        write_tags: true,
        write_flags: true,
        move_message: true,
        write_metadata: true,
        add_headers: true,
        decide: [Decide::Tempfail, Decide::Reject, Decide::Quarantine].into(),
        ..Grants::default()
    }
}

#[test]
fn what_is_not_granted_is_dropped_and_what_was_never_declared_is_an_error() {
    let actions = json!([
        {"op": "tag.add", "tags": ["a"]}, {"op": "tag.remove", "tags": ["b"]}, {"op": "flag.add", "flags": []},
        {"op": "flag.remove", "flags": []}, {"op": "move", "folder": "Junk"},
        {"op": "metadata.set", "key": "k", "value": 1}, {"op": "metadata.delete", "key": "k"},
        {"op": "header.add", "name": "X-A", "value": "1"}
    ]);
    let all = answer(&json!({"verdict": "reject", "score": 5, "actions": actions}));
    let permitted = all.clone().under(&all_grants(), &all_grants()).unwrap();
    assert_eq!(permitted, all);

    let permitted = all.clone().under(&all_grants(), &Grants::default()).unwrap();
    let denied = vec![
        "reject",
        "tag.add",
        "tag.remove",
        "flag.add",
        "flag.remove",
        "move",
        "metadata.set",
        "metadata.delete",
        "header.add",
    ];
    assert_eq!(permitted, Answer { score: Some(5.0), denied, ..Answer::allow() });

    let all_but = |change: fn(&mut Grants)| {
        let mut grants = all_grants();
        change(&mut grants);
        grants
    };
    for (what, grants) in [
        ("tag.add", all_but(|grants| grants.write_tags = false)),
        ("flag.add", all_but(|grants| grants.write_flags = false)),
        ("move", all_but(|grants| grants.move_message = false)),
        ("metadata.set", all_but(|grants| grants.write_metadata = false)),
        ("header.add X-A", all_but(|grants| grants.add_headers = false)),
    ] {
        let error = all.clone().under(&grants, &all_grants()).unwrap_err();
        assert_eq!(error, ResponseError::Undeclared(what.to_owned()));
        let permitted = all.clone().under(&all_grants(), &grants).unwrap();
        assert!(what.starts_with(permitted.denied[0]), "{:?}", permitted.denied);
    }
    let other = [("quarantine", Decide::Quarantine), ("reject", Decide::Reject), ("tempfail", Decide::Tempfail)];
    for (verdict, decide) in other {
        let answer = answer(&json!({"verdict": verdict}));
        let granted = Grants { decide: [decide].into(), ..Grants::default() };
        assert!(answer.clone().under(&granted, &granted).unwrap().denied.is_empty());
        assert_eq!(answer.clone().under(&granted, &Grants::default()).unwrap().denied, [verdict]);
        let error = answer.under(&Grants::default(), &granted).unwrap_err();
        assert_eq!(error, ResponseError::Undecidable(verdict));
        assert_eq!(HookError::from(error).kind(), FailureKind::NoLeave);
    }
}

#[test]
fn header_fields_are_granted_by_pattern() {
    let mut grants = all_grants();
    grants.add_headers_only = Some(vec!["X-Spam-*".to_owned(), "x-model".to_owned()]);
    let add =
        |name: &str| answer(&json!({"verdict": "allow", "actions": [{"op": "header.add", "name": name, "value": ""}]}));
    for (name, allowed) in
        [("X-Spam-Score", true), ("x-spam-", true), ("X-Model", true), ("X-Model-2", false), ("X-Spa", false)]
    {
        assert_eq!(add(name).under(&grants, &grants).is_ok(), allowed, "{name}");
        assert_eq!(add(name).under(&all_grants(), &grants).unwrap().denied.is_empty(), allowed, "{name}");
    }
}

/// Pieces of answers, put together by chance: whatever comes out, it is read or refused.
#[test]
fn anything_is_read_or_refused() {
    let table: Vec<Value> = serde_json::from_str(TABLE).unwrap();
    let pieces: Vec<Vec<u8>> = table.iter().map(|row| row["response"].to_string().into_bytes()).collect();
    let mut random = StdRng::seed_from_u64(5);
    let mut good = 0;
    for _ in 0..20_000 {
        let mut octets = pieces[random.random_range(0..pieces.len())].clone();
        for _ in 0..random.random_range(0..4) {
            let at = random.random_range(0..=octets.len());
            match random.random_range(0..3) {
                0 => octets.insert(at, random.random()),
                1 => octets.truncate(at),
                _ => {
                    let piece = &pieces[random.random_range(0..pieces.len())];
                    octets.splice(at..at, piece[..random.random_range(0..=piece.len())].iter().copied());
                }
            }
        }
        if let Ok(response) = parse(&octets) {
            good += 1;
            let answer = response.into_answer(&invocation()).expect("what was read was checked");
            assert!(answer.verdict.reply().is_none_or(|reply| reply.lines().len() == 1));
        }
    }
    assert!(good > 500, "{good}");
}

#[test]
fn ids_of_calls_read_back_and_sort_by_time() {
    let at = mairust_core::Timestamp::from_unix(1_795_316_645);
    let id = InvocationId::new(at);
    assert_eq!(InvocationId::parse(id.as_str()).as_ref(), Some(&id));
    assert_ne!(id, InvocationId::new(at));
    assert!(id < InvocationId::new(at.plus(std::time::Duration::from_millis(1))));
    for odd in [
        "",
        "inv_",
        "01JABCDEFGHJKMNPQRSTVWXYZ0",
        "inv_01JABCDEFGHJKMNPQRSTVWXYZ",
        "inv_81JABCDEFGHJKMNPQRSTVWXYZ0",
        "inv_01jabcdefghjkmnpqrstvwxyz0",
        "inv_01JABCDEFGHJKMNPQRSTVWXYZU",
    ] {
        assert_eq!(InvocationId::parse(odd), None, "{odd}");
    }
}
