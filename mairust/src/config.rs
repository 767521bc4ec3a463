//! Configuration of the `mairust` binary: one YAML file, the environment over it, defaults below.
//!
//! [`load`] reads all of it and reports every problem at once, each with its place, its key and what
//! to write instead. [`Config::new`] makes one in code, without a file. [`check`] looks at what lies
//! outside of the text: folders, certificates, ports. [`schema_json`], [`example_yaml`] and
//! [`reference_markdown`] are made from the same types, so that they cannot differ from what is
//! read; the files in `docs/` and `examples/deploy/` are their output.
//!
//! A text goes through a tree of values with places (`tree`), takes the environment in
//! (`environment`), is compared with the JSON schema (`validate`), becomes serde structs (`raw`) and
//! then plain types (`resolve`, `model`).

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;

mod check;
mod delivery;
mod environment;
mod hooks;
mod model;
mod policy;
mod problem;
mod raw;
mod render;
mod resolve;
mod s3;
mod secret;
mod spam;
mod text;
mod tree;
mod validate;

pub use check::{PortCheck, check};
pub use model::{
    AuthenticationMode, Config, DatabaseSettings, DeliverySettings, EarlyTalkers, HttpSettings, InDoubt, Listener,
    ListenerKind, LogFormat, LogLevel, LogSettings, LoginSettings, MailboxSettings, MasterKey, OnScanFailure,
    PolicySettings, ProxyProtocol, Relay, RelayLogin, RelayProtocol, RelayTls, ReturnPath, SearchSettings,
    ServerSettings, SmtpLimits, SmtpSettings, SpamEngine, SpamSettings, StorageSettings, TlsFiles,
};
pub use problem::{ConfigErrors, Place, Problem};
pub use render::{example_yaml, reference_markdown, schema_json};
pub use secret::{SecretError, SecretRef, decode_master_key};

use tree::Node;

/// Reads the configuration: the variables `MAIRUST__SECTION__KEY` win over the file, the file wins
/// over the defaults. Without a file, the environment alone must name what is required.
///
/// `environment` is `std::env::vars_os()` outside of tests; secrets written as `env:NAME` are looked
/// up there too. Secrets written as `file:/path` are read now.
///
/// # Errors
/// All problems: of syntax, unknown keys, wrong values, missing keys, keys that contradict each
/// other, and secrets that cannot be read.
pub fn load<K, V>(file: Option<&Path>, environment: impl IntoIterator<Item = (K, V)>) -> Result<Config, ConfigErrors>
where
    K: Into<OsString>,
    V: Into<OsString>,
{
    let mut problems = Vec::new();
    let variables = environment::collect(environment, &mut problems);
    let root = match file {
        None => Node::empty_map(Place::Unset),
        Some(file) => {
            let text = read_text(file).map_err(|problem| ConfigErrors::new(vec![problem]))?;
            let (root, found) = tree::parse(&text, file);
            problems.extend(found);
            root
        }
    };
    settle_tree(root, &variables, problems)
}

fn settle_tree(
    mut root: Node,
    variables: &BTreeMap<String, String>,
    mut problems: Vec<Problem>,
) -> Result<Config, ConfigErrors> {
    let schema = render::schema();
    problems.extend(environment::overlay(&mut root, variables, &schema));
    let checked = validate::validate(&root, &schema, problems);
    resolve::resolve(checked, variables).map_err(ConfigErrors::new)
}

fn read_text(file: &Path) -> Result<String, Problem> {
    let bytes = std::fs::read(file)
        .map_err(|error| Problem::new(&Place::Unset, "", format!("cannot read {}: {error}", file.display())))?;
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let before = &error.as_bytes()[..valid];
        let line_start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        // Continuation bytes are no characters of their own.
        let column = before[line_start..].iter().filter(|byte| **byte & 0xC0 != 0x80).count() + 1;
        Problem::new(&Place::File { file: file.to_owned(), line, column }, "", "this byte is not UTF-8")
    })
}

#[cfg(test)]
mod tests;
