//! A whole server among fakes.

use std::collections::HashMap;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use mairust_core::{Body, Clock, ManualClock, Reply, Timestamp};
use mairust_smtp::server::Service;
use mairust_smtp::tls::opportunistic_client_config;
use mairust_store::{
    DirectoryExt, Folder, MemoryStorage, MessagePosition, MessageQuery, MessageRow, Mishaps, SqlStorage,
    StorageBackend, UnreliableStorage, User,
};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::client::{self, Letter};
use super::{Dns, Fleet};
use crate::builder::ServerBuilder;
use crate::error::{Error, Result};
use crate::server::Addresses;
use crate::work::DeliverySettings;

/// Where the clock of a server stands in the beginning: 2026-01-01T00:00:00Z.
const START: Timestamp = Timestamp::from_unix(1_767_225_600);
/// How long is waited for something before it is a failure.
const PATIENCE: Duration = Duration::from_secs(30);
/// Messages that are read at a time.
const PAGE: u32 = 100;

/// A whole server on loopback ports, whose time, DNS and storage are in the hands of a test. It ends when it is
/// dropped, and what it kept is gone.
///
/// ```
/// use std::time::Duration;
/// use mairust::testkit::{Server, Sink, Step};
///
/// # #[tokio::main]
/// # async fn main() -> mairust::Result<()> {
/// let server = Server::builder().user("alice@here.example", "correct horse").start().await?;
/// let remote = server.fleet().domain("remote.example", Sink::builder().on(Step::Connect, "421 busy")).await?;
///
/// let message = "From: alice@here.example\r\nSubject: hello\r\n\r\nBob\r\n";
/// server.submit("alice@here.example", &["bob@remote.example"], message).await?;
/// server.pass(Duration::from_secs(6 * 86_400)).await?;
///
/// assert!(remote.sessions().len() > 30, "five days of retries");
/// assert!(server.inbox("alice@here.example").await?[0].contains("421 busy"), "and the bounce");
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Server {
    /// As it is, without mishaps.
    storage: Arc<dyn StorageBackend>,
    mishaps: Mishaps,
    clock: Arc<ManualClock>,
    dns: Dns,
    fleet: Fleet,
    users: HashMap<String, (User, String)>,
    addresses: Addresses,
    running: Running,
    _folder: Option<tempfile::TempDir>,
}

/// Says what a [`Server`] is made of.
#[must_use = "a server does nothing until it is started"]
pub struct ServerSetup {
    hostname: String,
    users: Vec<(String, String)>,
    kind: Kind,
    clock: Arc<ManualClock>,
    delivery: DeliverySettings,
    adjust: Vec<Box<dyn FnOnce(ServerBuilder) -> ServerBuilder + Send>>,
}

/// What keeps the mail.
enum Kind {
    Given(Arc<dyn StorageBackend>),
    Memory,
    Sqlite,
}

/// A message in a folder.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct StoredMessage {
    /// What is known of it.
    pub row: MessageRow,
    /// The message, with the fields that the server put in front.
    pub raw: Vec<u8>,
}

#[derive(Debug)]
struct Running {
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<Result<()>>,
}

impl Server {
    /// Begins to put a server together: `mx.here.example`, with its storage in memory, without users.
    pub fn builder() -> ServerSetup {
        ServerSetup {
            hostname: "mx.here.example".to_owned(),
            users: Vec::new(),
            kind: Kind::Memory,
            clock: Arc::new(ManualClock::at(START)),
            delivery: delivery_settings(),
            adjust: Vec::new(),
        }
    }

    /// The clock of the server. To let time pass, use [`pass`](Self::pass): moved by hand while the server works,
    /// it may go beyond the end of what the server has leased.
    pub fn clock(&self) -> &Arc<ManualClock> {
        &self.clock
    }

    /// The DNS that the server asks.
    pub fn dns(&self) -> &Dns {
        &self.dns
    }

    /// The mail exchangers of the world outside.
    pub fn fleet(&self) -> &Fleet {
        &self.fleet
    }

    /// What goes wrong with calls of the server to its storage.
    pub fn mishaps(&self) -> &Mishaps {
        &self.mishaps
    }

    /// The storage, without mishaps.
    pub fn storage(&self) -> &Arc<dyn StorageBackend> {
        &self.storage
    }

    /// Where the server listens: as [`Service::Mx`], as [`Service::Submissions`], and wherever the builder was told.
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// Sends a message as one of the users, by SMTP, TLS and AUTH. The reply that decided for each recipient: that to
    /// the message, or to what was refused before.
    ///
    /// # Errors
    /// When the server does not speak SMTP to its end.
    ///
    /// # Panics
    /// When there is no such user.
    pub async fn submit(&self, user: &str, to: &[&str], message: impl AsRef<[u8]>) -> Result<Vec<Reply>> {
        self.send(user, Letter { sender: user, recipients: to, message: message.as_ref(), parameters: "" }).await
    }

