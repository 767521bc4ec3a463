//! Storage in a database, with bodies beside it.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use mairust_core::{Clock, Secret, SystemClock};

use super::changes::{Changes, Listener};
use super::driver::{Database, failed};
use super::finish::Finishing;
use super::lifecycle::SqlLifecycle;
use super::migrations::MigrationStatus;
use super::search::{FtsIndex, Search};
use super::spool::{Mover, Spool, SpoolSettings, SpoolStatistics};
use super::{message::SqlMessages, postgres, sqlite};
use crate::allowance::Allowances;
use crate::audit::AuditLog;
use crate::backend::StorageBackend;
use crate::body::{BodyStore, EncryptedBodies, FsBodies};
use crate::delivery::Deliveries;
use crate::directory::Directory;
use crate::disk::{Disk, DiskFloor};
use crate::durability::Durability;
use crate::error::{StoreError, StoreErrorKind};
use crate::event::EventLog;
use crate::group_commit::GroupCommit;
use crate::hook::HookStore;
use crate::lifecycle::Lifecycle;
use crate::message::MessageStore;
use crate::owner::Owner;
use crate::queue::QueueBackend;
use crate::queue::turns::Turns;
use crate::registry::{INSTALLATION_KEY, Registry, RegistryExt};
use crate::seal::{Algorithm, LocalKeys, Sealer};
use crate::search::{SearchIndex, SearchOutbox};
use crate::suppression::Suppressions;
use crate::webhook::Webhooks;

/// A [`StorageBackend`] over SQLite or PostgreSQL, with bodies as files or in any other
/// [`BodyStore`].
#[derive(Debug)]
pub struct SqlStorage {
    messages: GroupCommit<SqlMessages>,
    lifecycle: SqlLifecycle,
    pub(super) parts: Arc<Parts>,
    /// Where bodies are files.
    files: Option<Arc<FsBodies>>,
    /// These end with the storage.
    listener: Option<Listener>,
    _mover: Option<Mover>,
    _checkpointer: Option<sqlite::Checkpointer>,
    _watcher: Option<sqlite::Watcher>,
}

/// How [`SqlStorage`] is to be opened.
#[derive(Debug)]
#[must_use = "nothing happens before `open`"]
pub struct SqlStorageBuilder {
    place: Place,
    bodies: Bodies,
    clock: Arc<dyn Clock>,
    durability: Durability,
    deadline: Duration,
    /// How long a statement may take, if not the deadline.
    patience: Option<Duration>,
    spool: SpoolSettings,
    disk: DiskFloor,
    background: bool,
    search: bool,
    encryption: Option<BodyEncryption>,
}

/// How bodies are encrypted: under a key that is kept as a sealed secret beside the rows.
#[derive(Debug, Clone)]
pub struct BodyEncryption {
    /// Opens that key, and seals it when it is made.
    pub sealer: Sealer,
    /// With what new bodies are encrypted. With `None` they are not, and those that were before can
    /// still be read.
    pub algorithm: Option<Algorithm>,
}

/// Where the rows are.
#[derive(Debug)]
enum Place {
    Postgres { url: Secret<String>, connections: u32 },
    Sqlite(PathBuf),
}

/// Where the bodies are.
#[derive(Debug)]
enum Bodies {
    Files(PathBuf),
    Given(Arc<dyn BodyStore>),
    Nowhere,
}

/// What was done so far, for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct SqlStatistics {
    /// Number of groups of entries that were committed together.
    pub groups: u64,
    /// Number of entries in them.
    pub entries: u64,
    /// Bodies that wait in the database.
    pub spool: SpoolStatistics,
    /// Number of fsyncs for bodies in files.
    pub body_fsyncs: u64,
}

/// What the facets share.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) database: Database,
    pub(super) bodies: Arc<dyn BodyStore>,
    /// The same objects as they are kept, encrypted or not.
    pub(super) stored: Arc<dyn BodyStore>,
    pub(super) spool: Spool,
    pub(super) disk: Disk,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) changes: Arc<Changes>,
    pub(super) search: Search,
    /// Who had a job taken last by this process.
    pub(super) turns: Mutex<Turns>,
    pub(super) finishing: Finishing,
}

