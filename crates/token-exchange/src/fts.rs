//! FTS's database. Every statement of this daemon stands below here.
//!
//! SQLite so far, with FTS's own tables and columns, as the grid in a box has them; times are `YYYY-MM-DD HH:MM:SS` in UTC.

pub mod hand_over;
pub mod lease;
mod schema;
pub mod waiting;

use daemon::sqlite::{self, OpenError};
use sqlx::{Row as _, SqlitePool};
use time::OffsetDateTime;
use time::macros::format_description;
use token_core::UnixSeconds;

/// Why the database could not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DatabaseError {
    /// It can't be opened, or lacks something that we use.
    #[error("`fts.database`: {0}; an FTS database of schema 10 is expected")]
    Open(#[from] OpenError),
    /// It is of another version.
    #[error("`fts.database`: {0} is the schema version in `t_schema_vers`, and 10 is the one that we know")]
    Version(String),
    /// Our own table is not there.
    #[error(
        "FTS's database has no table `token_exchange_lease`: run `token-exchange --config FILE init-db` once"
    )]
    NotInitialised,
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
}

impl FtsDatabase {
    /// Opens the database that `url` names (`sqlite:////absolute/path`) and checks that it is an FTS database whose every
    /// table and column that we use is there.
    ///
    /// # Errors
    /// See [`DatabaseError`]; nothing is changed.
    pub async fn open(url: &str) -> Result<Self, DatabaseError> {
        let pool = sqlite::open(url, &schema::USED).await?;
        match schema::version(&pool).await.during("reading the schema's version")? {
            Some(schema::MAJOR) => Ok(Self { pool }),
            other => {
                Err(DatabaseError::Version(other.map_or_else(|| "none".into(), |major| major.to_string())))
            }
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
            return Err(DatabaseError::NotInitialised);
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
