//! Every message has its body, and the body is the one that was received.

use futures::StreamExt;
use mairust_core::{Body, MessageId, TenantId, Timestamp};

use super::Work;
use crate::body::verify;
use crate::consistency::{Fault, Finding};
use crate::error::{StoreError, StoreErrorKind};
use crate::sql::driver::{Columns, Query, Row, Scope, failed};
use crate::sql::statement;
use crate::sql::storage::Parts;

/// Bodies that are read together: each of those that wait in the database may have 256 KiB.
const PAGE: u32 = 64;
/// How many bodies are read at the same time.
const LANES: usize = 8;

/// A body and what its first message says about it.
struct Expected {
    tenant: TenantId,
    message: MessageId,
    received_at: Timestamp,
    key: String,
    size: u64,
    sha256: [u8; 32],
    /// If it waits in the database.
    spooled: Option<Body>,
}

impl Work<'_> {
    pub(super) async fn check_bodies(&mut self) -> Result<(), StoreError> {
        let total = self.count_messages().await?;
        self.observer.begins("bodies", Some(total));
        let mut after = (TenantId::from_bytes([0; 16]), MessageId::from_bytes([0; 16]));
        loop {
            let query = Query::new(statement::consistency::BODIES);
            let query = query.bind(after.0.as_bytes()).bind(after.1.as_bytes()).bind(PAGE);
            let rows =
                self.parts.database.fetch_all(Scope::All, query).await.map_err(failed("check bodies", "read"))?;
            let page = rows.iter().map(expected).collect::<Result<Vec<_>, _>>()?;
            let Some(last) = page.last() else { return Ok(()) };
            after = (last.tenant, last.message);
            let (parts, count) = (self.parts, page.len() as u64);
            let compared = futures::stream::iter(page).map(|body| compare(parts, body)).buffered(LANES);
            let faults: Vec<_> = compared.collect().await;
            for fault in faults {
                if let Some((body, fault, detail)) = fault? {
                    self.tell(&body, fault, &detail).await?;
                }
            }
            self.report.bodies += count;
            self.observer.advances(count);
        }
    }

    /// Names every message that has this body; nothing if there is none any more.
    async fn tell(&mut self, body: &Expected, fault: Fault, detail: &str) -> Result<(), StoreError> {
        for message in self.parts.messages_of_object(body.tenant, body.received_at, &body.key).await? {
            let finding = Finding::new(fault, detail).of(body.tenant).message(message).about("object", &body.key);
            self.found(&finding);
        }
        Ok(())
    }
}

fn expected(row: &Row) -> Result<Expected, StoreError> {
    let columns = Columns::new("check bodies", row);
    Ok(Expected {
        tenant: TenantId::from_bytes(columns.id("tenant_id")?),
        message: MessageId::from_bytes(columns.id("id")?),
        received_at: columns.time("received_at")?,
        key: columns.value("object_key")?,
        size: columns.number("size")?,
        sha256: columns.bytes("sha256")?,
        spooled: columns.value::<Option<&[u8]>>("data")?.map(|data| Body::from(data.to_vec())),
    })
}

/// What is wrong with a body, if anything is.
async fn compare(parts: &Parts, body: Expected) -> Result<Option<(Expected, Fault, String)>, StoreError> {
    let found = match &body.spooled {
        Some(found) => Ok(found.clone()),
        None => parts.bodies.open(&body.key).await,
    };
    let found = match found {
        Ok(found) if found.len() != body.size => {
            let detail = format!("the body has {} bytes, not {}", found.len(), body.size);
            return Ok(Some((body, Fault::BodyDamaged, detail)));
        }
        Ok(found) => verify(found, body.sha256, body.key.clone()).await.map(drop),
        Err(error) => Err(error),
    };
    match found {
        Ok(()) => Ok(None),
        Err(error) => match error.kind() {
            StoreErrorKind::NotFound => Ok(Some((body, Fault::BodyMissing, "the body is nowhere".to_owned()))),
            StoreErrorKind::Corrupt => Ok(Some((body, Fault::BodyDamaged, error.to_string()))),
            _ => Err(error),
        },
    }
}

impl Parts {
    /// The messages of a tenant that came in at this moment and point to an object.
    pub(crate) async fn messages_of_object(
        &self,
        tenant: TenantId,
        received_at: Timestamp,
        key: &str,
    ) -> Result<Vec<MessageId>, StoreError> {
        let query = Query::new(statement::consistency::MESSAGES_OF_OBJECT);
        let query = query.bind(tenant.as_bytes()).bind(received_at).bind(key);
        let rows = self.database.fetch_all(tenant, query).await.map_err(failed("check bodies", key))?;
        rows.iter().map(|row| Columns::new("check bodies", row).id("id").map(MessageId::from_bytes)).collect()
    }
}