/// Connections to PostgreSQL, unless told otherwise.
const CONNECTIONS: u32 = 20;
/// How long a call waits for the database, unless told otherwise.
const DEADLINE: Duration = Duration::from_secs(10);

impl SqlStorage {
    /// Storage whose rows are in the SQLite file `path`, made if it is not there.
    pub fn sqlite(path: impl Into<PathBuf>) -> SqlStorageBuilder {
        SqlStorageBuilder::new(Place::Sqlite(path.into()))
    }

    /// Storage whose rows are in PostgreSQL 14 or newer: `postgres://user:password@host/database`.
    /// The role owns what it makes there; it should be no superuser, for whom row-level security
    /// does not hold.
    pub fn postgres(url: impl Into<String>) -> SqlStorageBuilder {
        SqlStorageBuilder::new(Place::Postgres { url: Secret::new(url.into()), connections: CONNECTIONS })
    }

    /// What was done so far.
    pub fn statistics(&self) -> SqlStatistics {
        SqlStatistics {
            groups: self.messages.groups(),
            entries: self.messages.entries(),
            spool: self.parts.spool.statistics(),
            body_fsyncs: self.files.as_ref().map_or(0, |files| files.fsyncs()),
        }
    }

    /// Moves all bodies that wait in the database to the body store, without waiting for the work in
    /// the background.
    ///
    /// # Errors
    /// When the database or the body store does not answer, or has another body in the place of one.
    pub async fn move_bodies(&self) -> Result<(), StoreError> {
        self.parts.move_all().await
    }

    /// Which migrations there are.
    ///
    /// # Errors
    /// When the database can't be read.
    pub async fn migration_status(&self) -> Result<MigrationStatus, StoreError> {
        self.parts.database.migration_status().await
    }

    /// Waits for what is under way and closes the database. Calls that come later fail with
    /// `Unavailable`. Not needed for durability.
    pub async fn close(&self) {
        // It has a connection, which closing would wait for.
        self.listener.iter().for_each(Listener::stop);
        if let Search::Sqlite(index) = &self.parts.search {
            index.close().await;
        }
        self.parts.database.close().await;
    }
}

impl SqlStorageBuilder {
    fn new(place: Place) -> Self {
        let (bodies, clock) = (Bodies::Nowhere, Arc::new(SystemClock));
        let (durability, spool) = (Durability::default(), SpoolSettings::default());
        let (disk, patience, search, encryption) = (DiskFloor::default(), None, false, None);
        let (deadline, background) = (DEADLINE, true);
        Self { place, bodies, clock, durability, deadline, patience, spool, disk, background, search, encryption }
    }

    /// Keeps bodies as files in this directory, made if it is not there.
    pub fn fs_bodies(mut self, directory: impl Into<PathBuf>) -> Self {
        self.bodies = Bodies::Files(directory.into());
        self
    }

    /// Keeps bodies in this store.
    pub fn bodies(mut self, bodies: Arc<dyn BodyStore>) -> Self {
        self.bodies = Bodies::Given(bodies);
        self
    }

    /// Encrypts bodies before they are given to the store that keeps them; they are not spooled in
    /// the database then, where they would lie as they are. Without this, bodies that are encrypted
    /// already can't be read.
    pub fn encryption(mut self, encryption: BodyEncryption) -> Self {
        self.encryption = Some(encryption);
        self
    }

