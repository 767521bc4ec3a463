//! What the fields of an answer may say.

use serde_json::Value;

use super::{Action, CODES, HookResponse, ResponseError, SmtpAnswer, VerdictName};
use crate::protocol::answer::Answer;
use crate::protocol::grants::matches;

const MAX_ACTIONS: usize = 64;
const MAX_TAGS: usize = 32;
const MAX_FOLDER: usize = 255;
const MAX_REASON: usize = 512;
const MAX_TEXT: usize = 200;
const MAX_KEY: usize = 64;
const MAX_NAME: usize = 76;
const MAX_VALUE: usize = 900;

/// Header fields that no program may add, whatever their case; a final `*` stands for any characters. They say who sent a
/// message to whom, what it is, and what became of it on its way.
const PROTECTED: [&str; 19] = [
    "arc-*",
    "authentication-results",
    "bcc",
    "cc",
    "content-*",
    "date",
    "dkim-signature",
    "from",
    "list-unsubscribe*",
    "message-id",
    "mime-version",
    "received",
    "reply-to",
    "resent-*",
    "return-path",
    "sender",
    "subject",
    "to",
    "x-mairust-*",
];

impl HookResponse {
    /// Whether all that it says may be said.
    ///
    /// # Errors
    /// When something may not; names the first.
    pub fn check(&self) -> Result<(), ResponseError> {
        if let Some(smtp) = &self.smtp {
            smtp.check(self.verdict)?;
        }
        check(self.score, self.reason.as_deref(), &self.actions)
    }
}

impl Answer {
    /// Whether all that it says may be said.
    ///
    /// # Errors
    /// When something may not; names the first.
    pub fn check(&self) -> Result<(), ResponseError> {
        check(self.score, self.reason.as_deref(), &self.actions)
    }
}

fn check(score: Option<f64>, reason: Option<&str>, actions: &[Action]) -> Result<(), ResponseError> {
    if score.is_some_and(|score| !(-100.0..=100.0).contains(&score)) {
        return invalid("score", "must be from -100 to 100");
    }
    if reason.is_some_and(|reason| reason.chars().count() > MAX_REASON) {
        return invalid("reason", format_args!("must not be longer than {MAX_REASON} characters"));
    }
    if actions.len() > MAX_ACTIONS {
        return invalid("actions", format_args!("must not be more than {MAX_ACTIONS}"));
    }
    actions.iter().enumerate().try_for_each(|(index, action)| action.check(&format!("actions[{index}]")))
}

impl SmtpAnswer {
    fn check(&self, verdict: VerdictName) -> Result<(), ResponseError> {
        let Some(class) = verdict.class() else {
            return invalid("smtp", format_args!("goes with tempfail and reject, not with {}", verdict.as_str()));
        };
        if !CODES.contains(&self.code) {
            return invalid("smtp.code", format_args!("must be one of {CODES:?}, not {}", self.code));
        }
        if self.code / 100 != u16::from(class) {
            return invalid("smtp.code", format_args!("must be {class}yz for {}, not {}", verdict.as_str(), self.code));
        }
        if let Some(text) = &self.enhanced
            && self.enhanced_code().is_none_or(|code| code.0 != class)
        {
            let problem = format_args!("must be {class}.y.z for {}, not {text:?}", verdict.as_str());
            return invalid("smtp.enhanced", problem);
        }
        let printable =
            |text: &String| text.len() <= MAX_TEXT && text.bytes().all(|octet| matches!(octet, b' '..=b'~'));
        match &self.text {
            Some(text) if !printable(text) => {
                invalid("smtp.text", format_args!("must be at most {MAX_TEXT} printable ASCII characters"))
            }
            _ => Ok(()),
        }
    }
}

impl Action {
    fn check(&self, place: &str) -> Result<(), ResponseError> {
        match self {
            Self::FlagAdd { .. } | Self::FlagRemove { .. } => Ok(()),
            Self::HeaderAdd { name, value } => check_header(place, name, value),
            Self::MetadataDelete { key } => check_key(place, key),
            Self::MetadataSet { key, value } => {
                check_key(place, key)?;
                if has_nul(value) { invalid(format_args!("{place}.value"), "must not hold NUL") } else { Ok(()) }
            }
            Self::Move { folder } => check_text(&format!("{place}.folder"), folder, 1, MAX_FOLDER),
            Self::TagAdd { tags } | Self::TagRemove { tags } => check_tags(place, tags),
        }
    }
}

fn check_header(place: &str, name: &str, value: &str) -> Result<(), ResponseError> {
    let field = format!("{place}.name");
    let is_name =
        (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(|octet| matches!(octet, b'!'..=b'9' | b';'..=b'~'));
    if !is_name {
        return invalid(
            field,
            format_args!("must be 1 to {MAX_NAME} printable ASCII characters without space and colon"),
        );
    }
    if PROTECTED.iter().any(|entry| matches(entry, name)) {
        return invalid(field, format_args!("the header field {name} can't be added"));
    }
    check_text(&format!("{place}.value"), value, 0, MAX_VALUE)
}

fn check_key(place: &str, key: &str) -> Result<(), ResponseError> {
    let allowed = |octet| matches!(octet, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'.' | b'-');
    if (1..=MAX_KEY).contains(&key.len()) && key.bytes().all(allowed) {
        return Ok(());
    }
    invalid(format_args!("{place}.key"), format_args!("must be 1 to {MAX_KEY} of a to z, 0 to 9 and _ . -"))
}

fn check_tags(place: &str, tags: &[String]) -> Result<(), ResponseError> {
    if tags.len() > MAX_TAGS {
        return invalid(format_args!("{place}.tags"), format_args!("must not be more than {MAX_TAGS}"));
    }
    match tags.iter().position(|tag| !is_valid_tag(tag)) {
        Some(index) => invalid(format_args!("{place}.tags[{index}]"), "must be 1 to 64 letters, digits and _ : . / -"),
        None => Ok(()),
    }
}

fn is_valid_tag(tag: &str) -> bool {
    let allowed = |c: char| c.is_alphanumeric() || matches!(c, '_' | ':' | '.' | '/' | '-');
    (1..=64).contains(&tag.chars().count()) && tag.chars().all(allowed)
}

fn check_text(field: &str, text: &str, least: usize, most: usize) -> Result<(), ResponseError> {
    if text.contains(char::is_control) {
        return invalid(field, "must not hold control characters");
    }
    if (least..=most).contains(&text.chars().count()) {
        return Ok(());
    }
    invalid(field, format_args!("must have {least} to {most} characters"))
}

/// Not every database has this character.
fn has_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(list) => list.iter().any(has_nul),
        Value::Object(fields) => fields.iter().any(|(name, value)| name.contains('\0') || has_nul(value)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

fn invalid(field: impl std::fmt::Display, problem: impl std::fmt::Display) -> Result<(), ResponseError> {
    Err(ResponseError::Invalid { field: field.to_string(), problem: problem.to_string() })
}
