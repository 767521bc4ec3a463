//! `mairust serve`, and what it shares with `mairust dev`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::digest;
use clap::Args;
use serde::Serialize;

use super::output::Failure;
use super::{ConfigFile, HooksFile, PythonHooks, certificates, open, spam};
use crate::builder::{Limits, ServerBuilder};
use crate::config::{self, Config, ListenerKind, LogFormat};
use crate::logging;
use crate::server::{RunningServer, Server, shutdown_signal};
use crate::work::retry::RetryPolicy;
use crate::work::{DeliverySettings, InDoubt};
use crate::{
    AdmissionConfig, AuditSettings, DnsResolver, DnssecResolver, EarlyTalkers, HttpLimits, ListenerConfig, Login,
    LoginLimits, Protocol, ProxyProtocol, Relay, RelayTls, ReturnPath, Roots, SearchFallback, ServerKey, Service,
    StorageBackend,
};

#[derive(Debug, Args)]
pub(super) struct ServeArgs {
    #[command(flatten)]
    config: ConfigFile,
    #[command(flatten)]
    pub(super) hooks: HooksFile,
    /// Write a JSON object with pid and addresses to this file when everything listens
    #[arg(long, value_name = "FILE")]
    ready_file: Option<PathBuf>,
}

/// What a ready file holds, for scripts and tests.
#[derive(Debug, Serialize)]
pub(super) struct Ready {
    pub(super) pid: u32,
    pub(super) smtp: Option<String>,
    pub(super) submission: Option<String>,
    pub(super) submissions: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) lmtp: Option<String>,
    pub(super) http: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) password: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) api_key: Option<String>,
    pub(super) data_dir: PathBuf,
}

impl Ready {
    /// What is known of a running server: the first listener of each kind.
    pub(super) fn of(running: &RunningServer, data_dir: &Path) -> Self {
        let addresses = running.addresses();
        let first = |service: Service| {
            addresses.smtp.iter().find(|(kind, _)| *kind == service).map(|(_, address)| address.to_string())
        };
        Self {
            pid: std::process::id(),
            smtp: first(Service::Mx),
            submission: first(Service::Submission),
            submissions: first(Service::Submissions),
            lmtp: first(Service::Lmtp),
            http: addresses.http.map(|address| format!("http://{address}")),
            user: None,
            password: None,
            api_key: None,
            data_dir: std::path::absolute(data_dir).unwrap_or_else(|_| data_dir.to_owned()),
        }
    }

    pub(super) fn write(&self, file: &Path) -> Result<(), Failure> {
        open::write_private(file, &format!("{}\n", serde_json::json!(self)))
    }
}

pub(super) async fn serve(arguments: &ServeArgs, hooks: Option<PythonHooks>) -> Result<(), Failure> {
    let config = open::load(&arguments.config)?;
    start_log(&config)?;
    let storage = open::storage_of_server(&config).await?;
    let server_key = open::server_key(&config, &storage).await?;
    let mut builder = builder(&config, storage, server_key)?;
    if let Some(hooks) = hooks {
        builder = hooks.bind(builder);
    }
    if !config.tls.is_empty() {
        let certificates = certificates::load(&config.tls)?;
        tokio::spawn(certificates::keep_fresh(config.tls.clone(), certificates.clone()));
        builder = builder.certificates(certificates);
    } else {
        tokio::spawn(certificates::outlive_hangup());
    }
    let running = builder.build()?.start().await?;
    if let Some(file) = &arguments.ready_file {
        Ready::of(&running, &config.server.data_dir).write(file)?;
    }
    Ok(running.run_until(stop_signal()).await?)
}

pub(super) fn start_log(config: &Config) -> Result<(), Failure> {
    let format = match config.log.format {
        LogFormat::Json => logging::LogFormat::Json,
        LogFormat::Text => logging::LogFormat::Text,
    };
    logging::init(format, config.log.level.as_str()).map_err(Failure::configuration)
}

