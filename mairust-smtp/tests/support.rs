//! A handler with fixed rules, and a server on a free port.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use mairust_core::{Domain, EnhancedCode, ForwardPath, Rejection, Reply, ReversePath, ScramVerifier, Secret};
use mairust_smtp::server::{
    Credentials, Grant, Identity, ListenerConfig, MailOptions, Observer, Peer, RcptOptions, Received, Refusal, Server,
    ServerConfig, Service, SessionHandler, SessionInfo, bind,
};
use mairust_smtp::tls::{CertificatePair, Certificates};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// The longest that a test waits for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A message that was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Taken {
    pub(crate) sender: String,
    pub(crate) recipients: Vec<String>,
    pub(crate) body: Vec<u8>,
    pub(crate) in_memory: bool,
    pub(crate) user: Option<String>,
    pub(crate) tls: bool,
    pub(crate) require_tls: bool,
}

/// The rules, and what was taken under them.
#[derive(Debug, Default)]
pub(crate) struct Script {
    pub(crate) messages: Mutex<Vec<Taken>>,
    pub(crate) recipients_asked: Mutex<Vec<String>>,
    pub(crate) scram_failures: Mutex<Vec<String>>,
    pub(crate) peers: Mutex<Vec<SocketAddr>>,
}

impl Script {
    pub(crate) fn taken(&self) -> Vec<Taken> {
        self.messages.lock().unwrap().clone()
    }
}

pub(crate) fn sender_rule(from: &ReversePath) -> Result<(), Rejection> {
    match from.address().map(|address| address.local().as_str()) {
        Some("banned") => Err(Rejection::new(550, EnhancedCode(5, 7, 1), "banned")),
        _ => Ok(()),
    }
}

pub(crate) fn recipient_rule(to: &ForwardPath) -> Result<(), Rejection> {
    let ForwardPath::Address(address) = to else { return Ok(()) };
    match address.local().as_str() {
        "nobody" => Err(Rejection::new(550, EnhancedCode(5, 1, 1), "no such user")),
        "later" => Err(Rejection::new(451, EnhancedCode(4, 3, 0), "later")),
        "panic" => panic!("asked for"),
        _ => Ok(()),
    }
}

pub(crate) fn login_rule(credentials: &Credentials) -> Result<(), Rejection> {
    if (credentials.user.as_str(), credentials.password.expose().as_str()) == ("ann", "secret") {
        return Ok(());
    }
    Err(Rejection::new(535, EnhancedCode(5, 7, 8), "Authentication failed"))
}

pub(crate) fn message_rule(body: &[u8]) -> Result<Reply, Rejection> {
    if body.starts_with(b"REFUSE") {
        return Err(Rejection::new(554, EnhancedCode(5, 7, 1), "refused"));
    }
    Ok(Reply::new(250, EnhancedCode(2, 0, 0), "taken"))
}

/// What becomes of an accepted message for one of its recipients, under LMTP.
pub(crate) fn reply_for(recipient: &str, reply: &Reply) -> Reply {
    if recipient.starts_with("<full@") {
        return Reply::new(452, EnhancedCode(4, 2, 2), "mailbox full");
    }
    reply.clone()
}

/// The verifier of "secret" for ann, of nothing for anybody else.
pub(crate) fn verifier(user: &str) -> ScramVerifier {
    match user {
        "ann" => ScramVerifier::derive(&Secret::new("secret".to_owned()), [5; 16]),
        other => ScramVerifier::for_nobody(other, &[9; 32]),
    }
}

#[async_trait]
impl SessionHandler for Script {
    async fn connect(&self, peer: &Peer) -> Result<(), Rejection> {
        self.peers.lock().unwrap().push(peer.address);
        Ok(())
    }

    fn offers_scram(&self) -> bool {
        true
    }

    async fn scram_verifier(&self, _: &Peer, user: &str) -> Result<ScramVerifier, Rejection> {
        Ok(verifier(user))
    }

    async fn scram_login(&self, _: &Peer, user: &str) -> Result<Identity, Rejection> {
        Ok(Identity { name: user.to_owned(), grant: Grant::none() })
    }

    async fn scram_failed(&self, _: &Peer, user: &str) {
        self.scram_failures.lock().unwrap().push(user.to_owned());
    }

    async fn login(&self, _peer: &Peer, credentials: Credentials) -> Result<Identity, Rejection> {
        login_rule(&credentials)?;
        Ok(Identity { name: credentials.user, grant: Grant::none() })
    }

    async fn mail(&self, _: &SessionInfo, from: &ReversePath, _: &MailOptions) -> Result<(), Rejection> {
        sender_rule(from)
    }

    async fn recipient(&self, _: &SessionInfo, to: &ForwardPath, _: &RcptOptions) -> Result<Grant, Rejection> {
        self.recipients_asked.lock().unwrap().push(to.to_string());
        recipient_rule(to)?;
        Ok(Grant::new(to.to_string()))
    }

