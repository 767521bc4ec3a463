//! What a command prints, and how it fails.

use std::fmt;
use std::io::Write;

use mairust_store::{StoreError, StoreErrorKind};

use crate::error::{Error, chain};

/// How data is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum OutputFormat {
    /// One JSON value.
    Json,
    /// For people.
    Text,
}

/// Why a command failed: a text that says what to do, and an exit code.
#[derive(Debug)]
pub struct Failure {
    code: u8,
    text: String,
}

impl Failure {
    /// 1: it did not work.
    pub fn failed(text: impl fmt::Display) -> Self {
        Self { code: 1, text: text.to_string() }
    }

    /// 2: the command was used wrongly.
    pub fn usage(text: impl fmt::Display) -> Self {
        Self { code: 2, text: text.to_string() }
    }

    /// 3: the configuration is not valid.
    pub fn configuration(text: impl fmt::Display) -> Self {
        Self { code: 3, text: text.to_string() }
    }

    /// 5: there is none.
    pub fn not_found(text: impl fmt::Display) -> Self {
        Self { code: 5, text: text.to_string() }
    }

    /// 6: there is one already.
    pub fn conflict(text: impl fmt::Display) -> Self {
        Self { code: 6, text: text.to_string() }
    }

    /// 7: a server answered with an error.
    pub fn upstream(text: impl fmt::Display) -> Self {
        Self { code: 7, text: text.to_string() }
    }

    /// 8: a check found problems.
    pub fn problems(text: impl fmt::Display) -> Self {
        Self { code: 8, text: text.to_string() }
    }

    /// 130: it was interrupted.
    pub fn interrupted(text: impl fmt::Display) -> Self {
        Self { code: 130, text: text.to_string() }
    }

    /// The exit code of the process.
    pub fn exit_code(&self) -> u8 {
        self.code
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let text = chain(&error);
        match error.kind() {
            StoreErrorKind::AlreadyExists => Self::conflict(text),
            StoreErrorKind::NotFound => Self::not_found(text),
            _ => Self::failed(text),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::failed(error)
    }
}

/// Prints text to standard output, ending in one newline. A reader that has seen enough and
/// closed the pipe is no error.
pub(super) fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = std::io::stdout().lock();
    let written = writeln!(stdout, "{}", text.trim_end_matches('\n')).and_then(|()| stdout.flush());
    match written {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::failed(format_args!("standard output can't be written to: {error}")))
        }
        _ => Ok(()),
    }
}

/// Prints a result as text or as JSON.
pub(super) fn print_as(format: OutputFormat, text: &str, json: &serde_json::Value) -> Result<(), Failure> {
    match format {
        OutputFormat::Json => print(&json.to_string()),
        OutputFormat::Text => print(text),
    }
}
