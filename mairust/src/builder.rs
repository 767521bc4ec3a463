//! Puts a server together from its parts.

use std::future::Future;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::Duration;

use mairust_core::{Clock, Domain, EmailAddress, IpNetwork, Mail, SystemClock};
use mairust_hooks::{Binding, Budgets, HookFn, HookHandler, IntoAnswer, OnFailure, PolicyEngine, Scanner};
use mairust_http::{SearchFallback, ServerKey};
use mairust_smtp::client::{Client, ClientConfig};
use mairust_smtp::dns::{DnsResolver, Resolver, ValidatingResolver};
use mairust_smtp::server::{AdmissionConfig, EarlyTalkers, ListenerConfig, ProxyProtocol, ServerConfig, Service};
use mairust_smtp::tls::{CertificatePair, Certificates, Roots, TlsError};
use mairust_smtp::verify::{Verifier, VerifierSettings};
use mairust_store::{Sealer, StorageBackend};

use crate::audit::AuditSettings;
use crate::error::{Error, Result};
use crate::hooks::TenantHookSettings;
use crate::http::HttpLimits;
use crate::listen::Bind;
use crate::mta_sts::HttpsPolicies;
use crate::outbound::Outbound;
use crate::outgoing_http::HttpClient;
use crate::policy::BuiltinPolicy;
use crate::policy::limits::SendingLimits;
use crate::policy::score::Scoring;
use crate::receive::recipient::{CatchAll, Recipients};
use crate::receive::tenants::CrossTenant;
use crate::receive::verify::{Authentication, Authenticator};
use crate::return_path::ReturnPath;
use crate::server::{Parts, Server};
use crate::throttle::LoginLimits;
use crate::webhooks::WebhookSettings;
use crate::work::DeliverySettings;

/// Collects the parts of a [`Server`]. What is not said has a default; what is wrong is reported
/// by [`build`](Self::build), all of it at once.
#[derive(Debug)]
#[must_use = "a builder does nothing until it is built"]
pub struct ServerBuilder {
    hostname: String,
    storage: Arc<dyn StorageBackend>,
    listeners: Vec<(ListenerConfig, Bind)>,
    http: Option<Bind>,
    certificates: Option<Result<Certificates, TlsError>>,
    hooks: Vec<Binding>,
    python_threads: Option<Arc<AtomicI64>>,
    hook_budgets: Budgets,
    scanner: Option<Arc<dyn Scanner>>,
    policy: Option<Arc<dyn PolicyEngine>>,
    sending_limits: SendingLimits,
    scoring: Option<Scoring>,
    authentication: Option<Authentication>,
    resolver: Option<Arc<dyn Resolver>>,
    dane: Option<Arc<dyn ValidatingResolver>>,
    delivery: DeliverySettings,
    outbound: Outbound,
    catch_all: Option<CatchAll>,
    postmaster: Option<EmailAddress>,
    mailbox_quota: Option<u64>,
    server_key: Option<ServerKey>,
    sealer: Option<Sealer>,
    audit: AuditSettings,
    deleted_messages_days: u32,
    events_days: u32,
    hook_calls_days: u32,
    tenant_hooks: TenantHookSettings,
    webhooks: WebhookSettings,
    retired_dkim_keys_days: u32,
    search_fallback: SearchFallback,
    limits: Limits,
    login_limits: LoginLimits,
    http_limits: HttpLimits,
    proxies: Vec<IpNetwork>,
    xclient_from: Vec<IpNetwork>,
    cross_tenant: CrossTenant,
    drain: Duration,
    clock: Arc<dyn Clock>,
}

