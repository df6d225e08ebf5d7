//! Reads what waits: the files of leased jobs, and the tokens they were submitted with.

use std::collections::HashMap;

use token_core::{AccessToken, Claims, UnixSeconds};

use super::database::Row;
use super::lease::Lease;
use super::statement::Statement;
use super::{DatabaseError, During as _, FtsDatabase};
use crate::decide::Kind;

const WHAT: &str = "reading files in TOKEN_PREP";

/// A job with its files that wait.
#[derive(Clone, Debug)]
pub struct WaitingJob {
    /// That it is ours; without an owner, it is looked at only.
    pub lease: Lease,
    /// What its rows have to do with each other.
    pub kind: Kind,
    /// Whether it was cancelled. FTS leaves its waiting files as they are, and they would be transferred (observed).
    pub cancelled: bool,
    /// `t_job.max_time_in_queue`: when its files have waited too long.
    pub queue_ends: Option<UnixSeconds>,
    /// Its files in `TOKEN_PREP`, in the order of their ids.
    pub files: Vec<WaitingFile>,
}

/// A file in `TOKEN_PREP`.
#[derive(Clone, Debug)]
pub struct WaitingFile {
    /// `t_file.file_id`.
    pub id: i64,
    /// What FTS had planned: `SUBMITTED`, `NOT_USED`, `STAGING`, `ON_HOLD`.
    pub planned: String,
    /// Where from.
    pub source_url: String,
    /// Where to.
    pub destination_url: String,
    /// `t_file.src_token_id`; none when FTS accepted empty token lists.
    pub source_token: Option<String>,
    /// `t_file.dst_token_id`.
    pub destination_token: Option<String>,
    /// Whether its job may replace a file that is there (`t_job.overwrite_flag`, any letter).
    pub overwrites: bool,
}

/// A token that a job was submitted with: the subject of an exchange.
#[derive(Clone, Debug)]
pub struct Subject {
    /// `t_token.token_id`.
    pub id: String,
    /// `t_token.audience`.
    pub audience: String,
    /// The token and what it says of itself; none when the column holds something that is no WLCG token.
    pub token: Option<(AccessToken, Claims)>,
    /// The issuer as `t_token_provider` writes it, with a slash at the end.
    pub issuer: String,
    /// Whether its submitter sees to it: it is not to be exchanged or refreshed.
    pub unmanaged: bool,
    /// Whether it has a refresh token, and so was exchanged before.
    pub refreshable: bool,
}

impl Subject {
    /// What it says of itself, if it is a WLCG token.
    pub fn claims(&self) -> Option<&Claims> {
        self.token.as_ref().map(|(_, claims)| claims)
    }

    /// Whether it has not ended by `at`, as far as it says.
    pub fn lives(&self, at: UnixSeconds) -> bool {
        self.claims().is_some_and(|claims| claims.exp > at)
    }

    /// Whose it is; without a `sub`, nobody knows whose else it could be.
    pub fn identity(&self) -> Option<String> {
        let (token, claims) = self.token.as_ref()?;
        Some(claims.sub.clone().unwrap_or_else(|| token.fingerprint().to_string()))
    }
}

impl FtsDatabase {
    /// The waiting files of these jobs, whoever works on them: to be looked at only.
    ///
    /// # Errors
    /// When a statement fails.
    pub async fn waiting(&self, jobs: &[&str]) -> Result<Vec<WaitingJob>, DatabaseError> {
        let statement = columns("j.job_id", "0").then(
            "FROM t_file f JOIN t_job j ON j.job_id = f.job_id WHERE f.file_state = 'TOKEN_PREP' AND j.job_id IN ",
        );
        self.read("", statement.list(jobs.iter().copied()).then(" ORDER BY j.job_id, f.file_id")).await
    }

    /// Those of these jobs whose leases are this owner's, with their waiting files, of which there may be none left.
    pub(super) async fn waiting_of(
        &self,
        owner: &str,
        jobs: &[&str],
    ) -> Result<Vec<WaitingJob>, DatabaseError> {
        let statement = columns("l.job_id", "l.attempts").then(
            "FROM token_exchange_lease l LEFT JOIN t_job j ON j.job_id = l.job_id \
             LEFT JOIN t_file f ON f.job_id = l.job_id AND f.file_state = 'TOKEN_PREP' WHERE l.owner = ? AND l.job_id IN ",
        );
        let statement =
            statement.with(owner).list(jobs.iter().copied()).then(" ORDER BY l.job_id, f.file_id");
        self.read(owner, statement).await
    }

