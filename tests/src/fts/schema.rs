//! The database: one SQLite file with FTS's own tables, which another process reads and writes at the same time.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Sqlite, SqlitePool, Transaction};
use time::macros::format_description;
use time::{OffsetDateTime, PrimitiveDateTime};
use token_core::UnixSeconds;

use super::Provider;

const SCHEMA: &str = include_str!("schema.sql");

/// FTS's database, opened.
#[derive(Clone)]
pub(super) struct Database {
    path: PathBuf,
    /// One connection: SQLite has one writer anyway, and a queue here is fairer than its busy loop.
    writer: SqlitePool,
    /// For reading; never waits for the writer (WAL).
    pub(super) reader: SqlitePool,
}

impl Database {
    /// Opens the file, makes what tables are missing, and adds `providers` that are missing.
    pub(super) async fn open(path: &Path, providers: &[Provider]) -> Result<Self> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Normal)
            .busy_timeout(Duration::from_secs(10))
            .foreign_keys(true);
        let opening = || format!("opening FTS's database {}", path.display());
        let writer = SqlitePoolOptions::new()
            .max_connections(1)
            .connect_with(options.clone())
            .await
            .with_context(opening)?;
        sqlx::raw_sql(SCHEMA).execute(&writer).await.with_context(opening)?;
        for provider in providers {
            sqlx::query(
                "INSERT OR IGNORE INTO t_token_provider (name, issuer, client_id, client_secret, vo_mapping) \
                 VALUES (?, ?, ?, ?, ?)",
            )
            .bind(&provider.name)
            .bind(&provider.issuer)
            .bind(&provider.client_id)
            .bind(provider.client_secret.expose())
            .bind(&provider.vo)
            .execute(&writer)
            .await
            .context("writing t_token_provider")?;
        }
        let reader =
            SqlitePoolOptions::new().max_connections(4).connect_with(options).await.with_context(opening)?;
        Ok(Self { path: path.to_owned(), writer, reader })
    }

    /// Where the file is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// A transaction that holds the write lock from its start: one that turns from reading to writing can't wait for the
    /// lock, it fails.
    pub(super) async fn write(&self) -> Result<Transaction<'static, Sqlite>, sqlx::Error> {
        self.writer.begin_with("BEGIN IMMEDIATE").await
    }
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
            let database = Database::open(&path, &[]).await.unwrap();
            let gridmap =
                sqlx::query("INSERT INTO t_gridmap VALUES (?, 'vo')").bind(i64::try_from(round).unwrap());
            let mut write = database.write().await.unwrap();
            gridmap.execute(&mut *write).await.unwrap();
            let orphan = "INSERT INTO t_file (job_id, file_state) VALUES ('none', 'SUBMITTED')";
            assert!(sqlx::query(orphan).execute(&mut *write).await.is_err());
            write.commit().await.unwrap();
            let rows = sqlx::query("SELECT dn FROM t_gridmap").fetch_all(&database.reader).await.unwrap();
            assert_eq!(rows.len(), round + 1);
            let versions =
                sqlx::query("SELECT * FROM t_schema_vers").fetch_all(&database.reader).await.unwrap();
            assert_eq!(versions.len(), 1);
        }
    }
}