/// Limits of SMTP sessions.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Limits {
    /// The largest message in bytes. Default 25 MiB.
    pub max_message_size: u64,
    /// Recipients per message. Default 100.
    pub max_recipients: usize,
    /// How many sessions there may be at a time, and how fast clients may go.
    pub admission: AdmissionConfig,
    /// Messages in a session. Default 1,000.
    pub max_messages: u32,
    /// Commands in a session since its last message. Default 2,000.
    pub max_commands: u32,
    /// Errors in a session. Default 20.
    pub max_errors: u32,
    /// Longest time for a command, for a reply to be taken, and for the next bytes of a message.
    /// Default 5 minutes.
    pub idle_timeout: Duration,
    /// Longest time for a TLS handshake, and for the header of the PROXY protocol. Default
    /// 30 seconds.
    pub handshake_timeout: Duration,
    /// Longest time for a whole message. Default 30 minutes.
    pub data_deadline: Duration,
    /// Wait before the greeting of other servers, to find clients that don't wait for it. Default
    /// zero.
    pub greeting_delay: Duration,
    /// What is done to clients that don't wait for the greeting. Default: they are refused.
    pub early_talkers: EarlyTalkers,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_message_size: 25 << 20,
            max_recipients: 100,
            admission: AdmissionConfig::default(),
            max_messages: 1_000,
            max_commands: 2_000,
            max_errors: 20,
            idle_timeout: Duration::from_secs(300),
            handshake_timeout: Duration::from_secs(30),
            data_deadline: Duration::from_secs(1_800),
            greeting_delay: Duration::ZERO,
            early_talkers: EarlyTalkers::Refuse,
        }
    }
}

impl Server {
    /// Begins to put a server together. `hostname` is its name in greetings and Received fields.
    pub fn builder(hostname: impl Into<String>, storage: impl StorageBackend) -> ServerBuilder {
        ServerBuilder::new(hostname, Arc::new(storage))
    }
}

impl ServerBuilder {
    fn new(hostname: impl Into<String>, storage: Arc<dyn StorageBackend>) -> Self {
        Self {
            hostname: hostname.into(),
            storage,
            listeners: Vec::new(),
            http: None,
            certificates: None,
            hooks: Vec::new(),
            python_threads: None,
            hook_budgets: Budgets::default(),
            scanner: None,
            policy: None,
            sending_limits: SendingLimits::default(),
            scoring: Some(Scoring::default()),
            authentication: None,
            resolver: None,
            dane: None,
            delivery: DeliverySettings::default(),
            outbound: Outbound::Deliver,
            catch_all: None,
            postmaster: None,
            mailbox_quota: None,
            server_key: None,
            sealer: None,
            audit: AuditSettings::default(),
            deleted_messages_days: 30,
            events_days: 30,
            hook_calls_days: 30,
            tenant_hooks: TenantHookSettings::default(),
            webhooks: WebhookSettings::default(),
            retired_dkim_keys_days: 7,
            search_fallback: SearchFallback::default(),
            limits: Limits::default(),
            login_limits: LoginLimits::default(),
            http_limits: HttpLimits::default(),
            proxies: Vec::new(),
            xclient_from: Vec::new(),
            cross_tenant: CrossTenant::Defer,
            drain: Duration::from_secs(30),
            clock: Arc::new(SystemClock),
        }
    }

    /// Takes mail from other servers at this address. Port 0 is any free port.
    pub fn smtp(self, address: impl Into<String>) -> Self {
        self.listen(Service::Mx, address)
    }

    /// Takes mail by LMTP (RFC 2033) at this address, from a mail server of our own in front of
    /// this one. Nobody else may reach it: what it brings is taken without sender authentication.
    pub fn lmtp(self, address: impl Into<String>) -> Self {
        self.listen(Service::Lmtp, address)
    }

    /// Takes mail from users at this address, with STARTTLS and AUTH.
    pub fn submission(self, address: impl Into<String>) -> Self {
        self.listen(Service::Submission, address)
    }

    /// Takes mail from users at this address, with TLS from the first byte and AUTH.
    pub fn submissions(self, address: impl Into<String>) -> Self {
        self.listen(Service::Submissions, address)
    }

    /// Serves a [`Service`], perhaps behind a proxy, at this address. Port 0 is any free port.
    pub fn listen(mut self, listener: impl Into<ListenerConfig>, address: impl Into<String>) -> Self {
        self.listeners.push((listener.into(), Bind::Address(address.into())));
        self
    }