    /// Sends a message as [`submit`](Self::submit) does, to be held for so long (FUTURERELEASE, RFC 4865); whole
    /// seconds count.
    ///
    /// # Errors
    /// As there.
    ///
    /// # Panics
    /// As there.
    pub async fn submit_for_later(
        &self,
        user: &str,
        to: &[&str],
        message: impl AsRef<[u8]>,
        hold: Duration,
    ) -> Result<Vec<Reply>> {
        let parameters = &format!(" HOLDFOR={}", hold.as_secs());
        self.send(user, Letter { sender: user, recipients: to, message: message.as_ref(), parameters }).await
    }

    async fn send(&self, user: &str, letter: Letter<'_>) -> Result<Vec<Reply>> {
        let (_, password) = self.known(user);
        let server = self.listener(Service::Submissions)?;
        let tls = opportunistic_client_config();
        let sent = Box::pin(client::submit(server, tls, (user, password), letter)).await;
        sent.map_err(|error| Error::new("a message could not be submitted").with_source(error))
    }

    /// Brings a message to the server as another mail server does; `from` may be empty. The reply that decided for
    /// each recipient: that to the message, or to what was refused before.
    ///
    /// # Errors
    /// When the server does not speak SMTP to its end.
    pub async fn receive(&self, from: &str, to: &[&str], message: impl AsRef<[u8]>) -> Result<Vec<Reply>> {
        let letter = Letter { sender: from, recipients: to, message: message.as_ref(), parameters: "" };
        let sent = Box::pin(client::relay(self.listener(Service::Mx)?, letter)).await;
        sent.map_err(|error| Error::new("a message could not be brought").with_source(error))
    }

    /// The messages in the INBOX of a user, in the order in which they came.
    ///
    /// # Errors
    /// When the storage does not answer.
    ///
    /// # Panics
    /// When there is no such user.
    pub async fn inbox(&self, user: &str) -> Result<Vec<StoredMessage>> {
        self.folder(user, Folder::Inbox).await
    }

    /// The messages in a folder of a user, in the order in which they came.
    ///
    /// # Errors
    /// When the storage does not answer.
    ///
    /// # Panics
    /// When there is no such user.
    pub async fn folder(&self, user: &str, folder: Folder) -> Result<Vec<StoredMessage>> {
        let (user, _) = self.known(user);
        let (mailbox, folder, limit) = (Some(user.mailbox), Some(folder), PAGE);
        let mut query = MessageQuery { mailbox, folder, limit, ..MessageQuery::default() };
        let mut found = Vec::new();
        loop {
            let rows = self.storage.messages().list(user.tenant, &query).await?.items;
            let is_last = rows.len() < PAGE as usize;
            query.after = rows.last().map(|row| MessagePosition { received_at: row.received_at, id: row.id });
            for row in rows {
                let raw = read(self.storage.messages().body(user.tenant, row.id).await?).await?;
                found.push(StoredMessage { row, raw });
            }
            if is_last {
                // Not by time: that may stand still.
                found.sort_by_key(|message| message.row.uid);
                return Ok(found);
            }
        }
    }

    /// Waits until the server has done all that is to be done now: deliveries, hooks, notices, webhooks.
    ///
    /// # Errors
    /// When it takes longer than 30 seconds of real time.
    pub async fn settled(&self) -> Result<()> {
        let idle = || async {
            let told = self.storage.webhooks().behind(1).await.is_ok_and(|behind| behind.is_empty());
            let stats = self.storage.queue().stats(self.clock.now()).await;
            told && stats.is_ok_and(|kinds| kinds.values().all(|stats| stats.ready == 0 && stats.leased == 0))
        };
        let waited = tokio::time::timeout(PATIENCE, self.mishaps.until(idle)).await;
        waited.map_err(|_| Error::new("the server still has jobs to do after 30 seconds"))
    }

    /// Lets time pass: the clock is moved to one job after the other, whenever it is due, and each is done before the
    /// clock moves on, so that all happens at its time. Takes no real time but that of the work.
    ///
    /// # Errors
    /// When the storage does not answer, or what is to be done at one moment takes longer than 30 seconds of real time.
    pub async fn pass(&self, time: Duration) -> Result<()> {
        let end = self.clock.now().plus(time);
        loop {
            self.settled().await?;
            match self.storage.queue().next_due().await?.filter(|due| *due <= end) {
                Some(due) => self.clock.advance_to(due),
                None => break,
            }
        }
        self.clock.advance_to(end);
        Ok(())
    }

    /// Stops the server as a signal does, and waits for its end. Unlike after a drop, what was begun is ended.
    ///
    /// # Errors
    /// When a part of it had failed.
    pub async fn stop(mut self) -> Result<()> {
        self.running.stop.take();
        (&mut self.running.task).await.map_err(|error| Error::new("the server ended abnormally").with_source(error))?
    }

    fn known(&self, user: &str) -> (&User, &str) {
        match self.users.get(user) {
            Some((user, password)) => (user, password),
            None => panic!("{user} is no user of this server"),
        }
    }

    fn listener(&self, service: Service) -> Result<SocketAddr> {
        let found = self.addresses.smtp.iter().find(|(other, _)| *other == service);
        found.map(|(_, address)| *address).ok_or_else(|| Error::new(format_args!("nothing listens as {service:?}")))
    }
}

