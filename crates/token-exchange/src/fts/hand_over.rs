//! Writes the tokens down and lets the files go: one transaction a job.

use std::collections::{BTreeSet, HashMap};

use sqlx::{Sqlite, Transaction};
use token_core::{AccessToken, Fingerprint, UnixSeconds};

use super::lease::Lease;
use super::{DatabaseError, During as _, FtsDatabase, stamp};
use crate::decide::Fate;

const WHAT: &str = "handing tokens over";
/// `t_file.reason` and our own message hold this many characters.
const REASON: usize = 2048;
/// What FTS itself writes when a file of a job has failed.
const JOB_REASON: &str = "One or more files failed. Please have a look at the details for more information";

/// An endpoint token to be handed over.
#[derive(Clone, Debug, PartialEq)]
pub struct EndpointToken {
    /// The token.
    pub token: AccessToken,
    /// When it ends.
    pub expires_at: UnixSeconds,
    /// The issuer as `t_token_provider` writes it.
    pub issuer: String,
    /// Its scopes.
    pub scope: String,
    /// Its audience.
    pub audience: String,
}

/// What a hand-over did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HandedOver {
    /// Files that left `TOKEN_PREP` with tokens.
    pub released: usize,
    /// Files that failed.
    pub failed: usize,
    /// Files of a cancelled job.
    pub cancelled: usize,
    /// Files that stay.
    pub waiting: usize,
}

impl FtsDatabase {
    /// Carries the fates of a job's files out. Only files that still are in `TOKEN_PREP` are touched, and none of a job that
    /// was cancelled meanwhile but to end it. If files stay, the job is put off to `retry_at`; else its lease row goes.
    ///
    /// # Errors
    /// [`DatabaseError::LeaseLost`] when the lease is not ours any more, and when a statement fails; then nothing has
    /// changed.
    pub async fn hand_over(
        &self,
        lease: &Lease,
        fates: &[(i64, Fate<EndpointToken>)],
        now: UnixSeconds,
        retry_at: UnixSeconds,
    ) -> Result<HandedOver, DatabaseError> {
        let mut transaction = self.begin(WHAT).await?;
        let mut done = HandedOver::default();
        if cancelled(&mut transaction, &lease.job).await? {
            done.cancelled = cancel(&mut transaction, &lease.job, now).await?;
            end(&mut transaction, lease, now).await?;
            transaction.commit().await.during(WHAT)?;
            return Ok(done);
        }
        let mut ids: HashMap<Fingerprint, ()> = HashMap::new();
        let mut why = BTreeSet::new();
        for (file, fate) in fates {
            match fate {
                Fate::Release { state, source, destination } => {
                    for token in [source, destination] {
                        if ids.insert(token.token.fingerprint(), ()).is_none() {
                            insert(&mut transaction, token).await?;
                        }
                    }
                    done.released += release(&mut transaction, *file, state, source, destination).await?;
                }
                Fate::Fail(reason) => done.failed += fail(&mut transaction, *file, reason, now).await?,
                Fate::Spare => spare(&mut transaction, *file).await?,
                Fate::Wait(reason) => {
                    done.waiting += 1;
                    why.insert(reason.as_str());
                }
            }
        }
        if done.failed > 0 {
            fail_job(&mut transaction, &lease.job, now).await?;
        }
        if done.waiting == 0 {
            end(&mut transaction, lease, now).await?;
        } else {
            let why = why.into_iter().collect::<Vec<_>>().join("; ");
            put_off(&mut transaction, lease, now, retry_at, &why).await?;
        }
        transaction.commit().await.during(WHAT)?;
        Ok(done)
    }
}

type Writing = Transaction<'static, Sqlite>;

async fn cancelled(transaction: &mut Writing, job: &str) -> Result<bool, DatabaseError> {
    let rows: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM t_job WHERE job_id = $1 AND (job_state = 'CANCELED' OR coalesce(cancel_job, 'N') = 'Y')",
    )
    .bind(job)
    .fetch_one(&mut **transaction)
    .await
    .during(WHAT)?;
    Ok(rows > 0)
}

async fn cancel(transaction: &mut Writing, job: &str, now: UnixSeconds) -> Result<usize, DatabaseError> {
    let done = sqlx::query(
        "UPDATE t_file SET file_state = 'CANCELED', finish_time = $2, reason = 'Job canceled by the user' \
         WHERE job_id = $1 AND file_state = 'TOKEN_PREP'",
    );
    let done = done.bind(job).bind(stamp(now)).execute(&mut **transaction).await.during(WHAT)?;
    Ok(usize::try_from(done.rows_affected()).unwrap_or(usize::MAX))
}

