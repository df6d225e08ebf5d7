//! FTS's database. Every statement of this daemon stands below here, and is the same for MariaDB, MySQL and SQLite but for the
//! few words in `dialect`. Times are `YYYY-MM-DD HH:MM:SS` in UTC, whatever the zone of the server.

pub mod checkup;
mod database;
mod dialect;
pub mod failed;
pub mod hand_over;
pub mod later;
pub mod lease;
pub mod look;
pub mod outlived;
mod place;
pub mod provider;
pub mod remembered;
pub mod renew;
pub mod retire;
mod revive;
mod schema;
mod statement;
pub mod trace;
pub mod waiting;

use std::time::Duration;

use daemon::mysql::{self, Tls};
use daemon::sqlite;
use time::macros::format_description;
use time::{OffsetDateTime, PrimitiveDateTime};
use token_core::UnixSeconds;
use token_core::retry::{RetryPolicy, Waits};
use tracing::warn;

use database::{Database, Transaction, is_transient};
pub use place::Place;
use statement::Statement;

/// How often a transaction is made when the database undoes it: a deadlock, a lock that did not come, a lost connection.
const TRIES: u32 = 5;

/// Why the database could not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DatabaseError {
    /// It can't be opened, or lacks something that we use.
    #[error("`fts.database`: {0}; an FTS database of schema 10 is expected")]
    Sqlite(#[from] sqlite::OpenError),
    /// The same on MariaDB or MySQL.
    #[error("`fts.database`: {0}{hint}", hint = hint(.0))]
    Mysql(#[from] mysql::OpenError),
    /// It is of another version.
    #[error("`fts.database`: {0} is the schema version in `t_schema_vers`, and 10 is the one that we know")]
    Version(String),
    /// A table of ours is not there.
    #[error(
        "FTS's database has no table `{0}`: run `token-exchange --config FILE init-db` once, and after an update again"
    )]
    NotInitialised(&'static str),
    /// FTS's own daemon is alive.
    #[error(
        "FTS's own `fts_token` runs on {host} (last beat {beat} UTC): stop it first, both would exchange the same tokens; its beat \
         counts for two minutes, and a service tries again"
    )]
    FtsTokenRuns {
        /// Its host.
        host: String,
        /// Its last heartbeat.
        beat: String,
    },
    /// The lease of a job or token ended while it was worked on, or someone else has it.
    #[error("the lease of {0} has ended; another worker may have it, so nothing was written")]
    LeaseLost(String),
    /// A statement failed; nothing of its transaction stays.
    #[error("FTS's database: {what}: {source}")]
    Statement {
        /// What was being done.
        what: &'static str,
        /// What the database said.
        source: sqlx::Error,
    },
}

impl DatabaseError {
    /// Whether a later try may find it better, without anybody mending anything.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Mysql(error) => error.is_transient(),
            Self::Statement { source, .. } => is_transient(source),
            // Its last beat gets old.
            Self::FtsTokenRuns { .. } => true,
            _ => false,
        }
    }
}