fn delivery_settings() -> DeliverySettings {
    DeliverySettings { allow_loopback: true, ramp_up: 0, idle_time: Duration::ZERO, ..DeliverySettings::default() }
}

async fn read(body: Body) -> Result<Vec<u8>> {
    let read = tokio::task::spawn_blocking(move || body.read_all()).await.map_err(std::io::Error::other).flatten();
    Ok(read.map_err(|error| Error::new("a message can't be read").with_source(error))?.to_vec())
}

impl ServerSetup {
    /// The name of the server.
    pub fn hostname(mut self, hostname: impl Into<String>) -> Self {
        self.hostname = hostname.into();
        self
    }

    /// Adds a user with this address and password; the domain is made with the first of its users.
    pub fn user(mut self, address: impl Into<String>, password: impl Into<String>) -> Self {
        self.users.push((address.into(), password.into()));
        self
    }

    /// Keeps mail in SQLite and files in a temporary folder instead of in memory.
    pub fn sqlite(mut self) -> Self {
        self.kind = Kind::Sqlite;
        self
    }

    /// Keeps mail in this storage instead of in memory. It has to go by the same [`clock`](Self::clock).
    pub fn storage(mut self, storage: impl StorageBackend) -> Self {
        self.kind = Kind::Given(Arc::new(storage));
        self
    }

    /// Goes by this clock instead of one that stands at the beginning of 2026.
    pub fn clock(mut self, clock: Arc<ManualClock>) -> Self {
        self.clock = clock;
        self
    }

    /// Changes how mail is delivered. The defaults are those of a server, but loopback addresses are allowed, there is
    /// no slow start, and each attempt has a connection of its own: both are a matter of real time.
    pub fn delivery(mut self, change: impl FnOnce(&mut DeliverySettings)) -> Self {
        change(&mut self.delivery);
        self
    }

    /// Changes anything else: hooks, scanners, limits. What the kit itself says comes before.
    pub fn with(mut self, adjust: impl FnOnce(ServerBuilder) -> ServerBuilder + Send + 'static) -> Self {
        self.adjust.push(Box::new(adjust));
        self
    }

    /// Starts it. Needs a tokio runtime.
    ///
    /// # Errors
    /// When a part can't be made, with all that the builder finds.
    pub async fn start(self) -> Result<Server> {
        let (clock, dns, mishaps) = (self.clock, Dns::new(), Mishaps::new());
        let fleet = Fleet::new(&dns)?.with_clock(clock.clone());
        let (storage, folder) = self.kind.open(clock.clone()).await?;
        let mut users = HashMap::new();
        for (address, password) in self.users {
            let user = storage.directory().ensure_user(&address, &password).await?;
            users.insert(address, (user, password));
        }
        let mut delivery = self.delivery;
        delivery.mx_port = fleet.port();
        let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).to_string();
        let builder = crate::Server::builder(self.hostname, UnreliableStorage::new(storage.clone(), mishaps.clone()))
            .listen(Service::Mx, any_port.as_str())
            .listen(Service::Submissions, any_port.as_str())
            .resolver(Arc::new(dns.clone()))
            .delivery(delivery)
            .clock(clock.clone());
        let builder = self.adjust.into_iter().fold(builder, |builder, adjust| adjust(builder));
        let server = builder.build()?.start().await?;
        let addresses = server.addresses().clone();
        Ok(Server {
            storage,
            mishaps,
            clock,
            dns,
            fleet,
            users,
            addresses,
            running: Running::start(server),
            _folder: folder,
        })
    }
}

impl fmt::Debug for ServerSetup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerSetup").field("hostname", &self.hostname).finish_non_exhaustive()
    }
}

impl Kind {
    async fn open(self, clock: Arc<ManualClock>) -> Result<(Arc<dyn StorageBackend>, Option<tempfile::TempDir>)> {
        match self {
            Self::Given(storage) => Ok((storage, None)),
            Self::Memory => Ok((Arc::new(MemoryStorage::new(clock)), None)),
            Self::Sqlite => {
                let folder = tempfile::tempdir()
                    .map_err(|error| Error::new("there is no temporary folder").with_source(error))?;
                let path = folder.path();
                let storage = SqlStorage::sqlite(path.join("mail.db")).fs_bodies(path.join("mail")).clock(clock);
                Ok((Arc::new(storage.open().await?), Some(folder)))
            }
        }
    }
}

impl StoredMessage {
    /// Whether a text stands anywhere in it, as it is written there.
    pub fn contains(&self, text: &str) -> bool {
        self.raw.windows(text.len().max(1)).any(|window| window == text.as_bytes()) || text.is_empty()
    }
}

impl Running {
    fn start(server: crate::RunningServer) -> Self {
        let (stop, stopped) = oneshot::channel::<()>();
        let told = async {
            // Dropping the sender is the signal.
            let _ = stopped.await;
        };
        Self { stop: Some(stop), task: tokio::spawn(server.run_until(told)) }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}
