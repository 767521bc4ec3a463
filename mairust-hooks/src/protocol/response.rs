//! What a program elsewhere answers, and how that is read.
//!
//! An answer is good as a whole or not at all: one field that is wrong, and nothing of it is done. Fields that are not
//! known are passed over at the top, where later versions may add some, and wrong everywhere else.

use mairust_core::EnhancedCode;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::strict;
use crate::handler::{FailureKind, HookError, HookPoint};

mod check;

/// Octets of an answer that somebody waits for.
const SYNC_BYTES: usize = 64 << 10;

/// Octets of an answer that nobody waits for.
const ASYNC_BYTES: usize = 1 << 20;

/// Lists and objects in one another.
const DEPTH: usize = 16;

/// The codes of replies that a program may choose. 421 is not among them: it says that the connection ends.
const CODES: [u16; 7] = [450, 451, 452, 550, 552, 553, 554];

/// An answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct HookResponse {
    /// What is to become of the message.
    #[serde(deserialize_with = "strict::word")]
    pub verdict: VerdictName,
    /// What the sender is told when the message is refused: 4yz for `tempfail`, 5yz for `reject`, and nothing else.
    #[serde(default, deserialize_with = "strict::object", skip_serializing_if = "Option::is_none")]
    pub smtp: Option<SmtpAnswer>,
    /// How much speaks against the message: from -100 to 100, on the program's own scale.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(range(min = -100.0, max = 100.0)))]
    pub score: Option<f64>,
    /// Why, for logs and administrators. No sender is told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(length(max = 512)))]
    pub reason: Option<String>,
    /// What is to be done with the message if it is taken.
    #[serde(default, deserialize_with = "strict::objects", skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(test, schemars(length(max = 64)))]
    pub actions: Vec<Action>,
}

/// What is to become of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(inline))]
#[serde(rename_all = "snake_case")]
pub enum VerdictName {
    /// It goes on.
    Allow,
    /// It is taken into quarantine.
    Quarantine,
    /// It is refused by a temporary failure.
    Tempfail,
    /// It is refused for good.
    Reject,
}

/// What the sender is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct SmtpAnswer {
    /// The code of the reply.
    #[cfg_attr(test, schemars(extend("enum" = CODES)))]
    pub code: u16,
    /// The enhanced status code (RFC 3463), of the same class; 4.7.1 or 5.7.1 if it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(regex(pattern = r"^[45]\.[0-9]{1,3}\.[0-9]{1,3}$")))]
    pub enhanced: Option<String>,
    /// The text, in printable ASCII. The id of the call is put behind it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(length(max = 200), regex(pattern = r"^[\x20-\x7e]*$")))]
    pub text: Option<String>,
}

/// What is to be done with a message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(tag = "op", deny_unknown_fields)]
pub enum Action {
    /// Sets flags.
    #[serde(rename = "flag.add")]
    FlagAdd {
        /// The flags.
        #[serde(deserialize_with = "strict::words")]
        flags: Vec<Flag>,
    },
    /// Removes flags.
    #[serde(rename = "flag.remove")]
    FlagRemove {
        /// The flags.
        #[serde(deserialize_with = "strict::words")]
        flags: Vec<Flag>,
    },
    /// Adds a header field in front of the message. Fields that say who sent it, what it is and what became of it on
    /// its way can't be added.
    #[serde(rename = "header.add")]
    HeaderAdd {
        /// Its name.
        #[cfg_attr(test, schemars(regex(pattern = "^[!-9;-~]{1,76}$")))]
        name: String,
        /// Its value, without control characters.
        #[cfg_attr(test, schemars(length(max = 900), regex(pattern = r"^[^\x00-\x1f\x7f-\x9f]*$")))]
        value: String,
    },
    /// Forgets something that the program keeps with the message.
    #[serde(rename = "metadata.delete")]
    MetadataDelete {
        /// Its name.
        #[cfg_attr(test, schemars(regex(pattern = "^[a-z0-9_.-]{1,64}$")))]
        key: String,
    },
    /// Keeps something with the message, for the program itself.
    #[serde(rename = "metadata.set")]
    MetadataSet {
        /// Its name.
        #[cfg_attr(test, schemars(regex(pattern = "^[a-z0-9_.-]{1,64}$")))]
        key: String,
        /// Any JSON value without the character NUL.
        value: Value,
    },
    /// Moves the message.
    #[serde(rename = "move")]
    Move {
        /// The folder, without control characters.
        #[cfg_attr(test, schemars(length(min = 1, max = 255), regex(pattern = r"^[^\x00-\x1f\x7f-\x9f]*$")))]
        folder: String,
    },
    /// Puts tags on the message.
    #[serde(rename = "tag.add")]
    TagAdd {
        /// The tags: 1 to 64 letters, digits and `_ : . / -` each.
        #[cfg_attr(test, schemars(length(max = 32), inner(regex(pattern = r"^[\p{L}\p{N}_:./-]{1,64}$"))))]
        tags: Vec<String>,
    },
    /// Takes tags off the message.
    #[serde(rename = "tag.remove")]
    TagRemove {
        /// The tags: 1 to 64 letters, digits and `_ : . / -` each.
        #[cfg_attr(test, schemars(length(max = 32), inner(regex(pattern = r"^[\p{L}\p{N}_:./-]{1,64}$"))))]
        tags: Vec<String>,
    },
}

