//! Mailboxes know how much they hold, folders from where to count, and tenants from where to count events.

use mairust_core::TenantId;

use super::Work;
use crate::consistency::{Fault, Finding};
use crate::error::StoreError;
use crate::sql::driver::{Columns, Dialect, Query, Row, Scope, failed};
use crate::sql::statement::consistency as statement;

/// How many mailboxes or folders are looked at together: each may have a million messages.
const PAGE: u32 = 50;

/// A mailbox, a folder, or a tenant.
type Place = (TenantId, [u8; 16]);

impl Work<'_> {
    pub(super) async fn check_counters(&mut self) -> Result<(), StoreError> {
        self.observer.begins("mailboxes", None);
        let correct = Correction { lock: statement::LOCK_MAILBOX, update: statement::CORRECT_USE };
        self.check_places(statement::MAILBOX_USE, mailbox, correct).await?;
        self.observer.begins("folders", None);
        let update = statement::correct_folder(self.parts.database.dialect());
        let correct = Correction { lock: statement::LOCK_FOLDER, update };
        self.check_places(statement::FOLDER_COUNTERS, folder, correct).await?;
        self.observer.begins("events", None);
        let update = statement::correct_positions(self.parts.database.dialect());
        let correct = Correction { lock: statement::LOCK_POSITIONS, update };
        self.check_places(statement::EVENT_POSITIONS, events, correct).await
    }

    async fn check_places(
        &mut self,
        select: &'static str,
        compare: impl Fn(TenantId, &Columns<'_>) -> Result<Option<Finding>, StoreError>,
        correction: Correction,
    ) -> Result<(), StoreError> {
        let mut after: Place = (TenantId::from_bytes([0; 16]), [0; 16]);
        loop {
            let query = Query::new(select).bind(after.0.as_bytes()).bind(&after.1).bind(PAGE);
            let rows = self.parts.database.fetch_all(Scope::All, query).await;
            let rows = rows.map_err(failed("check counters", "read"))?;
            for row in &rows {
                after = place(row)?;
                if let Some(mut finding) = compare(after.0, &Columns::new("check counters", row))? {
                    if self.check.repair {
                        self.correct(after, correction).await?;
                        finding.repaired = true;
                    }
                    self.found(&finding);
                }
            }
            if rows.is_empty() {
                return Ok(());
            }
            self.report.counters += rows.len() as u64;
            self.observer.advances(rows.len() as u64);
        }
    }

    /// Counts again, while nobody else does.
    async fn correct(&self, (tenant, id): Place, correction: Correction) -> Result<(), StoreError> {
        let failed = || failed("correct counters", tenant);
        let bound = |text| Query::new(text).bind(tenant.as_bytes()).bind(&id);
        let mut transaction = self.parts.database.begin(tenant).await.map_err(failed())?;
        if transaction.dialect() == Dialect::Postgres {
            transaction.fetch_all(bound(correction.lock)).await.map_err(failed())?;
        }
        transaction.execute(bound(correction.update)).await.map_err(failed())?;
        transaction.commit().await.map_err(failed())
    }
}

/// How counters are put right.
#[derive(Debug, Clone, Copy)]
struct Correction {
    lock: &'static str,
    update: &'static str,
}

fn place(row: &Row) -> Result<Place, StoreError> {
    let columns = Columns::new("check counters", row);
    Ok((TenantId::from_bytes(columns.id("tenant_id")?), columns.id("id")?))
}

fn mailbox(tenant: TenantId, columns: &Columns<'_>) -> Result<Option<Finding>, StoreError> {
    let (used, held): (i64, i64) = (columns.value("used")?, columns.value("held")?);
    if used == held {
        return Ok(None);
    }
    let name: String = columns.value("name")?;
    let detail = format!("mailbox {name} holds {held} bytes, not {used}");
    let id = uuid::Uuid::from_bytes(columns.id("id")?);
    Ok(Some(Finding::new(Fault::MailboxUse, detail).of(tenant).about("mailbox", id)))
}

fn folder(tenant: TenantId, columns: &Columns<'_>) -> Result<Option<Finding>, StoreError> {
    let (next, modseq): (i64, i64) = (columns.value("uidnext")?, columns.value("modseq")?);
    let (uid, reached): (i64, i64) = (columns.value("uid")?, columns.value("reached")?);
    if next > uid && modseq >= reached {
        return Ok(None);
    }
    let name: String = columns.value("name")?;
    let detail =
        format!("folder {name} counts UIDs from {next} and changes from {modseq}, but has {uid} and {reached}");
    let id = uuid::Uuid::from_bytes(columns.id("id")?);
    Ok(Some(Finding::new(Fault::FolderCounters, detail).of(tenant).about("folder", id)))
}

fn events(tenant: TenantId, columns: &Columns<'_>) -> Result<Option<Finding>, StoreError> {
    let (position, reached): (i64, i64) = (columns.value("position")?, columns.value("reached")?);
    if position >= reached {
        return Ok(None);
    }
    let detail = format!("events are counted from {position}, but have reached {reached}");
    Ok(Some(Finding::new(Fault::EventPositions, detail).of(tenant).about("tenant", tenant)))
}