    /// Serves a [`Service`], perhaps behind a proxy, on a socket that is bound already.
    pub fn listen_on(mut self, listener: impl Into<ListenerConfig>, socket: TcpListener) -> Self {
        self.listeners.push((listener.into(), Bind::Bound(socket)));
        self
    }

    /// Believes these proxies, on listeners that require the PROXY protocol, whose connections they
    /// pass on.
    pub fn proxies(mut self, networks: impl IntoIterator<Item = IpNetwork>) -> Self {
        self.proxies = networks.into_iter().collect();
        self
    }

    /// Lets these gateways name another client by XCLIENT.
    pub fn xclient_from(mut self, networks: impl IntoIterator<Item = IpNetwork>) -> Self {
        self.xclient_from = networks.into_iter().collect();
        self
    }

    /// Serves the REST API at this address; needs a [`server_key`](Self::server_key).
    pub fn http(mut self, address: impl Into<String>) -> Self {
        self.http = Some(Bind::Address(address.into()));
        self
    }

    /// Serves the REST API on a socket that is bound already; needs a
    /// [`server_key`](Self::server_key).
    pub fn http_on(mut self, socket: TcpListener) -> Self {
        self.http = Some(Bind::Bound(socket));
        self
    }

    /// The key under which API keys are made and the audit log is signed. Without it, no audit log
    /// is kept.
    pub fn server_key(mut self, key: ServerKey) -> Self {
        self.server_key = Some(key);
        self
    }

    /// Opens the keys that sign outgoing mail by DKIM, see
    /// [`Directory::dkim_keys`](mairust_store::Directory::dkim_keys). Without it, nothing is signed.
    pub fn sealer(mut self, sealer: Sealer) -> Self {
        self.sealer = Some(sealer);
        self
    }

    /// For how many days keys that sign no more are kept, so that their records stay published while mail
    /// is on its way that they have signed. Default 7.
    pub fn retired_dkim_keys_days(mut self, days: u32) -> Self {
        self.retired_dkim_keys_days = days;
        self
    }

    /// How long the audit log is kept, and what it says about the configuration.
    pub fn audit(mut self, settings: AuditSettings) -> Self {
        self.audit = settings;
        self
    }

    /// For how many days events are kept, and what became of telling webhooks of them. Default 30.
    pub fn events_days(mut self, days: u32) -> Self {
        self.events_days = days;
        self
    }

    /// For how many days it is kept what calls of hooks came to. Default 30.
    pub fn hook_calls_days(mut self, days: u32) -> Self {
        self.hook_calls_days = days;
        self
    }

    /// Which hooks tenants may bind. Those by HTTP need [`sealer`](Self::sealer): the keys that sign requests are kept
    /// under it.
    pub fn tenant_hooks(mut self, settings: TenantHookSettings) -> Self {
        self.tenant_hooks = settings;
        self
    }

    /// How webhooks are told of events. They need [`sealer`](Self::sealer): the keys that sign requests are kept
    /// sealed.
    pub fn webhooks(mut self, settings: WebhookSettings) -> Self {
        self.webhooks = settings;
        self
    }

    /// For how many days deleted messages of tenants can be restored that have no number of their own;
    /// afterwards they are purged. 0: they are purged within a minute. Default 30.
    pub fn deleted_messages_days(mut self, days: u32) -> Self {
        self.deleted_messages_days = days;
        self
    }

    /// Certificate and key for TLS. Without them a self-signed certificate is made at start.
    pub fn certificate(mut self, pair: CertificatePair) -> Self {
        self.certificates = Some(Certificates::new(&[pair]));
        self
    }

    /// Certificates for TLS, chosen by the name that a client asks for; whoever keeps a clone can
    /// replace them while the server runs.
    pub fn certificates(mut self, certificates: Certificates) -> Self {
        self.certificates = Some(Ok(certificates));
        self
    }

