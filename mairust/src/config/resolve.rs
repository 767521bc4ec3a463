//! From what is written to what holds: defaults that depend on other keys, and keys that must fit
//! together.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use mairust_core::{ByteSize, Domain, IpNetwork, Secret};
use mairust_store::{DiskFloor, Durability, SpoolSettings, WhenBodiesDown};

use super::hooks::{LEAST_BUDGET, MAX_BUDGET, RawHooks};
use super::model::{
    AuthenticationMode, Config, DatabaseSettings, HttpSettings, Listener, ListenerKind, LogSettings, LoginSettings,
    MailboxSettings, MasterKey, ProxyProtocol, SearchSettings, ServerSettings, SmtpLimits, SmtpSettings,
    StorageSettings, TlsFiles,
};
use super::problem::{Place, Problem};
use super::raw::{
    RawAuthentication, RawConfig, RawDatabase, RawDatabaseBackend, RawDurability, RawListener, RawLogin, RawSmtp,
    RawSmtpLimits, RawStorage, RawStorageBackend, RawTls, RawWhenBodiesDown,
};
use super::s3;
use super::secret::{SecretError, SecretRef, decode_master_key, is_world_readable};
use super::spam::RawSpam;
use super::text::{NetworkText, SecretText};
use super::validate::{Checked, Spot};
use crate::{Authentication, WebhookSettings};

/// RFC 5321 §4.5.3.1.7: a server takes at least this much.
const SMALLEST_LIMIT: ByteSize = ByteSize(64 << 10);

/// Resolves what was read. Problems found before are passed on with those found here.
pub(super) fn resolve(checked: Checked, variables: &BTreeMap<String, String>) -> Result<Config, Vec<Problem>> {
    let Checked { json, spots, problems } = checked;
    let mut judge = Judge { spots, problems, warnings: Vec::new() };
    let raw: RawConfig = match serde_json::from_value(json) {
        Ok(raw) => raw,
        Err(error) => {
            judge.problems.push(Problem::new(&Place::Unset, "", format!("cannot be read: {error}")));
            return Err(judge.problems);
        }
    };
    let hostname = judge.hostname(&raw);
    judge.smtp(&raw.smtp, raw.http.bind.0);
    judge.spam(&raw.spam);
    judge.times(&raw);
    judge.tls(&raw);
    judge.dns(&raw);
    judge.policy(&raw.policy);
    judge.delivery(&raw.delivery);
    let key = raw.secrets.master_key.as_ref().and_then(|reference| judge.master_key(&reference.0, variables));
    let former_keys = judge.former_master_keys(&raw.secrets.former_master_keys, variables);
    let postgres = judge.postgres(&raw.database, variables);
    let s3 = judge.s3(&raw.storage, variables);
    let rspamd_password = raw.spam.rspamd.password.as_ref();
    let rspamd_password = rspamd_password.and_then(|it| judge.secret("spam.rspamd.password", &it.0, variables));
    let relay_login = judge.relay_login(&raw.delivery, variables);
    match hostname {
        Some(hostname) if judge.problems.is_empty() => {
            let mut config = settle(raw, hostname, key);
            config.spam.rspamd.password = rspamd_password;
            config.delivery.relay_login = relay_login;
            config.former_master_keys = former_keys;
            config.database = postgres.unwrap_or(config.database);
            config.storage = s3.unwrap_or(config.storage);
            config.warnings = judge.warnings;
            Ok(config)
        }
        _ => Err(judge.problems),
    }
}

