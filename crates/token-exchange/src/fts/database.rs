//! The two kinds of database, their transactions, and rows of either.

use std::collections::BTreeSet;
use std::future::Future;
use std::time::Duration;

use daemon::mysql::{self as server, Opened};
use sqlx::mysql::{MySql, MySqlRow};
use sqlx::sqlite::{Sqlite, SqlitePool, SqliteRow};
use sqlx::{Decode, Row as _, Type};

use super::dialect::Dialect;
use super::statement::Statement;

/// Longest wait for a server's answer. The server itself ends a wait for a lock before: this is for one that has gone without
/// a word.
const ANSWER: Duration = Duration::from_secs(60);

/// An open database.
#[derive(Clone, Debug)]
pub(super) enum Database {
    Sqlite(SqlitePool),
    Mysql(Opened),
}

/// An open transaction; dropped, it is rolled back.
pub(super) enum Transaction {
    Sqlite(sqlx::Transaction<'static, Sqlite>),
    Mysql(sqlx::Transaction<'static, MySql>, Dialect),
}

/// A row.
pub(super) enum Row {
    Sqlite(SqliteRow),
    Mysql(MySqlRow),
}

impl Database {
    /// Which kind it is.
    pub(super) fn dialect(&self) -> Dialect {
        match self {
            Self::Sqlite(_) => Dialect::Sqlite,
            Self::Mysql(opened) => Dialect::Mysql { skip_locked: opened.skip_locked },
        }
    }

    /// Runs a statement and returns its rows.
    pub(super) async fn fetch(&self, statement: Statement) -> Result<Vec<Row>, sqlx::Error> {
        match self {
            Self::Sqlite(pool) => Ok(sqlite(statement.sqlite()?.fetch_all(pool).await?)),
            Self::Mysql(opened) => Ok(mysql(answered(statement.mysql()?.fetch_all(&opened.pool)).await?)),
        }
    }

    /// Runs a statement and returns how many rows it was about.
    pub(super) async fn execute(&self, statement: Statement) -> Result<u64, sqlx::Error> {
        match self {
            Self::Sqlite(pool) => Ok(statement.sqlite()?.execute(pool).await?.rows_affected()),
            Self::Mysql(opened) => {
                Ok(answered(statement.mysql()?.execute(&opened.pool)).await?.rows_affected())
            }
        }
    }

    /// Begins a transaction that may write from its first statement on.
    pub(super) async fn begin(&self) -> Result<Transaction, sqlx::Error> {
        Ok(match self {
            Self::Sqlite(pool) => Transaction::Sqlite(pool.begin_with("BEGIN IMMEDIATE").await?),
            Self::Mysql(opened) => Transaction::Mysql(answered(opened.pool.begin()).await?, self.dialect()),
        })
    }

    /// The columns of a table; none when it is not there.
    pub(super) async fn columns(&self, table: &str) -> Result<BTreeSet<String>, sqlx::Error> {
        let statement = match self {
            Self::Sqlite(_) => "SELECT name FROM pragma_table_info(?)",
            Self::Mysql(_) => {
                "SELECT CAST(column_name AS CHAR) FROM information_schema.columns \
                 WHERE table_schema = DATABASE() AND table_name = ?"
            }
        };
        self.fetch(Statement::new(statement).with(table)).await?.iter().map(|row| row.get(0)).collect()
    }
}

impl Transaction {
    pub(super) fn dialect(&self) -> Dialect {
        match self {
            Self::Sqlite(_) => Dialect::Sqlite,
            Self::Mysql(_, dialect) => *dialect,
        }
    }

    /// Runs a statement and returns its rows.
    pub(super) async fn fetch(&mut self, statement: Statement) -> Result<Vec<Row>, sqlx::Error> {
        match self {
            Self::Sqlite(open) => Ok(sqlite(statement.sqlite()?.fetch_all(&mut **open).await?)),
            Self::Mysql(open, _) => Ok(mysql(answered(statement.mysql()?.fetch_all(&mut **open)).await?)),
        }
    }

    /// Runs a statement and returns how many rows it was about: those that its condition named, also if they had the new
    /// values already.
    pub(super) async fn execute(&mut self, statement: Statement) -> Result<u64, sqlx::Error> {
        match self {
            Self::Sqlite(open) => Ok(statement.sqlite()?.execute(&mut **open).await?.rows_affected()),
            Self::Mysql(open, _) => {
                Ok(answered(statement.mysql()?.execute(&mut **open)).await?.rows_affected())
            }
        }
    }

    /// Makes what was done last. When this fails, it may have lasted or not.
    pub(super) async fn commit(self) -> Result<(), sqlx::Error> {
        match self {
            Self::Sqlite(open) => open.commit().await,
            Self::Mysql(open, _) => answered(open.commit()).await,
        }
    }
}

/// Whether an error is about the moment: the transaction is gone, and may be made again.
pub(super) fn is_transient(error: &sqlx::Error) -> bool {
    const SQLITE: [&str; 2] = ["5", "6"]; // SQLITE_BUSY, SQLITE_LOCKED
    server::is_transient(error)
        || error.as_database_error().is_some_and(|error| {
            error.try_downcast_ref::<sqlx::sqlite::SqliteError>().is_some()
                && error.code().is_some_and(|code| SQLITE.contains(&&*code))
        })
}

async fn answered<T>(call: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, sqlx::Error> {
    let late = |_| sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, "no answer"));
    tokio::time::timeout(ANSWER, call).await.map_err(late)?
}

fn sqlite(rows: Vec<SqliteRow>) -> Vec<Row> {
    rows.into_iter().map(Row::Sqlite).collect()
}

fn mysql(rows: Vec<MySqlRow>) -> Vec<Row> {
    rows.into_iter().map(Row::Mysql).collect()
}

impl Row {
    /// A text, or one that may be missing.
    pub(super) fn get<T>(&self, at: usize) -> Result<T, sqlx::Error>
    where
        T: for<'r> Decode<'r, Sqlite> + Type<Sqlite> + for<'r> Decode<'r, MySql> + Type<MySql>,
    {
        match self {
            Self::Sqlite(row) => row.try_get(at),
            Self::Mysql(row) => row.try_get(at),
        }
    }

    /// An integer; MySQL's may be unsigned.
    pub(super) fn integer(&self, at: usize) -> Result<i64, sqlx::Error> {
        self.maybe_integer(at)?.ok_or_else(|| sqlx::Error::ColumnDecode {
            index: at.to_string(),
            source: "an integer is missing".into(),
        })
    }

    /// An integer that may be missing.
    pub(super) fn maybe_integer(&self, at: usize) -> Result<Option<i64>, sqlx::Error> {
        match self {
            Self::Sqlite(row) => row.try_get(at),
            Self::Mysql(row) => row.try_get::<Option<i64>, _>(at).or_else(|_| {
                let unsigned: Option<u64> = row.try_get(at)?;
                unsigned.map(|n| i64::try_from(n).map_err(|e| sqlx::Error::Decode(e.into()))).transpose()
            }),
        }
    }
}
