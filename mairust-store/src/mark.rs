//! What is put on messages besides where they are: tags, flags, and what hooks keep with them.

use serde_json::Value;

/// What a message is accepted with. It is the same for all places that it goes to.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Marks {
    /// Tags; each counts once.
    pub tags: Vec<String>,
    /// Flags, for example `\Seen`; each counts once.
    pub flags: Vec<String>,
    /// What is kept with it; of several with the same owner and key, the last counts.
    pub metadata: Vec<Metadata>,
}

/// Something that is kept with a message.
#[derive(Debug, Clone, PartialEq)]
pub struct Metadata {
    /// Who keeps it: the name of a hook.
    pub owner: String,
    /// What it is called.
    pub key: String,
    /// What it is.
    pub value: Value,
}

/// What to change about what is kept with a message.
#[derive(Debug, Clone, PartialEq)]
pub enum MetadataChange {
    /// Nothing is kept under this name any more.
    Forget {
        /// Who kept it.
        owner: String,
        /// What it is called.
        key: String,
    },
    /// This is kept, whatever was before.
    Keep(Metadata),
}

/// The flags after a change, sorted.
pub(crate) fn changed_flags(before: &[String], add: &[String], remove: &[String]) -> Vec<String> {
    let mut flags: Vec<String> = before.iter().filter(|flag| !remove.contains(flag)).chain(add).cloned().collect();
    flags.sort_unstable();
    flags.dedup();
    flags
}
