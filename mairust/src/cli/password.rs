//! A password that is read or made.

use std::io::Read;

use clap::Args;
use mairust_core::Secret;
use mairust_http::random_key_id;

use super::output::Failure;

/// A shorter password is refused.
const MIN_PASSWORD_CHARACTERS: usize = 12;

/// Where a password comes from.
#[derive(Debug, Args)]
pub(super) struct PasswordSource {
    /// Read the password from standard input; without it, one is made and printed once
    #[arg(long)]
    password_stdin: bool,
}

/// A password that was given, or made here.
pub(super) struct Password {
    pub(super) secret: Secret<String>,
    is_made: bool,
}

impl PasswordSource {
    /// Reads or makes a password.
    pub(super) fn take(&self) -> Result<Password, Failure> {
        if !self.password_stdin {
            // As random as an API key, and long enough that nobody can guess it.
            let secret = Secret::new(format!("{}{}", random_key_id(), random_key_id()));
            return Ok(Password { secret, is_made: true });
        }
        let mut text = String::new();
        std::io::stdin()
            .read_to_string(&mut text)
            .map_err(|error| Failure::usage(format_args!("the password can't be read from standard input: {error}")))?;
        let secret = Secret::new(text.trim_end_matches(['\r', '\n']).to_owned());
        if secret.expose().chars().count() < MIN_PASSWORD_CHARACTERS {
            return Err(Failure::usage(format_args!("a password needs at least {MIN_PASSWORD_CHARACTERS} characters")));
        }
        Ok(Password { secret, is_made: false })
    }
}

impl Password {
    /// The password, if it was made here and its owner has to be told.
    pub(super) fn made(&self) -> Option<&str> {
        self.is_made.then(|| self.secret.expose().as_str())
    }

    /// What was done, and the password if its owner has to be told.
    pub(super) fn describe(&self, what: &str) -> String {
        match self.made() {
            Some(password) => format!("{what}\npassword, shown only now: {password}"),
            None => what.to_owned(),
        }
    }
}
