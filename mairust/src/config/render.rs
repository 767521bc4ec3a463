//! The configuration explained: JSON schema, annotated example, reference.
//!
//! Keys come in the order of the structs, since the example value is written and read back; the
//! schema itself is sorted by name.

use std::fmt::Write as _;
use std::path::Path;

use schemars::generate::SchemaSettings;
use serde_json::Value as Json;

use super::environment::variable_name;
use super::raw::RawConfig;
use super::tree::{self, Entry, Node, Value, child_path};
use super::validate::{Kind, choices};

/// Columns of generated YAML.
const WIDTH: usize = 100;
const REFERENCE_HEAD: &str = include_str!("reference_head.md");

/// The JSON schema of the file (draft 2020-12), for editors.
pub fn schema_json() -> String {
    // Writing a tree of plain values to memory cannot fail; `#` indents and sorts by name.
    format!("{:#}\n", schema())
}

/// A complete file with every key, its meaning and its default. Keys without a default are
/// commented out, except for the host name. It loads without problems.
pub fn example_yaml() -> String {
    let mut text = String::from(
        "# yaml-language-server: $schema=./mairust.schema.json\n\
         # Configuration of MaiRust. Every key is here with its default; all but server.hostname may be\n\
         # left out. `mairust config schema > mairust.schema.json` makes editors complete and check it.\n",
    );
    let schema = schema();
    for entry in example_entries() {
        text.push('\n');
        for line in example_entry(&entry, &schema["properties"][&entry.key], &entry.key, false) {
            text.push_str(&line);
            text.push('\n');
        }
    }
    text
}

/// The reference of all keys in Markdown.
pub fn reference_markdown() -> String {
    let mut text = String::from(REFERENCE_HEAD);
    let schema = schema();
    for entry in example_entries() {
        let section = &schema["properties"][&entry.key];
        // Writing to a string cannot fail.
        let _ = write!(text, "\n## `{}`\n\n{}\n\n", entry.key, description(section));
        text.push_str("| Key | Value | Default | Meaning |\n|---|---|---|---|\n");
        reference_rows(&entry, section, &entry.key, &mut text);
    }
    text
}

/// The schema with all parts in place, without references.
pub(super) fn schema() -> Json {
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    settings.into_generator().into_root_schema_for::<RawConfig>().to_value()
}

/// The example as a tree, in the order of the structs.
fn example_entries() -> Vec<Entry> {
    let text = serde_saphyr::to_string(&RawConfig::example()).expect("strings, numbers and maps are always YAML");
    match tree::parse(&text, Path::new("example")).0.value {
        Value::Map(entries) => entries,
        _ => Vec::new(),
    }
}

/// Whether a key, or one in it, is in force in the example: it has a default or is required.
fn is_active(entry: &Entry, schema: &Json, path: &str) -> bool {
    match &entry.value.value {
        Value::Map(entries) => entries
            .iter()
            .any(|child| is_active(child, &schema["properties"][&child.key], &child_path(path, &child.key))),
        _ => schema.get("default").is_some() || path == "server.hostname",
    }
}

/// The lines of a key with its comment. A key that is not in force is commented out together with
/// all that is in it, so that taking one `#` from each line brings the whole into force.
fn example_entry(entry: &Entry, schema: &Json, path: &str, commented_out: bool) -> Vec<String> {
    let comment_out = !commented_out && !is_active(entry, schema, path);
    let mut comment = description(schema);
    let known: Vec<&str> = choices(schema).into_iter().map(|(choice, _)| choice).collect();
    if known.len() > 1 {
        let _ = write!(comment, " One of: {}.", known.join(", "));
    }
    let mut body = Vec::new();
    match &entry.value.value {
        Value::Map(entries) => {
            body.push(format!("{}:", entry.key));
            for child in entries {
                let (child_schema, path) = (&schema["properties"][&child.key], child_path(path, &child.key));
                let lines = example_entry(child, child_schema, &path, commented_out || comment_out);
                body.extend(lines.into_iter().map(|line| format!("  {line}")));
            }
        }
        Value::List(nodes) if !nodes.is_empty() => {
            body.push(format!("{}:", entry.key));
            body.extend(nodes.iter().map(|node| format!("  - {}", inline(node))));
        }
        _ => body.push(format!("{}: {}", entry.key, inline(&entry.value))),
    }
    let mut lines = wrapped(&comment);
    lines.extend(body.into_iter().map(|line| if comment_out { format!("# {line}") } else { line }));
    lines
}

