use serde_json::{Value, json};

use super::*;

fn settings(fields: Value) -> Value {
    let mut json = json!({"points": ["pre_receive"], "transport": {"kind": "http", "endpoint": "https://h.example/"}});
    if let (Value::Object(json), Value::Object(fields)) = (&mut json, fields) {
        json.extend(fields);
    }
    json
}

fn errors(fields: Value) -> Vec<String> {
    match HookSettings::read(&settings(fields), false) {
        Ok(_) => Vec::new(),
        Err(errors) => errors.into_iter().map(|error| error.path).collect(),
    }
}

fn read(fields: Value) -> HookSettings {
    HookSettings::read(&settings(fields), false).unwrap()
}

#[test]
fn what_is_written_reads_back() {
    let all = json!({
        "version": "1.2.0", "points": ["pre_receive", "post_receive", "pre_send"],
        "transport": {"kind": "http", "endpoint": "http://127.0.0.1:8081/hook",
            "health_endpoint": "http://127.0.0.1:8081/health", "response_signature": "require", "private_address": true},
        "priority": 1000, "timeout_ms": 3000, "result_timeout_ms": 86400000, "required": true, "on_failure": "tempfail", "on_open": "reject",
        "i_know_this_bounces_mail": true, "max_inflight": 3, "mode": "shadow", "before_policy": true,
        "include_internal": true,
        "catch_up": false, "recipients": ".*@example\\.com", "circuit": "forced_open",
        "grants": {"read_headers": true, "read_body": "full", "read_attachments": "full", "write_tags": true,
            "write_flags": true, "move_message": true, "write_metadata": true,
            "decide": ["tempfail", "reject", "quarantine"], "add_headers": true, "add_headers_only": ["X-*"]},
        "config": {"threshold": 0.8, "null": null},
    });
    let read = HookSettings::read(&all, false).unwrap();
    assert_eq!(read.to_json(), all);
    assert_eq!(HookSettings::parse(&read.to_json()).unwrap(), read);
    let process = json!({"kind": "process", "command": ["run", "-x"], "directory": "/opt/hook", "mode": "oneshot"});
    let process = HookSettings::read(&settings(json!({"transport": process})), false).unwrap();
    assert_eq!(HookSettings::parse(&process.to_json()).unwrap(), process);
}

#[test]
fn says_all_that_is_wrong_at_once() {
    for (fields, paths) in [
        (json!({}), &[][..]),
        (json!({"points": []}), &["/points"]),
        (json!({"points": ["pre_receive", "pre_receive"]}), &["/points/1"]),
        (json!({"points": ["pre"], "priority": "high", "odd": 1}), &["/odd", "/points", "/priority"]),
        (json!({"transport": {"kind": "pigeon"}}), &["/transport"]),
        (json!({"transport": {"kind": "http", "endpoint": "https://a/", "odd": 1}}), &["/transport"]),
        (json!({"transport": {"kind": "http"}}), &["/transport/endpoint"]),
        (json!({"transport": {"kind": "http", "endpoint": "http://127.0.0.1/"}}), &["/transport/endpoint"]),
        (json!({"transport": {"kind": "http", "endpoint": "https://10.0.0.1/"}}), &["/transport/endpoint"]),
        (
            json!({"transport": {"kind": "http", "endpoint": "https://a/", "health_endpoint": "https://b/"}}),
            &["/transport/health_endpoint"],
        ),
        (json!({"transport": {"kind": "http", "endpoint": "https://spam.example:25/"}}), &["/transport/endpoint"]),
        (json!({"transport": {"kind": "process"}}), &["/transport/command"]),
        (json!({"transport": {"kind": "process", "command": ["run"]}}), &["/transport/command"]),
        (json!({"transport": {"kind": "process", "command": ["/run"], "directory": "opt"}}), &["/transport/directory"]),
        (
            json!({"priority": 1001, "timeout_ms": 3001, "max_inflight": 0}),
            &["/priority", "/timeout_ms", "/max_inflight"],
        ),
        (json!({"points": ["pre_send"], "timeout_ms": 5000}), &[]),
        (json!({"points": ["post_receive"], "timeout_ms": 300_000}), &[]),
        (json!({"points": ["post_receive", "pre_send"], "timeout_ms": 5001}), &["/timeout_ms"]),
        (json!({"timeout_ms": 99}), &["/timeout_ms"]),
        (json!({"result_timeout_ms": 1000}), &[]),
        (json!({"result_timeout_ms": 86_400_001}), &["/result_timeout_ms"]),
        (json!({"result_timeout_ms": 999}), &["/result_timeout_ms"]),
        (json!({"required": true, "on_failure": "allow", "on_open": "allow"}), &["/on_failure", "/on_open"]),
        (json!({"required": true, "on_failure": "quarantine"}), &[]),
        (json!({"on_failure": "reject"}), &["/on_failure"]),
        (json!({"on_failure": "reject", "i_know_this_bounces_mail": true}), &[]),
        (json!({"mode": "replay"}), &["/mode"]),
        (json!({"recipients": "("}), &["/recipients"]),
        (json!({"recipients": "x".repeat(2_001)}), &["/recipients"]),
        (json!({"before_policy": true}), &["/before_policy"]),
        (json!({"include_internal": true}), &["/include_internal"]),
        (json!({"required": true, "catch_up": true}), &["/catch_up"]),
        (json!({"version": "1 0"}), &["/version"]),
        (json!({"config": []}), &["/config"]),
        (json!({"grants": {"read_boddy": "full"}}), &["/grants/read_boddy"]),
        (json!({"grants": {"read_body": "half"}}), &["/grants"]),
        (
            json!({"grants": {"write_tags": true, "write_flags": true, "write_metadata": true}}),
            &["/grants/write_tags", "/grants/write_flags", "/grants/write_metadata"],
        ),
        (json!({"grants": {"read_headers": true, "move_message": true}}), &["/grants/move_message"]),
        (json!({"grants": {"read_headers": true, "read_body": "preview", "move_message": true}}), &[]),
        (json!({"grants": {"read_headers_only": ["From"]}}), &["/grants/read_headers_only"]),
        (json!({"grants": {"preview_bytes": 100}}), &["/grants/preview_bytes"]),
    ] {
        assert_eq!(errors(fields.clone()), paths, "{fields}");
    }
    assert!(HookSettings::read(&json!([]), false).is_err());
    let private = settings(json!({"transport": {"kind": "http", "endpoint": "http://127.0.0.1/"}}));
    assert!(HookSettings::read(&private, true).is_ok());
}