/// Applies the defaults that depend on other keys. `key` is the master key, if the configuration
/// names one.
pub(super) fn settle(raw: RawConfig, hostname: Domain, key: Option<Secret<[u8; 32]>>) -> Config {
    let data_dir = raw.server.data_dir;
    let in_data_dir = |path: Option<PathBuf>, name: &str| path.unwrap_or_else(|| data_dir.join(name));
    let spool = settle_spool(&raw.storage);
    let (hooks, hook_budgets) = raw.hooks.settle();
    Config {
        smtp: settle_smtp(raw.smtp),
        spam: raw.spam.settle(hostname.as_str()),
        login: settle_login(raw.login),
        tls: settle_tls(raw.tls),
        http: HttpSettings {
            bind: raw.http.bind.0,
            max_connections: raw.http.max_connections,
            header_timeout: raw.http.header_timeout.0,
        },
        authentication: settle_authentication(raw.authentication),
        dns_servers: raw.dns.servers.into_iter().map(|server| server.0).collect(),
        dns_trust_anchors: raw.dns.trust_anchors,
        database: DatabaseSettings::Sqlite { path: in_data_dir(raw.database.path, "mairust.db") },
        database_timeout: raw.database.timeout.0,
        storage: StorageSettings::Fs { base_path: in_data_dir(raw.storage.options.base_path, "mail") },
        durability: match raw.storage.durability {
            RawDurability::CrashSafe => Durability::CrashSafe,
            RawDurability::PowerSafe => Durability::PowerSafe,
            RawDurability::Relaxed => Durability::Relaxed,
        },
        spool,
        disk_floor: DiskFloor::new(raw.storage.min_free.0.0, raw.storage.min_free_files.into()),
        mailboxes: MailboxSettings { quota: raw.mailboxes.quota.map(|quota| quota.0) },
        client_side_encryption: raw.storage.client_side_encryption,
        former_master_keys: Vec::new(),
        audit_retention: Duration::from_secs(u64::from(raw.retention.audit_days) * 24 * 60 * 60),
        deleted_messages_days: raw.retention.deleted_messages_days,
        events_days: raw.retention.events_days,
        hook_calls_days: raw.retention.hook_calls_days,
        hooks,
        hook_budgets,
        webhooks: WebhookSettings { allow_private_addresses: raw.webhooks.allow_private_addresses },
        retired_dkim_keys_days: raw.retention.retired_dkim_keys_days,
        search: SearchSettings { enabled: raw.search.enabled, fallback: raw.search.fallback },
        master_key: key.map_or_else(|| MasterKey::KeptIn(data_dir.join("master.key")), MasterKey::Given),
        policy: raw.policy.settle(),
        delivery: raw.delivery.settle(),
        log: LogSettings { format: raw.log.format, level: raw.log.level },
        drain: raw.shutdown.drain.0,
        warnings: Vec::new(),
        server: ServerSettings { hostname, data_dir, postmaster: raw.server.postmaster.map(|address| address.0) },
    }
}

fn settle_spool(raw: &RawStorage) -> SpoolSettings {
    let mut spool = SpoolSettings::default();
    spool.max_body = raw.spool_message.0.0;
    spool.max_bytes = raw.spool_max.0.0;
    spool.when_bodies_down = match raw.when_bodies_down {
        RawWhenBodiesDown::Refuse => WhenBodiesDown::Refuse,
        RawWhenBodiesDown::Spool => WhenBodiesDown::Spool,
    };
    spool
}

fn settle_tls(raw: RawTls) -> Vec<TlsFiles> {
    let first = raw.cert.zip(raw.key).map(|(cert, key)| TlsFiles { cert, key });
    let additional = raw.additional.unwrap_or_default().into_iter();
    first.into_iter().chain(additional.map(|raw| TlsFiles { cert: raw.cert, key: raw.key })).collect()
}

fn settle_smtp(raw: RawSmtp) -> SmtpSettings {
    let listener =
        |raw: RawListener| Listener { proxy_protocol: raw.proxy_protocol, ..Listener::new(raw.bind.0, raw.kind) };
    SmtpSettings {
        listeners: raw.listeners.into_iter().map(listener).collect(),
        max_message_size: raw.max_message_size.0,
        max_recipients: raw.max_recipients,
        cross_tenant: raw.cross_tenant,
        idle_timeout: raw.idle_timeout.0,
        limits: settle_smtp_limits(raw.limits),
        proxies: networks(raw.proxies),
        xclient_from: networks(raw.xclient_from),
    }
}

fn settle_smtp_limits(raw: RawSmtpLimits) -> SmtpLimits {
    SmtpLimits {
        max_sessions: raw.max_sessions,
        max_sessions_per_listener: raw.max_sessions_per_listener,
        max_sessions_per_client: raw.max_sessions_per_client,
        max_sessions_per_network: raw.max_sessions_per_network,
        connection_rate: raw.connection_rate.0,
        message_rate: raw.message_rate.0,
        recipient_rate: raw.recipient_rate.0,
        trusted: networks(raw.trusted),
        max_messages: raw.max_messages,
        max_commands: raw.max_commands,
        max_errors: raw.max_errors,
        greeting_delay: raw.greeting_delay.0,
        early_talkers: raw.early_talkers,
        handshake_timeout: raw.handshake_timeout.0,
        data_deadline: raw.data_deadline.0,
    }
}

