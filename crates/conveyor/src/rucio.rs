//! Rucio's database. Every statement of this daemon stands below here, one module a concern.
//!
//! PostgreSQL and SQLite, as Rucio itself supports them. On SQLite ids are 32 hex digits and times text in UTC with six decimals;
//! PostgreSQL has types of its own for both, and for every column with a set of letters, which it compares with literals only.
//! The statements are written so that both take them.

pub mod claim;
mod clock;
mod database;
mod failures;
pub mod heartbeat;
mod hops;
mod load;
pub mod look;
mod part;
pub mod queue;
mod schema;
pub mod settle;
mod stamp;
mod statement;
pub mod submitted;
pub mod trace;
mod url;

use std::sync::Arc;

use daemon::{postgres, sqlite};

use crate::owner::Owner;
use crate::topology::Options;
use database::Database;
pub use stamp::Stamp;
use statement::Statement;
pub use url::DatabaseUrl;

/// Why the database could not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DatabaseError {
    /// It can't be opened, or is no Rucio database of a version that we know.
    #[error("`rucio.database`: {0}; a Rucio database of version 41 is expected")]
    Sqlite(#[from] sqlite::OpenError),
    /// The same on PostgreSQL.
    #[error("`rucio.database`: {0}{hint}", hint = hint(.0))]
    Postgres(#[from] postgres::OpenError),
    /// SQLite has no schemas.
    #[error("`rucio.schema` is set, which SQLite has not: leave it out")]
    Schema,
    /// A statement failed; nothing of its transaction stays.
    #[error("Rucio's database: {what}: {source}")]
    Statement {
        /// What was being done.
        what: &'static str,
        /// What the database said.
        source: sqlx::Error,
    },
}

impl DatabaseError {
    /// Whether a later try may find it better, without anybody mending the configuration.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Postgres(error) => error.is_transient(),
            Self::Statement { .. } => true,
            Self::Sqlite(_) | Self::Schema => false,
        }
    }
}

/// What helps when it is another database than it should be.
fn hint(error: &postgres::OpenError) -> &'static str {
    match error {
        postgres::OpenError::Schema { .. } => {
            "; a Rucio database of version 41 is expected, or `rucio.schema` is another"
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

/// Rucio's database.
#[derive(Clone, Debug)]
pub struct Rucio {
    database: Database,
    vo: String,
    owner: Owner,
    /// What stands in `rucio.cfg`, which wins over the table `configs`.
    over: Arc<Options>,
    /// Whether what a submitter of Rucio's own has just taken in hand is left to it.
    waits_for_python: bool,
}

impl Rucio {
    /// Opens the database that `url` names and checks that every table and column we use is there, on PostgreSQL in `schema` if
    /// one is named.
    ///
    /// # Errors
    /// See [`DatabaseError`]; nothing is changed.
    pub async fn open(url: &DatabaseUrl, schema: Option<&str>, vo: &str) -> Result<Self, DatabaseError> {
        let (url, program) = (url.expose(), env!("CARGO_PKG_NAME"));
        let database = if postgres::is_for_us(url) {
            Database::Postgres(postgres::open(url, schema, program, &schema::USED).await?)
        } else if schema.is_some() {
            return Err(DatabaseError::Schema);
        } else {
            Database::Sqlite(sqlite::open(url, &schema::USED).await?)
        };
        Ok(Self {
            database,
            vo: vo.to_owned(),
            owner: Owner::of_this_process(),
            over: Arc::default(),
            waits_for_python: false,
        })
    }

    /// With what a submitter of Rucio's own has looked at in the last ten minutes left to it, as daemons among themselves do; a single walk
    /// (`--run-once`) takes all, as Rucio's does.
    #[must_use]
    pub fn waiting_for_python(self) -> Self {
        Self { waits_for_python: true, ..self }
    }

    /// With these options before those in the table `configs`, as those of `rucio.cfg` are.
    #[must_use]
    pub fn with_options(self, over: Options) -> Self {
        Self { over: Arc::new(over), ..self }
    }

    /// The same database, connections and claims, for another VO.
    #[must_use]
    pub fn of_vo(&self, vo: &str) -> Self {
        Self { vo: vo.to_owned(), ..self.clone() }
    }

    /// The VO that is served.
    pub fn vo(&self) -> &str {
        &self.vo
    }

    /// The options of a section in Rucio's table `configs`.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn options(&self, section: &str) -> Result<Vec<(String, String)>, DatabaseError> {
        const WHAT: &str = "reading Rucio's table of options";
        let options =
            Statement::new("SELECT opt, value FROM configs WHERE value IS NOT NULL AND section = $1");
        let rows = self.database.fetch(options.with(section)).await.during(WHAT)?;
        rows.iter().map(|row| Ok((row.get(0)?, row.get(1)?))).collect::<Result<_, sqlx::Error>>().during(WHAT)
    }

    /// The VOs that have RSEs, by name.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn vos(&self) -> Result<Vec<String>, DatabaseError> {
        const WHAT: &str = "reading VOs";
        let vos = Statement::new("SELECT DISTINCT vo FROM rses WHERE NOT deleted ORDER BY vo");
        let rows = self.database.fetch(vos).await.during(WHAT)?;
        rows.iter().map(|row| row.get(0)).collect::<Result<_, _>>().during(WHAT)
    }

    /// How many pages of requests may be worked on at a time: each takes a connection.
    pub fn lanes(&self) -> usize {
        self.database.lanes()
    }
}