    /// Verifies who messages from other servers really come from: SPF, DKIM, DMARC, ARC. Without
    /// this nothing is verified, and DNS is asked for deliveries only.
    pub fn authentication(mut self, authentication: Authentication) -> Self {
        self.authentication = Some(authentication);
        self
    }

    /// Asks this resolver, for deliveries and about senders. Without one, the name servers of the
    /// system are asked.
    pub fn resolver(mut self, resolver: Arc<dyn Resolver>) -> Self {
        self.resolver = Some(resolver);
        self
    }

    /// Keeps to the TLSA records of mail exchangers (RFC 7672), and asks this resolver for the exchangers of domains.
    /// Without one, TLSA records mean nothing.
    pub fn dane(mut self, resolver: Arc<dyn ValidatingResolver>) -> Self {
        self.dane = Some(resolver);
        self
    }

    /// Asks this closure about each message before it is stored. It returns a
    /// [`Verdict`](mairust_hooks::Verdict), an [`Answer`](mairust_hooks::Answer), `()` or a `Result` of one of these.
    pub fn pre_receive<F, Fut>(self, name: impl Into<String>, hook: F) -> Self
    where
        F: Fn(Mail) -> Fut + Send + Sync + 'static,
        Fut: Future + Send + 'static,
        Fut::Output: IntoAnswer,
    {
        self.hook(HookFn::pre_receive(name, hook))
    }

    /// Calls this closure with each stored message, at least once.
    pub fn post_receive<F, Fut>(self, name: impl Into<String>, hook: F) -> Self
    where
        F: Fn(Mail) -> Fut + Send + Sync + 'static,
        Fut: Future + Send + 'static,
        Fut::Output: IntoAnswer,
    {
        self.hook(HookFn::post_receive(name, hook))
    }

    /// Asks this closure about each message of users and applications before it is signed and queued.
    pub fn pre_send<F, Fut>(self, name: impl Into<String>, hook: F) -> Self
    where
        F: Fn(Mail) -> Fut + Send + Sync + 'static,
        Fut: Future + Send + 'static,
        Fut::Output: IntoAnswer,
    {
        self.hook(HookFn::pre_send(name, hook))
    }

    /// Adds a hook with the default priority, timeout and way of failing.
    pub fn hook(self, handler: impl HookHandler) -> Self {
        self.bind_hook(Binding::new(Arc::new(handler)))
    }

    /// Has the metrics tell how many threads are blocked by hooks in Python that nobody waits for any more.
    pub(crate) fn python_threads(mut self, stuck: Arc<AtomicI64>) -> Self {
        self.python_threads = Some(stuck);
        self
    }

    /// Adds a hook in its place.
    pub fn bind_hook(mut self, binding: Binding) -> Self {
        self.hooks.push(binding);
        self
    }

    /// How long all hooks of a stage together may hold a message up.
    pub fn hook_budgets(mut self, budgets: Budgets) -> Self {
        self.hook_budgets = budgets;
        self
    }

    /// Asks this scanner about mail from other servers, before any hook. Without one, mail is not
    /// scanned for spam.
    pub fn scanner(mut self, scanner: impl Scanner) -> Self {
        self.scanner = Some(Arc::new(scanner));
        self
    }

    /// How much users, domains and tenants may send. Default: [`SendingLimits::default`].
    pub fn sending_limits(mut self, limits: SendingLimits) -> Self {
        self.sending_limits = limits;
        self
    }

    /// How submitted mail is looked at for signs of abuse; `None` for not at all. Default: [`Scoring::default`].
    pub fn scoring(mut self, scoring: Option<Scoring>) -> Self {
        self.scoring = scoring;
        self
    }

