//! `mairust apikey`.

use clap::Subcommand;
use mairust_http::{ApiKeyToken, Scope, random_key_id};
use mairust_store::StorageBackend;
use serde_json::json;

use super::directory::InTenant;
use super::open;
use super::output::{Failure, print_as};
use super::trail::Changed;

#[derive(Debug, Subcommand)]
pub(super) enum ApiKeyCommand {
    /// Make a key; it is printed once
    Create {
        /// What the key is for
        name: String,
        /// What the key may do; without it everything
        #[arg(long = "scope", value_name = "SCOPE", value_parser = scope)]
        scopes: Vec<Scope>,
        #[command(flatten)]
        tenant: InTenant,
    },
}

pub(super) async fn run(command: ApiKeyCommand) -> Result<(), Failure> {
    let ApiKeyCommand::Create { name, scopes, tenant: arguments } = command;
    let scopes = if scopes.is_empty() { Scope::ALL.to_vec() } else { scopes };
    let (storage, tenant, trail) = arguments.open_to_change().await?;
    let server_key = open::server_key(&open::load(&arguments.config)?, &storage).await?;
    let (text, key) = ApiKeyToken::issue(&server_key, &random_key_id(), &name, &scopes);
    let row = storage.directory().create_api_key(tenant.id, key).await?;
    let made = json!({"id": row.id.to_string(), "key_id": row.key_id, "name": name, "scopes": row.scopes});
    trail.record(&storage, "api_key.created", ("api_key", &row.key_id), Changed::made(made)).await?;
    let json = json!({"id": row.id.to_string(), "name": name, "key": text.expose(), "scopes": row.scopes});
    print_as(arguments.format(), text.expose(), &json)
}

fn scope(text: &str) -> Result<Scope, String> {
    Scope::parse(text).ok_or_else(|| {
        let known: Vec<&str> = Scope::ALL.iter().map(|scope| scope.as_str()).collect();
        format!("a scope is one of {}", known.join(", "))
    })
}
