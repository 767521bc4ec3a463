//! The tree against the JSON schema: unknown keys, wrong types and wrong values, all of them.
//!
//! The schema comes from the same structs that serde fills, so what passes here is what serde
//! takes. What does not pass is reported and left out, so that its default stands in and the rest
//! can be checked too.

use std::collections::HashMap;

use serde_json::{Map, Value as Json};

use super::problem::{Place, Problem, nearest};
use super::text::check_form;
use super::tree::{Entry, Node, Value, child_path};

/// What was found out about a tree.
pub(super) struct Checked {
    /// The part without problems.
    pub(super) json: Json,
    /// Where each key of `json` comes from, by its path in there.
    pub(super) spots: HashMap<String, Spot>,
    pub(super) problems: Vec<Problem>,
}

/// Where a value was written, and its path there: entries of a list that were left out shift the
/// numbers of those behind them.
pub(super) struct Spot {
    pub(super) path: String,
    pub(super) place: Place,
}

/// What a schema describes, as far as configurations need it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Boolean,
    Integer,
    List,
    Map,
    Text,
}

impl Kind {
    /// The kind of value that this schema describes; enumerations are texts.
    pub(super) fn of(schema: &Json) -> Self {
        let named = match &schema["type"] {
            Json::Array(names) => names.iter().filter_map(Json::as_str).find(|name| *name != "null"),
            name => name.as_str(),
        };
        match named {
            Some("array") => Self::List,
            Some("boolean") => Self::Boolean,
            Some("integer") => Self::Integer,
            Some("object") => Self::Map,
            _ => Self::Text,
        }
    }
}

/// The keys of a map and their schemas.
pub(super) fn properties(schema: &Json) -> impl Iterator<Item = (&str, &Json)> {
    schema["properties"].as_object().into_iter().flatten().map(|(key, child)| (key.as_str(), child))
}

/// The values of an enumeration with their descriptions; empty if the schema is none.
pub(super) fn choices(schema: &Json) -> Vec<(&str, &str)> {
    let described = schema["oneOf"].as_array().into_iter().flatten();
    let described =
        described.filter_map(|choice| Some((choice["const"].as_str()?, choice["description"].as_str().unwrap_or(""))));
    let bare = schema["enum"].as_array().into_iter().flatten().filter_map(|choice| Some((choice.as_str()?, "")));
    let single = schema["const"].as_str().map(|choice| (choice, ""));
    described.chain(bare).chain(single).collect()
}

/// Compares the tree with the schema. `problems` are those found before.
pub(super) fn validate(root: &Node, schema: &Json, problems: Vec<Problem>) -> Checked {
    let mut walk = Walk { spots: HashMap::new(), problems };
    let json = walk.node(root, schema, "", "").unwrap_or_else(|| Json::Object(Map::new()));
    Checked { json, spots: walk.spots, problems: walk.problems }
}

struct Walk {
    spots: HashMap<String, Spot>,
    problems: Vec<Problem>,
}

impl Walk {
    /// `written` is the path in the text, `kept` the path in the result.
    fn node(&mut self, node: &Node, schema: &Json, written: &str, kept: &str) -> Option<Json> {
        let spot = Spot { path: written.to_owned(), place: node.place.clone() };
        self.spots.insert(kept.to_owned(), spot);
        match (Kind::of(schema), &node.value) {
            (_, Value::Null) => None,
            (Kind::Boolean, Value::Scalar { text, plain: true }) if text == "true" || text == "false" => {
                Some(Json::from(text == "true"))
            }
            (Kind::Integer, Value::Scalar { text, plain }) => {
                self.integer(text, *plain, schema).map_err(|advice| self.wrong(node, written, &advice)).ok()
            }
            (Kind::List, Value::List(nodes)) => Some(self.list(nodes, schema, written, kept)),
            (Kind::Map, Value::Map(entries)) => self.map(node, entries, schema, written, kept),
            (Kind::Text, Value::Scalar { text, .. }) => {
                check_text(text, schema).map_err(|advice| self.wrong(node, written, &advice)).ok()
            }
            (kind, _) => {
                self.wrong(node, written, &advice_for(kind, schema));
                None
            }
        }
    }

