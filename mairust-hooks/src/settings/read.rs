//! Reading settings, so that everything that is wrong is said at once.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::{HookSettings, SettingsError};
use crate::protocol::Grants;

impl HookSettings {
    /// Reads settings. `allow_private` says whether hooks may be at private addresses, whatever each of them says.
    ///
    /// # Errors
    /// With all that is wrong about them.
    pub fn read(json: &Value, allow_private: bool) -> Result<Self, Vec<SettingsError>> {
        let settings = Self::parse(json)?;
        let errors = settings.check(allow_private);
        if errors.is_empty() { Ok(settings) } else { Err(errors) }
    }

    /// Reads settings that were read before, without looking at what may be set now.
    ///
    /// # Errors
    /// With all that is not as it is written down.
    pub fn parse(json: &Value) -> Result<Self, Vec<SettingsError>> {
        let Value::Object(fields) = json else { return Err(vec![SettingsError::new("", "must be an object")]) };
        let unknown = unknown_grants(fields);
        match Self::deserialize(json) {
            Ok(settings) if unknown.is_empty() => Ok(settings),
            Ok(_) => Err(unknown),
            Err(error) => {
                let mut errors: Vec<_> = fields.iter().filter_map(|(name, value)| fault(name, value)).collect();
                if errors.is_empty() {
                    errors.push(SettingsError::new("", error));
                }
                errors.extend(unknown);
                Err(errors)
            }
        }
    }

    /// Settings as they are kept.
    ///
    /// # Errors
    /// With all that is not as it is written down, in one text for people.
    pub fn kept(json: &Value) -> Result<Self, String> {
        let told = |errors: Vec<SettingsError>| errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
        Self::parse(json).map_err(|errors| format!("the settings can't be read: {}", told(errors)))
    }

    /// Settings of a new hook: what is left out or null has its default.
    ///
    /// # Errors
    /// With all that is wrong about them.
    pub fn made(fields: &Map<String, Value>, allow_private: bool) -> Result<Self, Vec<SettingsError>> {
        Self::read(&merged(Value::Object(Map::new()), fields), allow_private)
    }

    /// The settings with what a patch changes ([RFC 7396](https://www.rfc-editor.org/rfc/rfc7396)): null stands for the
    /// default. What lies in `config` is replaced as it is. A hook keeps its kind of transport.
    ///
    /// # Errors
    /// With all that is wrong about them then.
    pub fn patched(&self, patch: &Map<String, Value>, allow_private: bool) -> Result<Self, Vec<SettingsError>> {
        let kind = patch.get("transport").and_then(|transport| transport.get("kind"));
        if kind.is_some_and(|kind| *kind != self.transport.kind()) {
            let message = format!("it is {}, and can't be changed: bind another hook", self.transport.kind());
            return Err(vec![SettingsError::new("/transport/kind", message)]);
        }
        Self::read(&merged(self.to_json(), patch), allow_private)
    }

    /// The names of all grants.
    pub fn all_grants() -> Vec<String> {
        let all = Grants {
            read_envelope: false,
            read_headers_only: Some(Vec::new()),
            preview_bytes: u32::MAX,
            add_headers_only: Some(Vec::new()),
            ..Grants::default()
        };
        match serde_json::to_value(all) {
            Ok(Value::Object(all)) => all.into_iter().map(|(name, _)| name).collect(),
            _ => Vec::new(),
        }
    }
}

/// What is wrong with one field, all others being right.
fn fault(name: &str, value: &Value) -> Option<SettingsError> {
    let alone = Value::Object(Map::from_iter([(name.to_owned(), value.clone())]));
    HookSettings::deserialize(&alone).err().map(|error| SettingsError::new(format!("/{name}"), error))
}

/// Grants that there are not: whoever writes `read_boddy` must not believe that it was read.
fn unknown_grants(fields: &Map<String, Value>) -> Vec<SettingsError> {
    let known = HookSettings::all_grants();
    let given = fields.get("grants").and_then(Value::as_object).into_iter().flat_map(Map::keys);
    let unknown = given.filter(|name| !known.contains(name));
    unknown.map(|name| SettingsError::new(format!("/grants/{name}"), "is no grant")).collect()
}

fn merged(mut json: Value, patch: &Map<String, Value>) -> Value {
    for (name, value) in patch {
        match name.as_str() {
            "config" if !value.is_null() => json[name] = value.clone(),
            _ => merge(&mut json, name, value),
        }
    }
    json
}

fn merge(target: &mut Value, name: &str, value: &Value) {
    let Value::Object(fields) = target else { return };
    match value {
        Value::Null => drop(fields.remove(name)),
        Value::Object(patch) => {
            let inner = fields.entry(name).or_insert_with(|| Value::Object(Map::new()));
            if !inner.is_object() {
                *inner = Value::Object(Map::new());
            }
            patch.iter().for_each(|(name, value)| merge(inner, name, value));
        }
        value => drop(fields.insert(name.to_owned(), value.clone())),
    }
}
