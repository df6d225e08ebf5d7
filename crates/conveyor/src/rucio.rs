//! Rucio's database. Every statement of this daemon stands below here, one module a concern.
//!
//! SQLite so far, as Rucio itself supports it: ids are 32 hex digits, booleans 0 and 1, timestamps text in UTC with six
//! decimals.

pub mod claim;
mod load;
pub mod queue;
mod schema;
pub mod settle;

use std::path::PathBuf;
use std::time::Duration;

use sqlx::SqlitePool;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};
use time::OffsetDateTime;
use time::macros::format_description;
use token_core::UnixSeconds;

/// Why the database could not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DatabaseError {
    /// The URL names no database we can open.
    #[error("`rucio.database`: {0}")]
    Url(String),
    /// It can't be opened.
    #[error("cannot open Rucio's database {path}: {source}")]
    Open {
        /// The file.
        path: String,
        /// What SQLite said.
        source: sqlx::Error,
    },
    /// A table or column that we need is not there.
    #[error("Rucio's database {path} lacks {missing}: is it a Rucio database of version 41?")]
    Schema {
        /// The file.
        path: String,
        /// What is not there.
        missing: String,
    },
    /// A statement failed; nothing of its transaction stays.
    #[error("Rucio's database: {what}: {source}")]
    Statement {
        /// What was being done.
        what: &'static str,
        /// What SQLite said.
        source: sqlx::Error,
    },
}

impl DatabaseError {
    /// Whether it is a matter of configuration: nothing will be better the next time.
    pub fn is_configuration(&self) -> bool {
        !matches!(self, Self::Statement { .. })
    }
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
}

impl Rucio {
    /// Opens the database that `url` names and checks that every table and column we use is there. The URL is SQLAlchemy's,
    /// as in `rucio.cfg`: `sqlite:////absolute/path` or `sqlite:///relative/path`.
    ///
    /// # Errors
    /// See [`DatabaseError`]; nothing is changed.
    pub async fn open(url: &str, vo: &str) -> Result<Self, DatabaseError> {
        let path = path_of(url)?;
        let shown = path.display().to_string();
        let options = SqliteConnectOptions::new()
            .filename(&path)
            .create_if_missing(false)
            .foreign_keys(true)
            .busy_timeout(Duration::from_secs(10));
        // SQLite has one writer at a time; a second connection of ours would only wait for the first.
        let pool = SqlitePoolOptions::new()
            .max_connections(1)
            .connect_with(options)
            .await
            .map_err(|source| DatabaseError::Open { path: shown.clone(), source })?;
        let rucio = Self { pool, vo: vo.to_owned() };
        match schema::missing(&rucio.pool)
            .await
            .map_err(|source| DatabaseError::Open { path: shown.clone(), source })?
        {
            Some(missing) => Err(DatabaseError::Schema { path: shown, missing }),
            None => Ok(rucio),
        }
    }

    /// Begins a transaction that may write from its first statement on.
    async fn begin(
        &self,
        what: &'static str,
    ) -> Result<sqlx::Transaction<'static, sqlx::Sqlite>, DatabaseError> {
        self.pool.begin_with("BEGIN IMMEDIATE").await.during(what)
    }
}

fn path_of(url: &str) -> Result<PathBuf, DatabaseError> {
    let path = url.strip_prefix("sqlite:///").filter(|path| !path.is_empty());
    path.map(PathBuf::from).ok_or_else(|| {
        DatabaseError::Url(
            "only `sqlite:////absolute/path` is supported so far, written as in rucio.cfg".into(),
        )
    })
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

    #[test]
    fn urls_are_those_of_rucio_cfg() {
        assert_eq!(path_of("sqlite:////a/b").unwrap(), PathBuf::from("/a/b"));
        assert_eq!(path_of("sqlite:///a/b").unwrap(), PathBuf::from("a/b"));
        assert!(path_of("postgresql+psycopg://rucio@h/rucio").is_err());
    }
}
