//! One result from the answers of several programs.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::answer::Answer;
use super::response::{Action, Flag};
use crate::verdict::Verdict;

/// What several programs want done with a message, taken together.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Merged {
    /// The strictest verdict; the first of equals.
    pub verdict: Verdict,
    /// What each program says speaks against the message, by its id. Each has a scale of its own.
    pub scores: BTreeMap<String, f64>,
    /// Tags to put on the message.
    pub add_tags: BTreeSet<String>,
    /// Tags to take off it.
    pub remove_tags: BTreeSet<String>,
    /// Flags to set.
    pub add_flags: BTreeSet<Flag>,
    /// Flags to remove.
    pub remove_flags: BTreeSet<Flag>,
    /// The folder that it goes into; `None` if that is not said, or if it goes into quarantine.
    pub folder: Option<String>,
    /// What each program keeps with the message, by its id; `None` is to be forgotten.
    pub metadata: BTreeMap<String, BTreeMap<String, Option<Value>>>,
    /// Header fields to add, names and values, in order.
    pub headers: Vec<(String, String)>,
    /// What became of each action, in order. Empty if the message is refused: then nothing is done.
    pub outcomes: Vec<ActionOutcome>,
}

/// What became of one action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActionOutcome {
    /// Whose action it is: the id of the program.
    pub plugin: String,
    /// What it is, as in `op`.
    pub op: &'static str,
    /// What became of it.
    pub result: ActionResult,
}

/// What became of an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ActionResult {
    /// It is part of the result.
    Applied,
    /// The message goes somewhere else: another program was first, or it goes into quarantine.
    Conflict,
    /// The program may not do this: its tenant has not granted it.
    Denied,
    /// There is no such folder, or the message can't be changed in this way any more.
    Impossible,
    /// It is written down, and nothing is done: the program is on trial.
    Recorded,
}

/// Takes the answers of programs together, each with the id of its program, in the order of their bindings.
///
/// Of tags and flags, the last word about each counts; of folders, the first. Actions count only if the message is
/// taken.
pub fn merge(answers: impl IntoIterator<Item = (String, Answer)>) -> Merged {
    let mut merged = Merged::nothing();
    let mut wanted = Vec::new();
    for (plugin, answer) in answers {
        merged.scores.extend(answer.score.map(|score| (plugin.clone(), score)));
        merged.verdict = merged.verdict.or_stricter(answer.verdict);
        wanted.push((plugin, answer.actions));
    }
    if merged.verdict.reply().is_some() {
        return merged;
    }
    for (plugin, actions) in wanted {
        for action in actions {
            let (op, result) = (action.op(), merged.apply(&plugin, action));
            merged.outcomes.push(ActionOutcome { plugin: plugin.clone(), op, result });
        }
    }
    merged
}

impl Merged {
    /// The highest of the scores.
    pub fn score_max(&self) -> Option<f64> {
        self.scores.values().copied().reduce(f64::max)
    }

    fn nothing() -> Self {
        Self {
            verdict: Verdict::Allow,
            scores: BTreeMap::new(),
            add_tags: BTreeSet::new(),
            remove_tags: BTreeSet::new(),
            add_flags: BTreeSet::new(),
            remove_flags: BTreeSet::new(),
            folder: None,
            metadata: BTreeMap::new(),
            headers: Vec::new(),
            outcomes: Vec::new(),
        }
    }

    fn apply(&mut self, plugin: &str, action: Action) -> ActionResult {
        match action {
            Action::FlagAdd { flags } => shift(&mut self.remove_flags, &mut self.add_flags, flags),
            Action::FlagRemove { flags } => shift(&mut self.add_flags, &mut self.remove_flags, flags),
            Action::TagAdd { tags } => shift(&mut self.remove_tags, &mut self.add_tags, tags),
            Action::TagRemove { tags } => shift(&mut self.add_tags, &mut self.remove_tags, tags),
            Action::HeaderAdd { name, value } => self.headers.push((name, value)),
            Action::MetadataDelete { key } => self.keep(plugin, key, None),
            Action::MetadataSet { key, value } => self.keep(plugin, key, Some(value)),
            Action::Move { .. } if self.folder.is_some() || self.verdict != Verdict::Allow => {
                return ActionResult::Conflict;
            }
            Action::Move { folder } => self.folder = Some(folder),
        }
        ActionResult::Applied
    }

    fn keep(&mut self, plugin: &str, key: String, value: Option<Value>) {
        self.metadata.entry(plugin.to_owned()).or_default().insert(key, value);
    }
}

impl ActionResult {
    /// As shown and counted.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Conflict => "conflict",
            Self::Denied => "denied",
            Self::Impossible => "impossible",
            Self::Recorded => "recorded",
        }
    }
}

/// Moves what is named from one set into the other.
fn shift<T: Ord>(from: &mut BTreeSet<T>, into: &mut BTreeSet<T>, names: Vec<T>) {
    for name in names {
        from.remove(&name);
        into.insert(name);
    }
}
