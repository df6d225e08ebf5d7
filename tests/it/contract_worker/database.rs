//! FTS's database for a test, on SQLite or on the server that `FTS_MYSQL` names, made anew for each.

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, Result};
use sqlx::mysql::{MySqlArguments, MySqlConnectOptions, MySqlPoolOptions};
use sqlx::sqlite::{SqliteArguments, SqliteConnectOptions};
use sqlx::{Arguments as _, AssertSqlSafe, ConnectOptions as _, MySqlPool, Row as _, SqlitePool};

/// A server where databases may be made, as `./tests/run` starts one.
pub(crate) const SERVER: &str = "FTS_MYSQL";

/// One database with FTS's tables.
pub(crate) enum Database {
    Sqlite { url: String, pool: SqlitePool },
    Mysql { url: String, name: String, pool: MySqlPool },
}

/// A row as text.
pub(crate) type Texts = Vec<Option<String>>;

impl Database {
    /// Makes one on SQLite, in `folder`.
    pub(crate) async fn sqlite(folder: &Path) -> Result<Self> {
        let path = folder.join("fts.sqlite");
        let options = SqliteConnectOptions::new().filename(&path).create_if_missing(true).foreign_keys(true);
        let pool = SqlitePool::connect_with(options).await?;
        sqlx::raw_sql(include_str!("../../src/fts/schema.sql")).execute(&pool).await?;
        Ok(Self::Sqlite { url: format!("sqlite:///{}", path.display()), pool })
    }

    /// Makes one on `server`, a `mysql://` URL.
    pub(crate) async fn mysql(server: &str) -> Result<Self> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let name = format!("token_exchange_test_{}_{number}", std::process::id());
        let mut url: url::Url = server.parse().with_context(|| format!("{SERVER} is no URL"))?;
        let options = MySqlConnectOptions::from_url(&url)?;
        let mut connection = options.connect().await.with_context(|| format!("the server of {SERVER}"))?;
        for sql in [format!("DROP DATABASE IF EXISTS {name}"), format!("CREATE DATABASE {name}")] {
            sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await?;
        }
        url.set_path(&format!("/{name}"));
        let options = MySqlConnectOptions::from_url(&url)?.timezone(Some("+00:00".to_owned()));
        let pool = MySqlPoolOptions::new().max_connections(3).connect_with(options).await?;
        sqlx::raw_sql(include_str!("../../data/fts-10.0.1.mariadb.sql")).execute(&pool).await?;
        Ok(Self::Mysql { url: url.to_string(), name, pool })
    }

    /// As `[fts] database` wants it.
    pub(crate) fn url(&self) -> &str {
        match self {
            Self::Sqlite { url, .. } | Self::Mysql { url, .. } => url,
        }
    }

    /// For people.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Sqlite { .. } => "SQLite",
            Self::Mysql { .. } => "MariaDB/MySQL",
        }
    }

    /// Runs a statement with `?` for each value.
    pub(crate) async fn run(&self, sql: &str, values: &[Option<String>]) -> Result<()> {
        let told = || format!("{}: {sql}", self.kind());
        match self {
            Self::Sqlite { pool, .. } => {
                let mut arguments = SqliteArguments::default();
                values
                    .iter()
                    .try_for_each(|value| arguments.add(value.clone()))
                    .map_err(sqlx::Error::Encode)?;
                sqlx::query_with(AssertSqlSafe(sql), arguments).execute(pool).await.with_context(told)?;
            }
            Self::Mysql { pool, .. } => {
                let mut arguments = MySqlArguments::default();
                values
                    .iter()
                    .try_for_each(|value| arguments.add(value.clone()))
                    .map_err(sqlx::Error::Encode)?;
                sqlx::query_with(AssertSqlSafe(sql), arguments).execute(pool).await.with_context(told)?;
            }
        }
        Ok(())
    }

    /// Writes a row; what it does not name is as the table's defaults have it.
    pub(crate) async fn insert(&self, table: &str, row: &[(&str, Option<String>)]) -> Result<()> {
        let columns: Vec<&str> = row.iter().map(|(column, _)| *column).collect();
        let marks = vec!["?"; columns.len()].join(", ");
        let sql = format!("INSERT INTO {table} ({}) VALUES ({marks})", columns.join(", "));
        let values: Vec<Option<String>> = row.iter().map(|(_, value)| value.clone()).collect();
        self.run(&sql, &values).await
    }

    /// These columns of all rows of `from` (a table, and what may follow it) as text.
    pub(crate) async fn rows(&self, columns: &[&str], from: &str) -> Result<Vec<Texts>> {
        let casts: Vec<String> = columns.iter().map(|column| format!("CAST({column} AS CHAR)")).collect();
        let sql = AssertSqlSafe(format!("SELECT {} FROM {from}", casts.join(", ")));
        let count = columns.len();
        match self {
            Self::Sqlite { pool, .. } => {
                let rows = sqlx::query(sql).fetch_all(pool).await.with_context(|| from.to_owned())?;
                rows.iter()
                    .map(|row| Ok((0..count).map(|at| row.try_get(at)).collect::<Result<_, _>>()?))
                    .collect()
            }
            Self::Mysql { pool, .. } => {
                let rows = sqlx::query(sql).fetch_all(pool).await.with_context(|| from.to_owned())?;
                rows.iter()
                    .map(|row| Ok((0..count).map(|at| row.try_get(at)).collect::<Result<_, _>>()?))
                    .collect()
            }
        }
    }

    /// Takes it away again.
    pub(crate) async fn remove(self) -> Result<()> {
        match self {
            Self::Sqlite { pool, .. } => pool.close().await,
            Self::Mysql { name, pool, .. } => {
                sqlx::raw_sql(AssertSqlSafe(format!("DROP DATABASE {name}"))).execute(&pool).await?;
                pool.close().await;
            }
        }
        Ok(())
    }
}
