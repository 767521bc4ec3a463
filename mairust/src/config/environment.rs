//! The environment over the file: `MAIRUST__SECTION__KEY=value`.
//!
//! A value is one scalar, read as YAML reads it without quotes. Lists are for the file.

use std::collections::BTreeMap;
use std::ffi::OsString;

use serde_json::Value as Schema;

use super::problem::{Place, Problem, nearest};
use super::tree::{Entry, Node, Value};
use super::validate::{Kind, properties};

const PREFIX: &str = "MAIRUST__";

/// The variables that are text. Another one is a problem if its name says that it is ours.
pub(super) fn collect<K: Into<OsString>, V: Into<OsString>>(
    environment: impl IntoIterator<Item = (K, V)>,
    problems: &mut Vec<Problem>,
) -> BTreeMap<String, String> {
    let mut variables = BTreeMap::new();
    for (name, value) in environment {
        let Ok(name) = name.into().into_string() else { continue };
        match value.into().into_string() {
            Ok(value) => drop(variables.insert(name, value)),
            Err(_) if name.starts_with(PREFIX) => {
                problems.push(Problem::new(&Place::Environment { name }, "", "the value is not UTF-8"));
            }
            Err(_) => {}
        }
    }
    variables
}

/// Puts the variables into the tree and returns those that fit nowhere.
pub(super) fn overlay(root: &mut Node, variables: &BTreeMap<String, String>, schema: &Schema) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (name, value) in variables.iter().filter(|(name, _)| name.starts_with(PREFIX)) {
        let place = Place::Environment { name: name.clone() };
        let segments: Vec<String> = name[PREFIX.len()..].split("__").map(str::to_lowercase).collect();
        match find(schema, &segments).map(Kind::of) {
            Some(Kind::Boolean | Kind::Integer | Kind::Text) => put(root, &segments, &Node::plain(place, value)),
            Some(Kind::List) => {
                problems.push(Problem::new(&place, &segments.join("."), "a list can be written in the file only"));
            }
            Some(Kind::Map) => {
                let problem = Problem::new(&place, &segments.join("."), "this is a section");
                problems.push(problem.with_advice(format!("write {name}__KEY=value for one of its keys")));
            }
            None => problems.push(unknown(&place, name, schema)),
        }
    }
    problems
}

/// The variable of a key.
pub(super) fn variable_name(path: &str) -> String {
    format!("{PREFIX}{}", path.replace('.', "__").to_uppercase())
}

fn unknown(place: &Place, name: &str, schema: &Schema) -> Problem {
    let mut names = Vec::new();
    collect_names(schema, "", &mut names);
    let problem = Problem::new(place, "", "no key has this name");
    match nearest(name, names.iter().map(String::as_str)) {
        Some(meant) => problem.with_advice(format!("did you mean {meant}?")),
        None => problem.with_advice("write MAIRUST__SECTION__KEY, for example MAIRUST__SERVER__HOSTNAME"),
    }
}

fn collect_names(schema: &Schema, path: &str, names: &mut Vec<String>) {
    for (key, child) in properties(schema) {
        let path = super::tree::child_path(path, key);
        match Kind::of(child) {
            Kind::Map => collect_names(child, &path, names),
            Kind::Boolean | Kind::Integer | Kind::Text => names.push(variable_name(&path)),
            Kind::List => {}
        }
    }
}

fn find<'a>(schema: &'a Schema, segments: &[String]) -> Option<&'a Schema> {
    segments.iter().try_fold(schema, |schema, segment| schema.get("properties")?.get(segment))
}

fn put(node: &mut Node, segments: &[String], leaf: &Node) {
    let Some((first, rest)) = segments.split_first() else {
        *node = leaf.clone();
        return;
    };
    if node.value == Value::Null {
        node.value = Value::Map(Vec::new());
    }
    // Anything else than a map here is wrong already, and reported when the tree is validated.
    let Value::Map(entries) = &mut node.value else { return };
    let index = entries.iter().position(|entry| entry.key == *first).unwrap_or_else(|| {
        let place = leaf.place.clone();
        let value = Node { place: place.clone(), value: Value::Null };
        entries.push(Entry { key: first.clone(), place, value });
        entries.len() - 1
    });
    put(&mut entries[index].value, rest, leaf);
}
