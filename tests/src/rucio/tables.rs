//! Statements that both kinds of database take, and what they give as text.

use anyhow::{Context as _, Result};
use sqlx::{AssertSqlSafe, Database, Decode, Executor as _, PgPool, Row, SqlitePool, Type, raw_sql};

/// An open database.
#[derive(Clone)]
pub(super) enum Tables {
    Sqlite(SqlitePool),
    Postgres(PgPool),
}

impl Tables {
    pub(super) async fn texts(&self, sql: &str) -> Result<Vec<Vec<Option<String>>>> {
        // Not prepared: PostgreSQL then sends every type as text.
        let query = raw_sql(AssertSqlSafe(sql));
        let rows: Result<_, sqlx::Error> = match self {
            Self::Sqlite(pool) => pool.fetch_all(query).await?.iter().map(row).collect(),
            Self::Postgres(pool) => pool.fetch_all(query).await?.iter().map(row).collect(),
        };
        rows.context("reading Rucio's database")
    }

    pub(super) async fn run(&self, sql: &str) -> Result<()> {
        let query = raw_sql(AssertSqlSafe(sql));
        match self {
            Self::Sqlite(pool) => pool.execute(query).await.map(drop),
            Self::Postgres(pool) => pool.execute(query).await.map(drop),
        }
        .context("writing Rucio's database")
    }
}

fn row<R: Row>(row: &R) -> Result<Vec<Option<String>>, sqlx::Error>
where
    usize: sqlx::ColumnIndex<R>,
    String: for<'r> Decode<'r, R::Database> + Type<R::Database>,
    R::Database: Database,
{
    (0..row.len()).map(|at| row.try_get_unchecked(at)).collect()
}

/// A value that is there.
pub(super) fn text(row: &[Option<String>], at: usize) -> Result<String> {
    row.get(at).cloned().flatten().context("a value is missing in Rucio's database")
}

/// A number that is there.
pub(super) fn number(row: &[Option<String>], at: usize) -> Result<i64> {
    Ok(text(row, at)?.parse()?)
}

/// A literal.
pub(super) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
