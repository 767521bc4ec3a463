//! What the commands about the directory share: the tenant that they work in, and how lists and
//! states are shown.

use clap::Args;
use mairust_store::directory::DEFAULT_TENANT;
use mairust_store::{DirectoryExt, SqlStorage, StorageBackend, Tenant};
use serde_json::Value;

use super::output::{Failure, OutputFormat, print};
use super::trail::Trail;
use super::{ConfigFile, Output, open};
use crate::config::Config;

/// What all commands take that work in a tenant.
#[derive(Debug, Args)]
pub(super) struct InTenant {
    /// The tenant
    #[arg(long, value_name = "NAME", default_value = DEFAULT_TENANT)]
    tenant: String,
    #[command(flatten)]
    pub(super) config: ConfigFile,
    #[command(flatten)]
    output: Output,
}

/// What `domain set` and `alias set` take.
#[derive(Debug, Args)]
pub(super) struct NewState {
    /// Take mail again
    #[arg(long, conflicts_with = "disable")]
    enable: bool,
    /// Take no mail
    #[arg(long)]
    disable: bool,
}

impl InTenant {
    /// The storage, and the tenant. The default tenant is made when it is first needed.
    pub(super) async fn open(&self) -> Result<(SqlStorage, Tenant), Failure> {
        self.open_with(&open::load(&self.config)?).await
    }

    /// The storage, the tenant, and where to record what is changed.
    pub(super) async fn open_to_change(&self) -> Result<(SqlStorage, Tenant, Trail), Failure> {
        let config = open::load(&self.config)?;
        let (storage, tenant) = self.open_with(&config).await?;
        let trail = Trail::open(&config, &storage, tenant.id).await?;
        Ok((storage, tenant, trail))
    }

    async fn open_with(&self, config: &Config) -> Result<(SqlStorage, Tenant), Failure> {
        let storage = open::storage(config).await?;
        let tenant = if self.tenant == DEFAULT_TENANT {
            storage.directory().ensure_tenant(DEFAULT_TENANT).await?
        } else {
            tenant(&storage, &self.tenant).await?
        };
        Ok((storage, tenant))
    }

    /// How the result is printed.
    pub(super) fn format(&self) -> OutputFormat {
        self.output.output
    }
}

impl NewState {
    /// Whether it is to be enabled; `None` to leave it as it is.
    pub(super) fn enabled(&self) -> Option<bool> {
        match (self.enable, self.disable) {
            (true, _) => Some(true),
            (_, true) => Some(false),
            _ => None,
        }
    }
}

/// The tenant of this name.
pub(super) async fn tenant(storage: &SqlStorage, name: &str) -> Result<Tenant, Failure> {
    storage
        .directory()
        .tenant_by_name(name)
        .await?
        .ok_or_else(|| Failure::not_found(format_args!("there is no tenant {name}; add it: mairust tenant add {name}")))
}

/// Prints a list: one line each, or a JSON array.
pub(super) fn print_list(
    format: OutputFormat,
    entries: impl IntoIterator<Item = (String, Value)>,
) -> Result<(), Failure> {
    let (lines, values): (Vec<String>, Vec<Value>) = entries.into_iter().unzip();
    match format {
        OutputFormat::Json => print(&Value::from(values).to_string()),
        OutputFormat::Text if lines.is_empty() => Ok(()),
        OutputFormat::Text => print(&lines.join("\n")),
    }
}

/// What stands behind an entry of a list that is disabled.
pub(super) fn state_note(enabled: bool) -> &'static str {
    if enabled { "" } else { "  (disabled)" }
}

/// What stands behind an entry of a list that is on legal hold.
pub(super) fn hold_note(on_hold: bool) -> &'static str {
    if on_hold { "  (legal hold)" } else { "" }
}