/// The server that a configuration describes.
pub(super) fn builder(
    config: &Config,
    storage: impl StorageBackend,
    server_key: ServerKey,
) -> Result<ServerBuilder, Failure> {
    let mut builder = Server::builder(config.server.hostname.as_str(), storage)
        .server_key(server_key)
        .audit(audit(config))
        .sealer(open::sealer(config)?)
        .deleted_messages_days(config.deleted_messages_days)
        .events_days(config.events_days)
        .hook_calls_days(config.hook_calls_days)
        .tenant_hooks(config.hooks.clone())
        .hook_budgets(config.hook_budgets)
        .webhooks(config.webhooks.clone())
        .retired_dkim_keys_days(config.retired_dkim_keys_days)
        .http(config.http.bind.to_string())
        .limits(limits(config))
        .login_limits(login_limits(config))
        .http_limits(HttpLimits {
            max_connections: config.http.max_connections as usize,
            header_timeout: config.http.header_timeout,
        })
        .proxies(config.smtp.proxies.iter().copied())
        .xclient_from(config.smtp.xclient_from.iter().copied())
        .sending_limits(config.policy.limits.clone())
        .scoring(config.policy.scoring.clone())
        .delivery(delivery(config)?)
        .cross_tenant(config.smtp.cross_tenant)
        .drain(config.drain)
        .search_fallback(if config.search.fallback { SearchFallback::Rows } else { SearchFallback::Fail });
    builder = builder.scanner(spam::scanner(&config.spam)?);
    if let Some(address) = &config.server.postmaster {
        builder = builder.postmaster(address.clone());
    }
    if let Some(quota) = config.mailboxes.quota {
        builder = builder.mailbox_quota(quota.0);
    }
    if let Some(authentication) = &config.authentication {
        builder = builder.authentication(authentication.clone());
    }
    if !config.dns_servers.is_empty() {
        let resolver = DnsResolver::with_servers(&config.dns_servers).map_err(Failure::configuration)?;
        builder = builder.resolver(Arc::new(resolver));
    }
    if config.delivery.dane {
        builder = builder.dane(Arc::new(validating_resolver(config)?));
    }
    for listener in &config.smtp.listeners {
        let service = match listener.kind {
            ListenerKind::Lmtp => Service::Lmtp,
            ListenerKind::Mx => Service::Mx,
            ListenerKind::Submission => Service::Submission,
            ListenerKind::Submissions => Service::Submissions,
        };
        let mut settings = ListenerConfig::from(service);
        settings.proxy_protocol = match listener.proxy_protocol {
            config::ProxyProtocol::Never => ProxyProtocol::Never,
            config::ProxyProtocol::Required => ProxyProtocol::Required,
        };
        builder = builder.listen(settings, listener.bind.to_string());
    }
    Ok(builder)
}

fn validating_resolver(config: &Config) -> Result<DnssecResolver, Failure> {
    let wrong = |message| Failure::configuration(format_args!("dns.trust_anchors: {message}"));
    let anchors = config.trust_anchors().map_err(wrong)?;
    let made = match config.dns_servers.as_slice() {
        [] => DnssecResolver::system(&anchors),
        servers => DnssecResolver::with_servers(servers, &anchors),
    };
    made.map_err(|error| Failure::configuration(format_args!("DNS: {error}")))
}

fn limits(config: &Config) -> Limits {
    let smtp = &config.smtp;
    let from = &smtp.limits;
    let mut admission = AdmissionConfig::default();
    admission.max_sessions = from.max_sessions as usize;
    admission.max_sessions_per_listener = from.max_sessions_per_listener as usize;
    admission.max_sessions_per_client = from.max_sessions_per_client as usize;
    admission.max_sessions_per_network = from.max_sessions_per_network as usize;
    admission.connection_rate = from.connection_rate;
    admission.message_rate = from.message_rate;
    admission.recipient_rate = from.recipient_rate;
    admission.trusted.clone_from(&from.trusted);
    Limits {
        max_message_size: smtp.max_message_size.0,
        max_recipients: smtp.max_recipients as usize,
        admission,
        max_messages: from.max_messages,
        max_commands: from.max_commands,
        max_errors: from.max_errors,
        idle_timeout: smtp.idle_timeout,
        handshake_timeout: from.handshake_timeout,
        data_deadline: from.data_deadline,
        greeting_delay: from.greeting_delay,
        early_talkers: match from.early_talkers {
            config::EarlyTalkers::Note => EarlyTalkers::Note,
            config::EarlyTalkers::Refuse => EarlyTalkers::Refuse,
        },
    }
}