fn settle_login(raw: RawLogin) -> LoginSettings {
    LoginSettings {
        max_failures: raw.max_failures,
        max_failures_per_client: raw.max_failures_per_client,
        lock_time: raw.lock_time.0,
        max_failures_per_session: raw.max_failures_per_session,
        delay: raw.delay.0,
        trusted: networks(raw.trusted),
    }
}

fn networks(raw: Vec<NetworkText>) -> Vec<IpNetwork> {
    raw.into_iter().map(|network| network.0).collect()
}

fn settle_authentication(raw: RawAuthentication) -> Option<Authentication> {
    let settings = Authentication {
        authserv_id: raw.authserv_id.map(|id| id.0),
        timeout: raw.timeout.0,
        dmarc_reject: raw.dmarc_reject,
        dmarc_quarantine: raw.dmarc_quarantine,
        spf_fail: raw.spf_fail,
    };
    (raw.mode == AuthenticationMode::Verify).then_some(settings)
}

/// Finds out what is wrong.
pub(super) struct Judge {
    spots: HashMap<String, Spot>,
    problems: Vec<Problem>,
    warnings: Vec<Problem>,
}

impl Judge {
    fn hostname(&mut self, raw: &RawConfig) -> Option<Domain> {
        let Some(hostname) = &raw.server.hostname else {
            let advice = "write the public name of this server, for example mail.example.com";
            self.report("server.hostname", "this key is missing", advice);
            return None;
        };
        if hostname.0.as_str().parse::<IpAddr>().is_ok() {
            self.report("server.hostname", "an IP address is no host name", "write for example mail.example.com");
        }
        Some(hostname.0.clone())
    }

    fn smtp(&mut self, smtp: &RawSmtp, http: SocketAddr) {
        if smtp.max_message_size.0 < SMALLEST_LIMIT {
            self.report("smtp.max_message_size", "this is less than RFC 5321 allows", "write at least 64KiB");
        }
        let proxied = smtp.listeners.iter().position(|listener| listener.proxy_protocol == ProxyProtocol::Required);
        if let Some(index) = proxied.filter(|_| smtp.proxies.is_empty()) {
            let path = format!("smtp.listeners[{index}].proxy_protocol");
            self.report(&path, "no connection would be taken", "write the networks of the proxies to smtp.proxies");
        }
        if smtp.listeners.is_empty() {
            let advice = "write at least one entry, or remove the key to get the default";
            self.report("smtp.listeners", "no mail can come in without a listener", advice);
        }
        let mut taken = vec![("http.bind".to_owned(), http)];
        for (index, listener) in smtp.listeners.iter().enumerate() {
            let path = format!("smtp.listeners[{index}].bind");
            let bind = listener.bind.0;
            if listener.kind == ListenerKind::Lmtp {
                self.lmtp(&path, bind);
            }
            let other = taken.iter().find(|(_, address)| *address == bind && bind.port() != 0);
            if let Some((other, _)) = other {
                // The default of `http.bind` has no spot: its own name is what the operator knows.
                let other = self.spots.get(other).map_or(other.clone(), |spot| spot.path.clone());
                self.report(&path, &format!("{bind} belongs to {other} already"), "write another address or port");
            }
            taken.push((path, bind));
        }
    }

    /// Whoever reaches an LMTP listener gets past sender authentication.
    fn lmtp(&mut self, path: &str, bind: SocketAddr) {
        if bind.port() == 25 {
            // RFC 2033 §5.
            self.report(path, "LMTP must not be spoken at port 25", "write another port, for example 24");
        } else if !bind.ip().is_loopback() {
            let (written, place) = self.locate(path);
            let problem = Problem::new(&place, &written, "LMTP listens beyond this machine");
            self.warnings
                .push(problem.with_advice("let no strangers reach it: what comes by LMTP is not authenticated"));
        }
    }

    fn spam(&mut self, spam: &RawSpam) {
        const TIMEOUT: &str = "spam.rspamd.timeout";
        self.at_least(TIMEOUT, spam.rspamd.timeout.0, Duration::from_millis(100));
        if spam.rspamd.timeout.0 > Duration::from_secs(30) {
            self.report(TIMEOUT, "senders do not wait that long", "write at most 30s");
        }
        if let Some((higher, lower)) = spam.thresholds.disorder() {
            let message = format!("this is more than spam.thresholds.{lower}");
            let advice = "write the same or a lower number, or never";
            self.report(&format!("spam.thresholds.{higher}"), &message, advice);
        }
        for (index, rule) in spam.rules.iter().flatten().enumerate() {
            if let Err(fault) = rule.read() {
                self.report(&format!("spam.rules[{index}].{}", fault.key), &fault.message, fault.advice);
            }
        }
    }

