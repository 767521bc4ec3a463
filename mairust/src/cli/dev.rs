//! `mairust dev`: a mail server for development.
//!
//! It listens on this machine only, takes mail for every address into one mailbox, lets its user
//! send as anybody, and keeps what is sent instead of sending it, unless a relay is named.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use mairust_core::{Domain, EmailAddress, Secret};
use mairust_store::password::{PasswordCost, PasswordHasher};
use mairust_store::{Directory, NewTenant, NewUser, SqlStorage, StorageBackend, Tenant, User};

use super::output::{Failure, print};
use super::run::{self, Ready};
use super::{HooksFile, PythonHooks, loopback, open};
use crate::config::{Config, Listener, ListenerKind, LogFormat, Relay};
use crate::{ApiKeyToken, CatchAll, Scope, SendingLimits, ServerKey, Thresholds};

/// The tenant of a development server, and the name and password of its user.
const DEV: &str = "dev";

/// Where the API key is kept, so that it stays the same from one start to the next.
const API_KEY_FILE: &str = "dev-api-key";

#[derive(Debug, Args)]
pub(super) struct DevArgs {
    /// Address for SMTP; port 0 is any free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:2525", value_parser = loopback)]
    smtp: SocketAddr,
    /// Address for submission with STARTTLS
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:2587", value_parser = loopback)]
    submission: SocketAddr,
    /// Address for submission with TLS from the first byte
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:2465", value_parser = loopback)]
    submissions: SocketAddr,
    /// Address for the REST API
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080", value_parser = loopback)]
    http: SocketAddr,
    /// Folder for everything that is kept
    #[arg(long, value_name = "DIR", default_value = "mairust-data", conflicts_with = "ephemeral")]
    data_dir: PathBuf,
    /// Keep everything in a temporary folder that is removed at the end
    #[arg(long)]
    ephemeral: bool,
    /// Send mail to other servers through this one, instead of keeping it
    #[arg(long, value_name = "HOST:PORT", value_parser = relay)]
    relay: Option<Relay>,
    #[command(flatten)]
    pub(super) hooks: HooksFile,
    /// Start anew when a Python file beside the hooks changes. Only in the program that pip install mairust brings
    #[arg(long, requires = "hooks")]
    reload: bool,
    /// Write a JSON object with addresses and credentials to this file when everything listens
    #[arg(long, value_name = "FILE")]
    ready_file: Option<PathBuf>,
}

pub(super) async fn run(arguments: DevArgs, hooks: Option<PythonHooks>) -> Result<(), Failure> {
    if arguments.reload {
        return Err(Failure::configuration("--reload is for whoever starts this process anew: run python -m mairust"));
    }
    let began = Instant::now();
    // Removed when it is dropped.
    let temporary = match arguments.ephemeral {
        true => {
            Some(tempfile::tempdir().map_err(|error| Failure::failed(format_args!("no temporary folder: {error}")))?)
        }
        false => None,
    };
    let data_dir = temporary.as_ref().map_or(arguments.data_dir.as_path(), |folder| folder.path());
    open::make_folder(data_dir)?;
    let config = configuration(&arguments, data_dir)?;
    run::start_log(&config)?;
    let storage = open::storage_of_server(&config).await?;
    let server_key = open::server_key(&config, &storage).await?;
    let (tenant, user) = residents(storage.directory()).await?;
    let api_key = api_key(&storage, &tenant, &server_key, data_dir).await?;
    let mut builder =
        run::builder(&config, storage, server_key)?.catch_all(CatchAll { tenant: tenant.id, mailbox: user.mailbox });
    if arguments.relay.is_none() {
        builder = builder.capture_outbound();
    }
    if let Some(hooks) = hooks {
        builder = hooks.bind(builder);
    }
    let running = builder.build()?.start().await?;
    let ready = Ready {
        user: Some(DEV.to_owned()),
        password: Some(DEV.to_owned()),
        api_key: Some(api_key.expose().clone()),
        ..Ready::of(&running, data_dir)
    };
    print(&banner(&ready, began.elapsed(), arguments.relay.as_ref()))?;
    if let Some(file) = &arguments.ready_file {
        ready.write(file)?;
    }
    Ok(running.run_until(run::stop_signal()).await?)
}

