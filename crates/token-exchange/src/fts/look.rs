//! Reads for a person who asks. Nothing here writes or locks.

use token_core::UnixSeconds;

use super::database::Row;
use super::statement::Statement;
use super::waiting::WaitingFile;
use super::{DatabaseError, During as _, FtsDatabase, schema, seconds};

const WHAT: &str = "reading";

/// A file and its job, in whatever state.
#[derive(Clone, Debug)]
pub struct SeenFile {
    /// What decides which tokens it needs.
    pub file: WaitingFile,
    /// `t_file.job_id`.
    pub job: String,
    /// `t_file.file_state`.
    pub state: String,
    /// `t_file.reason`.
    pub reason: Option<String>,
    /// The reason of its first attempt, if it was tried several times. The last one's may speak of what the first left behind.
    pub first_reason: Option<String>,
    /// When its transfer began.
    pub started: Option<UnixSeconds>,
    /// When it ended.
    pub finished: Option<UnixSeconds>,
    /// `t_job.job_state`.
    pub job_state: String,
    /// `t_job.job_type`.
    pub job_type: Option<String>,
    /// When its job was submitted.
    pub submitted: Option<UnixSeconds>,
}

/// A token row, without the token.
#[derive(Clone, Debug)]
pub struct SeenToken {
    /// `t_token.issuer`.
    pub issuer: String,
    /// `t_token.audience`.
    pub audience: String,
    /// `t_token.scope`.
    pub scope: String,
    /// `t_token.access_token_expiry`.
    pub ends: Option<UnixSeconds>,
    /// Whether FTS and `fts_url_copy` leave it alone.
    pub unmanaged: bool,
    /// Whether it has a refresh token.
    pub refreshable: bool,
    /// Whether FTS has retired it.
    pub retired: bool,
    /// Why it was not renewed.
    pub refresh_message: Option<String>,
}

/// What our table holds of a job.
#[derive(Clone, Debug)]
pub struct SeenLease {
    /// Who has it, if anybody has had it.
    pub owner: String,
    /// Until when.
    pub ends: UnixSeconds,
    /// How often it was put off.
    pub attempts: i64,
    /// When it is tried again.
    pub retry_at: UnixSeconds,
    /// Why it was put off.
    pub message: Option<String>,
}

/// Files that wait for the same reason.
#[derive(Clone, Debug)]
pub struct Backlog {
    /// Why they were put off; none for those that nobody has looked at, or that somebody has in hand.
    pub message: Option<String>,
    /// Whether a worker has them in hand.
    pub leased: bool,
    /// How many.
    pub files: i64,
    /// When the job of the oldest was submitted.
    pub oldest: Option<UnixSeconds>,
}

/// The leases.
#[derive(Clone, Debug, Default)]
pub struct Leases {
    /// Held now.
    pub held: i64,
    /// By so many batches of workers.
    pub owners: i64,
    /// Ended without having been given back: of workers that died.
    pub ended: i64,
    /// Put off until later.
    pub put_off: i64,
    /// When the first of those is tried again.
    pub next: Option<UnixSeconds>,
}

/// Tokens that were handed over for one audience of one issuer.
#[derive(Clone, Debug)]
pub struct Held {
    /// The issuer.
    pub issuer: String,
    /// The audience.
    pub audience: String,
    /// How many.
    pub tokens: i64,
    /// When the first of them ends.
    pub first_end: Option<UnixSeconds>,
    /// When the last of them ends.
    pub last_end: Option<UnixSeconds>,
}

impl FtsDatabase {
    /// The major version of FTS's schema, and whether our tables are there.
    ///
    /// # Errors
    /// When a statement fails.
    pub async fn shape(&self) -> Result<(i64, bool), DatabaseError> {
        let version = schema::version(&self.database).await.during(WHAT)?.unwrap_or_default();
        Ok((version, schema::missing(&self.database).await.during(WHAT)?.is_none()))
    }

    /// When `fts_token` gave its last sign of life, and where.
    ///
    /// # Errors
    /// When a statement fails.
    pub async fn fts_token_beat(&self) -> Result<Option<(String, Option<UnixSeconds>)>, DatabaseError> {
        let statement = Statement::new(
            "SELECT hostname, CAST(beat AS CHAR) FROM t_hosts WHERE service_name = 'fts_token' ORDER BY beat DESC LIMIT 1",
        );
        let rows = self.database.fetch(statement).await.during(WHAT)?;
        rows.first().map(|row| Ok((row.get(0)?, time(row, 1)?))).transpose().during(WHAT)
    }

