//! Where mail and accounts are kept, and the async runtime that storage and servers share.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use mairust::{ApiKeyToken, Scope, ServerKey};
use mairust_core::{EmailAddress, SystemClock};
use mairust_store::directory::DEFAULT_TENANT;
use mairust_store::{
    DirectoryExt, Folder, MemoryStorage, MessagePosition, MessageQuery, SqlStorage, StorageBackend, StoreError, User,
};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use tokio::runtime::Runtime;

use crate::errors::{configuration, store};

/// Messages that are asked for at a time.
const PAGE: u32 = 200;

/// Threads for files and passwords, as in the program.
const BLOCKING_THREADS: usize = 16;

/// Id, subject, folder, tags, flags and octets of a message.
type Found<'py> = (String, Option<String>, &'static str, Vec<String>, Vec<String>, Bound<'py, PyBytes>);

/// Runs everything that is async. It ends with the process: its threads have nothing of Python.
pub(crate) fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        let built = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .thread_name("mairust")
            .max_blocking_threads(BLOCKING_THREADS)
            .build();
        built.expect("the system has a thread for each processor")
    })
}

/// Storage that is open.
#[pyclass(frozen, module = "mairust._mairust")]
#[derive(Debug)]
pub(crate) struct Storage(Arc<dyn StorageBackend>);

impl Storage {
    /// Clones share it.
    pub(crate) fn backend(&self) -> Arc<dyn StorageBackend> {
        self.0.clone()
    }

    async fn user(&self, address: &str) -> Result<User, StoreError> {
        let missing = || StoreError::new(mairust_store::StoreErrorKind::NotFound, "user", address);
        let parsed = EmailAddress::parse(address).map_err(|_| missing())?;
        let tenant = self.0.directory().tenant_by_name(DEFAULT_TENANT).await?.ok_or_else(missing)?;
        self.0.directory().user_by_address(tenant.id, &parsed).await?.ok_or_else(missing)
    }
}

#[pymethods]
impl Storage {
    /// Opens it: `sqlite` with the path of the database and the folder of the bodies, or `memory`.
    #[new]
    #[pyo3(signature = (kind, database=None, bodies=None))]
    fn new(py: Python<'_>, kind: &str, database: Option<PathBuf>, bodies: Option<PathBuf>) -> PyResult<Self> {
        match (kind, database, bodies) {
            ("memory", None, None) => Ok(Self(Arc::new(MemoryStorage::new(Arc::new(SystemClock))))),
            ("sqlite", Some(database), Some(bodies)) => {
                let open = || runtime().block_on(SqlStorage::sqlite(database).fs_bodies(bodies).open());
                Ok(Self(Arc::new(py.detach(open).map_err(|error| store(&error))?)))
            }
            _ => Err(configuration("storage is sqlite, with a database and a folder of bodies, or memory")),
        }
    }

    /// Has a user with this address and password.
    fn add_user(&self, py: Python<'_>, address: &str, password: &str) -> PyResult<()> {
        let added = py.detach(|| runtime().block_on(self.0.directory().ensure_user(address, password)));
        added.map(drop).map_err(|error| store(&error))
    }

    /// A new key for the REST API, with all rights of the default tenant, made under the key of the server.
    fn create_api_key(&self, py: Python<'_>, server_key: [u8; 32], id: &str, name: &str) -> PyResult<String> {
        let made = py.detach(|| {
            runtime().block_on(async {
                let directory = self.0.directory();
                let tenant = directory.ensure_tenant(DEFAULT_TENANT).await?;
                let (text, key) = ApiKeyToken::issue(&ServerKey::new(server_key), id, name, &Scope::ALL);
                directory.create_api_key(tenant.id, key).await?;
                Ok(text.expose().clone())
            })
        });
        made.map_err(|error: StoreError| store(&error))
    }

    /// The messages of a user in the order in which they came, those of a folder or all.
    fn messages<'py>(&self, py: Python<'py>, address: &str, folder: Option<&str>) -> PyResult<Vec<Found<'py>>> {
        let unknown = || configuration(format_args!("there is no folder {folder:?}"));
        let folder = folder.map(|name| Folder::parse(name).ok_or_else(unknown)).transpose()?;
        let found = py.detach(|| {
            runtime().block_on(async {
                let user = self.user(address).await?;
                let (mailbox, limit) = (Some(user.mailbox), PAGE);
                let mut query = MessageQuery { mailbox, folder, limit, ..MessageQuery::default() };
                let mut found = Vec::new();
                loop {
                    let rows = self.0.messages().list(user.tenant, &query).await?.items;
                    let is_last = rows.len() < PAGE as usize;
                    query.after = rows.last().map(|row| MessagePosition { received_at: row.received_at, id: row.id });
                    for row in rows {
                        let body = self.0.messages().body(user.tenant, row.id).await?;
                        found.push((row, tokio::task::spawn_blocking(move || body.read_all()).await));
                    }
                    if is_last {
                        found.reverse();
                        return Ok(found);
                    }
                }
            })
        });
        let unreadable = |error: &dyn std::fmt::Display| pyo3::exceptions::PyOSError::new_err(error.to_string());
        let found = found.map_err(|error: StoreError| store(&error))?.into_iter().map(|(row, octets)| {
            let octets = octets.map_err(|error| unreadable(&error))?.map_err(|error| unreadable(&error))?;
            let octets = PyBytes::new(py, &octets);
            Ok((row.id.to_string(), row.subject, row.folder.as_str(), row.tags, row.flags, octets))
        });
        found.collect()
    }
}