    /// Takes times of creation from this clock instead of the system's.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// What survives what. The default survives a loss of power.
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// How long a call waits for the database before it fails with `Unavailable`. Default 10 s.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Lets statements take so long instead of the deadline: for tools that look at all there is.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = Some(patience);
        self
    }

    /// How many connections there may be to PostgreSQL, at least 4. Default 20. SQLite has one
    /// writer and four readers.
    pub fn max_connections(mut self, count: u32) -> Self {
        if let Place::Postgres { connections, .. } = &mut self.place {
            *connections = count;
        }
        self
    }

    /// How bodies are spooled in the database before they come to the body store.
    pub fn spool(mut self, settings: SpoolSettings) -> Self {
        self.spool = settings;
        self
    }

    /// How much room there must be on the disk for more mail. Default: whatever there is.
    pub fn disk_floor(mut self, floor: DiskFloor) -> Self {
        self.disk = floor;
        self
    }

    /// Leaves all work in the background to another process: for tools that open the storage of a
    /// running server for a moment.
    pub fn without_background_work(mut self) -> Self {
        self.background = false;
        self
    }

    /// Keeps a search index: for SQLite in a file beside the database, for PostgreSQL in the database.
    /// Somebody has to feed it, see [`feed`](crate::search::feed); the server of `mairust` does. Without
    /// this, searches fail with `Unavailable`. Storage that had none gets all its messages indexed.
    pub fn with_search(mut self) -> Self {
        self.search = true;
        self
    }

    /// Opens the storage; applies the migrations that are missing.
    ///
    /// # Errors
    /// `Invalid` if no place for bodies is named or the database was made by a newer version;
    /// `NotFound` if the key of encrypted bodies is sealed under a master key that is not there;
    /// otherwise when the database does not answer or a directory can't be opened.
    pub async fn open(self) -> Result<SqlStorage, StoreError> {
        let (bodies, files) = self.open_bodies().await?;
        let patience = self.patience.unwrap_or(self.deadline);
        let (database, listening) = match &self.place {
            Place::Sqlite(path) => {
                let opened = sqlite::open(path, self.durability, self.deadline).await?;
                (opened.with_deadline(patience), None)
            }
            Place::Postgres { url, connections } => {
                let times = postgres::Times { connect: self.deadline, statement: patience };
                let opened = postgres::open(url, *connections, self.durability, times).await?;
                (opened.database, Some(opened.listening))
            }
        };
        let changes = Arc::new(Changes::new());
        let listener = listening.map(|listening| Listener::start(listening, Arc::clone(&changes)));
        let spool = Spool::new(self.spool_settings());
        let disk = Disk::new(self.disk, self.folders());
        let search = match &self.place {
            _ if !self.search => Search::Off,
            Place::Postgres { .. } => Search::Postgres,
            Place::Sqlite(path) => Search::Sqlite(FtsIndex::new(path, self.durability, self.deadline)),
        };
        let mut parts = Parts {
            database,
            stored: Arc::clone(&bodies),
            bodies,
            spool,
            disk,
            clock: self.clock,
            changes,
            search,
            turns: Mutex::default(),
            finishing: Finishing::default(),
        };
        if let Some(encryption) = &self.encryption {
            parts.encrypt_bodies(encryption).await?;
        }
        let parts = Arc::new(parts);
        parts.recount().await?;
        parts.open_search().await?;
        let mover = self.background.then(|| Mover::start(&parts));
        let checkpointer = match &self.place {
            Place::Sqlite(path) if self.background => Some(sqlite::Checkpointer::start(path, self.durability).await?),
            _ => None,
        };
        let watcher = match &self.place {
            Place::Sqlite(path) if self.background => {
                Some(sqlite::Watcher::start(path, Arc::clone(&parts.changes)).await?)
            }
            _ => None,
        };
        let messages = GroupCommit::new(SqlMessages::new(Arc::clone(&parts)));
        let lifecycle = SqlLifecycle::new(Arc::clone(&parts));
        Ok(SqlStorage {
            messages,
            lifecycle,
            parts,
            files,
            listener,
            _mover: mover,
            _checkpointer: checkpointer,
            _watcher: watcher,
        })
    }

    /// Applies the migrations that are missing, without opening the storage. Running it again
    /// changes nothing.
    ///
    /// # Errors
    /// As for [`open`](Self::open).
    pub async fn migrate(&self) -> Result<MigrationStatus, StoreError> {
        match &self.place {
            Place::Sqlite(path) => sqlite::migrate(path).await,
            Place::Postgres { url, .. } => postgres::migrate(url, self.deadline).await,
        }
    }

    /// Which migrations there are, without changing anything or making a file.
    ///
    /// # Errors
    /// When the database can't be read.
    pub async fn migration_status(&self) -> Result<MigrationStatus, StoreError> {
        match &self.place {
            Place::Sqlite(path) => sqlite::migration_status(path).await,
            Place::Postgres { url, .. } => postgres::migration_status(url, self.deadline).await,
        }
    }

    /// What is to be encrypted does not lie in the database as it is.
    fn spool_settings(&self) -> SpoolSettings {
        let is_encrypted = self.encryption.as_ref().is_some_and(|encryption| encryption.algorithm.is_some());
        let max_body = if is_encrypted { 0 } else { self.spool.max_body };
        SpoolSettings { max_body, ..self.spool.clone() }
    }

    /// The folders that what is kept comes to lie in.
    fn folders(&self) -> Vec<PathBuf> {
        let database = match &self.place {
            // The folder of a name without one is the working folder.
            Place::Sqlite(path) => path.parent().map(|folder| Path::new(".").join(folder)),
            Place::Postgres { .. } => None,
        };
        let bodies = match &self.bodies {
            Bodies::Files(folder) => Some(folder.clone()),
            Bodies::Given(_) | Bodies::Nowhere => None,
        };
        database.into_iter().chain(bodies).collect()
    }

    async fn open_bodies(&self) -> Result<(Arc<dyn BodyStore>, Option<Arc<FsBodies>>), StoreError> {
        let directory = match &self.bodies {
            Bodies::Files(directory) => directory.clone(),
            Bodies::Given(bodies) => return Ok((Arc::clone(bodies), None)),
            Bodies::Nowhere => {
                return Err(StoreError::new(StoreErrorKind::Invalid, "open storage", "no place for bodies is named"));
            }
        };
        let sync = self.durability.survives_power_loss();
        let opened = tokio::task::spawn_blocking(move || FsBodies::open_with(directory, sync)).await;
        let files = opened.map_err(|error| {
            StoreError::new(StoreErrorKind::Unavailable, "open storage", "the work was interrupted").with_source(error)
        })??;
        let files = Arc::new(files);
        Ok((Arc::clone(&files) as Arc<dyn BodyStore>, Some(files)))
    }
}

