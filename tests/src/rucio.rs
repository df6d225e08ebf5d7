//! A real Rucio database, made by Rucio's own code, moved to loopback: its storage hosts and its FTS are rewritten to the
//! grid's ports, and nothing else is touched.

mod tables;

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result};
use md5::{Digest as _, Md5};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, SqlitePool};
use token_core::{hex, random_hex};

use crate::pool::pool;
use tables::{Tables, number, quoted, text};

/// A Rucio database, on SQLite or PostgreSQL.
#[derive(Clone)]
pub struct RucioDatabase {
    /// The file, or the URL.
    place: String,
    tables: Tables,
}

/// A storage that the database knows: a `davs` protocol of an RSE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// The RSE's name.
    pub rse: String,
    /// The host in the database.
    pub host: String,
    /// The port in the database.
    pub port: i64,
    /// The path before every file's.
    pub prefix: String,
}

/// A file at a site.
#[derive(Clone, Debug)]
pub struct KnownFile {
    /// The RSE's name.
    pub rse: String,
    /// The path at the storage.
    pub path: String,
    /// The file's name, of which its content is made.
    pub name: String,
    /// Its size in bytes.
    pub bytes: i64,
}

/// What a request asks for.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The state it is in, one letter.
    pub state: String,
    /// Where it was sent.
    pub destination_url: Option<String>,
    /// What Rucio's catalogue says its checksum is.
    pub adler32: String,
    /// And its size.
    pub bytes: i64,
}

impl RucioDatabase {
    /// Copies the database at `original` to `path` and opens the copy.
    ///
    /// # Errors
    /// When it can't be copied or opened.
    pub async fn copy(original: &Path, path: &Path) -> Result<Self> {
        std::fs::copy(original, path).with_context(|| format!("copying {}", original.display()))?;
        Self::open(path).await
    }

