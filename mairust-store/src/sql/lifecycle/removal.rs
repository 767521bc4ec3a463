//! Removing objects that no message names any more. Each was noted in the transaction that took the last
//! row which named it; the note goes when the object has gone.

use std::time::Duration;

use futures::{StreamExt, stream};
use mairust_core::TenantId;
use tokio::time::{Instant, timeout_at};

use crate::body::BodyStore;
use crate::error::{StoreError, StoreErrorKind};
use crate::sql::driver::{Columns, Query, Row, Transaction, failed};
use crate::sql::statement;
use crate::sql::storage::Parts;

/// An object that is being removed.
struct Removal {
    key: String,
    /// Whether it is to be done once more.
    again: bool,
}

/// How many objects are removed at the same time.
const AT_ONCE: usize = 8;
/// How long a call to the body store may take, with all that it waits for.
const LONGEST: Duration = Duration::from_secs(30);
/// After this time a removal that did not come to its end is done again. Nobody is at it any more then.
const TRY_AGAIN: Duration = Duration::from_secs(60);
/// After this time nobody writes an object any more that was given up: neither who moves it from the
/// database nor who archives it.
pub(super) const LATE: Duration = Duration::from_secs(60 * 60);

impl Parts {
    pub(super) async fn remove_objects(&self, tenant: TenantId, max: u32) -> Result<u32, StoreError> {
        let now = self.clock.now();
        let query = Query::new(statement::lifecycle::begin_removals(self.database.dialect())).bind(tenant.as_bytes());
        let query = query.bind(now).bind(now.plus(TRY_AGAIN)).bind(max);
        let rows = self.database.fetch_changed(tenant, query).await.map_err(failed("remove objects", tenant))?;
        let removals: Vec<_> = rows.iter().map(Removal::read).collect::<Result<_, _>>()?;
        let count = u32::try_from(removals.len()).unwrap_or(u32::MAX);
        let end = Instant::now() + LONGEST;
        let tried = stream::iter(removals).map(|removal| async move {
            let removed = match timeout_at(end, self.bodies.delete(&removal.key)).await {
                Ok(removed) => removed,
                Err(_) => {
                    let why = format!("{}: the body store did not answer within {LONGEST:?}", removal.key);
                    Err(StoreError::new(StoreErrorKind::Unavailable, "remove objects", why))
                }
            };
            (removal, removed)
        });
        let tried: Vec<_> = tried.buffer_unordered(AT_ONCE).collect().await;
        let (mut removed, mut failure) = (Vec::new(), None);
        for (removal, outcome) in tried {
            match outcome {
                Ok(()) => removed.push(removal),
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        self.end_removals(tenant, removed).await?;
        failure.map_or(Ok(count), Err)
    }

    async fn end_removals(&self, tenant: TenantId, removed: Vec<Removal>) -> Result<(), StoreError> {
        if removed.is_empty() {
            return Ok(());
        }
        let error = || failed("remove objects", tenant);
        let mut transaction = self.database.begin(tenant).await.map_err(error())?;
        for removal in removed {
            let query = match removal.again {
                false => Query::new(statement::lifecycle::END_REMOVAL).bind(tenant.as_bytes()).bind(removal.key),
                true => Query::new(statement::lifecycle::REPEAT_REMOVAL)
                    .bind(tenant.as_bytes())
                    .bind(removal.key)
                    .bind(self.clock.now().plus(LATE)),
            };
            transaction.execute(query).await.map_err(error())?;
        }
        transaction.commit().await.map_err(error())
    }

    /// Notes within a transaction that an object is to be removed, and takes it out of the spool. One that
    /// was there may just be on its way to the body store, and is removed once more when that is over.
    pub(super) async fn give_up_object(
        &self,
        transaction: &mut Transaction,
        tenant: TenantId,
        key: &str,
    ) -> Result<(), StoreError> {
        let spooled = Query::new(statement::lifecycle::FORGET_SPOOLED).bind(tenant.as_bytes()).bind(key);
        let was_spooled = transaction.execute(spooled).await.map_err(failed("give up object", key))? > 0;
        let query = Query::new(statement::lifecycle::INSERT_REMOVAL).bind(tenant.as_bytes()).bind(key);
        let noted = transaction.execute(query.bind(self.clock.now()).bind(was_spooled)).await;
        noted.map_err(failed("give up object", key)).map(drop)
    }
}

impl Removal {
    fn read(row: &Row) -> Result<Self, StoreError> {
        let columns = Columns::new("remove objects", row);
        Ok(Self { key: columns.value("object_key")?, again: columns.value("again")? })
    }
}
