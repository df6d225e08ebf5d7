//! The two kinds of database, and rows of either. What differs between them stands here and in [`super::statement`]; the
//! statements are the same.

use std::future::Future;
use std::time::Duration;

use daemon::sqlite::Used;
use futures_util::StreamExt as _;
use sqlx::postgres::{PgPool, PgRow};
use sqlx::sqlite::{SqlitePool, SqliteRow};
use sqlx::types::Uuid;
use sqlx::types::time::PrimitiveDateTime;
use sqlx::{Column as _, Decode, Postgres, Row as _, Sqlite, Type, TypeInfo as _};

use super::stamp::Stamp;
use super::statement::Statement;

/// Longest wait for a server's answer. The server itself gives a statement up before (`statement_timeout`): this is for one that has
/// gone without a word.
const ANSWER: Duration = Duration::from_secs(75);

/// An open database.
#[derive(Clone, Debug)]
pub(super) enum Database {
    Sqlite(SqlitePool),
    Postgres(PgPool),
}

/// An open transaction; dropped, it is rolled back.
pub(super) enum Transaction {
    Sqlite(sqlx::Transaction<'static, Sqlite>),
    Postgres(sqlx::Transaction<'static, Postgres>),
}

/// A row.
pub(super) enum Row {
    Sqlite(SqliteRow),
    Postgres(PgRow),
}

impl Database {
    /// Runs a statement that reads.
    pub(super) async fn fetch(&self, statement: Statement) -> Result<Vec<Row>, sqlx::Error> {
        match self {
            Self::Sqlite(pool) => Ok(sqlite(statement.sqlite()?.fetch_all(pool).await?)),
            Self::Postgres(pool) => Ok(postgres(answered(statement.postgres()?.fetch_all(pool)).await?)),
        }
    }

    /// Runs a statement that reads, and hands over row by row: for answers that are longer than memory should be.
    pub(super) async fn each(
        &self,
        statement: Statement,
        mut row: impl FnMut(Row) -> Result<(), sqlx::Error>,
    ) -> Result<(), sqlx::Error> {
        match self {
            Self::Sqlite(pool) => {
                let mut rows = statement.sqlite()?.fetch(pool);
                while let Some(next) = rows.next().await {
                    row(Row::Sqlite(next?))?;
                }
            }
            Self::Postgres(pool) => {
                let mut rows = statement.postgres()?.fetch(pool);
                while let Some(next) = answered(async { rows.next().await.transpose() }).await? {
                    row(Row::Postgres(next))?;
                }
            }
        }
        Ok(())
    }

    /// The first of these tables and columns that is not there, or not for us.
    pub(super) async fn missing(&self, used: &[Used]) -> Result<Option<String>, sqlx::Error> {
        match self {
            Self::Sqlite(pool) => daemon::sqlite::missing(pool, used).await,
            Self::Postgres(pool) => daemon::postgres::missing(&mut *pool.acquire().await?, used).await,
        }
    }

    /// How many pages of requests may be worked on at a time. SQLite has one writer.
    pub(super) fn lanes(&self) -> usize {
        match self {
            Self::Sqlite(_) => 1,
            Self::Postgres(_) => 3,
        }
    }

    /// Begins a transaction that may write from its first statement on.
    pub(super) async fn begin(&self) -> Result<Transaction, sqlx::Error> {
        Ok(match self {
            Self::Sqlite(pool) => Transaction::Sqlite(pool.begin_with("BEGIN IMMEDIATE").await?),
            Self::Postgres(pool) => Transaction::Postgres(answered(pool.begin()).await?),
        })
    }

    /// Ends a `SELECT` of rows `alias` that are to be changed. Rows that another submitter has in hand are passed over, so that
    /// nobody waits for the other; SQLite has one writer anyway.
    pub(super) fn lock(&self, alias: &'static str) -> String {
        match self {
            Self::Sqlite(_) => String::new(),
            Self::Postgres(_) => format!(" FOR NO KEY UPDATE OF {alias} SKIP LOCKED"),
        }
    }
}

impl Transaction {
    /// Runs a statement and returns its rows.
    pub(super) async fn fetch(&mut self, statement: Statement) -> Result<Vec<Row>, sqlx::Error> {
        match self {
            Self::Sqlite(open) => Ok(sqlite(statement.sqlite()?.fetch_all(&mut **open).await?)),
            Self::Postgres(open) => {
                Ok(postgres(answered(statement.postgres()?.fetch_all(&mut **open)).await?))
            }
        }
    }

    /// Runs a statement.
    pub(super) async fn execute(&mut self, statement: Statement) -> Result<(), sqlx::Error> {
        match self {
            Self::Sqlite(open) => statement.sqlite()?.execute(&mut **open).await.map(drop),
            Self::Postgres(open) => answered(statement.postgres()?.execute(&mut **open)).await.map(drop),
        }
    }

    /// Makes what was done last. When this fails, it may have lasted or not.
    pub(super) async fn commit(self) -> Result<(), sqlx::Error> {
        match self {
            Self::Sqlite(open) => open.commit().await,
            Self::Postgres(open) => answered(open.commit()).await,
        }
    }
}

async fn answered<T>(call: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, sqlx::Error> {
    let late = |_| sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, "no answer"));
    tokio::time::timeout(ANSWER, call).await.map_err(late)?
}

fn sqlite(rows: Vec<SqliteRow>) -> Vec<Row> {
    rows.into_iter().map(Row::Sqlite).collect()
}

fn postgres(rows: Vec<PgRow>) -> Vec<Row> {
    rows.into_iter().map(Row::Postgres).collect()
}

impl Row {
    /// A text, a truth, or either that may be missing.
    pub(super) fn get<T>(&self, at: usize) -> Result<T, sqlx::Error>
    where
        T: for<'r> Decode<'r, Sqlite> + Type<Sqlite> + for<'r> Decode<'r, Postgres> + Type<Postgres>,
    {
        match self {
            Self::Sqlite(row) => row.try_get(at),
            Self::Postgres(row) => row.try_get(at),
        }
    }