    /// Asks this engine about each message that a user or an application submits, instead of keeping to
    /// [`sending_limits`](Self::sending_limits) and [`scoring`](Self::scoring). Users whose sending is suspended and recipients on the suppression
    /// list are refused all the same.
    ///
    /// ```
    /// use mairust::{Decision, MemoryStorage, PolicyEngine, PolicyError, PolicyRequest, Server, SystemClock};
    /// use mairust::Timestamp;
    ///
    /// /// Closed for the holidays.
    /// #[derive(Debug)]
    /// struct Closed;
    ///
    /// #[async_trait::async_trait]
    /// impl PolicyEngine for Closed {
    ///     async fn evaluate(&self, _: &PolicyRequest, _: Timestamp) -> Result<Decision, PolicyError> {
    ///         Ok(Decision::reject("closed", "We are on holiday, nobody sends now"))
    ///     }
    /// }
    ///
    /// # fn main() -> mairust::Result<()> {
    /// let storage = MemoryStorage::new(std::sync::Arc::new(SystemClock));
    /// let server = Server::builder("mx.example.com", storage).submission("127.0.0.1:0").policy(Closed).build()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn policy(mut self, engine: impl PolicyEngine) -> Self {
        self.policy = Some(Arc::new(engine));
        self
    }

    /// How mail to other servers is delivered.
    pub fn delivery(mut self, settings: DeliverySettings) -> Self {
        self.delivery = settings;
        self
    }

    /// Keeps mail to other servers instead of sending it: for development.
    pub fn capture_outbound(mut self) -> Self {
        self.outbound = Outbound::Capture;
        self
    }

    /// Takes mail from strangers to every address into one mailbox: for development.
    pub fn catch_all(mut self, catch_all: CatchAll) -> Self {
        self.catch_all = Some(catch_all);
        self
    }

    /// What becomes of a message from another server for recipients of several tenants. Default: recipients of the others
    /// are told to come in a new transaction.
    pub fn cross_tenant(mut self, cross_tenant: CrossTenant) -> Self {
        self.cross_tenant = cross_tenant;
        self
    }

    /// An address of this server whose owner gets mail for its postmaster, and for those of domains
    /// where nobody has that address (RFC 5321 §4.5.1).
    /// Default: the oldest user of the domain's tenant, or of the default tenant.
    pub fn postmaster(mut self, address: EmailAddress) -> Self {
        self.postmaster = Some(address);
        self
    }

    /// How many bytes a mailbox may hold that has no limit of its own. Looked at when a recipient is
    /// named, so a mailbox may end up fuller by the messages that are on their way just then.
    /// Default: no limit.
    pub fn mailbox_quota(mut self, bytes: u64) -> Self {
        self.mailbox_quota = Some(bytes);
        self
    }

    /// What a search does when the index of the storage does not answer. Default: it says so.
    pub fn search_fallback(mut self, fallback: SearchFallback) -> Self {
        self.search_fallback = fallback;
        self
    }

    /// Limits of SMTP sessions.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// How many failed logins there may be, by SMTP and with API keys.
    pub fn login_limits(mut self, limits: LoginLimits) -> Self {
        self.login_limits = limits;
        self
    }

    /// Limits of the REST API.
    pub fn http_limits(mut self, limits: HttpLimits) -> Self {
        self.http_limits = limits;
        self
    }

    /// How long sessions and jobs may take to end after the signal to stop. Default 30 s.
    pub fn drain(mut self, time: Duration) -> Self {
        self.drain = time;
        self
    }

    /// Takes the time from this clock.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Checks everything and puts the server together. Nothing listens yet.
    ///
    /// # Errors
    /// With every problem that was found.
    pub fn build(self) -> Result<Server> {
        let mut problems = Problems::default();
        let hostname =
            problems.note(Domain::parse(&self.hostname), |error| format!("host name {:?}: {error}", self.hostname));
        for (_, bind) in &self.listeners {
            problems.check_bind("listener", bind);
        }
        if let Some(bind) = &self.http {
            problems.check_bind("http", bind);
        }
        if self.listeners.is_empty() && self.http.is_none() {
            problems.add("the server listens nowhere: add smtp(..), submission(..), submissions(..) or http(..)");
        }
        if self.http.is_some() && self.server_key.is_none() {
            problems.add("http(..) needs server_key(..): API keys are made under it");
        }
        if self.delivery.return_path == ReturnPath::Verp && self.server_key.is_none() {
            problems.add("delivery.return_path needs server_key(..): return paths are made under it");
        }
        if self.delivery.workers == 0 {
            problems.add("delivery.workers must be at least 1");
        }
        if self.delivery.max_connections_per_host == 0 {
            problems.add("delivery.max_connections_per_host must be at least 1");
        }
        let behind_proxy = |(listener, _): &(ListenerConfig, Bind)| listener.proxy_protocol == ProxyProtocol::Required;
        if self.proxies.is_empty() && self.listeners.iter().any(behind_proxy) {
            problems.add("a listener requires the PROXY protocol, but no proxy is believed: add proxies(..)");
        }
        problems.check_hooks(&self.hooks);
        let resolver = problems.note(self.resolver.map_or_else(system_resolver, Ok), |error| format!("DNS: {error}"));
        let tls = hostname.as_ref().and_then(|hostname| {
            let certificates = match self.certificates {
                Some(certificates) => certificates,
                None => Certificates::new(&[problems.note(self_signed(hostname), ToString::to_string)?]),
            };
            let certificates = problems.note(certificates, |error| format!("TLS: {}", crate::error::chain(error)))?;
            Some(certificates.server_config())
        });
        let roots =
            problems.note(roots(&self.delivery), |error| format!("delivery.tls_roots: {}", crate::error::chain(error)));
        let (Some(hostname), Some(resolver), Some(tls), Some(roots), true) =
            (hostname, resolver, tls, roots, problems.0.is_empty())
        else {
            return Err(Error::all(problems.0));
        };
        let mut smtp = smtp_config(&hostname, tls, self.limits);
        smtp.max_failed_logins = self.login_limits.max_failures_per_session;
        smtp.login_delay = self.login_limits.delay;
        smtp.proxies = self.proxies;
        smtp.xclient_from = self.xclient_from;
        Ok(Server::new(Parts {
            smtp,
            hook_calls_days: self.hook_calls_days,
            tenant_hooks: self.tenant_hooks,
            http_client: HttpClient::new(&roots, resolver.clone()),
            webhooks: self.webhooks.client(HttpClient::new(&roots, resolver.clone())),
            allow_private_webhooks: self.webhooks.allow_private_addresses,
            authenticator: self.authentication.map(|settings| authenticator(settings, resolver.clone())),
            client: client(&hostname, &self.delivery, &roots, (resolver, self.dane)),
            recipients: Recipients {
                storage: self.storage.clone(),
                hostname: hostname.clone(),
                catch_all: self.catch_all,
                postmaster: self.postmaster,
                quota: self.mailbox_quota,
                return_paths: None,
            },
            policy: self.policy.unwrap_or_else(|| {
                let (storage, limits, scoring) = (self.storage.clone(), self.sending_limits, self.scoring);
                Arc::new(BuiltinPolicy { storage, limits, scoring })
            }),
            hostname,
            storage: self.storage,
            listeners: self.listeners,
            http: self.http,
            http_limits: self.http_limits,
            login_limits: self.login_limits,
            hooks: self.hooks,
            python_threads: self.python_threads,
            hook_budgets: self.hook_budgets,
            scanner: self.scanner,
            delivery: self.delivery,
            outbound: self.outbound,
            server_key: self.server_key,
            sealer: self.sealer,
            audit: self.audit,
            deleted_messages_days: self.deleted_messages_days,
            events_days: self.events_days,
            retired_dkim_keys_days: self.retired_dkim_keys_days,
            search_fallback: self.search_fallback,
            cross_tenant: self.cross_tenant,
            drain: self.drain,
            clock: self.clock,
        }))
    }
}

