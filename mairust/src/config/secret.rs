//! Secrets of the configuration: where they are kept, and how they are read.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mairust_core::Secret;

use super::text::TextForm;

/// Characters that a secret has at least when it stands in the configuration itself.
const LITERAL_LENGTH: usize = 32;
const KEY_ADVICE: &str = "make one with `openssl rand -base64 32`";

/// Where a secret is kept: `env:NAME`, `file:/path`, or the secret itself.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum SecretRef {
    /// In this variable of the environment.
    Environment(String),
    /// In this file. A relative path is relative to the working directory.
    File(PathBuf),
    /// Here: at least 32 characters, so that no forgotten prefix becomes a weak secret.
    Literal(Secret<String>),
}

/// Why a secret cannot be used. The text never holds the secret.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SecretError {
    /// The environment has no such variable.
    #[error("the environment variable {0} is not set")]
    NoVariable(String),
    /// The text is no key of 32 bytes.
    #[error("a key is the base64 text of 32 bytes; {KEY_ADVICE}")]
    NotAKey,
    /// The reference itself is wrong.
    #[error("write env:NAME, file:/path, or a secret of at least {LITERAL_LENGTH} characters")]
    Reference,
    /// The file cannot be read.
    #[error("cannot read {}", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

impl SecretRef {
    /// Parses a reference.
    ///
    /// # Errors
    /// When a name or path is empty, or the secret itself is shorter than 32 characters and no URL.
    pub fn parse(text: &str) -> Result<Self, SecretError> {
        if let Some(name) = text.strip_prefix("env:") {
            return if name.is_empty() { Err(SecretError::Reference) } else { Ok(Self::Environment(name.to_owned())) };
        }
        if let Some(path) = text.strip_prefix("file:") {
            return if path.is_empty() { Err(SecretError::Reference) } else { Ok(Self::File(path.into())) };
        }
        // The scheme of a URL shows that it is no forgotten prefix.
        if text.chars().count() < LITERAL_LENGTH && !text.contains("://") {
            return Err(SecretError::Reference);
        }
        Ok(Self::Literal(Secret::new(text.to_owned())))
    }

    /// Fetches the secret, without white space around it.
    ///
    /// # Errors
    /// When the variable is not set or the file cannot be read as text.
    pub fn fetch(&self, environment: &BTreeMap<String, String>) -> Result<Secret<String>, SecretError> {
        match self {
            Self::Environment(name) => {
                let value = environment.get(name).ok_or_else(|| SecretError::NoVariable(name.clone()))?;
                Ok(Secret::new(value.trim().to_owned()))
            }
            Self::File(file) => read_secret(file),
            Self::Literal(secret) => Ok(Secret::new(secret.expose().trim().to_owned())),
        }
    }
}

/// Reads a secret from a file, without white space around it.
///
/// # Errors
/// When the file cannot be read as text.
pub(super) fn read_secret(file: &Path) -> Result<Secret<String>, SecretError> {
    let unreadable = |source| SecretError::Unreadable { file: file.to_owned(), source };
    let text = Secret::new(std::fs::read_to_string(file).map_err(unreadable)?);
    Ok(Secret::new(text.expose().trim().to_owned()))
}

/// Decodes a master key: the base64 text of 32 bytes, with white space around it.
///
/// # Errors
/// When the text is something else; `openssl rand -base64 32` makes a right one.
pub fn decode_master_key(text: &str) -> Result<Secret<[u8; 32]>, SecretError> {
    let bytes = Secret::new(STANDARD.decode(text.trim()).map_err(|_| SecretError::NotAKey)?);
    let key: [u8; 32] = bytes.expose().as_slice().try_into().map_err(|_| SecretError::NotAKey)?;
    Ok(Secret::new(key))
}

/// Whether everybody on this machine may read the file.
pub(super) fn is_world_readable(file: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::metadata(file).is_ok_and(|metadata| metadata.permissions().mode() & 0o004 != 0)
    }
    #[cfg(not(unix))]
    {
        let _ = file;
        false
    }
}

impl TextForm for SecretRef {
    const FORMAT: &'static str = "mairust-secret";
    const PATTERN: &'static str = "^(env:.+|file:.+|.{32,})$";

    fn read(text: &str) -> Result<Self, String> {
        Self::parse(text).map_err(|error| error.to_string())
    }

    fn write(&self) -> String {
        match self {
            Self::Environment(name) => format!("env:{name}"),
            Self::File(path) => format!("file:{}", path.display()),
            Self::Literal(_) => "***".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_told_apart() {
        assert_eq!(SecretRef::parse("env:KEY").unwrap(), SecretRef::Environment("KEY".to_owned()));
        assert_eq!(SecretRef::parse("file:/k").unwrap(), SecretRef::File("/k".into()));
        assert!(matches!(SecretRef::parse(&"x".repeat(32)).unwrap(), SecretRef::Literal(_)));
        for text in ["", "env:", "file:", "hunter2"] {
            let error = SecretRef::parse(text).unwrap_err().to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
        let shown = format!("{:?}", SecretRef::parse(&"x".repeat(32)).unwrap());
        assert!(!shown.contains("xx"), "{shown}");
    }

    #[test]
    fn fetches_and_trims() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("secret");
        std::fs::write(&file, "from a file\n").unwrap();
        let environment = BTreeMap::from([("KEY".to_owned(), " from outside ".to_owned())]);
        assert_eq!(SecretRef::File(file).fetch(&environment).unwrap().expose(), "from a file");
        let variable = SecretRef::Environment("KEY".to_owned());
        assert_eq!(variable.fetch(&environment).unwrap().expose(), "from outside");
        assert!(matches!(variable.fetch(&BTreeMap::new()), Err(SecretError::NoVariable(name)) if name == "KEY"));
        let missing = SecretRef::File(folder.path().join("none")).fetch(&environment);
        assert!(matches!(missing, Err(SecretError::Unreadable { .. })));
    }

    #[test]
    fn a_master_key_is_32_bytes() {
        let key = decode_master_key(&format!("{}\n", STANDARD.encode([7; 32]))).unwrap();
        assert_eq!(key.expose(), &[7; 32]);
        for text in [STANDARD.encode([7; 31]), STANDARD.encode([7; 33]), "not base64".to_owned(), String::new()] {
            assert!(matches!(decode_master_key(&text), Err(SecretError::NotAKey)), "{text}");
        }
    }
}