/// The configuration of a development server: quick to try again, easy to read.
fn configuration(arguments: &DevArgs, data_dir: &Path) -> Result<Config, Failure> {
    let hostname = Domain::parse("localhost").map_err(Failure::failed)?;
    let mut config = Config::new(hostname, data_dir);
    config.smtp.listeners = vec![
        Listener::new(arguments.smtp, ListenerKind::Mx),
        Listener::new(arguments.submission, ListenerKind::Submission),
        Listener::new(arguments.submissions, ListenerKind::Submissions),
    ];
    config.smtp.limits.greeting_delay = Duration::ZERO;
    config.http.bind = arguments.http;
    // A developer sees how mail would be judged, and gets all of it.
    config.spam.rules.thresholds = Thresholds::tag_only();
    // Applications under test are no mail servers, and their machine may have no DNS.
    config.authentication = None;
    // Tests send a lot, and to the same addresses that are not there.
    config.policy.limits = SendingLimits::none();
    config.policy.scoring = None;
    config.policy.suppress_bounced = false;
    config.delivery.relay = arguments.relay.clone();
    config.delivery.retry_first = Duration::from_secs(1);
    config.delivery.retry_max = Duration::from_secs(60);
    config.delivery.lease = Duration::from_secs(6);
    // Programs that are developed listen on this machine.
    config.hooks.allow_private_addresses = true;
    config.webhooks.allow_private_addresses = true;
    config.log.format = LogFormat::Text;
    Ok(config)
}

/// The tenant and the user of a development server.
async fn residents(directory: &dyn Directory) -> Result<(Tenant, User), Failure> {
    let tenant = match directory.tenant_by_name(DEV).await? {
        Some(tenant) => tenant,
        None => {
            let mut tenant = NewTenant::default();
            tenant.name = DEV.to_owned();
            tenant.any_sender = true;
            directory.create_tenant(tenant).await?
        }
    };
    let address = EmailAddress::parse("dev@localhost").map_err(Failure::failed)?;
    if directory.domain(address.domain()).await?.is_none() {
        directory.create_domain(tenant.id, address.domain()).await?;
    }
    if let Some(user) = directory.user_by_address(tenant.id, &address).await? {
        return Ok((tenant, user));
    }
    // This password is printed at every start: making it costly to guess is of no use.
    let password = PasswordHasher::new(PasswordCost::Low).record(&Secret::new(DEV.to_owned())).await?;
    let user = directory.create_user(tenant.id, NewUser { address, login: Some(DEV.to_owned()), password }).await?;
    Ok((tenant, user))
}

/// The API key that is kept in the data folder, or a new one.
async fn api_key(
    storage: &SqlStorage,
    tenant: &Tenant,
    server_key: &ServerKey,
    data_dir: &Path,
) -> Result<Secret<String>, Failure> {
    let file = data_dir.join(API_KEY_FILE);
    if let Ok(text) = std::fs::read_to_string(&file) {
        let text = Secret::new(text.trim().to_owned());
        if let Some((key_id, hash)) = mairust_http::token_hash(server_key, text.expose())
            && let Some(key) = storage.directory().api_key(&key_id).await?
            && key.secret_hash == hash
        {
            return Ok(text);
        }
    }
    let mut key_id = DEV.to_owned();
    if storage.directory().api_key(&key_id).await?.is_some() {
        key_id = format!("{DEV}-{}", mairust_http::random_key_id());
    }
    let (text, key) = ApiKeyToken::issue(server_key, &key_id, "development", &Scope::ALL);
    storage.directory().create_api_key(tenant.id, key).await?;
    open::write_private(&file, &format!("{}\n", text.expose()))?;
    Ok(text)
}

fn banner(ready: &Ready, took: Duration, relay: Option<&Relay>) -> String {
    let or_none = |address: &Option<String>| address.clone().unwrap_or_default();
    let outbound = match relay {
        Some(relay) => format!("sent through {}:{}", relay.host, relay.port),
        None => "kept, not sent (--relay HOST:PORT sends it)".to_owned(),
    };
    format!(
        "MaiRust {} dev  ready in {:.2} s\n  \
           SMTP   {}        submission {}   user {DEV} / {DEV}\n  \
           API    curl -H \"Authorization: Bearer {}\" {}/api/v1/messages\n  \
           mail to other servers is {outbound}\n  \
           try    mairust send-test --server {}",
        env!("CARGO_PKG_VERSION"),
        took.as_secs_f64(),
        or_none(&ready.smtp),
        or_none(&ready.submission),
        or_none(&ready.api_key),
        or_none(&ready.http),
        or_none(&ready.smtp),
    )
}

fn relay(text: &str) -> Result<Relay, String> {
    text.parse()
}
