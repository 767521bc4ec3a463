//! What a program elsewhere may see of mail, and do about it.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::response::Action;

/// The least and the most octets of text that [`BodyGrant::Preview`] may show.
const PREVIEW_BYTES: std::ops::RangeInclusive<u32> = 4_096..=16_384;

/// What a program may see and do: what its tenant gave it, or what it said that it wants.
///
/// The default is what needs no leave: the envelope, and no more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default)]
#[non_exhaustive]
pub struct Grants {
    /// Whether it sees session, envelope, results of authentication, policy and fingerprint. Left out if so.
    #[serde(skip_serializing_if = "is_true")]
    pub read_envelope: bool,
    /// Whether it sees header fields.
    pub read_headers: bool,
    /// The only header fields that it sees, whatever their case; left out if it sees all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_headers_only: Option<Vec<String>>,
    /// What it sees of the text.
    pub read_body: BodyGrant,
    /// How many octets of UTF-8 a preview has at most: from 4096, the default, to 16384. What lies outside counts
    /// as the nearer end. Left out if it is the default.
    #[serde(skip_serializing_if = "is_least_preview")]
    #[cfg_attr(test, schemars(range(min = 4096, max = 16384)))]
    pub preview_bytes: u32,
    /// What it sees of what is attached.
    pub read_attachments: AttachmentGrant,
    /// Whether it may set and remove tags.
    pub write_tags: bool,
    /// Whether it may set and remove flags.
    pub write_flags: bool,
    /// Whether it may say which folder a message belongs into.
    pub move_message: bool,
    /// Whether it may keep data of its own with a message.
    pub write_metadata: bool,
    /// What it may decide besides letting a message pass.
    pub decide: BTreeSet<Decide>,
    /// Whether it may add header fields.
    pub add_headers: bool,
    /// The only header fields that it may add, whatever their case; a final `*` stands for any characters. Left out
    /// if it may add all that are not protected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub add_headers_only: Option<Vec<String>>,
}

/// What may be seen of the text of a message.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(inline))]
#[serde(rename_all = "snake_case")]
pub enum BodyGrant {
    /// Nothing.
    #[default]
    None,
    /// The beginning.
    Preview,
    /// All of it.
    Full,
}

/// What may be seen of what is attached to a message.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(inline))]
#[serde(rename_all = "snake_case")]
pub enum AttachmentGrant {
    /// Whether there is something.
    #[default]
    None,
    /// Names, media types and sizes.
    Metadata,
    /// The beginning of some.
    Preview,
    /// All of it.
    Full,
}

/// What may be decided about a message besides letting it pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(inline))]
#[serde(rename_all = "snake_case")]
pub enum Decide {
    /// To refuse it by a temporary failure.
    Tempfail,
    /// To refuse it for good.
    Reject,
    /// To take it into quarantine.
    Quarantine,
}

impl Grants {
    /// How many octets of UTF-8 a preview has at most.
    pub fn preview_limit(&self) -> usize {
        self.preview_bytes.clamp(*PREVIEW_BYTES.start(), *PREVIEW_BYTES.end()) as usize
    }

    /// Whether a header field of this name may be seen.
    pub fn shows_header(&self, name: &str) -> bool {
        let listed = |only: &Vec<String>| only.iter().any(|entry| entry.eq_ignore_ascii_case(name));
        self.read_headers && self.read_headers_only.as_ref().is_none_or(listed)
    }

    /// Whether a header field of this name may be added, if it is not protected.
    pub fn adds_header(&self, name: &str) -> bool {
        let listed = |only: &Vec<String>| only.iter().any(|pattern| matches(pattern, name));
        self.add_headers && self.add_headers_only.as_ref().is_none_or(listed)
    }

    /// Whether this may be done.
    pub fn permits(&self, action: &Action) -> bool {
        match action {
            Action::FlagAdd { .. } | Action::FlagRemove { .. } => self.write_flags,
            Action::HeaderAdd { name, .. } => self.adds_header(name),
            Action::MetadataDelete { .. } | Action::MetadataSet { .. } => self.write_metadata,
            Action::Move { .. } => self.move_message,
            Action::TagAdd { .. } | Action::TagRemove { .. } => self.write_tags,
        }
    }

    /// Whether all of a message may be seen, as it was received.
    pub fn shows_everything(&self) -> bool {
        self.read_headers
            && self.read_headers_only.is_none()
            && self.read_body == BodyGrant::Full
            && self.read_attachments == AttachmentGrant::Full
    }
}

impl Default for Grants {
    fn default() -> Self {
        Self {
            read_envelope: true,
            read_headers: false,
            read_headers_only: None,
            read_body: BodyGrant::None,
            preview_bytes: *PREVIEW_BYTES.start(),
            read_attachments: AttachmentGrant::None,
            write_tags: false,
            write_flags: false,
            move_message: false,
            write_metadata: false,
            decide: BTreeSet::new(),
            add_headers: false,
            add_headers_only: None,
        }
    }
}

/// Whether a name of a header field is meant, whatever its case; a final `*` stands for any characters.
pub(super) fn matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => name.get(..start.len()).is_some_and(|front| front.eq_ignore_ascii_case(start)),
        None => pattern.eq_ignore_ascii_case(name),
    }
}

fn is_true(value: &bool) -> bool {
    *value
}

fn is_least_preview(octets: &u32) -> bool {
    octets == PREVIEW_BYTES.start()
}
