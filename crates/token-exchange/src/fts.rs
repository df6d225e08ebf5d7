//! FTS's database. Every statement of this daemon stands below here.
//!
//! SQLite so far, with FTS's own tables and columns, as the grid in a box has them; times are `YYYY-MM-DD HH:MM:SS` in UTC.

pub mod hand_over;
pub mod lease;
mod schema;
pub mod waiting;

use std::path::PathBuf;
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};
use sqlx::{Row as _, SqlitePool};
use time::OffsetDateTime;
use time::macros::format_description;
use token_core::UnixSeconds;

/// Why the database could not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DatabaseError {
    /// The URL names no database we can open.
    #[error("`fts.database`: only `sqlite:////absolute/path` is supported so far")]
    Url,
    /// It can't be opened.
    #[error("cannot open FTS's database {path}: {source}")]
    Open {
        /// The file.
        path: String,
        /// What SQLite said.
        source: sqlx::Error,
    },
    /// A table or column that we need is not there.
    #[error("FTS's database {path} lacks {missing}: is it an FTS database of schema 10?")]
    Schema {
        /// The file.
        path: String,
        /// What is not there.
        missing: String,
    },
    /// Our own table is not there.
    #[error(
        "FTS's database {0} has no table `token_exchange_lease`: run `token-exchange --config FILE init-db` once"
    )]
    NotInitialised(String),
    /// FTS's own daemon is alive.
    #[error(
        "FTS's own `fts_token` runs on {host} (last beat {beat} UTC): stop it first, both would exchange the same tokens"
    )]
    FtsTokenRuns {
        /// Its host.
        host: String,
        /// Its last heartbeat.
        beat: String,
    },
    /// The lease of a job ended while it was worked on, or someone else has it.
    #[error("the lease of job {0} has ended; another worker may have it, so nothing was written")]
    LeaseLost(String),
    /// A statement failed; nothing of its transaction stays.
    #[error("FTS's database: {what}: {source}")]
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

/// FTS's database.
#[derive(Clone, Debug)]
pub struct FtsDatabase {
    pool: SqlitePool,
    shown: String,
}

impl FtsDatabase {
    /// Opens the database that `url` names (`sqlite:////absolute/path`) and checks that it is an FTS database whose every
    /// table and column that we use is there.
    ///
    /// # Errors
    /// See [`DatabaseError`]; nothing is changed.
    pub async fn open(url: &str) -> Result<Self, DatabaseError> {
        let path =
            url.strip_prefix("sqlite:///").filter(|path| !path.is_empty()).ok_or(DatabaseError::Url)?;
        let options = SqliteConnectOptions::new()
            .filename(PathBuf::from(path))
            .create_if_missing(false)
            .foreign_keys(true)
            .busy_timeout(Duration::from_secs(10));
        let opened = |source| DatabaseError::Open { path: path.to_owned(), source };
        // SQLite has one writer at a time; a second connection of ours would only wait for the first.
        let pool = SqlitePoolOptions::new().max_connections(1).connect_with(options).await.map_err(opened)?;
        match schema::missing(&pool).await.map_err(opened)? {
            Some(missing) => Err(DatabaseError::Schema { path: path.to_owned(), missing }),
            None => Ok(Self { pool, shown: path.to_owned() }),
        }
    }

    /// Makes our one table, `token_exchange_lease`; the only thing we ever add to FTS's database.
    ///
    /// # Errors
    /// When a statement fails.
    pub async fn init(&self) -> Result<(), DatabaseError> {
        schema::create(&self.pool).await.during("making our table")
    }

    /// Checks that our table is there and FTS's own `fts_token` is not running (no heartbeat for two minutes).
    ///
    /// # Errors
    /// When it is not there, or it is running.
    pub async fn ready(&self, now: UnixSeconds) -> Result<(), DatabaseError> {
        const WHAT: &str = "looking at heartbeats";
        if !schema::initialised(&self.pool).await.during("looking for our table")? {
            return Err(DatabaseError::NotInitialised(self.shown.clone()));
        }
        let beats = sqlx::query(
            "SELECT hostname, beat FROM t_hosts WHERE service_name = 'fts_token' AND beat > $1 \
             AND coalesce(drain, 0) = 0 ORDER BY beat DESC LIMIT 1",
        );
        let alive =
            beats.bind(stamp(UnixSeconds(now.0 - 120))).fetch_optional(&self.pool).await.during(WHAT)?;
        match alive {
            None => Ok(()),
            Some(row) => Err(DatabaseError::FtsTokenRuns {
                host: row.try_get(0).during(WHAT)?,
                beat: row.try_get(1).during(WHAT)?,
            }),
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

/// A time as FTS's tables hold it.
fn stamp(at: UnixSeconds) -> String {
    let format = format_description!("[year]-[month]-[day] [hour]:[minute]:[second]");
    OffsetDateTime::from_unix_timestamp(at.0).ok().and_then(|t| t.format(&format).ok()).unwrap_or_default()
}
