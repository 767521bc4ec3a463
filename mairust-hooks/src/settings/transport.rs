//! How a program is reached, as it is written down.

use serde::{Deserialize, Serialize};

use crate::endpoint::EndpointUrl;
use crate::http::ResponseSignature;

/// How a program is reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum HookTransport {
    /// By HTTP.
    Http {
        /// Where requests go: `https://…`.
        #[serde(default)]
        endpoint: String,
        /// Where it is asked whether it works: at the same host and port as `endpoint`.
        #[serde(default)]
        health_endpoint: Option<String>,
        /// Whether answers have to be signed; null for what [`super::HookSettings::response_signature`] says.
        #[serde(default)]
        response_signature: Option<ResponseSignature>,
        /// Whether it may be at a private address, and there without TLS. Default no.
        #[serde(default)]
        private_address: bool,
    },
    /// As a process that this server starts.
    Process {
        /// The program and its arguments; no shell reads them. The program is an absolute path, or relative to the
        /// directory.
        #[serde(default)]
        command: Vec<String>,
        /// The directory that it is started in.
        #[serde(default)]
        directory: Option<String>,
        /// How many messages one process sees.
        #[serde(default)]
        mode: ProcessMode,
    },
}

/// How many messages one process sees.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProcessMode {
    /// One.
    Oneshot,
    /// All of them, one line for each.
    #[default]
    Worker,
}

impl HookTransport {
    /// Whether the program can be asked how it does.
    pub fn tells_health(&self) -> bool {
        match self {
            Self::Http { health_endpoint, .. } => health_endpoint.is_some(),
            Self::Process { mode, .. } => *mode == ProcessMode::Worker,
        }
    }

    /// Whether the program is on this machine, as far as the settings say.
    pub fn is_local(&self) -> bool {
        match self {
            Self::Http { endpoint, .. } => EndpointUrl::parse(endpoint).is_ok_and(|url| url.host().is_this_machine()),
            Self::Process { .. } => true,
        }
    }

    /// Its name.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Http { .. } => "http",
            Self::Process { .. } => "process",
        }
    }
}

impl Default for HookTransport {
    /// One by HTTP that leads nowhere yet.
    fn default() -> Self {
        Self::Http { endpoint: String::new(), health_endpoint: None, response_signature: None, private_address: false }
    }
}
