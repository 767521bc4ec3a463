use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::*;
use crate::verdict::Verdict;

/// The answers of the programs a, b, c and so on.
fn merged(answers: &[Value]) -> Merged {
    let parse = |(name, value): (char, &Value)| {
        let answer = Answer::parse(value.to_string().as_bytes(), HookPoint::PreReceive, &invocation()).unwrap();
        (name.to_string(), answer)
    };
    merge(('a'..).zip(answers).map(parse))
}

fn does(actions: &Value) -> Value {
    json!({"verdict": "allow", "actions": actions})
}

#[test]
fn the_strictest_verdict_wins_and_the_first_of_equals_speaks() {
    let reject = |text: &str| json!({"verdict": "reject", "smtp": {"code": 550, "text": text}});
    let (allow, quarantine, tempfail) =
        (json!({"verdict": "allow"}), json!({"verdict": "quarantine", "reason": "q"}), json!({"verdict": "tempfail"}));
    for (answers, expected) in [
        (vec![], "allow"),
        (vec![allow.clone()], "allow"),
        (vec![allow.clone(), quarantine.clone()], "quarantine"),
        (vec![tempfail.clone(), quarantine.clone(), allow.clone()], "tempfail"),
        (vec![tempfail.clone(), reject("x"), quarantine.clone()], "reject"),
    ] {
        assert_eq!(merged(&answers).verdict.as_str(), expected);
    }
    let Verdict::Reject(rejection) = merged(&[allow, reject("first"), reject("second")]).verdict else {
        panic!("a rejection")
    };
    assert!(rejection.reply().to_string().starts_with("550 5.7.1 first ["));
}

#[test]
fn the_last_word_about_a_tag_or_a_flag_counts() {
    let merged = merged(&[
        does(&json!([
            {"op": "tag.add", "tags": ["x", "y", "y"]},
            {"op": "tag.remove", "tags": ["old"]},
            {"op": "flag.add", "flags": ["\\Seen", "\\Flagged"]}
        ])),
        does(&json!([
            {"op": "tag.remove", "tags": ["x"]},
            {"op": "tag.add", "tags": ["old", "y"]},
            {"op": "flag.remove", "flags": ["\\Seen", "\\Draft"]}
        ])),
    ]);
    assert_eq!(Vec::from_iter(&merged.add_tags), ["old", "y"]);
    assert_eq!(Vec::from_iter(&merged.remove_tags), ["x"]);
    assert_eq!(Vec::from_iter(merged.add_flags), [Flag::Flagged]);
    assert_eq!(Vec::from_iter(merged.remove_flags), [Flag::Draft, Flag::Seen]);
    assert!(merged.outcomes.iter().all(|outcome| outcome.result == ActionResult::Applied));
}

#[test]
fn the_first_folder_counts_unless_the_message_goes_into_quarantine() {
    let go = |folder: &str| json!({"op": "move", "folder": folder});
    let results = |merged: &Merged| {
        let outcomes = merged.outcomes.iter();
        outcomes.map(|outcome| (outcome.plugin.clone(), outcome.op, outcome.result.as_str())).collect::<Vec<_>>()
    };
    let row = |plugin: &str, result| (plugin.to_owned(), "move", result);
    let both = [does(&json!([go("Junk"), go("Other")])), does(&json!([go("Archive")]))];
    let first = merged(&both);
    assert_eq!(first.folder.as_deref(), Some("Junk"));
    assert_eq!(results(&first), [row("a", "applied"), row("a", "conflict"), row("b", "conflict")]);

    let [a, b] = both;
    let quarantined = merged(&[a, b, json!({"verdict": "quarantine"})]);
    assert_eq!((quarantined.folder.as_deref(), quarantined.verdict.as_str()), (None, "quarantine"));
    assert_eq!(results(&quarantined), [row("a", "conflict"), row("a", "conflict"), row("b", "conflict")]);
}

#[test]
fn metadata_are_each_programs_own_and_header_fields_stay_in_order() {
    let set = |value: u8| json!({"op": "metadata.set", "key": "k", "value": value});
    let add = |name: &str| json!({"op": "header.add", "name": name, "value": "1"});
    let merged = merged(&[
        does(&json!([add("X-B"), set(1), set(2), add("X-A")])),
        does(&json!([set(3), {"op": "metadata.delete", "key": "old"}, add("X-B")])),
    ]);
    let expected = BTreeMap::from([
        ("a".to_owned(), BTreeMap::from([("k".to_owned(), Some(json!(2)))])),
        ("b".to_owned(), BTreeMap::from([("k".to_owned(), Some(json!(3))), ("old".to_owned(), None)])),
    ]);
    assert_eq!(merged.metadata, expected);
    let names: Vec<_> = merged.headers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["X-B", "X-A", "X-B"]);
}

#[test]
fn nothing_is_done_with_a_message_that_is_refused() {
    let tag = json!([{"op": "tag.add", "tags": ["x"]}]);
    for verdict in ["reject", "tempfail"] {
        let merged = merged(&[does(&tag), json!({"verdict": verdict, "score": 3, "actions": tag})]);
        assert!(merged.add_tags.is_empty() && merged.outcomes.is_empty());
        assert_eq!(merged.score_max(), Some(3.0));
    }
    let merged = merged(&[does(&tag), json!({"verdict": "quarantine", "actions": tag})]);
    assert_eq!((merged.add_tags.len(), merged.outcomes.len()), (1, 2));
}

#[test]
fn scores_are_kept_by_program() {
    let score = |value: f64| json!({"verdict": "allow", "score": value});
    let merged = merged(&[score(-2.0), json!({"verdict": "allow"}), score(7.5)]);
    assert_eq!(merged.scores, BTreeMap::from([("a".to_owned(), -2.0), ("c".to_owned(), 7.5)]));
    assert_eq!((merged.score_max(), super::merge([]).score_max()), (Some(7.5), None));
}
