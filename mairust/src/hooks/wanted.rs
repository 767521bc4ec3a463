//! What becomes of what hooks want done with a message.

use mail_builder::headers::Header;
use mail_builder::headers::text::Text;
use mairust_hooks::protocol::{ActionResult, Flag, Merged};
use mairust_hooks::{HookPoint, HookRun};
use mairust_store::{Folder, Marks, MessageChange, MessageStatus, Metadata, MetadataChange};
use serde_json::{Value, json};

/// Who keeps what this server itself has to say about a message.
const CORE: &str = "_core";

/// What hooks want done with a message that is taken.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wanted {
    /// What is put on it.
    pub(crate) marks: Marks,
    /// Where it goes, if nothing speaks against it.
    pub(crate) folder: Option<Folder>,
    /// Header fields to add, each line with its CRLF.
    pub(crate) fields: String,
}

impl Wanted {
    /// Takes up what `merged` says, after what was wanted before; `runs` are the calls that it comes from.
    pub(crate) fn add(&mut self, merged: Merged, runs: &[HookRun]) {
        let Marks { tags, flags, metadata } = &mut self.marks;
        tags.retain(|tag| !merged.remove_tags.contains(tag));
        tags.extend(merged.add_tags.iter().cloned());
        flags.retain(|flag| !merged.remove_flags.iter().any(|removed| removed.as_str() == flag));
        flags.extend(merged.add_flags.iter().map(|flag| flag.as_str().to_owned()));
        self.folder = self.folder.or_else(|| merged.folder.as_deref().and_then(folder));
        self.fields.extend(merged.headers.iter().map(|(name, value)| field(name, value)));
        metadata.extend(merged.metadata.into_iter().flat_map(|(owner, kept)| {
            let one = move |(key, value): (String, Option<Value>)| {
                Some(Metadata { owner: owner.clone(), key, value: value? })
            };
            kept.into_iter().filter_map(one)
        }));
        let skipped: Vec<Value> = runs
            .iter()
            .filter(|run| run.let_pass)
            .map(|run| json!({"plugin": run.hook, "outcome": run.outcome.as_str(), "invocation_id": run.id.as_str()}))
            .collect();
        if !skipped.is_empty() {
            let (owner, key) = (CORE.to_owned(), "hook_skipped".to_owned());
            metadata.push(Metadata { owner, key, value: Value::Array(skipped) });
        }
    }
}

/// Leaves out what can't be done at this point, and says so.
pub(crate) fn possible(mut merged: Merged, point: HookPoint) -> Merged {
    let unknown = merged.folder.as_deref().is_some_and(|name| folder(name).is_none());
    if unknown {
        merged.folder = None;
    }
    let is_stored = point == HookPoint::PostReceive;
    for outcome in merged.outcomes.iter_mut().filter(|outcome| outcome.result == ActionResult::Applied) {
        if (unknown && outcome.op == "move") || (is_stored && outcome.op == "header.add") {
            outcome.result = ActionResult::Impossible;
        }
    }
    merged
}

/// What a hook wants changed about a message that is stored.
pub(crate) fn change(merged: Merged) -> MessageChange {
    let names =
        |flags: std::collections::BTreeSet<Flag>| flags.into_iter().map(|flag| flag.as_str().to_owned()).collect();
    let mut change = MessageChange::tags(merged.add_tags);
    change.remove_tags = merged.remove_tags.into_iter().collect();
    change.add_flags = names(merged.add_flags);
    change.remove_flags = names(merged.remove_flags);
    change.folder = merged.folder.as_deref().and_then(folder);
    change.metadata = merged
        .metadata
        .into_iter()
        .flat_map(|(owner, kept)| {
            kept.into_iter().map(move |(key, value)| match value {
                Some(value) => MetadataChange::Keep(Metadata { owner: owner.clone(), key, value }),
                None => MetadataChange::Forget { owner: owner.clone(), key },
            })
        })
        .collect();
    change
}

/// The same, and into quarantine.
pub(crate) fn quarantine(mut change: MessageChange) -> MessageChange {
    (change.folder, change.status) = (Some(Folder::Quarantine), Some(MessageStatus::Quarantined));
    change
}

/// The folder of this name that hooks may move mail into.
fn folder(name: &str) -> Option<Folder> {
    let known = [Folder::Inbox, Folder::Junk, Folder::Trash];
    known.into_iter().find(|folder| folder.as_str().eq_ignore_ascii_case(name))
}

/// A header field; what is not ASCII is encoded (RFC 2047).
fn field(name: &str, value: &str) -> String {
    let mut written = Vec::new();
    Text::new(value).write_header(&mut written, name.len() + 2);
    let value = String::from_utf8(written).expect("encoded words are ASCII");
    format!("{name}: {value}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_encoded_and_folded() {
        assert_eq!(field("X-Spam-Score", "7.5"), "X-Spam-Score: 7.5\r\n");
        let written = field("X-Why", &"請求書".repeat(30));
        assert!(written.is_ascii() && written.ends_with("\r\n"), "{written:?}");
        assert!(written.lines().all(|line| line.len() <= 80) && written.lines().count() > 2, "{written:?}");
        assert!(written.lines().skip(1).all(|line| line.starts_with([' ', '\t'])), "{written:?}");
    }

    #[test]
    fn mail_moves_into_folders_that_are_there() {
        assert_eq!(
            ["inbox", "Junk", "Sent", "Quarantine", "Elsewhere"].map(folder),
            [Some(Folder::Inbox), Some(Folder::Junk), None, None, None]
        );
    }
}
