//! Rucio's database. Every statement of this daemon stands below here, one module a concern.
//!
//! SQLite so far, as Rucio itself supports it: ids are 32 hex digits, booleans 0 and 1, timestamps text in UTC with six
//! decimals.

pub mod claim;
mod load;
pub mod queue;
mod schema;
pub mod settle;

use daemon::sqlite::{self, OpenError};
use sqlx::SqlitePool;
use time::OffsetDateTime;
use time::macros::format_description;
use token_core::UnixSeconds;

use crate::owner::Owner;

/// Why the database could not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DatabaseError {
    /// It can't be opened, or is no Rucio database of a version that we know.
    #[error("`rucio.database`: {0}; a Rucio database of version 41 is expected")]
    Open(#[from] OpenError),
    /// A statement failed; nothing of its transaction stays.
    #[error("Rucio's database: {what}: {source}")]
    Statement {
        /// What was being done.
        what: &'static str,
        /// What SQLite said.
        source: sqlx::Error,
    },
}

/// Names what was being done when a statement failed.
trait During<T> {
    fn during(self, what: &'static str) -> Result<T, DatabaseError>;
}

impl<T> During<T> for Result<T, sqlx::Error> {
    fn during(self, what: &'static str) -> Result<T, DatabaseError> {
        self.map_err(|source| DatabaseError::Statement { what, source })
    }
}

/// Rucio's database.
#[derive(Clone, Debug)]
pub struct Rucio {
    pool: SqlitePool,
    vo: String,
    owner: Owner,
}

impl Rucio {
    /// Opens the database that `url` names and checks that every table and column we use is there. The URL is SQLAlchemy's,
    /// as in `rucio.cfg`: `sqlite:////absolute/path` or `sqlite:///relative/path`.
    ///
    /// # Errors
    /// See [`DatabaseError`]; nothing is changed.
    pub async fn open(url: &str, vo: &str) -> Result<Self, DatabaseError> {
        let pool = sqlite::open(url, &schema::USED).await?;
        Ok(Self { pool, vo: vo.to_owned(), owner: Owner::of_this_process() })
    }

    /// Begins a transaction that may write from its first statement on.
    async fn begin(
        &self,
        what: &'static str,
    ) -> Result<sqlx::Transaction<'static, sqlx::Sqlite>, DatabaseError> {
        self.pool.begin_with("BEGIN IMMEDIATE").await.during(what)
    }
}

/// A time as Rucio's SQLAlchemy writes it: text that sorts.
fn stamp(at: UnixSeconds) -> String {
    let format = format_description!("[year]-[month]-[day] [hour]:[minute]:[second].000000");
    OffsetDateTime::from_unix_timestamp(at.0).ok().and_then(|t| t.format(&format).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_rucio_does() {
        assert_eq!(stamp(UnixSeconds(1_795_458_026)), "2026-11-23 18:20:26.000000");
    }
}