    fn times(&mut self, raw: &RawConfig) {
        let second = Duration::from_secs(1);
        self.at_least("smtp.idle_timeout", raw.smtp.idle_timeout.0, second);
        self.at_least("smtp.limits.handshake_timeout", raw.smtp.limits.handshake_timeout.0, second);
        self.at_least("smtp.limits.data_deadline", raw.smtp.limits.data_deadline.0, second);
        self.at_least("login.lock_time", raw.login.lock_time.0, second);
        self.at_least("http.header_timeout", raw.http.header_timeout.0, second);
        let RawHooks { pre_receive_budget, pre_send_budget, .. } = &raw.hooks;
        for (path, budget) in
            [("hooks.pre_receive_budget", pre_receive_budget), ("hooks.pre_send_budget", pre_send_budget)]
        {
            self.at_least(path, budget.0, LEAST_BUDGET);
            if budget.0 > MAX_BUDGET {
                self.report(path, "somebody waits for so long", "write 30s or less");
            }
        }
    }

    fn tls(&mut self, raw: &RawConfig) {
        let (missing, advice) = match (&raw.tls.cert, &raw.tls.key) {
            (Some(_), None) => ("tls.key", "write both cert and key, or neither"),
            (None, Some(_)) => ("tls.cert", "write both cert and key, or neither"),
            (None, None) if raw.tls.additional.as_ref().is_some_and(|more| !more.is_empty()) => {
                ("tls.cert", "write the certificate for all other names")
            }
            _ => return,
        };
        self.report(missing, "this key is missing", advice);
    }

    fn dns(&mut self, raw: &RawConfig) {
        self.at_least("authentication.timeout", raw.authentication.timeout.0, Duration::from_millis(100));
        for (index, server) in raw.dns.servers.iter().enumerate() {
            if server.0.port() == 0 {
                let path = format!("dns.servers[{index}]");
                self.report(&path, "no server listens at port 0", "DNS has port 53");
            }
        }
        if raw.dns.trust_anchors.is_some() && !raw.delivery.dane {
            self.report(
                "dns.trust_anchors",
                "nothing verifies DNSSEC",
                "write delivery.dane: true, or remove this key",
            );
        }
    }

    /// The settings of PostgreSQL, if that is the database.
    fn postgres(&mut self, database: &RawDatabase, variables: &BTreeMap<String, String>) -> Option<DatabaseSettings> {
        const PATH: &str = "database.url";
        match (database.backend, &database.url) {
            (RawDatabaseBackend::Sqlite, _) => None,
            (RawDatabaseBackend::Postgres, None) => {
                let advice = "write postgres://user:password@host/database, or env:NAME or file:/path of it";
                self.report(PATH, "the database needs an address", advice);
                None
            }
            (RawDatabaseBackend::Postgres, Some(url)) => {
                let url = self.secret(PATH, &url.0, variables)?;
                if !["postgres://", "postgresql://"].iter().any(|scheme| url.expose().starts_with(scheme)) {
                    self.report(PATH, "this is no URL of PostgreSQL", "write postgres://user:password@host/database");
                    return None;
                }
                Some(DatabaseSettings::Postgres { url, max_connections: database.max_connections })
            }
        }
    }

    /// The settings of S3, if that is the storage.
    fn s3(&mut self, storage: &RawStorage, variables: &BTreeMap<String, String>) -> Option<StorageSettings> {
        const KEY: &str = "write env:NAME or file:/path";
        let RawStorage { backend: RawStorageBackend::S3, options, .. } = storage else { return None };
        let bucket = self.s3_needs("bucket", options.bucket.as_ref(), "write the name of a bucket that is there");
        let access_key_id = self.s3_needs("access_key_id", options.access_key_id.as_ref(), KEY);
        let secret_access_key = self.s3_needs("secret_access_key", options.secret_access_key.as_ref(), KEY);
        let mut fetch = |name: &str, key: Option<&SecretText>| {
            key.and_then(|key| self.secret(&format!("storage.options.{name}"), &key.0, variables))
        };
        let session_token = fetch("session_token", options.session_token.as_ref());
        let access_key_id = fetch("access_key_id", access_key_id);
        let secret_access_key = fetch("secret_access_key", secret_access_key)?;
        let keys = s3::Keys { access_key_id: access_key_id?, secret_access_key, session_token };
        let settings = s3::settings(bucket?, keys, options);
        for fault in settings.faults() {
            self.report(&format!("storage.options.{}", fault.setting()), &fault.to_string(), "");
        }
        if options.endpoint.as_deref().is_some_and(s3::is_readable_on_the_way) {
            let (path, place) = self.locate("storage.options.endpoint");
            let problem = Problem::new(&place, &path, "messages cross the network as they are");
            self.warnings.push(problem.with_advice("write https:// unless the network is yours alone"));
        }
        Some(StorageSettings::S3(Box::new(settings)))
    }