impl Parts {
    async fn encrypt_bodies(&mut self, encryption: &BodyEncryption) -> Result<(), StoreError> {
        const KEY: &str = "bodies";
        let is_new = self.secret(Owner::Installation, INSTALLATION_KEY, KEY).await?.is_none();
        if is_new && encryption.algorithm.is_none() {
            return Ok(());
        }
        let key = self.installation_key(&encryption.sealer, KEY).await?;
        let bodies = EncryptedBodies::new(Arc::clone(&self.bodies), Arc::new(LocalKeys::new(&key)));
        self.bodies = Arc::new(bodies.with_algorithm(encryption.algorithm));
        Ok(())
    }
}

#[async_trait]
impl StorageBackend for SqlStorage {
    fn messages(&self) -> &dyn MessageStore {
        &self.messages
    }

    fn lifecycle(&self) -> &dyn Lifecycle {
        &self.lifecycle
    }

    fn directory(&self) -> &dyn Directory {
        &*self.parts
    }

    fn queue(&self) -> &dyn QueueBackend {
        &*self.parts
    }

    fn deliveries(&self) -> &dyn Deliveries {
        &*self.parts
    }

    fn allowances(&self) -> &dyn Allowances {
        &*self.parts
    }

    fn suppressions(&self) -> &dyn Suppressions {
        &*self.parts
    }

    fn events(&self) -> &dyn EventLog {
        &*self.parts
    }

    fn webhooks(&self) -> &dyn Webhooks {
        &*self.parts
    }

    fn hooks(&self) -> &dyn HookStore {
        &*self.parts
    }

    fn registry(&self) -> &dyn Registry {
        &*self.parts
    }

    fn audit(&self) -> &dyn AuditLog {
        &*self.parts
    }

    fn search_index(&self) -> &dyn SearchIndex {
        &*self.parts
    }

    fn search_outbox(&self) -> &dyn SearchOutbox {
        &*self.parts
    }

    fn spool(&self) -> SpoolStatistics {
        self.parts.spool.statistics()
    }

    async fn health(&self) -> Vec<(&'static str, Result<(), StoreError>)> {
        let database = self.parts.database.check().await.map_err(failed("check database", "read"));
        let mut health = vec![("database", database), ("bodies", self.parts.bodies.check().await)];
        if self.parts.disk.is_watched() {
            health.push(("disk", self.parts.disk.check().await));
        }
        health
    }
}