    /// An id as Rucio's Python shows it: 32 hex digits.
    pub(super) fn id(&self, at: usize) -> Result<String, sqlx::Error> {
        self.optional_id(at)?.ok_or_else(|| missing(at))
    }

    pub(super) fn optional_id(&self, at: usize) -> Result<Option<String>, sqlx::Error> {
        match self {
            Self::Sqlite(row) => row.try_get(at),
            Self::Postgres(row) => Ok(row.try_get::<Option<Uuid>, _>(at)?.map(|id| id.simple().to_string())),
        }
    }

    pub(super) fn time(&self, at: usize) -> Result<Stamp, sqlx::Error> {
        self.optional_time(at)?.ok_or_else(|| missing(at))
    }

    pub(super) fn optional_time(&self, at: usize) -> Result<Option<Stamp>, sqlx::Error> {
        match self {
            Self::Sqlite(row) => Ok(row.try_get::<Option<_>, _>(at)?.map(Stamp)),
            Self::Postgres(row) => {
                row.try_get::<Option<PrimitiveDateTime>, _>(at)?.map(Stamp::try_from).transpose()
            }
        }
    }

    pub(super) fn integer(&self, at: usize) -> Result<i64, sqlx::Error> {
        self.optional_integer(at)?.ok_or_else(|| missing(at))
    }

    /// PostgreSQL has integers of three lengths.
    pub(super) fn optional_integer(&self, at: usize) -> Result<Option<i64>, sqlx::Error> {
        match self {
            Self::Sqlite(row) => row.try_get(at),
            Self::Postgres(row) => match row.try_column(at)?.type_info().name() {
                "INT2" => Ok(row.try_get::<Option<i16>, _>(at)?.map(i64::from)),
                "INT4" => Ok(row.try_get::<Option<i32>, _>(at)?.map(i64::from)),
                _ => row.try_get(at),
            },
        }
    }
}

/// A value that Rucio never leaves out, and is.
fn missing(at: usize) -> sqlx::Error {
    sqlx::Error::ColumnDecode { index: at.to_string(), source: sqlx::error::UnexpectedNullError.into() }
}