    fn map(&mut self, node: &Node, entries: &[Entry], schema: &Json, written: &str, kept: &str) -> Option<Json> {
        let mut map = Map::new();
        for entry in entries {
            let Some(child) = schema["properties"].get(&entry.key) else {
                self.unknown(entry, schema, written);
                continue;
            };
            let (written, kept) = (child_path(written, &entry.key), child_path(kept, &entry.key));
            if let Some(json) = self.node(&entry.value, child, &written, &kept) {
                map.insert(entry.key.clone(), json);
            }
        }
        let required = schema["required"].as_array().into_iter().flatten().filter_map(Json::as_str);
        let missing: Vec<&str> = required.filter(|key| !map.contains_key(*key)).collect();
        for key in &missing {
            let wrong = entries.iter().any(|entry| entry.key == *key && entry.value.value != Value::Null);
            if !wrong {
                self.problems.push(Problem::new(&node.place, &child_path(written, key), "this key is missing"));
            }
        }
        missing.is_empty().then_some(Json::Object(map))
    }

    fn list(&mut self, nodes: &[Node], schema: &Json, written: &str, kept: &str) -> Json {
        let mut items = Vec::new();
        for (index, node) in nodes.iter().enumerate() {
            let written = format!("{written}[{index}]");
            if node.value == Value::Null {
                self.wrong(node, &written, "remove the empty entry");
                continue;
            }
            let kept = format!("{kept}[{}]", items.len());
            items.extend(self.node(node, &schema["items"], &written, &kept));
        }
        Json::Array(items)
    }

    fn integer(&self, text: &str, plain: bool, schema: &Json) -> Result<Json, String> {
        let minimum = schema["minimum"].as_u64().unwrap_or(0);
        let maximum = schema["maximum"].as_u64().unwrap_or_else(|| match schema["format"].as_str() {
            Some("uint16") => u16::MAX.into(),
            _ => u32::MAX.into(),
        });
        let number = text.parse::<u64>().ok().filter(|number| plain && (minimum..=maximum).contains(number));
        let advice = || format!("write a whole number from {minimum} to {maximum}, without quotes");
        number.map(Json::from).ok_or_else(advice)
    }

    fn wrong(&mut self, node: &Node, path: &str, advice: &str) {
        let message = match node.value {
            Value::List(_) => "a list does not fit here",
            Value::Map(_) => "a section does not fit here",
            Value::Null => "nothing is written here",
            Value::Scalar { .. } => "this value does not fit here",
        };
        self.problems.push(Problem::new(&node.place, path, message).with_advice(advice));
    }

    fn unknown(&mut self, entry: &Entry, schema: &Json, parent: &str) {
        let known: Vec<&str> = properties(schema).map(|(key, _)| key).collect();
        let advice = match nearest(&entry.key, known.iter().copied()) {
            Some(meant) => format!("did you mean {meant}?"),
            None => format!("known here: {}", known.join(", ")),
        };
        let problem = Problem::new(&entry.place, &child_path(parent, &entry.key), "no key has this name");
        self.problems.push(problem.with_advice(advice));
    }
}

fn check_text(text: &str, schema: &Json) -> Result<Json, String> {
    let choices = choices(schema);
    if !choices.is_empty() && !choices.iter().any(|(choice, _)| *choice == text) {
        let nearest = nearest(text, choices.iter().map(|(choice, _)| *choice));
        let meant = nearest.map(|meant| format!("; did you mean {meant}?")).unwrap_or_default();
        return Err(format!("{}{meant}", advice_for(Kind::Text, schema)));
    }
    if text.is_empty() && schema["minLength"].as_u64().is_some() {
        return Err("write a path, or remove the key".to_owned());
    }
    check_form(schema["format"].as_str().unwrap_or(""), text)?;
    Ok(Json::from(text))
}

fn advice_for(kind: Kind, schema: &Json) -> String {
    match kind {
        Kind::Boolean => "write true or false, without quotes".to_owned(),
        Kind::Integer => "write a whole number".to_owned(),
        Kind::List => "write a list: one line for each entry, with - in front".to_owned(),
        Kind::Map => {
            let keys: Vec<&str> = properties(schema).map(|(key, _)| key).collect();
            format!("write keys with values: {}", keys.join(", "))
        }
        Kind::Text => {
            let choices: Vec<&str> = choices(schema).into_iter().map(|(choice, _)| choice).collect();
            if choices.is_empty() {
                return "write one value".to_owned();
            }
            format!("write one of: {}", choices.join(", "))
        }
    }
}