/// A flag of a message (RFC 9051 §2.3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(inline))]
pub enum Flag {
    /// Somebody answered it.
    #[serde(rename = "\\Answered")]
    Answered,
    /// It is a draft.
    #[serde(rename = "\\Draft")]
    Draft,
    /// Somebody marked it.
    #[serde(rename = "\\Flagged")]
    Flagged,
    /// Somebody read it.
    #[serde(rename = "\\Seen")]
    Seen,
}

/// Why nothing of an answer is done. The text is for whoever wrote the program.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ResponseError {
    /// It has a field of the right form that says something it may not.
    #[error("{field}: {problem}")]
    Invalid {
        /// The field, for example `actions[2].tags[0]`.
        field: String,
        /// What is wrong.
        problem: String,
    },
    /// It is no JSON, or not of the form of an answer.
    #[error("the answer is not of the right form: {0}")]
    Malformed(String),
    /// Lists and objects are too deep in one another.
    #[error("lists and objects are more than {DEPTH} deep in one another")]
    TooDeep,
    /// It is too long.
    #[error("the answer has {size} octets; {limit} are allowed")]
    TooLarge {
        /// Its length in octets.
        size: usize,
        /// The length that is allowed.
        limit: usize,
    },
    /// It decides what the program never said it would decide.
    #[error("the manifest of the plugin does not ask for leave to {0}")]
    Undecidable(&'static str),
    /// It wants something done that the program never said it would want.
    #[error("the manifest of the plugin does not ask for leave to {0}")]
    Undeclared(String),
}

impl From<ResponseError> for HookError {
    fn from(error: ResponseError) -> Self {
        let kind = match error {
            ResponseError::Undecidable(_) => FailureKind::NoLeave,
            _ => FailureKind::Protocol,
        };
        Self::of(kind, error)
    }
}

impl HookResponse {
    /// The length that an answer may have, in octets: 64 KiB or, for `post_receive`, 1 MiB.
    pub fn max_octets(hook: HookPoint) -> usize {
        if hook.is_async() { ASYNC_BYTES } else { SYNC_BYTES }
    }

    /// Reads an answer: one JSON object of at most [so many octets](Self::max_octets), and nothing but white space
    /// around it.
    ///
    /// # Errors
    /// When anything about it is wrong.
    pub fn parse(octets: &[u8], hook: HookPoint) -> Result<Self, ResponseError> {
        let (size, limit) = (octets.len(), Self::max_octets(hook));
        if size > limit {
            return Err(ResponseError::TooLarge { size, limit });
        }
        let malformed = |error: &dyn std::fmt::Display| ResponseError::Malformed(error.to_string());
        let text = std::str::from_utf8(octets).map_err(|error| malformed(&error))?;
        if is_deep(octets) {
            return Err(ResponseError::TooDeep);
        }
        let strict::Object(response) =
            serde_json::from_str::<strict::Object<Self>>(text).map_err(|error| malformed(&error))?;
        response.check()?;
        Ok(response)
    }
}

impl VerdictName {
    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Quarantine => "quarantine",
            Self::Tempfail => "tempfail",
            Self::Reject => "reject",
        }
    }

    /// The first digit of codes that go with it, if it refuses.
    fn class(self) -> Option<u8> {
        match self {
            Self::Allow | Self::Quarantine => None,
            Self::Tempfail => Some(4),
            Self::Reject => Some(5),
        }
    }
}

impl SmtpAnswer {
    /// The enhanced code, if it has one and its form is right.
    pub(super) fn enhanced_code(&self) -> Option<EnhancedCode> {
        let text = self.enhanced.as_ref()?;
        text.split('.').skip(1).all(|part| part.len() <= 3).then(|| EnhancedCode::parse(text)).flatten()
    }
}

impl Flag {
    /// As in messages and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Answered => "\\Answered",
            Self::Draft => "\\Draft",
            Self::Flagged => "\\Flagged",
            Self::Seen => "\\Seen",
        }
    }
}

impl Action {
    /// Its name, as in `op`.
    pub fn op(&self) -> &'static str {
        match self {
            Self::FlagAdd { .. } => "flag.add",
            Self::FlagRemove { .. } => "flag.remove",
            Self::HeaderAdd { .. } => "header.add",
            Self::MetadataDelete { .. } => "metadata.delete",
            Self::MetadataSet { .. } => "metadata.set",
            Self::Move { .. } => "move",
            Self::TagAdd { .. } => "tag.add",
            Self::TagRemove { .. } => "tag.remove",
        }
    }
}

/// Whether lists and objects are too deep in one another, in whatever the octets are.
fn is_deep(octets: &[u8]) -> bool {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    octets.iter().any(|octet| {
        match octet {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => depth += 1,
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth > DEPTH
    })
}