#[test]
fn what_is_not_said_follows_from_the_rest() {
    let plain = read(json!({}));
    assert_eq!((plain.on_failure(), plain.catch_up()), (OnFailure::Allow, false));
    assert_eq!(plain.response_signature(), ResponseSignature::Prefer);
    assert!(read(json!({"grants": {"decide": ["quarantine"]}})).catch_up());
    let required = read(json!({"required": true, "grants": {"decide": ["quarantine"]}}));
    assert_eq!((required.on_failure(), required.catch_up()), (OnFailure::Tempfail, false));
    assert_eq!(required.response_signature(), ResponseSignature::Prefer);
    let local = json!({"kind": "http", "endpoint": "http://127.0.0.1/", "private_address": true});
    let local = read(json!({"required": true, "transport": local}));
    assert_eq!(local.response_signature(), ResponseSignature::Require);
}

#[test]
fn a_patch_changes_what_it_names() {
    let before = read(json!({"priority": 7, "config": {"a": 1, "b": 2}, "grants": {"read_headers": true}}));
    let patch = json!({"timeout_ms": 500, "priority": null, "config": {"c": null},
        "grants": {"write_tags": true}, "transport": {"endpoint": "https://other.example/"}});
    let after = before.patched(patch.as_object().unwrap(), false).unwrap();
    assert_eq!((after.timeout_ms, after.priority), (Some(500), 100));
    assert_eq!(Value::Object(after.config.clone()), json!({"c": null}));
    assert!(after.grants.read_headers && after.grants.write_tags);
    assert_eq!(
        after.transport,
        read(json!({"transport": {"kind": "http", "endpoint": "https://other.example/"}})).transport
    );
    let kind = json!({"transport": {"kind": "process", "command": ["/a"]}});
    assert_eq!(after.patched(kind.as_object().unwrap(), false).unwrap_err()[0].path, "/transport/kind");
    let made = json!({"points": ["pre_send"], "transport": {"kind": "process", "command": ["/a"]},
        "timeout_ms": null, "grants": {"read_headers": null}, "config": {"a": null}});
    let made = HookSettings::made(made.as_object().unwrap(), false).unwrap();
    assert_eq!((made.transport.kind(), made.timeout_ms, made.config.len()), ("process", None, 1));
    let again = json!({"timeout_ms": null, "grants": {"read_headers": null}});
    let wrong = after.patched(again.as_object().unwrap(), false).unwrap_err();
    assert_eq!(
        wrong.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["grants.write_tags: E_PERM_DEP: write_tags needs read_headers"]
    );
}

#[test]
fn some_of_it_is_for_whoever_runs_the_server() {
    let paths = |settings: &HookSettings, before: Option<&HookSettings>| -> Vec<String> {
        settings.for_the_host(before).into_iter().map(|error| error.path).collect()
    };
    let http = |endpoint: &str| json!({"kind": "http", "endpoint": endpoint});
    let plain = read(json!({}));
    assert_eq!(paths(&plain, None), [""; 0]);
    let process = read(json!({"transport": {"kind": "process", "command": ["/a"]}}));
    assert_eq!(paths(&process, None), ["/transport"]);
    assert_eq!(paths(&process, Some(&process)), [""; 0]);
    let another = read(json!({"transport": {"kind": "process", "command": ["/b"]}}));
    assert_eq!(paths(&another, Some(&process)), ["/transport"]);
    let rejects = json!({"grants": {"decide": ["reject"]}, "before_policy": true, "points": ["pre_send"]});
    let trusted = read(rejects.clone());
    assert_eq!(paths(&trusted, Some(&plain)), ["/before_policy", "/grants/decide"]);
    assert_eq!(paths(&trusted, Some(&trusted)), [""; 0]);
    let elsewhere =
        HookSettings { transport: HookTransport::deserialize(http("https://x/")).unwrap(), ..trusted.clone() };
    assert_eq!(paths(&elsewhere, Some(&trusted)), ["/transport"]);
    assert_eq!(paths(&plain, Some(&trusted)), [""; 0]);
    let local = json!({"kind": "http", "endpoint": "http://127.0.0.1/", "private_address": true});
    assert_eq!(paths(&read(json!({"transport": local})), Some(&plain)), ["/transport/private_address"]);
}