fn wrapped(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.len() + 1 + word.len() <= WIDTH - 6 => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(format!("# {word}")),
        }
    }
    lines
}

/// A value in one line of YAML.
fn inline(node: &Node) -> String {
    match &node.value {
        Value::List(nodes) => format!("[{}]", nodes.iter().map(inline).collect::<Vec<_>>().join(", ")),
        Value::Map(entries) => {
            let pairs = entries.iter().map(|entry| format!("{}: {}", entry.key, inline(&entry.value)));
            format!("{{ {} }}", pairs.collect::<Vec<_>>().join(", "))
        }
        Value::Null => "null".to_owned(),
        // Within braces these would end the value.
        Value::Scalar { text, plain: true } if !text.contains(['[', ']', '{', '}', ',']) => text.clone(),
        // A JSON string is a quoted YAML string.
        Value::Scalar { text, .. } => Json::from(text.as_str()).to_string(),
    }
}

fn reference_rows(entry: &Entry, schema: &Json, path: &str, text: &mut String) {
    let Value::Map(entries) = &entry.value.value else { return };
    for child in entries {
        let child_schema = &schema["properties"][&child.key];
        let path = child_path(path, &child.key);
        if let Value::Map(_) = child.value.value {
            reference_rows(child, child_schema, &path, text);
            continue;
        }
        let default = match child_schema.get("default") {
            Some(_) => format!("`{}`", inline(&child.value)),
            None => "–".to_owned(),
        };
        reference_row(&path, child_schema, &default, text);
        for key in item_keys(&child.value) {
            let item_schema = &child_schema["items"]["properties"][key];
            reference_row(&format!("{path}[].{key}"), item_schema, "–", text);
        }
    }
}

/// The keys of the sections in a list, each once.
fn item_keys(list: &Node) -> Vec<&str> {
    let mut keys: Vec<&str> = Vec::new();
    let Value::List(nodes) = &list.value else { return keys };
    for node in nodes {
        let Value::Map(items) = &node.value else { continue };
        let new = items.iter().map(|item| item.key.as_str()).filter(|key| !keys.contains(key)).collect::<Vec<_>>();
        keys.extend(new);
    }
    keys
}

fn reference_row(path: &str, schema: &Json, default: &str, text: &mut String) {
    let mut meaning = description(schema);
    for (choice, what) in choices(schema) {
        if !what.is_empty() {
            let _ = write!(meaning, " `{choice}`: {}", flat(what));
        }
    }
    // A bar would end the cell.
    let meaning = meaning.trim().replace('|', "\\|");
    let _ = writeln!(text, "| `{path}` | {} | {default} | {meaning} |", value_words(path, schema));
}

fn value_words(path: &str, schema: &Json) -> String {
    let choices: Vec<String> = choices(schema).iter().map(|(choice, _)| format!("`{choice}`")).collect();
    let words = match Kind::of(schema) {
        Kind::Boolean => "`true`, `false`".to_owned(),
        Kind::Integer => "whole number".to_owned(),
        Kind::List if schema["items"]["type"] == "object" => return "list of sections".to_owned(),
        Kind::List => return format!("list: {}", value_words(&format!("{path}[]"), &schema["items"])),
        Kind::Map => return "section".to_owned(),
        Kind::Text if !choices.is_empty() => choices.join(", "),
        Kind::Text => form_words(schema["format"].as_str()).to_owned(),
    };
    // What is in a list has no variable.
    if path.contains('[') { words } else { format!("{words}<br>`{}`", variable_name(path)) }
}

fn form_words(format: Option<&str>) -> &'static str {
    match format {
        Some("mairust-address") => "IP address and port",
        Some("mairust-duration") => "duration",
        Some("mairust-email") => "mail address",
        Some("mairust-host") => "host name",
        Some("mairust-host-port") => "host and port",
        Some("mairust-score") => "number",
        Some("mairust-ip") => "IP address",
        Some("mairust-network") => "network",
        Some("mairust-rate") => "rate, or `unlimited`",
        Some("mairust-secret") => "secret",
        Some("mairust-sender") => "sender",
        Some("mairust-size") => "size",
        Some("mairust-text") => "text",
        Some("mairust-threshold") => "number or `never`",
        Some("mairust-base-url" | "mairust-url") => "URL",
        _ => "path",
    }
}

