//! Results that programs tell later, by the callback API.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::answer::Answer;
use super::grants::Grants;
use super::invocation::InvocationId;
use super::response::{HookResponse, ResponseError};
use super::strict;
use crate::handler::{FailureKind, HookError, HookPoint};

/// The longest code of an error in octets.
const MAX_CODE: usize = 64;

/// The longest message of an error in octets.
const MAX_MESSAGE: usize = 512;

/// The result of a call that a program had taken to tell it later.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LateResult {
    /// It has looked at the message, and answers.
    Done(HookResponse),
    /// It could not; why, for people.
    Failed(String),
    /// It told nothing in time. No program says so.
    Missing,
}

/// What is told of a result besides the answer.
#[derive(Debug, Deserialize)]
struct Told {
    #[serde(deserialize_with = "strict::word")]
    status: LateStatus,
    #[serde(default, deserialize_with = "strict::object")]
    error: Option<LateError>,
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum LateStatus {
    Done,
    Failed,
}

/// Why there is no answer.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct LateError {
    code: String,
    message: String,
}

impl LateResult {
    /// Reads `{"status": "done", …}` with the fields of a [`HookResponse`], of which all may be left out, or
    /// `{"status": "failed", "error": {"code", "message"}}`.
    ///
    /// # Errors
    /// When anything about it is wrong.
    pub fn parse(mut fields: Map<String, Value>) -> Result<Self, ResponseError> {
        let malformed = |error: &dyn std::fmt::Display| ResponseError::Malformed(error.to_string());
        let told = Value::Object(fields.clone());
        let told = Told::deserialize(told).map_err(|error| malformed(&error))?;
        match (told.status, told.error) {
            (LateStatus::Done, None) => {
                fields.remove("status");
                fields.entry("verdict").or_insert_with(|| json!("allow"));
                let octets = Value::Object(fields).to_string().into_bytes();
                HookResponse::parse(&octets, HookPoint::PostReceive).map(Self::Done)
            }
            (LateStatus::Done, Some(_)) => Err(malformed(&"what is done has no error")),
            (LateStatus::Failed, error) => {
                let error = error.unwrap_or(LateError { code: "failed".to_owned(), message: String::new() });
                if error.code.len() > MAX_CODE || error.message.len() > MAX_MESSAGE {
                    let most = format_args!("a code has at most {MAX_CODE} octets, a message {MAX_MESSAGE}");
                    return Err(malformed(&most));
                }
                let LateError { code, message } = error;
                let text = if message.is_empty() { code } else { format!("{code}: {message}") };
                Ok(Self::Failed(text.replace(char::is_control, " ")))
            }
        }
    }

    /// What it comes to, and what of it may be done.
    ///
    /// # Errors
    /// When the program failed, or wants something that is not in `declared`.
    pub fn into_answer(
        self,
        invocation: &InvocationId,
        declared: &Grants,
        granted: &Grants,
    ) -> Result<Answer, HookError> {
        match self {
            Self::Done(response) => Ok(response.into_answer(invocation)?.under(declared, granted)?),
            Self::Missing => Err(HookError::of(FailureKind::Timeout, "it did not tell the result in time")),
            Self::Failed(why) => Err(HookError::of(FailureKind::Crash, format_args!("it failed at last: {why}"))),
        }
    }
}