    /// The next jobs with files in `TOKEN_PREP`, by id, after `after`.
    ///
    /// # Errors
    /// When a statement fails.
    pub async fn waiting_jobs(&self, after: &str, most: u32) -> Result<Vec<String>, DatabaseError> {
        let statement = Statement::new(
            "SELECT DISTINCT job_id FROM t_file WHERE file_state = 'TOKEN_PREP' AND job_id > ? ORDER BY job_id LIMIT ?",
        );
        let rows = self.database.fetch(statement.with(after).with(i64::from(most))).await.during(WHAT)?;
        rows.iter().map(|row| row.get(0)).collect::<Result<_, _>>().during(WHAT)
    }

    /// A file by its `file_id`.
    ///
    /// # Errors
    /// When a statement fails.
    pub async fn file(&self, id: i64) -> Result<Option<SeenFile>, DatabaseError> {
        let statement = Statement::new(
            "SELECT f.job_id, f.file_state, f.file_state_initial, f.source_surl, f.dest_surl, f.src_token_id, \
             f.dst_token_id, f.reason, CAST(f.start_time AS CHAR), CAST(f.finish_time AS CHAR), j.job_state, \
             j.job_type, j.overwrite_flag, CAST(j.submit_time AS CHAR) \
             FROM t_file f JOIN t_job j ON j.job_id = f.job_id WHERE f.file_id = ?",
        );
        let rows = self.database.fetch(statement.with(id)).await.during(WHAT)?;
        let Some(row) = rows.first() else { return Ok(None) };
        let read = |row: &Row| -> Result<SeenFile, sqlx::Error> {
            let text = |at| Ok::<_, sqlx::Error>(row.get::<Option<String>>(at)?.unwrap_or_default());
            let planned = Some(text(2)?).filter(|state| !state.is_empty());
            Ok(SeenFile {
                file: WaitingFile {
                    id,
                    planned: planned.unwrap_or_else(|| "SUBMITTED".into()),
                    source_url: text(3)?,
                    destination_url: text(4)?,
                    source_token: row.get(5)?,
                    destination_token: row.get(6)?,
                    overwrites: matches!(text(12)?.as_str(), flag if !flag.is_empty() && flag != "N"),
                },
                job: row.get(0)?,
                state: row.get(1)?,
                reason: row.get::<Option<String>>(7)?.filter(|reason| !reason.is_empty()),
                first_reason: None,
                started: time(row, 8)?,
                finished: time(row, 9)?,
                job_state: row.get(10)?,
                job_type: row.get(11)?,
                submitted: time(row, 13)?,
            })
        };
        let mut seen = read(row).during(WHAT)?;
        seen.first_reason = self.first_reason(id).await?;
        Ok(Some(seen))
    }

    async fn first_reason(&self, id: i64) -> Result<Option<String>, DatabaseError> {
        if self.database.columns("t_file_retry_errors").await.during(WHAT)?.is_empty() {
            return Ok(None);
        }
        let statement = Statement::new(
            "SELECT reason FROM t_file_retry_errors WHERE file_id = ? ORDER BY attempt LIMIT 1",
        );
        let rows = self.database.fetch(statement.with(id)).await.during(WHAT)?;
        Ok(rows.first().map(|row| row.get::<Option<String>>(0)).transpose().during(WHAT)?.flatten())
    }

    /// A token row by its `token_id`.
    ///
    /// # Errors
    /// When a statement fails.
    pub async fn token(&self, id: &str) -> Result<Option<SeenToken>, DatabaseError> {
        let statement = Statement::new(
            "SELECT issuer, audience, scope, CAST(access_token_expiry AS CHAR), coalesce(unmanaged, 0), \
             CASE WHEN coalesce(refresh_token, '') = '' THEN 0 ELSE 1 END, coalesce(retired, 0), refresh_message \
             FROM t_token WHERE token_id = ?",
        );
        let rows = self.database.fetch(statement.with(id)).await.during(WHAT)?;
        let read = |row: &Row| {
            Ok(SeenToken {
                issuer: row.get(0)?,
                audience: row.get(1)?,
                scope: row.get(2)?,
                ends: time(row, 3)?,
                unmanaged: row.integer(4)? != 0,
                refreshable: row.integer(5)? != 0,
                retired: row.integer(6)? != 0,
                refresh_message: row.get(7)?,
            })
        };
        rows.first().map(read).transpose().during(WHAT)
    }

    /// How a token of ours was got, and for whose token; none when it is none of ours, or our table is not there.
    ///
    /// # Errors
    /// When a statement fails.
    pub async fn origin_of(&self, id: &str) -> Result<Option<(String, String)>, DatabaseError> {
        if schema::missing(&self.database).await.during(WHAT)?.is_some() {
            return Ok(None);
        }
        let statement = Statement::new("SELECT how, subject_id FROM token_exchange_token WHERE token_id = ?");
        let rows = self.database.fetch(statement.with(id)).await.during(WHAT)?;
        rows.first().map(|row| Ok((row.get(0)?, row.get(1)?))).transpose().during(WHAT)
    }

