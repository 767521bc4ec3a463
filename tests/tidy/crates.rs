//! One way only: `py -> mairust -> {http, smtp, store, hooks} -> core`, `http -> {store, hooks}`, `py -> {store, hooks}`.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

use crate::root;

/// The edges that the architecture draws.
const ALLOWED: &[(&str, &[&str])] = &[
    ("mairust-core", &[]),
    ("mairust-smtp", &["mairust-core"]),
    ("mairust-store", &["mairust-core"]),
    ("mairust-hooks", &["mairust-core"]),
    ("mairust-http", &["mairust-core", "mairust-store", "mairust-hooks"]),
    ("mairust", &["mairust-core", "mairust-smtp", "mairust-store", "mairust-hooks", "mairust-http"]),
    ("mairust-py", &["mairust", "mairust-core", "mairust-store", "mairust-hooks"]),
];

/// Packages for developers, which nothing may depend on and which may depend on everything.
const TOOLS: &[&str] = &["mairust-examples", "mairust-benches", "mairust-tests"];

fn packages() -> Vec<Value> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--format-version", "1"])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", output.stderr.escape_ascii());
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo writes JSON");
    metadata["packages"].as_array().expect("there are packages").clone()
}

/// Dependencies within the workspace, of every kind.
fn edges() -> BTreeMap<String, BTreeSet<String>> {
    let packages = packages();
    let name = |value: &Value| value["name"].as_str().expect("a name").to_owned();
    let members: BTreeSet<String> = packages.iter().map(name).collect();
    let edges = |package: &Value| {
        let dependencies = package["dependencies"].as_array().expect("a list").iter().map(name);
        // A package depends on itself to test what is behind its features.
        dependencies.filter(|other| members.contains(other) && *other != name(package)).collect()
    };
    packages.iter().map(|package| (name(package), edges(package))).collect()
}

#[test]
fn no_edge_that_the_architecture_does_not_draw() {
    for (package, dependencies) in edges() {
        if TOOLS.contains(&package.as_str()) {
            continue;
        }
        let (_, allowed) = ALLOWED
            .iter()
            .find(|(name, _)| *name == package)
            .unwrap_or_else(|| panic!("{package} is not in the architecture"));
        let wrong: Vec<_> = dependencies.iter().filter(|name| !allowed.contains(&name.as_str())).collect();
        assert!(wrong.is_empty(), "{package} must not depend on {wrong:?}");
    }
}

#[test]
fn what_is_published_can_be_found() {
    for package in packages() {
        let name = package["name"].as_str().expect("a name");
        // `publish = false` is shown as an empty list.
        if package["publish"].is_array() {
            continue;
        }
        for field in ["description", "license", "repository", "readme", "rust_version"] {
            assert!(package[field].is_string(), "{name} has no {field}");
        }
    }
}
