//! The database itself: whether its file is whole, and its indexes.

use super::Work;
use crate::consistency::{Fault, Finding};
use crate::error::StoreError;
use crate::sql::driver::{Columns, Dialect, Query, Scope, failed};
use crate::sql::statement;
use crate::sql::transfer::TABLES;

impl Work<'_> {
    pub(super) async fn repair_indexes(&mut self) -> Result<(), StoreError> {
        match self.parts.database.dialect() {
            Dialect::Sqlite => self.repair_sqlite().await,
            Dialect::Postgres => self.reindex_postgres().await,
        }
    }

    /// Indexes that do not fit to their tables are made anew; what is damaged besides is told.
    async fn repair_sqlite(&mut self) -> Result<(), StoreError> {
        self.observer.begins("database file", None);
        let before = self.problems().await?;
        if !before.is_empty() {
            let reindexed = self.parts.database.execute(Scope::All, Query::new("REINDEX")).await;
            // Tells the more interesting part, below, if it fails.
            if let Err(error) = reindexed {
                tracing::debug!(component = "store", %error, "the indexes can't be made anew");
            }
            let after = self.problems().await?;
            for problem in before {
                let mut finding = Finding::new(Fault::Database, &problem);
                finding.repaired = !after.contains(&problem);
                self.found(&finding);
            }
        }
        self.observer.begins("references", None);
        let query = Query::new(statement::consistency::REFERENCES);
        let rows = self.parts.database.fetch_all(Scope::All, query).await.map_err(failed("check database", "read"))?;
        for row in &rows {
            let columns = Columns::new("check database", row);
            let (name, parent): (String, String) = (columns.value("name")?, columns.value("parent")?);
            let number: Option<i64> = columns.value("number")?;
            let row = number.map_or_else(|| name.clone(), |number| format!("{name} {number}"));
            let detail = format!("a row of {name} refers to a row of {parent} that is not there");
            self.found(&Finding::new(Fault::Reference, detail).about("row", row));
        }
        Ok(())
    }

    async fn problems(&self) -> Result<Vec<String>, StoreError> {
        // By the connection that writes, for a fresh view of the file.
        let query = Query::new(statement::consistency::INTEGRITY);
        let rows = self.parts.database.fetch_changed(Scope::All, query).await;
        let rows = rows.map_err(failed("check database", "read"))?;
        let lines = rows.iter().map(|row| Columns::new("check database", row).value::<String>("integrity_check"));
        let lines = lines.filter(|line| line.as_ref().map_or(true, |line| line != "ok"));
        lines.collect()
    }

    /// PostgreSQL does not tell whether an index fits to its table.
    async fn reindex_postgres(&mut self) -> Result<(), StoreError> {
        self.observer.begins("indexes", Some(TABLES.len() as u64));
        for table in TABLES {
            let mut query = Query::new("REINDEX TABLE ");
            query.push(table.name);
            let done = self.parts.database.execute(Scope::All, query).await;
            done.map_err(failed("make indexes anew", table.name))?;
            self.observer.advances(1);
        }
        Ok(())
    }
}