    async fn message(&self, session: &SessionInfo, message: Received) -> Result<Reply, Rejection> {
        let body = message.body.read_all().unwrap().to_vec();
        let reply = message_rule(&body)?;
        for recipient in &message.recipients {
            assert_eq!(recipient.grant.get::<String>(), Some(&recipient.path.to_string()), "grants stay in place");
        }
        self.messages.lock().unwrap().push(Taken {
            sender: message.sender.to_string(),
            recipients: message.recipients.iter().map(|recipient| recipient.path.to_string()).collect(),
            in_memory: message.body.in_memory().is_some(),
            body,
            user: session.identity.as_ref().map(|identity| identity.name.clone()),
            tls: session.origin.tls.is_some(),
            require_tls: message.options.require_tls,
        });
        Ok(reply)
    }

    async fn message_for_each(&self, session: &SessionInfo, message: Received) -> Vec<Result<Reply, Rejection>> {
        let recipients: Vec<String> = message.recipients.iter().map(|recipient| recipient.path.to_string()).collect();
        let answer = self.message(session, message).await;
        recipients.iter().map(|to| answer.clone().map(|reply| reply_for(to, &reply))).collect()
    }
}

/// Notes all that is observed.
#[derive(Debug, Default)]
pub(crate) struct Notes(Mutex<Vec<String>>, AtomicBool);

impl Notes {
    pub(crate) fn has(&self, note: &str) -> bool {
        self.0.lock().unwrap().iter().any(|known| known == note)
    }

    /// The next reply ends in a panic.
    pub(crate) fn panic_next(&self) {
        self.1.store(true, Ordering::SeqCst);
    }

    fn add(&self, note: String) {
        self.0.lock().unwrap().push(note);
    }
}

impl Observer for Notes {
    fn session_opened(&self, service: Service) {
        self.add(format!("opened {service:?}"));
    }

    fn session_closed(&self, service: Service) {
        self.add(format!("closed {service:?}"));
    }

    fn session_refused(&self, service: Service, refusal: Refusal) {
        self.add(format!("refused {service:?} {}", refusal.as_str()));
    }

    fn early_talker(&self, service: Service) {
        self.add(format!("early talker {service:?}"));
    }

    fn command(&self, _: Service, verb: &'static str) {
        self.add(verb.to_owned());
    }

    fn reply(&self, _: Service, code: u16) {
        assert!(!self.1.swap(false, Ordering::SeqCst), "asked for");
        self.add(code.to_string());
    }

    fn message(&self, _: Service, code: u16, _: Duration) {
        self.add(format!("message {code}"));
    }
}

/// A server that runs until it is stopped.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) script: Arc<Script>,
    pub(crate) notes: Arc<Notes>,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<std::io::Result<()>>,
}

impl Running {
    pub(crate) fn start(config: ServerConfig, listener: impl Into<ListenerConfig>) -> Self {
        let (script, notes) = (Arc::new(Script::default()), Arc::new(Notes::default()));
        let server = Server::new(config, script.clone()).with_observer(notes.clone());
        Self::listen(&server, listener.into(), script, notes)
    }

    /// One server that listens at several places.
    pub(crate) fn start_several(config: ServerConfig, services: &[Service]) -> Vec<Self> {
        let (script, notes) = (Arc::new(Script::default()), Arc::new(Notes::default()));
        let server = Server::new(config, script.clone()).with_observer(notes.clone());
        let listen = |service: &Service| Self::listen(&server, (*service).into(), script.clone(), notes.clone());
        services.iter().map(listen).collect()
    }

    fn listen(server: &Server, config: ListenerConfig, script: Arc<Script>, notes: Arc<Notes>) -> Self {
        let listener = bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let server = server.clone();
        let task = tokio::spawn(async move {
            let stop = async {
                let _ = stopped.await;
            };
            server.run(listener, config, stop).await
        });
        Self { address, script, notes, stop: Some(stop), task }
    }

    /// Gives the stop signal.
    pub(crate) fn stop(&mut self) {
        self.stop.take().unwrap().send(()).unwrap();
    }

    /// Waits until all sessions have ended.
    pub(crate) async fn ended(self) {
        tokio::time::timeout(PATIENCE, self.task).await.unwrap().unwrap().unwrap();
    }
}

pub(crate) fn config() -> ServerConfig {
    let mut config = ServerConfig::new(Domain::parse("mx.test").unwrap());
    config.login_delay = Duration::ZERO;
    config
}

/// TLS with a certificate made for this test.
pub(crate) fn with_tls(mut config: ServerConfig) -> ServerConfig {
    config.tls = Some(Certificates::new(&[pair("mx.test")]).unwrap().server_config());
    config
}

/// A self-signed certificate for this name.
pub(crate) fn pair(name: &str) -> CertificatePair {
    let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    let key = Secret::new(made.signing_key.serialize_pem().into_bytes());
    CertificatePair { certificate: made.cert.pem().into_bytes(), key }
}

/// An authority that makes certificates.
pub(crate) struct Authority {
    /// Its own certificate, in PEM.
    pub(crate) certificate: String,
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap().pem();
        Self { certificate, issuer: rcgen::Issuer::new(params, key) }
    }

    /// A certificate for this name.
    pub(crate) fn pair(&self, name: &str) -> CertificatePair {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new([name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let secret = Secret::new(key.serialize_pem().into_bytes());
        CertificatePair { certificate: certificate.pem().into_bytes(), key: secret }
    }
}