    /// What our table holds of a job; none when nobody has looked at it, or our table is not there.
    ///
    /// # Errors
    /// When a statement fails.
    pub async fn lease_of(&self, job: &str) -> Result<Option<SeenLease>, DatabaseError> {
        if schema::missing(&self.database).await.during(WHAT)?.is_some() {
            return Ok(None);
        }
        let statement = Statement::new(
            "SELECT owner, lease_end, attempts, retry_at, message FROM token_exchange_lease WHERE job_id = ?",
        );
        let rows = self.database.fetch(statement.with(job)).await.during(WHAT)?;
        let read = |row: &Row| {
            Ok(SeenLease {
                owner: row.get(0)?,
                ends: UnixSeconds(row.integer(1)?),
                attempts: row.integer(2)?,
                retry_at: UnixSeconds(row.integer(3)?),
                message: row.get(4)?,
            })
        };
        rows.first().map(read).transpose().during(WHAT)
    }

    /// The files in `TOKEN_PREP`, by why they wait. Our tables have to be there.
    ///
    /// # Errors
    /// When a statement fails.
    pub async fn backlog(&self, now: UnixSeconds) -> Result<Vec<Backlog>, DatabaseError> {
        let statement = Statement::new(
            "SELECT CASE WHEN l.lease_end > ? THEN 1 ELSE 0 END, \
             CASE WHEN l.lease_end > ? THEN NULL ELSE l.message END, count(*), CAST(min(j.submit_time) AS CHAR) \
             FROM t_file f JOIN t_job j ON j.job_id = f.job_id LEFT JOIN token_exchange_lease l ON l.job_id = f.job_id \
             WHERE f.file_state = 'TOKEN_PREP' GROUP BY 1, 2 ORDER BY 3 DESC",
        );
        let rows = self.database.fetch(statement.with(now.0).with(now.0)).await.during(WHAT)?;
        let read = |row: &Row| {
            Ok(Backlog {
                leased: row.integer(0)? != 0,
                message: row.get(1)?,
                files: row.integer(2)?,
                oldest: time(row, 3)?,
            })
        };
        rows.iter().map(read).collect::<Result<_, _>>().during(WHAT)
    }

    /// The leases. Our tables have to be there.
    ///
    /// # Errors
    /// When a statement fails.
    pub async fn leases(&self, now: UnixSeconds) -> Result<Leases, DatabaseError> {
        let count = async |condition: &str, what: &str| {
            let statement =
                Statement::new(&format!("SELECT {what} FROM token_exchange_lease WHERE {condition}"));
            let rows = self.database.fetch(statement.with(now.0)).await.during(WHAT)?;
            rows.first().map(|row| row.integer(0)).transpose().during(WHAT).map(Option::unwrap_or_default)
        };
        let put_off = count("lease_end = 0 AND retry_at > ?", "count(*)").await?;
        let next = match put_off {
            0 => None,
            _ => Some(UnixSeconds(count("lease_end = 0 AND retry_at > ?", "min(retry_at)").await?)),
        };
        Ok(Leases {
            held: count("lease_end > ?", "count(*)").await?,
            owners: count("lease_end > ?", "count(DISTINCT owner)").await?,
            ended: count("lease_end > 0 AND lease_end <= ?", "count(*)").await?,
            put_off,
            next,
        })
    }

    /// The tokens that we handed over and that FTS still has, by issuer and audience. Our tables have to be there.
    ///
    /// # Errors
    /// When a statement fails.
    pub async fn held(&self) -> Result<Vec<Held>, DatabaseError> {
        let statement = Statement::new(
            "SELECT t.issuer, t.audience, count(*), CAST(min(t.access_token_expiry) AS CHAR), \
             CAST(max(t.access_token_expiry) AS CHAR) FROM t_token t \
             JOIN token_exchange_token n ON n.token_id = t.token_id GROUP BY t.issuer, t.audience ORDER BY 4",
        );
        let rows = self.database.fetch(statement).await.during(WHAT)?;
        let read = |row: &Row| {
            Ok(Held {
                issuer: row.get(0)?,
                audience: row.get(1)?,
                tokens: row.integer(2)?,
                first_end: time(row, 3)?,
                last_end: time(row, 4)?,
            })
        };
        rows.iter().map(read).collect::<Result<_, _>>().during(WHAT)
    }
}

/// A time that may be missing.
fn time(row: &Row, at: usize) -> Result<Option<UnixSeconds>, sqlx::Error> {
    Ok(row.get::<Option<String>>(at)?.as_deref().and_then(seconds))
}
