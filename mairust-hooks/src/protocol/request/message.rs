//! The message itself, as far as a program may see it.

use serde::{Deserialize, Serialize};

/// A message, as far as a program may see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct MessageView {
    /// Its id in the REST API; null before it is stored.
    pub id: Option<String>,
    /// Its size in octets.
    pub size: u64,
    /// `sha256:` and the SHA-256 of its octets in hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
    /// Whether something is attached.
    pub has_attachments: bool,
    /// The header fields, in order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub headers: Option<Vec<HeaderView>>,
    /// Whether header fields, or their octets, are missing at the end, since the request would be too large. Left out
    /// if not.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub headers_truncated: bool,
    /// What it says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<BodyView>,
    /// What is attached, in order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attachments: Option<Vec<AttachmentView>>,
    /// Whether attachments are missing at the end, since the request would be too large. Left out if not.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub attachments_truncated: bool,
    /// Where all of it can be read (RFC 5322).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raw: Option<RawView>,
}

/// A header field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct HeaderView {
    /// Its name.
    pub name: String,
    /// Its value, unfolded and decoded (RFC 2047).
    pub value: String,
    /// Its value as it stands in the message, if it is UTF-8 and decoding changed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raw: Option<String>,
    /// The octets of its value in base64, if they are not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raw_b64: Option<String>,
}

/// What a message says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(tag = "mode", rename_all = "snake_case")]
pub enum BodyView {
    /// All of it, as far as it fits.
    Full {
        /// The text; HTML is reduced to text if there is nothing else. Null if there is none.
        text: Option<String>,
        /// The HTML; null if there is none.
        html: Option<String>,
        /// What all is told of both.
        #[serde(flatten)]
        facts: BodyFacts,
        /// Where all of it can be read.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        href: Option<String>,
    },
    /// The beginning.
    Preview {
        /// The first plain text; HTML is reduced to text if there is nothing else. Null if there is none.
        text: Option<String>,
        /// What is told of it.
        #[serde(flatten)]
        facts: BodyFacts,
    },
}

/// What is told of a text.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct BodyFacts {
    /// The media type that the text was made from.
    pub source: Option<String>,
    /// The charset that it had, as the message says; null if it does not.
    pub charset: Option<String>,
    /// How many octets of UTF-8 are here.
    pub bytes: u64,
    /// How many there are.
    pub bytes_total: u64,
    /// Whether something is cut off.
    pub truncated: bool,
    /// Whether something could not be decoded, and is shown as U+FFFD. Left out if not.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub lossy: bool,
}

/// What is attached to a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct AttachmentView {
    /// Its place, counted from 0.
    pub index: u32,
    /// Its file name, decoded; null if it has none.
    pub filename: Option<String>,
    /// Its media type in lower case.
    pub content_type: String,
    /// Its size in octets after the transfer encoding is undone.
    pub size: u64,
    /// The SHA-256 of its octets in hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Its octets in base64; left out if there is no room for any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_b64: Option<String>,
    /// Whether there are more octets than here. Left out where none may be seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub truncated: Option<bool>,
    /// Where all of it can be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub href: Option<String>,
}

/// Where the octets of a message can be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RawView {
    /// Below the base of the callback.
    pub href: String,
    /// How many octets there are.
    pub size: u64,
}