fn description(schema: &Json) -> String {
    flat(schema["description"].as_str().unwrap_or(""))
}

fn flat(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compares with a file of the repository; `UPDATE=1` writes it instead.
    fn golden(name: &str, text: &str) {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name);
        if std::env::var_os("UPDATE").is_some() {
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(&file, text).unwrap();
        }
        let kept = std::fs::read_to_string(&file).unwrap_or_default();
        assert!(kept == text, "{name} differs; run the tests with UPDATE=1 and look at the difference");
    }

    #[test]
    fn goldens_are_up_to_date() {
        golden("docs/mairust.schema.json", &schema_json());
        golden("docs/configuration.md", &reference_markdown());
        golden("examples/deploy/mairust.yaml", &example_yaml());
    }

    #[test]
    fn the_schema_knows_every_key_and_refuses_others() {
        fn visit(schema: &Json, path: &str) {
            let kind = Kind::of(schema);
            let right = match kind {
                Kind::Map => schema["additionalProperties"] == false && schema["properties"].is_object(),
                Kind::List => schema["items"].is_object(),
                Kind::Boolean | Kind::Integer => true,
                Kind::Text => !choices(schema).is_empty() || schema["type"] != Json::Null,
            };
            assert!(right, "{path}: {schema}");
            for (key, child) in super::super::validate::properties(schema) {
                assert!(
                    child["description"].is_string() || Kind::of(child) == Kind::Map,
                    "{path}.{key} needs a comment"
                );
                visit(child, &child_path(path, key));
            }
            if kind == Kind::List {
                visit(&schema["items"], path);
            }
        }
        let schema = schema();
        assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
        visit(&schema, "");
    }

    #[test]
    fn the_example_has_every_key_of_the_schema() {
        fn visit(schema: &Json, path: &str, example: &str) {
            for (key, child) in super::super::validate::properties(schema) {
                assert!(example.contains(&format!("{key}:")), "{path}.{key}");
                visit(child, key, example);
            }
        }
        visit(&schema(), "", &example_yaml());
    }

    #[test]
    fn the_example_loads_with_everything_in_force() {
        let example = example_yaml();
        assert!(example.lines().all(|line| line.len() <= WIDTH), "{example}");
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("mairust.yaml");
        std::fs::write(&file, &example).unwrap();
        let config = crate::config::load(Some(&file), [("", ""); 0]).unwrap();
        assert_eq!(config.warnings, []);
        assert_eq!(config.server.hostname.as_str(), "mail.example.com");
        let mut in_tls = false;
        let with_lists: Vec<String> = example
            .lines()
            .map(|line| {
                in_tls = line == "# tls:" || in_tls && !line.is_empty();
                match (line.strip_prefix("# "), line.strip_prefix("  # ")) {
                    (Some(setting), _) if in_tls => setting.to_owned(),
                    (_, Some(list))
                        if ["rules:", "exceptions:", "patterns:", "domains:"].contains(&list)
                            || list.starts_with("  - ") =>
                    {
                        format!("  {list}")
                    }
                    _ => line.to_owned(),
                }
            })
            .collect();
        std::fs::write(&file, with_lists.join("\n")).unwrap();
        let with_lists = crate::config::load(Some(&file), [("", ""); 0]).unwrap();
        assert_eq!(with_lists.spam.rules.rules.len(), mairust_hooks::scan::default_rules().len() + 6);
        assert_eq!((with_lists.policy.limits.exceptions.len(), with_lists.delivery.domains.len()), (1, 1));
        assert_eq!(with_lists.policy.scoring.map(|scoring| scoring.patterns.len()), Some(1));
        assert_eq!(with_lists.tls.len(), 2);
        let default = crate::config::Config::new(config.server.hostname.clone(), Path::new("/var/lib/mairust"));
        assert_eq!(format!("{config:?}"), format!("{default:?}"), "the example shows the defaults");
    }
}