/// Problems found so far.
#[derive(Debug, Default)]
struct Problems(Vec<String>);

impl Problems {
    fn add(&mut self, problem: impl Into<String>) {
        self.0.push(problem.into());
    }

    fn note<T, E>(&mut self, result: std::result::Result<T, E>, text: impl FnOnce(&E) -> String) -> Option<T> {
        result.map_err(|error| self.add(text(&error))).ok()
    }

    fn check_bind(&mut self, what: &str, bind: &Bind) {
        if let Bind::Address(address) = bind
            && address.parse::<SocketAddr>().is_err()
        {
            self.add(format!("{what} {address:?} is no address: write ip:port, for example 127.0.0.1:2525"));
        }
    }

    fn check_hooks(&mut self, hooks: &[Binding]) {
        for binding in hooks.iter().filter(|binding| binding.required) {
            let lets_pass = binding.on_failure == OnFailure::Allow || binding.on_open == Some(OnFailure::Allow);
            if lets_pass {
                let name = binding.handler.name();
                self.add(format!(
                    "the hook {name:?} is required, and mail would pass when it fails: use Binding::required"
                ));
            }
        }
        let mut names: Vec<&str> = hooks.iter().map(|binding| binding.handler.name()).collect();
        names.sort_unstable();
        for pair in names.windows(2).filter(|pair| pair[0] == pair[1]) {
            self.add(format!("there are two hooks named {:?}: names must be unique", pair[0]));
        }
    }
}