    async fn read(&self, owner: &str, statement: Statement) -> Result<Vec<WaitingJob>, DatabaseError> {
        let rows = self.tried(async || self.database.fetch(statement.clone()).await.during(WHAT)).await?;
        let mut waiting: Vec<(WaitingJob, i64)> = Vec::new();
        for row in &rows {
            let id: String = row.get(0).during(WHAT)?;
            if waiting.last().is_none_or(|(job, _)| job.lease.job != id) {
                waiting.push((job(owner, id, row).during(WHAT)?, row.integer(13).during(WHAT)?));
            }
            if let (Some((job, _)), Some(file)) = (waiting.last_mut(), file(row).during(WHAT)?) {
                job.files.push(file);
            }
        }
        let judged = |(job, going): (WaitingJob, i64)| {
            let planned = job.files.iter().map(|file| file.planned.as_str());
            WaitingJob { kind: job.kind.planned(planned, going), ..job }
        };
        Ok(waiting.into_iter().map(judged).collect())
    }

    /// The tokens of these ids.
    ///
    /// # Errors
    /// When a statement fails.
    pub async fn subjects(&self, ids: &[&str]) -> Result<HashMap<String, Subject>, DatabaseError> {
        const WHAT: &str = "reading tokens";
        if ids.is_empty() {
            return Ok(HashMap::new());
        }
        let statement = Statement::new(
            "SELECT token_id, access_token, issuer, coalesce(unmanaged, 0), \
             CASE WHEN coalesce(refresh_token, '') = '' THEN 0 ELSE 1 END, audience FROM t_token WHERE token_id IN ",
        );
        let statement = statement.list(ids.iter().copied());
        let rows = self.tried(async || self.database.fetch(statement.clone()).await.during(WHAT)).await?;
        let subject = |row: &Row| {
            let subject = Subject {
                id: row.get(0)?,
                audience: row.get(5)?,
                token: AccessToken::new(row.get::<String>(1)?)
                    .ok()
                    .and_then(|token| Claims::peek(&token).ok().map(|claims| (token, claims))),
                issuer: row.get(2)?,
                unmanaged: row.integer(3)? != 0,
                refreshable: row.integer(4)? != 0,
            };
            Ok((row.get(0)?, subject))
        };
        rows.iter().map(subject).collect::<Result<_, sqlx::Error>>().during(WHAT)
    }
}

/// The last column is for jobs of several sources or destinations only: how many of their rows are or were to go, whatever became
/// of the others. What never was in `TOKEN_PREP` shows that by its state alone.
fn columns(job: &str, attempts: &str) -> Statement {
    Statement::new(&format!(
        "SELECT {job}, j.job_type, j.job_state, j.cancel_job, f.file_id, f.file_state_initial, f.source_surl, f.dest_surl, \
         f.src_token_id, f.dst_token_id, {attempts}, j.max_time_in_queue, j.overwrite_flag, \
         CASE WHEN j.job_type = 'R' THEN (SELECT count(*) FROM t_file g WHERE g.job_id = j.job_id \
         AND coalesce(nullif(g.file_state_initial, ''), g.file_state) <> 'NOT_USED') ELSE 0 END "
    ))
}

fn job(owner: &str, id: String, row: &Row) -> Result<WaitingJob, sqlx::Error> {
    let state: Option<String> = row.get(2)?;
    let cancel: Option<String> = row.get(3)?;
    Ok(WaitingJob {
        lease: Lease { job: id, owner: owner.to_owned(), attempts: row.integer(10)? },
        kind: Kind::parse(row.get::<Option<String>>(1)?.as_deref()),
        cancelled: state.as_deref() == Some("CANCELED") || cancel.as_deref() == Some("Y"),
        queue_ends: row.maybe_integer(11)?.filter(|at| *at > 0).map(UnixSeconds),
        files: Vec::new(),
    })
}

fn file(row: &Row) -> Result<Option<WaitingFile>, sqlx::Error> {
    let Some(id) = row.maybe_integer(4)? else { return Ok(None) };
    let planned: Option<String> = row.get(5)?;
    Ok(Some(WaitingFile {
        id,
        planned: planned.filter(|state| !state.is_empty()).unwrap_or_else(|| "SUBMITTED".into()),
        source_url: row.get::<Option<String>>(6)?.unwrap_or_default(),
        destination_url: row.get::<Option<String>>(7)?.unwrap_or_default(),
        source_token: row.get(8)?,
        destination_token: row.get(9)?,
        overwrites: row.get::<Option<String>>(12)?.is_some_and(|flag| !flag.is_empty() && flag != "N"),
    }))
}
