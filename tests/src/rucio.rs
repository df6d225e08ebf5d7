//! A real Rucio database, made by Rucio's own code, moved to loopback: its storage hosts and its FTS are rewritten to the
//! grid's ports, and nothing else is touched.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use md5::{Digest as _, Md5};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, Row as _, SqlitePool};
use token_core::{hex, random_hex};

/// A Rucio database on SQLite.
#[derive(Clone)]
pub struct RucioDatabase {
    path: PathBuf,
    pool: SqlitePool,
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
        let pool =
            SqlitePool::connect_with(options).await.with_context(|| format!("opening {}", path.display()))?;
        Ok(Self { path: path.to_owned(), pool })
    }

    /// The URL for a daemon's configuration, as `rucio.cfg` would write it.
    pub fn url(&self) -> String {
        format!("sqlite:///{}", self.path.display())
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The pool, for what a test wants to see or change.
    pub fn pool(&self) -> &SqlitePool {
        &self.pool
    }

    /// The storages that speak `davs`.
    ///
    /// # Errors
    /// When the database can't be read.
    pub async fn sites(&self) -> Result<Vec<Site>> {
        let rows = sqlx::query(
            "SELECT r.rse, p.hostname, p.port, coalesce(p.prefix, '') FROM rse_protocols p JOIN rses r ON r.id = p.rse_id \
             WHERE p.scheme = 'davs' ORDER BY r.rse, p.hostname, p.port",
        );
        rows.fetch_all(&self.pool)
            .await?
            .iter()
            .map(|row| {
                Ok(Site {
                    rse: row.try_get(0)?,
                    host: row.try_get(1)?,
                    port: row.try_get(2)?,
                    prefix: row.try_get(3)?,
                })
            })
            .collect()
    }

    /// Moves one storage to `port` of 127.0.0.1.
    ///
    /// # Errors
    /// When the database can't be written.
    pub async fn move_site(&self, site: &Site, port: u16) -> Result<()> {
        sqlx::query(
            "UPDATE rse_protocols SET hostname = '127.0.0.1', port = $1 WHERE scheme = 'davs' AND hostname = $2 \
             AND port = $3 AND rse_id = (SELECT id FROM rses WHERE rse = $4)",
        )
        .bind(i64::from(port))
        .bind(&site.host)
        .bind(site.port)
        .bind(&site.rse)
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Names another FTS wherever one is named, and puts the storages that the grid does not have on loopback too.
    ///
    /// # Errors
    /// When the database can't be written.
    pub async fn move_fts(&self, url: &str) -> Result<()> {
        sqlx::query("UPDATE rse_attr_map SET value = $1 WHERE key = 'fts' AND value <> ''")
            .bind(url)
            .execute(&self.pool)
            .await?;
        sqlx::query("UPDATE OR IGNORE rse_protocols SET hostname = '127.0.0.1' WHERE scheme <> 'davs'")
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// Where every available replica of a queued file is.
    ///
    /// # Errors
    /// When the database can't be read.
    pub async fn files(&self) -> Result<Vec<KnownFile>> {
        let rows = sqlx::query(
            "SELECT DISTINCT s.rse, coalesce(p.prefix, ''), rep.scope, rep.name, rep.path, rep.bytes FROM replicas rep \
             JOIN requests q ON q.scope = rep.scope AND q.name = rep.name \
             JOIN rses s ON s.id = rep.rse_id JOIN rse_protocols p ON p.rse_id = s.id AND p.scheme = 'davs' \
             WHERE rep.state = 'A'",
        );
        rows.fetch_all(&self.pool)
            .await?
            .iter()
            .map(|row| {
                let (prefix, scope, name): (String, String, String) =
                    (row.try_get(1)?, row.try_get(2)?, row.try_get(3)?);
                let path: Option<String> = row.try_get(4)?;
                let below = path.unwrap_or_else(|| lfn2pfn(&scope, &name));
                let path = format!("{}/{}", prefix.trim_end_matches('/'), below.trim_start_matches('/'));
                Ok(KnownFile { rse: row.try_get(0)?, path, name, bytes: row.try_get(5)? })
            })
            .collect()
    }

    /// All requests.
    ///
    /// # Errors
    /// When the database can't be read.
    pub async fn wanted(&self) -> Result<Vec<Wanted>> {
        let rows =
            sqlx::query("SELECT state, dest_url, coalesce(adler32, ''), coalesce(bytes, 0) FROM requests");
        rows.fetch_all(&self.pool)
            .await?
            .iter()
            .map(|row| {
                Ok(Wanted {
                    state: row.try_get(0)?,
                    destination_url: row.try_get(1)?,
                    adler32: row.try_get(2)?,
                    bytes: row.try_get(3)?,
                })
            })
            .collect()
    }

    /// How many requests are in each state.
    ///
    /// # Errors
    /// When the database can't be read.
    pub async fn states(&self) -> Result<BTreeMap<String, i64>> {
        let rows =
            sqlx::query("SELECT state, count(*) FROM requests GROUP BY state").fetch_all(&self.pool).await?;
        rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
    }

    /// How many requests were ended without a submission, by the reason in words.
    ///
    /// # Errors
    /// When the database can't be read.
    pub async fn ended(&self) -> Result<BTreeMap<String, usize>> {
        let rows = sqlx::query(
            "SELECT coalesce(err_msg, 'no reason given'), count(*) FROM requests WHERE state IN ('N', 'O', 'M', 'A') GROUP BY 1",
        );
        let rows = rows.fetch_all(&self.pool).await?;
        rows.iter().map(|row| Ok((row.try_get(0)?, usize::try_from(row.try_get::<i64, _>(1)?)?))).collect()
    }

    /// Queues submitted requests again, as Rucio's finisher does after a failure: a new request with a new id, the old one
    /// archived, its sources copied and no longer in use. Returns how many.
    ///
    /// # Errors
    /// When the database can't be written.
    pub async fn requeue(&self, most: u32) -> Result<usize> {
        let columns = |table| async move {
            sqlx::query_scalar::<_, String>("SELECT name FROM pragma_table_info($1)")
                .bind(table)
                .fetch_all(&self.pool)
                .await
        };
        let archived = columns("requests_history").await?.join(", ");
        let kept: Vec<_> =
            columns("requests").await?.into_iter().filter(|c| !EMPTIED.contains(&c.as_str())).collect();
        let kept = kept.join(", ");
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
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
