//! `mairust domain`, `mairust user`, `mairust apikey`.

use std::io::Read;

use clap::Subcommand;
use mairust_core::{Domain, EmailAddress, Secret};
use mairust_http::{ApiKeyToken, Scope, random_key_id};
use mairust_store::directory::DEFAULT_TENANT;
use mairust_store::password::PasswordHasher;
use mairust_store::{DirectoryExt, NewUser, SqlStorage, StorageBackend, StoreErrorKind, Tenant};
use serde_json::json;

use super::output::{Failure, print_as};
use super::{ConfigFile, Output, open};

/// A shorter password is refused.
const MIN_PASSWORD_CHARACTERS: usize = 12;

#[derive(Debug, Subcommand)]
pub(super) enum DomainCommand {
    /// Take mail for a domain
    Add {
        /// The domain, for example example.com
        domain: Domain,
        #[command(flatten)]
        config: ConfigFile,
        #[command(flatten)]
        output: Output,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum UserCommand {
    /// Add a user; without --password-stdin a password is made and printed once
    Add {
        /// The address; its domain must have been added
        address: EmailAddress,
        /// Read the password from standard input
        #[arg(long)]
        password_stdin: bool,
        #[command(flatten)]
        config: ConfigFile,
        #[command(flatten)]
        output: Output,
    },
    /// Set a user's password; without --password-stdin one is made and printed once
    SetPassword {
        /// The address
        address: EmailAddress,
        /// Read the password from standard input
        #[arg(long)]
        password_stdin: bool,
        #[command(flatten)]
        config: ConfigFile,
        #[command(flatten)]
        output: Output,
    },
}

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
        config: ConfigFile,
        #[command(flatten)]
        output: Output,
    },
}

pub(super) async fn domain(command: DomainCommand) -> Result<(), Failure> {
    let DomainCommand::Add { domain, config, output } = command;
    let (storage, tenant) = open(&config).await?;
    let row = storage.directory().create_domain(tenant.id, &domain).await.map_err(|error| match error.kind() {
        StoreErrorKind::AlreadyExists => Failure::conflict(format_args!("the domain {domain} is there already")),
        _ => error.into(),
    })?;
    let text = format!("added {domain}\nnext: mairust user add someone@{domain}");
    print_as(output.output, &text, &json!({"id": row.id.to_string(), "name": domain.as_str()}))
}

pub(super) async fn user(command: UserCommand) -> Result<(), Failure> {
    match command {
        UserCommand::Add { address, password_stdin, config, output } => {
            let password = Password::take(password_stdin)?;
            let (storage, tenant) = open(&config).await?;
            let password_hash = PasswordHasher::default().hash(&password.secret).await?;
            let new = NewUser { address: address.clone(), login: None, password_hash };
            let user = storage.directory().create_user(tenant.id, new).await.map_err(|error| match error.kind() {
                StoreErrorKind::AlreadyExists => Failure::conflict(format_args!("the address {address} is taken")),
                StoreErrorKind::NotFound => Failure::not_found(format_args!(
                    "the domain of {address} is not known here; add it first: mairust domain add {}",
                    address.domain()
                )),
                _ => error.into(),
            })?;
            let json = json!({"id": user.id.to_string(), "address": address.to_string(), "password": password.made()});
            print_as(output.output, &password.describe(&format!("added {address}")), &json)
        }
        UserCommand::SetPassword { address, password_stdin, config, output } => {
            let password = Password::take(password_stdin)?;
            let (storage, tenant) = open(&config).await?;
            let directory = storage.directory();
            let user = directory.user_by_address(tenant.id, &address).await?.ok_or_else(|| {
                Failure::not_found(format_args!("there is no user {address}; add one: mairust user add {address}"))
            })?;
            let hash = PasswordHasher::default().hash(&password.secret).await?;
            directory.set_password(tenant.id, user.id, hash).await?;
            let json = json!({"id": user.id.to_string(), "address": address.to_string(), "password": password.made()});
            print_as(output.output, &password.describe(&format!("password of {address} set")), &json)
        }
    }
}

pub(super) async fn api_key(command: ApiKeyCommand) -> Result<(), Failure> {
    let ApiKeyCommand::Create { name, scopes, config, output } = command;
    let scopes = if scopes.is_empty() { Scope::ALL.to_vec() } else { scopes };
    let settings = super::open::load(&config)?;
    let (storage, tenant) = open(&config).await?;
    let master_key = super::open::master_key(&settings)?;
    let (text, key) = ApiKeyToken::issue(&master_key, &random_key_id(), &name, &scopes);
    let row = storage.directory().create_api_key(tenant.id, key).await?;
    let json = json!({"id": row.id.to_string(), "name": name, "key": text.expose(), "scopes": row.scopes});
    print_as(output.output, text.expose(), &json)
}

/// The storage, and the tenant that these commands work in.
async fn open(config: &ConfigFile) -> Result<(SqlStorage, Tenant), Failure> {
    let storage = open::storage(&open::load(config)?).await?;
    let tenant = storage.directory().ensure_tenant(DEFAULT_TENANT).await?;
    Ok((storage, tenant))
}

/// A password that was given, or made here.
struct Password {
    secret: Secret<String>,
    is_made: bool,
}

impl Password {
    fn take(from_stdin: bool) -> Result<Self, Failure> {
        if !from_stdin {
            // As random as an API key, and long enough that nobody can guess it.
            let secret = Secret::new(format!("{}{}", random_key_id(), random_key_id()));
            return Ok(Self { secret, is_made: true });
        }
        let mut text = String::new();
        std::io::stdin()
            .read_to_string(&mut text)
            .map_err(|error| Failure::usage(format_args!("the password can't be read from standard input: {error}")))?;
        let secret = Secret::new(text.trim_end_matches(['\r', '\n']).to_owned());
        if secret.expose().chars().count() < MIN_PASSWORD_CHARACTERS {
            return Err(Failure::usage(format_args!("a password needs at least {MIN_PASSWORD_CHARACTERS} characters")));
        }
        Ok(Self { secret, is_made: false })
    }

    /// The password, if it was made here and its owner has to be told.
    fn made(&self) -> Option<&str> {
        self.is_made.then(|| self.secret.expose().as_str())
    }

    fn describe(&self, what: &str) -> String {
        match self.made() {
            Some(password) => format!("{what}\npassword, shown only now: {password}"),
            None => what.to_owned(),
        }
    }
}

fn scope(text: &str) -> Result<Scope, String> {
    Scope::parse(text).ok_or_else(|| {
        let known: Vec<&str> = Scope::ALL.iter().map(|scope| scope.as_str()).collect();
        format!("a scope is one of {}", known.join(", "))
    })
}
