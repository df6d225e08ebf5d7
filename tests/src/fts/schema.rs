//! The database: FTS's own tables in a SQLite file or on a MariaDB server, which another process reads and writes at the same time.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use sqlx::mysql::MySqlConnectOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use time::macros::format_description;
use time::{OffsetDateTime, PrimitiveDateTime};
use token_core::UnixSeconds;

use super::sql::{Pool, Writing, statement};
use super::{FtsConfig, Provider};
use crate::pool::pool;

const SCHEMA: &str = include_str!("schema.sql");
/// What of it the tables that were read from a real MariaDB do not have.
const MARIADB: [&str; 3] = [
    "CREATE TABLE IF NOT EXISTS t_credential (dlg_id char(16) NOT NULL, dn varchar(255) NOT NULL, proxy longtext, \
     voms_attrs longtext, termination_time timestamp NULL DEFAULT NULL, PRIMARY KEY (dlg_id, dn))",
    "CREATE TABLE IF NOT EXISTS t_bad_ses (se varchar(150) NOT NULL, message varchar(2048), \
     addition_time timestamp NULL DEFAULT NULL, admin_dn varchar(255), vo varchar(50) NOT NULL, \
     status varchar(10) NOT NULL, PRIMARY KEY (se, vo))",
    "CREATE TABLE IF NOT EXISTS t_bad_dns (dn varchar(255) NOT NULL PRIMARY KEY, message varchar(2048), \
     addition_time timestamp NULL DEFAULT NULL, admin_dn varchar(255), status varchar(10) NOT NULL)",
];

/// FTS's database, opened.
#[derive(Clone)]
pub(super) struct Database {
    path: PathBuf,
    /// One connection: SQLite has one writer anyway, and a queue here is fairer than its busy loop. On a server, what is written
    /// here never stands in its own way.
    writer: Pool,
    /// For reading; never waits for the writer.
    pub(super) reader: Pool,
}

impl Database {
    /// Opens it, makes what tables are missing in a file, and adds `providers` that are missing.
    pub(super) async fn open(config: &FtsConfig) -> Result<Self> {
        let database = match &config.mysql {
            Some(url) => Self::mysql(&config.database, url).await?,
            None => Self::sqlite(&config.database).await?,
        };
        let mut write = database.write().await?;
        for provider in &config.providers {
            add(&mut write, provider).await.context("writing t_token_provider")?;
        }
        write.commit().await?;
        Ok(database)
    }

    async fn sqlite(path: &Path) -> Result<Self> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Normal)
            .busy_timeout(Duration::from_secs(10))
            .foreign_keys(true);
        let opening = || format!("opening FTS's database {}", path.display());
        let writer = pool(1).connect_with(options.clone()).await.with_context(opening)?;
        sqlx::raw_sql(SCHEMA).execute(&writer).await.with_context(opening)?;
        let reader = pool(4).connect_with(options).await.with_context(opening)?;
        Ok(Self { path: path.to_owned(), writer: Pool::Sqlite(writer), reader: Pool::Sqlite(reader) })
    }

    /// On a server whose tables are there.
    async fn mysql(path: &Path, url: &str) -> Result<Self> {
        let options: MySqlConnectOptions = url.parse().context("the URL of FTS's database")?;
        let options = options.timezone(Some("+00:00".to_owned()));
        let open = async |connections| {
            pool(connections)
                .connect_with(options.clone())
                .await
                .context("opening FTS's database on its server")
        };
        let writer = open(1).await?;
        for table in MARIADB {
            sqlx::raw_sql(table).execute(&writer).await.context("making FTS's tables")?;
        }
        Ok(Self { path: path.to_owned(), writer: Pool::Mysql(writer), reader: Pool::Mysql(open(4).await?) })
    }

    /// Where the file is, or would be.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// A transaction. In a file it holds the write lock from its start: one that turns from reading to writing can't wait for the
    /// lock, it fails.
    pub(super) async fn write(&self) -> Result<Writing, sqlx::Error> {
        Ok(match &self.writer {
            Pool::Sqlite(pool) => Writing::Sqlite(pool.begin_with("BEGIN IMMEDIATE").await?),
            Pool::Mysql(pool) => Writing::Mysql(pool.begin().await?),
        })
    }
}

async fn add(write: &mut Writing, provider: &Provider) -> Result<(), sqlx::Error> {
    let known = statement("SELECT 1 FROM t_token_provider WHERE issuer = ?").bind(&provider.issuer);
    if known.fetch_optional(&mut *write).await?.is_none() {
        statement(
            "INSERT INTO t_token_provider (name, issuer, client_id, client_secret, vo_mapping) VALUES (?, ?, ?, ?, ?)",
        )
        .bind(&provider.name)
        .bind(&provider.issuer)
        .bind(&provider.client_id)
        .bind(provider.client_secret.expose())
        .bind(&provider.vo)
        .execute(write)
        .await?;
    }
    Ok(())
}

/// A time as FTS's timestamp columns hold it, UTC.
pub(super) fn timestamp(at: UnixSeconds) -> String {
    let format = format_description!("[year]-[month]-[day] [hour]:[minute]:[second]");
    OffsetDateTime::from_unix_timestamp(at.0).ok().and_then(|at| at.format(format).ok()).unwrap_or_default()
}

/// A time as it stands in a timestamp column, in epoch seconds.
pub(super) fn seconds(text: &str) -> Option<i64> {
    let format = format_description!("[year]-[month]-[day] [hour]:[minute]:[second]");
    PrimitiveDateTime::parse(text, format).ok().map(|at| at.assume_utc().unix_timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_mariadb_writes_them() {
        assert_eq!(timestamp(UnixSeconds(1_795_458_026)), "2026-11-23 18:20:26");
        assert_eq!(seconds("2026-11-23 18:20:26"), Some(1_795_458_026));
    }

    #[tokio::test]
    async fn a_second_opening_keeps_the_data_and_foreign_keys_hold() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fts.sqlite");
        for round in 0..2 {
            let database = Database::open(&FtsConfig::new(&path, Vec::new())).await.unwrap();
            let gridmap =
                statement("INSERT INTO t_gridmap VALUES (?, 'vo')").bind(i64::try_from(round).unwrap());
            let mut write = database.write().await.unwrap();
            gridmap.execute(&mut write).await.unwrap();
            let orphan = "INSERT INTO t_file (job_id, file_state) VALUES ('none', 'SUBMITTED')";
            assert!(statement(orphan).execute(&mut write).await.is_err());
            write.commit().await.unwrap();
            let rows = statement("SELECT dn FROM t_gridmap").fetch_all(&database.reader).await.unwrap();
            assert_eq!(rows.len(), round + 1);
            let versions =
                statement("SELECT * FROM t_schema_vers").fetch_all(&database.reader).await.unwrap();
            assert_eq!(versions.len(), 1);
        }
    }
}