    fn s3_needs<'a, T>(&mut self, name: &str, value: Option<&'a T>, advice: &str) -> Option<&'a T> {
        if value.is_none() {
            self.report(&format!("storage.options.{name}"), "S3 needs this key", advice);
        }
        value
    }

    fn master_key(&mut self, reference: &SecretRef, variables: &BTreeMap<String, String>) -> Option<Secret<[u8; 32]>> {
        self.key("secrets.master_key", reference, variables)
    }

    fn former_master_keys(
        &mut self,
        references: &[SecretText],
        variables: &BTreeMap<String, String>,
    ) -> Vec<Secret<[u8; 32]>> {
        let numbered = references.iter().enumerate();
        numbered
            .filter_map(|(index, reference)| {
                self.key(&format!("secrets.former_master_keys[{index}]"), &reference.0, variables)
            })
            .collect()
    }

    fn key(
        &mut self,
        path: &str,
        reference: &SecretRef,
        variables: &BTreeMap<String, String>,
    ) -> Option<Secret<[u8; 32]>> {
        let text = self.secret(path, reference, variables)?;
        decode_master_key(text.expose()).map_err(|error| self.report(path, &error.to_string(), "")).ok()
    }

    /// Fetches the secret of this key.
    pub(super) fn secret(
        &mut self,
        path: &str,
        reference: &SecretRef,
        variables: &BTreeMap<String, String>,
    ) -> Option<Secret<String>> {
        match reference.fetch(variables) {
            Ok(secret) => {
                if let SecretRef::File(file) = reference
                    && is_world_readable(file)
                {
                    let (path, place) = self.locate(path);
                    let problem = Problem::new(&place, &path, format!("everybody may read {}", file.display()));
                    self.warnings.push(problem.with_advice(format!("run chmod 600 {}", file.display())));
                }
                Some(secret)
            }
            Err(SecretError::Unreadable { file, source }) => {
                let message = format!("cannot read {}: {source}", file.display());
                self.report(path, &message, "write file: and the path of a file that this user may read");
                None
            }
            Err(error) => {
                self.report(path, &error.to_string(), "");
                None
            }
        }
    }

    pub(super) fn at_least(&mut self, path: &str, value: Duration, least: Duration) {
        if value < least {
            let advice = format!("write at least {}", mairust_core::render_duration(least));
            self.report(path, "this time is too short", &advice);
        }
    }

    /// Reports, unless the value has been found wrong before and its default was judged.
    pub(super) fn report(&mut self, path: &str, message: &str, advice: &str) {
        let (written, place) = self.locate(path);
        if !self.already_wrong(&written) {
            self.problems.push(Problem::new(&place, &written, message).with_advice(advice));
        }
    }

    pub(super) fn already_wrong(&self, path: &str) -> bool {
        let within = |inner: &str, outer: &str| {
            inner
                .strip_prefix(outer)
                .is_some_and(|rest| outer.is_empty() || rest.is_empty() || rest.starts_with(['.', '[']))
        };
        // A variable that fits nowhere has no path, and says nothing about any other key.
        let ours =
            |problem: &&Problem| !(problem.path.is_empty() && matches!(problem.place, Place::Environment { .. }));
        self.problems.iter().filter(ours).any(|problem| within(path, &problem.path) || within(&problem.path, path))
    }

    /// The path and place of a key as it was written; the place of the section for a missing one.
    fn locate(&self, path: &str) -> (String, Place) {
        if let Some(spot) = self.spots.get(path) {
            return (spot.path.clone(), spot.place.clone());
        }
        let mut outer = path;
        while let Some(end) = outer.rfind(['.', '[']) {
            outer = &outer[..end];
            if let Some(spot) = self.spots.get(outer) {
                // An entry of a list may have another number where it was written.
                return (format!("{}{}", spot.path, &path[outer.len()..]), spot.place.clone());
            }
        }
        let place = self.spots.get("").map_or(Place::Unset, |root| root.place.clone());
        (path.to_owned(), place)
    }
}