/// What helps when it is another database than it should be, or a password is wrong.
fn hint(error: &mysql::OpenError) -> &'static str {
    match error {
        mysql::OpenError::Schema { .. } => "; an FTS database of schema 10 is expected",
        mysql::OpenError::Open { source: sqlx::Error::Database(_), .. } => {
            " (its user stands in `fts.database`, its password in `fts.password_file`, or both in fts3config)"
        }
        _ => "",
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

/// FTS's database.
#[derive(Clone, Debug)]
pub struct FtsDatabase {
    database: Database,
    /// Whether `t_token` has the columns of schema 9.1.0.
    older_columns: bool,
    /// How the index on a file's state is named after `t_file f`, and that on its end.
    state_index: &'static str,
    end_index: &'static str,
    /// Whether `fts_url_copy` asks for the tokens that we hand over.
    managed: bool,
}

impl FtsDatabase {
    /// Opens the database at `place` and checks that it is an FTS database whose every table and column that we use is there.
    /// `tls` is for servers.
    ///
    /// # Errors
    /// See [`DatabaseError`]; nothing is changed.
    pub async fn open(place: &Place, tls: &Tls) -> Result<Self, DatabaseError> {
        let database = match place {
            Place::Sqlite(url) => Database::Sqlite(sqlite::open(url, &schema::USED).await?),
            Place::Mysql(server) => Database::Mysql(mysql::open(server, tls, &schema::USED).await?),
        };
        match schema::version(&database).await.during("reading the schema's version")? {
            Some(schema::MAJOR) => (),
            other => {
                let version = other.map_or_else(|| "none".into(), |major| major.to_string());
                return Err(DatabaseError::Version(version));
            }
        }
        let older_columns = schema::has_older_columns(&database).await.during("reading the schema")?;
        let state_index =
            schema::forced(&database, &schema::STATE_INDEX).await.during("reading the schema")?;
        let end_index = schema::forced(&database, &schema::END_INDEX).await.during("reading the schema")?;
        Ok(Self { database, older_columns, state_index, end_index, managed: false })
    }

    /// Makes our tables, `token_exchange_lease`, `token_exchange_token` and `token_exchange_look`; the only things we ever add to FTS's database.
    ///
    /// # Errors
    /// When a statement fails.
    pub async fn init(&self) -> Result<(), DatabaseError> {
        schema::create(&self.database).await.during("making our tables")
    }

    /// Whether `fts_url_copy` is to ask for the tokens that are handed over from now on. Somebody must answer it then, on each
    /// host where it runs.
    #[must_use]
    pub fn handing_over_managed(self, managed: bool) -> Self {
        Self { managed, ..self }
    }

    /// Whether tokens are handed over so.
    pub fn hands_over_managed(&self) -> bool {
        self.managed
    }

    /// Checks that our tables are there and FTS's own `fts_token` is not running (no heartbeat for two minutes).
    ///
    /// # Errors
    /// When it is not there, or it is running.
    pub async fn ready(&self, now: UnixSeconds) -> Result<(), DatabaseError> {
        const WHAT: &str = "looking at heartbeats";
        if let Some(table) = schema::missing(&self.database).await.during("looking for our tables")? {
            return Err(DatabaseError::NotInitialised(table));
        }
        let beats = Statement::new(
            "SELECT hostname, CAST(beat AS CHAR) FROM t_hosts WHERE service_name = 'fts_token' AND beat > ? \
             AND coalesce(drain, 0) = 0 ORDER BY beat DESC LIMIT 1",
        );
        let alive = self.database.fetch(beats.with(stamp(UnixSeconds(now.0 - 120)))).await.during(WHAT)?;
        match alive.first() {
            None => Ok(()),
            Some(row) => Err(DatabaseError::FtsTokenRuns {
                host: row.get(0).during(WHAT)?,
                beat: row.get(1).during(WHAT)?,
            }),
        }
    }

    /// Begins a transaction that may write from its first statement on.
    async fn begin(&self, what: &'static str) -> Result<Transaction, DatabaseError> {
        self.database.begin().await.during(what)
    }

    /// Does work that is one transaction, and does it again when the database undid it. When a connection is lost during the
    /// commit, the work may be done and is begun again: all of it can be done twice.
    async fn tried<T>(&self, work: impl AsyncFn() -> Result<T, DatabaseError>) -> Result<T, DatabaseError> {
        let mut waits = Waits::new(&RetryPolicy {
            initial: Duration::from_millis(20),
            max: Duration::from_millis(500),
            ..RetryPolicy::default()
        });
        let mut tries = 1;
        loop {
            match work().await {
                Err(error) if error.is_transient() && tries < TRIES => {
                    warn!(%error, tries, "tried again");
                    tokio::time::sleep(waits.pause()).await;
                    tries += 1;
                }
                done => return done,
            }
        }
    }
}

/// A time as FTS's tables hold it.
fn stamp(at: UnixSeconds) -> String {
    let format = format_description!("[year]-[month]-[day] [hour]:[minute]:[second]");
    OffsetDateTime::from_unix_timestamp(at.0).ok().and_then(|t| t.format(&format).ok()).unwrap_or_default()
}

/// A time as it stands in FTS's tables.
fn seconds(text: &str) -> Option<UnixSeconds> {
    let format = format_description!("[year]-[month]-[day] [hour]:[minute]:[second]");
    let whole = text.get(..19)?;
    PrimitiveDateTime::parse(whole, &format).ok().map(|at| UnixSeconds(at.assume_utc().unix_timestamp()))
}

#[cfg(test)]
pub(crate) mod tests;