fn login_limits(config: &Config) -> LoginLimits {
    let from = &config.login;
    LoginLimits {
        max_failures: from.max_failures,
        max_failures_per_client: from.max_failures_per_client,
        lock_time: from.lock_time,
        max_failures_per_session: from.max_failures_per_session,
        delay: from.delay,
        trusted: from.trusted.clone(),
    }
}

/// Whose certificates the configuration has believed.
pub(super) fn roots(config: &Config) -> Result<Roots, Failure> {
    let made = crate::builder::roots(&delivery(config)?);
    made.map_err(|error| Failure::configuration(format_args!("delivery.tls_roots: {}", crate::error::chain(&error))))
}

fn delivery(config: &Config) -> Result<DeliverySettings, Failure> {
    let from = &config.delivery;
    let read = |file: &PathBuf| {
        let unreadable =
            |error| Failure::configuration(format_args!("delivery.tls_roots: cannot read {}: {error}", file.display()));
        std::fs::read(file).map_err(unreadable)
    };
    Ok(DeliverySettings {
        relay: relay(from),
        mx_port: from.mx_port,
        allow_loopback: from.allow_loopback,
        mta_sts: from.mta_sts,
        mta_sts_port: from.mta_sts_port,
        tls_roots: from.tls_roots.as_ref().map(read).transpose()?,
        source_addresses: from.source_addresses.clone(),
        max_connections_per_host: from.max_connections_per_host as usize,
        rate_per_domain: from.rate_per_domain,
        domains: from.domains.clone(),
        workers: from.workers as usize,
        ramp_up: from.ramp_up,
        lease: from.lease,
        in_doubt: match from.in_doubt {
            config::InDoubt::Hold => InDoubt::Hold,
            config::InDoubt::Resend => InDoubt::Resend,
        },
        return_path: match from.return_path {
            config::ReturnPath::Sender => ReturnPath::Sender,
            config::ReturnPath::Verp => ReturnPath::Verp,
        },
        connect_timeout: from.connect_timeout,
        retry: RetryPolicy::new(from.retry_first, from.retry_max, from.give_up_after),
        delay_notice_after: from.delay_notice_after,
        max_future_release: from.max_future_release,
        suppress_bounced: config.policy.suppress_bounced,
        // No setting of the file.
        idle_time: DeliverySettings::default().idle_time,
    })
}

fn relay(from: &config::DeliverySettings) -> Option<Relay> {
    let config::Relay { host, port } = from.relay.as_ref()?;
    let mut relay = Relay::new(host, *port);
    relay.protocol = match from.relay_protocol {
        config::RelayProtocol::Lmtp => Protocol::Lmtp,
        config::RelayProtocol::Smtp => Protocol::Smtp,
    };
    relay.tls = match from.relay_tls {
        config::RelayTls::Implicit => RelayTls::Implicit,
        config::RelayTls::None => RelayTls::None,
        config::RelayTls::Opportunistic => RelayTls::Opportunistic,
        config::RelayTls::Starttls => RelayTls::StartTls,
    };
    relay.login = from.relay_login.as_ref().map(|login| Login::new(&login.user, login.password.clone()));
    Some(relay)
}

fn audit(config: &Config) -> AuditSettings {
    // Secrets are not shown, and so not in it either.
    let shown = digest::digest(&digest::SHA256, format!("{config:?}").as_bytes());
    let configuration = shown.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    AuditSettings { retention: config.audit_retention, configuration: Some(configuration) }
}

/// Ready at the first signal to stop; the second one ends the process at once.
pub(super) async fn stop_signal() {
    shutdown_signal().await;
    tokio::spawn(async {
        shutdown_signal().await;
        std::process::exit(130);
    });
}