fn self_signed(hostname: &Domain) -> Result<CertificatePair> {
    tracing::warn!(
        component = "tls",
        hostname = hostname.as_str(),
        "no certificate is configured, using a self-signed one made now"
    );
    crate::tls::self_signed(hostname)
}

fn system_resolver() -> Result<Arc<dyn Resolver>, String> {
    let made = DnsResolver::system();
    made.map(|resolver| Arc::new(resolver) as Arc<dyn Resolver>).map_err(|error| error.to_string())
}

fn authenticator(settings: Authentication, resolver: Arc<dyn Resolver>) -> Authenticator {
    let mut limits = VerifierSettings::default();
    limits.timeout = settings.timeout;
    Authenticator { verifier: Verifier::new(resolver, limits), settings }
}

fn smtp_config(hostname: &Domain, tls: Arc<rustls::ServerConfig>, limits: Limits) -> ServerConfig {
    let mut config = ServerConfig::new(hostname.clone());
    config.tls = Some(tls);
    config.max_message_size = limits.max_message_size;
    config.max_recipients = limits.max_recipients;
    config.admission = limits.admission;
    config.max_messages = limits.max_messages;
    config.max_commands = limits.max_commands;
    config.max_errors = limits.max_errors;
    config.idle_timeout = limits.idle_timeout;
    config.handshake_timeout = limits.handshake_timeout;
    config.data_deadline = limits.data_deadline;
    config.greeting_delay = limits.greeting_delay;
    config.early_talkers = limits.early_talkers;
    config
}

/// Delivers mail to other servers as the settings say.
fn client(
    hostname: &Domain,
    settings: &DeliverySettings,
    roots: &Roots,
    (resolver, dane): (Arc<dyn Resolver>, Option<Arc<dyn ValidatingResolver>>),
) -> Client {
    let mut config = ClientConfig::new(hostname.clone());
    config.connect_timeout = settings.connect_timeout;
    config.allow_loopback = settings.allow_loopback;
    config.source_addresses.clone_from(&settings.source_addresses);
    config.max_connections_per_host = settings.max_connections_per_host;
    config.idle_time = settings.idle_time;
    config.roots = roots.clone();
    let mut client = Client::new(config, resolver.clone());
    if let Some(dane) = dane {
        client = client.with_dane(dane);
    }
    if settings.mta_sts { client.with_mta_sts(Arc::new(HttpsPolicies::new(settings, roots, resolver))) } else { client }
}

/// Whose certificates are believed.
pub(crate) fn roots(settings: &DeliverySettings) -> Result<Roots, TlsError> {
    let built_in = Roots::built_in();
    settings.tls_roots.as_ref().map_or(Ok(built_in.clone()), |pem| built_in.with_pem(pem))
}