    /// Opens a database that is there.
    ///
    /// # Errors
    /// When it can't be opened.
    pub async fn open(path: &Path) -> Result<Self> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(false)
            .foreign_keys(true)
            .busy_timeout(std::time::Duration::from_secs(10));
        let opened =
            pool(10).connect_with(options).await.with_context(|| format!("opening {}", path.display()))?;
        Ok(Self { place: format!("sqlite:///{}", path.display()), tables: Tables::Sqlite(opened) })
    }

    /// Opens a database on PostgreSQL that is there; it is used as it is.
    ///
    /// # Errors
    /// When it can't be opened.
    pub async fn postgres(url: &str) -> Result<Self> {
        let rest = url.split_once("://").context("a URL")?.1;
        let opened = pool(10).connect(&format!("postgresql://{rest}")).await.context("opening PostgreSQL")?;
        Ok(Self { place: format!("postgresql+psycopg://{rest}"), tables: Tables::Postgres(opened) })
    }

    /// The URL for a daemon's configuration, as `rucio.cfg` would write it.
    pub fn url(&self) -> &str {
        &self.place
    }

    /// The file.
    ///
    /// # Panics
    /// On PostgreSQL, which has none.
    pub fn path(&self) -> &Path {
        let path = self.place.strip_prefix("sqlite:///");
        Path::new(path.unwrap_or_else(|| panic!("this database is not in a file")))
    }

    /// SQLite's pool, for what a test wants to see or change.
    ///
    /// # Panics
    /// On PostgreSQL: use [`Self::texts`] and [`Self::run`].
    pub fn pool(&self) -> &SqlitePool {
        match &self.tables {
            Tables::Sqlite(pool) => pool,
            Tables::Postgres(_) => panic!("this database is on PostgreSQL"),
        }
    }

    /// The rows that a statement gives, every value as text; ids on PostgreSQL with their dashes.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn texts(&self, sql: &str) -> Result<Vec<Vec<Option<String>>>> {
        self.tables.texts(sql).await
    }

    /// Runs a statement.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn run(&self, sql: &str) -> Result<()> {
        self.tables.run(sql).await
    }

    /// The storages that speak `davs`.
    ///
    /// # Errors
    /// When the database can't be read.
    pub async fn sites(&self) -> Result<Vec<Site>> {
        let rows = self.texts(
            "SELECT r.rse, p.hostname, p.port, coalesce(p.prefix, '') FROM rse_protocols p JOIN rses r ON r.id = p.rse_id \
             WHERE p.scheme = 'davs' ORDER BY r.rse, p.hostname, p.port",
        );
        let site = |row: &Vec<_>| {
            Ok(Site { rse: text(row, 0)?, host: text(row, 1)?, port: number(row, 2)?, prefix: text(row, 3)? })
        };
        rows.await?.iter().map(site).collect()
    }

    /// Moves one storage to `port` of 127.0.0.1.
    ///
    /// # Errors
    /// When the database can't be written.
    pub async fn move_site(&self, site: &Site, port: u16) -> Result<()> {
        let (host, was, rse) = (quoted(&site.host), site.port, quoted(&site.rse));
        self.run(&format!(
            "UPDATE rse_protocols SET hostname = '127.0.0.1', port = {port} WHERE scheme = 'davs' AND hostname = {host} \
             AND port = {was} AND rse_id = (SELECT id FROM rses WHERE rse = {rse})"
        ))
        .await
    }

    /// Names another FTS wherever one is named.
    ///
    /// # Errors
    /// When the database can't be written.
    pub async fn move_fts(&self, url: &str) -> Result<()> {
        let url = quoted(url);
        self.run(&format!("UPDATE rse_attr_map SET value = {url} WHERE key = 'fts' AND value <> ''")).await
    }

    /// Puts the storages that the grid does not have on loopback too.
    ///
    /// # Errors
    /// When the database can't be written.
    pub async fn move_others(&self) -> Result<()> {
        // All but those that would then be one.
        self.run(
            "UPDATE rse_protocols AS p SET hostname = '127.0.0.1' WHERE scheme <> 'davs' AND NOT EXISTS \
             (SELECT 1 FROM rse_protocols o WHERE o.rse_id = p.rse_id AND o.scheme = p.scheme AND o.port = p.port \
             AND o.hostname <> p.hostname)",
        )
        .await
    }

    /// Where every available replica of a queued file is.
    ///
    /// # Errors
    /// When the database can't be read.
    pub async fn files(&self) -> Result<Vec<KnownFile>> {
        let rows = self.texts(
            "SELECT DISTINCT s.rse, coalesce(p.prefix, ''), rep.scope, rep.name, rep.path, rep.bytes FROM replicas rep \
             JOIN requests q ON q.scope = rep.scope AND q.name = rep.name \
             JOIN rses s ON s.id = rep.rse_id JOIN rse_protocols p ON p.rse_id = s.id AND p.scheme = 'davs' \
             WHERE rep.state = 'A'",
        );
        let file = |row: &Vec<Option<String>>| {
            let (prefix, scope, name) = (text(row, 1)?, text(row, 2)?, text(row, 3)?);
            let below = row.get(4).cloned().flatten().unwrap_or_else(|| lfn2pfn(&scope, &name));
            let path = format!("{}/{}", prefix.trim_end_matches('/'), below.trim_start_matches('/'));
            Ok(KnownFile { rse: text(row, 0)?, path, name, bytes: number(row, 5)? })
        };
        rows.await?.iter().map(file).collect()
    }

    /// All requests.
    ///
    /// # Errors
    /// When the database can't be read.
    pub async fn wanted(&self) -> Result<Vec<Wanted>> {
        let rows =
            self.texts("SELECT state, dest_url, coalesce(adler32, ''), coalesce(bytes, 0) FROM requests");
        let wanted = |row: &Vec<Option<String>>| {
            Ok(Wanted {
                state: text(row, 0)?,
                destination_url: row.get(1).cloned().flatten(),
                adler32: text(row, 2)?,
                bytes: number(row, 3)?,
            })
        };
        rows.await?.iter().map(wanted).collect()
    }

    /// How many requests are in each state.
    ///
    /// # Errors
    /// When the database can't be read.
    pub async fn states(&self) -> Result<BTreeMap<String, i64>> {
        let rows = self.texts("SELECT state, count(*) FROM requests GROUP BY state").await?;
        rows.iter().map(|row| Ok((text(row, 0)?, number(row, 1)?))).collect()
    }

    /// How many requests were ended without a submission, by the reason in words.
    ///
    /// # Errors
    /// When the database can't be read.
    pub async fn ended(&self) -> Result<BTreeMap<String, usize>> {
        let rows = self.texts(
            "SELECT coalesce(err_msg, 'no reason given'), count(*) FROM requests WHERE state IN ('N', 'O', 'M', 'A') GROUP BY 1",
        );
        rows.await?.iter().map(|row| Ok((text(row, 0)?, usize::try_from(number(row, 1)?)?))).collect()
    }

    /// Queues submitted requests again, as Rucio's finisher does after a failure: a new request with a new id, the old one
    /// archived, its sources copied and no longer in use. Returns how many. On SQLite only.
    ///
    /// # Errors
    /// When the database can't be written.
    pub async fn requeue(&self, most: u32) -> Result<usize> {
        let columns = |table| async move {
            sqlx::query_scalar::<_, String>("SELECT name FROM pragma_table_info($1)")
                .bind(table)
                .fetch_all(self.pool())
                .await
        };
        let archived = columns("requests_history").await?.join(", ");
        let kept: Vec<_> =
            columns("requests").await?.into_iter().filter(|c| !EMPTIED.contains(&c.as_str())).collect();
        let kept = kept.join(", ");
        let mut transaction = self.pool().begin_with("BEGIN IMMEDIATE").await?;
        let ids: Vec<String> =
            sqlx::query_scalar("SELECT id FROM requests WHERE state = 'S' ORDER BY created_at, id LIMIT $1")
                .bind(most)
                .fetch_all(&mut *transaction)
                .await?;
        for old in &ids {
            let new = random_hex();
            let archive = format!(
                "INSERT INTO requests_history ({archived}) SELECT {archived} FROM requests WHERE id = $1"
            );
            sqlx::query(AssertSqlSafe(archive)).bind(old).execute(&mut *transaction).await?;
            let again = format!(
                "INSERT INTO requests (id, state, previous_attempt_id, retry_count, {kept}) \
                 SELECT $1, 'Q', id, retry_count + 1, {kept} FROM requests WHERE id = $2"
            );
            sqlx::query(AssertSqlSafe(again)).bind(&new).bind(old).execute(&mut *transaction).await?;
            sqlx::query("UPDATE sources SET request_id = $1, is_using = 0 WHERE request_id = $2")
                .bind(&new)
                .bind(old)
                .execute(&mut *transaction)
                .await?;
            sqlx::query("DELETE FROM requests WHERE id = $1").bind(old).execute(&mut *transaction).await?;
        }
        transaction.commit().await?;
        Ok(ids.len())
    }
}

/// What a requeued request does not take over. Rucio keeps `source_rse_id` and `transfertool` (observed).
const EMPTIED: [&str; 13] = [
    "id",
    "state",
    "previous_attempt_id",
    "retry_count",
    "external_id",
    "external_host",
    "dest_url",
    "submitted_at",
    "err_msg",
    "started_at",
    "transferred_at",
    "last_processed_by",
    "last_processed_at",
];

/// Rucio's default path for a name (algorithm `hash`).
pub fn lfn2pfn(scope: &str, name: &str) -> String {
    let digest = hex(&Md5::digest(format!("{scope}:{name}")));
    let folder = match scope.starts_with("user") || scope.starts_with("group") {
        true => scope.replace('.', "/"),
        false => scope.to_owned(),
    };
    format!("{folder}/{}/{}/{name}", &digest[0..2], &digest[2..4])
}