/// `unmanaged`: neither FTS nor `fts_url_copy` tries to exchange or refresh it. A token that is there already is put back
/// into use, as FTS itself does.
async fn insert(transaction: &mut Writing, token: &EndpointToken) -> Result<(), DatabaseError> {
    sqlx::query(
        "INSERT INTO t_token (token_id, access_token, access_token_expiry, issuer, scope, audience, retired, unmanaged) \
         VALUES ($1, $2, $3, $4, $5, $6, 0, 1) ON CONFLICT (token_id) DO UPDATE SET retired = 0",
    )
    .bind(token.token.fingerprint().as_str())
    .bind(token.token.expose())
    .bind(stamp(token.expires_at))
    .bind(&token.issuer)
    .bind(&token.scope)
    .bind(&token.audience)
    .execute(&mut **transaction)
    .await
    .during("writing tokens")
    .map(drop)
}

async fn release(
    transaction: &mut Writing,
    file: i64,
    state: &str,
    source: &EndpointToken,
    destination: &EndpointToken,
) -> Result<usize, DatabaseError> {
    let done = sqlx::query(
        "UPDATE t_file SET src_token_id = $2, dst_token_id = $3, file_state = $4 \
         WHERE file_id = $1 AND file_state = 'TOKEN_PREP'",
    )
    .bind(file)
    .bind(source.token.fingerprint().as_str())
    .bind(destination.token.fingerprint().as_str())
    .bind(state)
    .execute(&mut **transaction)
    .await
    .during(WHAT)?;
    Ok(usize::try_from(done.rows_affected()).unwrap_or(usize::MAX))
}

async fn fail(
    transaction: &mut Writing,
    file: i64,
    reason: &str,
    now: UnixSeconds,
) -> Result<usize, DatabaseError> {
    let reason = cut(&format!("[token-exchange] {reason}"));
    let done = sqlx::query(
        "UPDATE t_file SET file_state = 'FAILED', reason = $2, finish_time = $3 \
         WHERE file_id = $1 AND file_state = 'TOKEN_PREP'",
    );
    let done =
        done.bind(file).bind(reason).bind(stamp(now)).execute(&mut **transaction).await.during(WHAT)?;
    Ok(usize::try_from(done.rows_affected()).unwrap_or(usize::MAX))
}

async fn spare(transaction: &mut Writing, file: i64) -> Result<(), DatabaseError> {
    let done = sqlx::query(
        "UPDATE t_file SET file_state = 'NOT_USED' WHERE file_id = $1 AND file_state = 'TOKEN_PREP'",
    );
    done.bind(file).execute(&mut **transaction).await.during(WHAT).map(drop)
}

/// Ends the job if nothing of it is left to run. Rows that are `NOT_USED` run only after another of theirs.
async fn fail_job(transaction: &mut Writing, job: &str, now: UnixSeconds) -> Result<(), DatabaseError> {
    sqlx::query(
        "UPDATE t_job SET job_finished = $2, reason = $3, job_state = CASE WHEN EXISTS \
         (SELECT 1 FROM t_file f WHERE f.job_id = $1 AND f.file_state = 'FINISHED') THEN 'FINISHEDDIRTY' ELSE 'FAILED' END \
         WHERE job_id = $1 AND job_state NOT IN ('FINISHED', 'FAILED', 'FINISHEDDIRTY', 'CANCELED') AND NOT EXISTS \
         (SELECT 1 FROM t_file f WHERE f.job_id = $1 \
          AND f.file_state NOT IN ('FINISHED', 'FAILED', 'CANCELED', 'NOT_USED'))",
    )
    .bind(job)
    .bind(stamp(now))
    .bind(JOB_REASON)
    .execute(&mut **transaction)
    .await
    .during("ending a job")
    .map(drop)
}

/// The job is done with. Fails when the lease is not ours any more, and with it the whole transaction.
async fn end(transaction: &mut Writing, lease: &Lease, now: UnixSeconds) -> Result<(), DatabaseError> {
    let done =
        sqlx::query("DELETE FROM token_exchange_lease WHERE job_id = $1 AND owner = $2 AND lease_end > $3");
    let done = done
        .bind(&lease.job)
        .bind(&lease.owner)
        .bind(now.0)
        .execute(&mut **transaction)
        .await
        .during(WHAT)?;
    still_ours(done.rows_affected(), lease)
}

async fn put_off(
    transaction: &mut Writing,
    lease: &Lease,
    now: UnixSeconds,
    retry_at: UnixSeconds,
    why: &str,
) -> Result<(), DatabaseError> {
    let done = sqlx::query(
        "UPDATE token_exchange_lease SET lease_end = 0, attempts = attempts + 1, retry_at = $4, message = $5 \
         WHERE job_id = $1 AND owner = $2 AND lease_end > $3",
    );
    let done = done.bind(&lease.job).bind(&lease.owner).bind(now.0).bind(retry_at.0).bind(cut(why));
    let done = done.execute(&mut **transaction).await.during(WHAT)?;
    still_ours(done.rows_affected(), lease)
}

fn still_ours(rows: u64, lease: &Lease) -> Result<(), DatabaseError> {
    if rows == 1 { Ok(()) } else { Err(DatabaseError::LeaseLost(lease.job.clone())) }
}

fn cut(text: &str) -> String {
    text.chars().take(REASON).collect()
}
