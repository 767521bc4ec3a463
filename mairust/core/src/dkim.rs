//! What signers and keepers of DKIM keys have in common.

use std::fmt;

/// A kind of key, and of the signatures that it makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum DkimAlgorithm {
    /// rsa-sha256 (RFC 6376 §3.3.1): every verifier knows it.
    Rsa,
    /// ed25519-sha256 (RFC 8463): short and fast, but not every verifier knows it.
    Ed25519,
}

impl DkimAlgorithm {
    /// All of them, in the order in which a message is signed.
    pub const ALL: [Self; 2] = [Self::Rsa, Self::Ed25519];

    /// As in the `k=` tag of a key record.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rsa => "rsa",
            Self::Ed25519 => "ed25519",
        }
    }

    /// The algorithm of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.as_str() == name)
    }
}

impl fmt::Display for DkimAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
