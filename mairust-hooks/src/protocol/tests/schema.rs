use std::path::{Path, PathBuf};

use mairust_core::{Content, Envelope, Mail, ReversePath};
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Value, json};

use super::mail::{address, facts, request};
use super::*;

fn place(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/schema").join(name)
}

fn read(name: &str) -> String {
    std::fs::read_to_string(place(name)).unwrap_or_else(|error| panic!("docs/schema/{name}: {error}"))
}

/// Holds a file in docs/schema against what it should be.
fn check(name: &str, wanted: &Value) {
    let wanted = format!("{wanted:#}\n");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(place(name), &wanted).unwrap();
    }
    assert_eq!(read(name), wanted, "run the tests with UPDATE=1");
}

fn schema<T: JsonSchema>(settings: SchemaSettings, name: &str) -> Value {
    let mut schema = settings.into_generator().into_root_schema_for::<T>();
    schema.insert("$id".to_owned(), format!("https://mairust.dev/schema/{name}").into());
    schema.to_value()
}

/// What may be left out is left out when there is none of it, and never null.
fn forbid_null(schema: &mut Value) {
    match schema {
        Value::Array(list) => list.iter_mut().for_each(forbid_null),
        Value::Object(fields) => {
            let required = fields.get("required").cloned().unwrap_or_default();
            let is_required = |name: &String| required.as_array().is_some_and(|list| list.contains(&json!(name)));
            if let Some(Value::Object(properties)) = fields.get_mut("properties") {
                properties.iter_mut().filter(|(name, _)| !is_required(name)).for_each(|(_, part)| {
                    let Value::Object(part) = part else { return };
                    if let Some(Value::Array(types)) = part.get_mut("type") {
                        types.retain(|kind| kind != "null");
                        part["type"] = types.remove(0);
                    }
                    if let Some(Value::Array(mut kinds)) = part.remove("anyOf") {
                        kinds.retain(|kind| *kind != json!({"type": "null"}));
                        part.extend(kinds.remove(0).as_object().cloned().unwrap());
                    }
                });
            }
            fields.values_mut().for_each(forbid_null);
        }
        _ => {}
    }
}

#[test]
fn the_schemas_are_current() {
    let name = "hook-request-v1.json";
    let mut request = schema::<HookRequest>(SchemaSettings::draft2020_12().for_serialize(), name);
    forbid_null(&mut request);
    check(name, &request);
    let name = "hook-response-v1.json";
    check(name, &schema::<HookResponse>(SchemaSettings::draft2020_12(), name));
}

/// The examples of the specification are read, and written again as they are.
#[test]
fn the_examples_read_back() {
    let example: Value = serde_json::from_str(&read("examples/request-pre-receive.json")).unwrap();
    let request: HookRequest = serde_json::from_value(example.clone()).unwrap();
    assert_eq!(serde_json::to_value(request).unwrap(), example);
    let text = read("examples/response.json");
    let response = HookResponse::parse(text.as_bytes(), HookPoint::PreReceive).unwrap();
    assert_eq!(serde_json::to_value(response).unwrap(), serde_json::from_str::<Value>(&text).unwrap());
}

const LETTER: &[u8] = b"From: =?Shift_JIS?B?jbKToQ==?= <a@sender.example>\r\n\
    Subject: invoice\r\n\
    Content-Type: multipart/mixed; boundary=b\r\n\r\n\
    --b\r\nContent-Type: text/plain; charset=Shift_JIS\r\nContent-Transfer-Encoding: base64\r\n\r\nkL+LgY+R\r\n\
    --b\r\nContent-Type: text/csv; name=invoice.csv\r\nContent-Disposition: attachment\r\n\r\n1,2\r\n--b--\r\n";

#[test]
fn there_is_an_example_of_a_stored_message() {
    let envelope = Envelope {
        sender: ReversePath::Address(address("a@sender.example")),
        recipients: vec![address("user@example.com")],
    };
    let (id, tenant) = (id(0x10).parse().unwrap(), id(0x40).parse().unwrap());
    let mail = Mail::stored(id, tenant, envelope, LETTER.to_vec().into(), Content::parse(LETTER));
    let mut facts = facts(LETTER);
    let (address, folder) = (Some("user@example.com".to_owned()), Some("INBOX".to_owned()));
    facts.policy = None;
    facts.mailbox = Some(request::MailboxView { id: self::id(0x20), address, folder });
    (facts.flags, facts.tags) = (Some(Vec::new()), Some(vec!["invoice".to_owned()]));
    let mut grants = Grants { read_headers: true, write_tags: true, ..Grants::default() };
    (grants.read_body, grants.read_attachments) = (BodyGrant::Full, AttachmentGrant::Full);
    let view = View { hook: HookPoint::PostReceive, mail: &mail, octets: LETTER, facts: &facts, links: None };
    let request = request(HookPoint::PostReceive, grants.clone(), view.under(&grants));
    check("examples/request-post-receive.json", &serde_json::to_value(request).unwrap());
}

fn id(last: u8) -> String {
    format!("019aaa68-dd6b-7000-8000-0000000000{last:02x}")
}
