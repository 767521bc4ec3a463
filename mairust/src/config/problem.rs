//! What is wrong with a configuration, and where.

use std::fmt;
use std::path::PathBuf;

/// Where a value of the configuration comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Place {
    /// A variable of the environment.
    Environment {
        /// Its name.
        name: String,
    },
    /// A position in the configuration file.
    File {
        /// The file.
        file: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// The column in characters, counted from 1.
        column: usize,
    },
    /// Nobody wrote it: a default, or a key that is missing everywhere.
    Unset,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Environment { name } => write!(f, "environment variable {name}"),
            Self::File { file, line, column } => write!(f, "{}:{line}:{column}", file.display()),
            Self::Unset => f.write_str("configuration"),
        }
    }
}

/// One thing that is wrong. No text of it holds the value of a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Problem {
    /// Where.
    pub place: Place,
    /// The key, such as `smtp.listeners[1].bind`; empty if it concerns the file as a whole.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// What to write instead; empty if the message says it.
    pub advice: String,
}

impl Problem {
    pub(super) fn new(place: &Place, path: &str, message: impl Into<String>) -> Self {
        Self { place: place.clone(), path: path.to_owned(), message: message.into(), advice: String::new() }
    }

    pub(super) fn with_advice(mut self, advice: impl Into<String>) -> Self {
        self.advice = advice.into();
        self
    }

    fn order(&self) -> (u8, usize, usize) {
        match self.place {
            Place::File { line, column, .. } => (0, line, column),
            Place::Environment { .. } => (1, 0, 0),
            Place::Unset => (2, 0, 0),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.place)?;
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)?;
        if !self.advice.is_empty() {
            write!(f, "; {}", self.advice)?;
        }
        Ok(())
    }
}

/// Everything that is wrong with a configuration: at least one problem, those of the file first and
/// in its order. `Display` writes one line for each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors {
    problems: Vec<Problem>,
}

impl ConfigErrors {
    pub(super) fn new(mut problems: Vec<Problem>) -> Self {
        problems.sort_by_key(Problem::order);
        Self { problems }
    }

    /// The problems.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(f, "{separator}{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// The candidate that was probably meant: the nearest one, if at most a third of it is wrong.
pub(super) fn nearest<'a>(written: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // A longer text is no slip of the fingers, and comparing it would take long.
    if written.len() > 200 {
        return None;
    }
    let written = written.to_lowercase();
    candidates
        .into_iter()
        .map(|candidate| (edit_distance(&written, &candidate.to_lowercase()), candidate))
        .filter(|(distance, candidate)| *distance <= (candidate.chars().count() / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Levenshtein's distance, with a swap of neighbours counted as one slip.
fn edit_distance(left: &str, right: &str) -> usize {
    let (left, right): (Vec<char>, Vec<char>) = (left.chars().collect(), right.chars().collect());
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=right.len()).collect();
    for row in 1..=left.len() {
        let mut current = vec![row];
        for column in 1..=right.len() {
            let substitution = last[column - 1] + usize::from(left[row - 1] != right[column - 1]);
            let mut best = substitution.min(last[column] + 1).min(current[column - 1] + 1);
            let swapped =
                row > 1 && column > 1 && left[row - 1] == right[column - 2] && left[row - 2] == right[column - 1];
            if swapped {
                best = best.min(before_last[column - 2] + 1);
            }
            current.push(best);
        }
        before_last = std::mem::replace(&mut last, current);
    }
    last[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_slips() {
        for (left, right, distance) in [("", "abc", 3), ("bind", "bind", 0), ("bnid", "bind", 1), ("bin", "bind", 1)] {
            assert_eq!(edit_distance(left, right), distance, "{left} {right}");
        }
    }

    #[test]
    fn suggests_the_nearest_or_nothing() {
        assert_eq!(nearest("hostnme", ["data_dir", "hostname"]), Some("hostname"));
        assert_eq!(nearest("HOSTNAME", ["hostname"]), Some("hostname"));
        assert_eq!(nearest("colour", ["data_dir", "hostname"]), None);
        assert_eq!(nearest(&"x".repeat(100_000), ["hostname"]), None);
    }
}
