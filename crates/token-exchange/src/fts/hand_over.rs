//! Writes the tokens down and lets the files go: one transaction a job.

use std::collections::BTreeSet;
use std::time::Duration;

use token_core::{AccessToken, UnixSeconds};

use super::database::Transaction;
use super::lease::Lease;
use super::remembered::{Origin, remember};
use super::schema::OLDER;
use super::statement::Statement;
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
    /// When it was got; not now, if it was kept.
    pub obtained_at: UnixSeconds,
    /// When it ends.
    pub expires_at: UnixSeconds,
    /// The issuer as `t_token_provider` writes it.
    pub issuer: String,
    /// Its scopes.
    pub scope: String,
    /// Its audience.
    pub audience: String,
    /// Where it comes from, and so the next one.
    pub origin: Origin,
}

/// The token of one side of a file.
#[derive(Clone, Debug, PartialEq)]
pub enum Handed {
    /// The one that it was submitted with, by its `token_id`: its row stays as it is.
    Given(String),
    /// One of ours.
    Made(EndpointToken),
}

impl Handed {
    /// Its `t_token.token_id`.
    pub fn id(&self) -> String {
        match self {
            Self::Given(id) => id.clone(),
            Self::Made(token) => token.token.fingerprint().to_string(),
        }
    }
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
    /// changed. When the connection is lost during the commit and the commit was made, a lease that we ended ourselves is found
    /// lost.
    pub async fn hand_over(
        &self,
        lease: &Lease,
        fates: &[(i64, Fate<Handed>)],
        now: UnixSeconds,
        retry_at: UnixSeconds,
    ) -> Result<HandedOver, DatabaseError> {
        self.tried(|| self.hand_over_once(lease, fates, now, retry_at)).await
    }

    async fn hand_over_once(
        &self,
        lease: &Lease,
        fates: &[(i64, Fate<Handed>)],
        now: UnixSeconds,
        retry_at: UnixSeconds,
    ) -> Result<HandedOver, DatabaseError> {
        let mut writing = Writing {
            transaction: self.begin(WHAT).await?,
            lease,
            now,
            older_columns: self.older_columns,
            written: BTreeSet::new(),
        };
        let mut done = HandedOver::default();
        if writing.cancelled().await? {
            done.cancelled = writing.cancel().await?;
            writing.end().await?;
            writing.transaction.commit().await.during(WHAT)?;
            return Ok(done);
        }
        let mut why = BTreeSet::new();
        for (file, fate) in fates {
            match fate {
                Fate::Release { state, source, destination } => {
                    done.released += writing.release(*file, state, source, destination).await?;
                }
                Fate::Fail(reason) => done.failed += writing.fail(*file, reason).await?,
                Fate::Spare => writing.spare(*file).await?,
                Fate::Wait(reason) => {
                    done.waiting += 1;
                    why.insert(reason.as_str());
                }
            }
        }
        if done.failed > 0 {
            writing.fail_job().await?;
        }
        if done.waiting == 0 {
            writing.end().await?;
        } else {
            let why = why.into_iter().collect::<Vec<_>>().join("; ");
            writing.put_off(retry_at, &why).await?;
        }
        writing.transaction.commit().await.during(WHAT)?;
        Ok(done)
    }
}

/// One hand-over, under way.
struct Writing<'a> {
    transaction: Transaction,
    lease: &'a Lease,
    now: UnixSeconds,
    older_columns: bool,
    /// Ids of the tokens that this transaction has written.
    written: BTreeSet<String>,
}

impl Writing<'_> {
    async fn execute(&mut self, statement: Statement) -> Result<usize, DatabaseError> {
        let rows = self.transaction.execute(statement).await.during(WHAT)?;
        Ok(usize::try_from(rows).unwrap_or(usize::MAX))
    }

    /// Whether the job was cancelled. It can't be from here on: its row is locked.
    async fn cancelled(&mut self) -> Result<bool, DatabaseError> {
        let lock = self.transaction.dialect().lock();
        let statement = Statement::new("SELECT job_state, cancel_job FROM t_job WHERE job_id = ?").then(lock);
        let rows = self.transaction.fetch(statement.with(&self.lease.job)).await.during(WHAT)?;
        let Some(row) = rows.first() else { return Ok(false) };
        let state: String = row.get(0).during(WHAT)?;
        let cancel: Option<String> = row.get(1).during(WHAT)?;
        Ok(state == "CANCELED" || cancel.as_deref() == Some("Y"))
    }

    async fn cancel(&mut self) -> Result<usize, DatabaseError> {
        let statement = Statement::new(
            "UPDATE t_file SET file_state = 'CANCELED', finish_time = ?, reason = 'Job canceled by the user' \
             WHERE job_id = ? AND file_state = 'TOKEN_PREP'",
        );
        self.execute(statement.with(stamp(self.now)).with(&self.lease.job)).await
    }

    async fn release(
        &mut self,
        file: i64,
        state: &str,
        source: &Handed,
        destination: &Handed,
    ) -> Result<usize, DatabaseError> {
        for token in [source, destination] {
            if let Handed::Made(token) = token {
                self.insert(token).await?;
            }
        }
        let statement = Statement::new(
            "UPDATE t_file SET src_token_id = ?, dst_token_id = ?, file_state = ? \
             WHERE file_id = ? AND file_state = 'TOKEN_PREP'",
        );
        self.execute(statement.with(source.id()).with(destination.id()).with(state).with(file)).await
    }

    /// `unmanaged`: neither FTS nor `fts_url_copy` tries to exchange or refresh it. A token that is there already is put back
    /// into use, as FTS itself does. What is written is remembered, for its renewal.
    async fn insert(&mut self, token: &EndpointToken) -> Result<(), DatabaseError> {
        let id = token.token.fingerprint().to_string();
        if !self.written.insert(id.clone()) {
            return Ok(());
        }
        let (columns, marks) = if self.older_columns { (OLDER.as_slice(), ", ?, ?") } else { (&[][..], "") };
        let columns: String = columns.iter().map(|column| format!(", {column}")).collect();
        let statement = Statement::new(&format!(
            "INSERT INTO t_token (token_id, access_token, access_token_expiry, issuer, scope, audience, retired, \
             unmanaged{columns}) VALUES (?, ?, ?, ?, ?, ?, 0, 1{marks})"
        ));
        let mut statement = statement
            .with(id)
            .with(token.token.expose())
            .with(stamp(token.expires_at))
            .with(&token.issuer)
            .with(&token.scope)
            .with(&token.audience);
        if self.older_columns {
            // As REST writes them: half of its life.
            let life = self.now.until(token.expires_at);
            let half = self.now.plus(Duration::from_secs(life.as_secs() / 2));
            statement = statement.with(stamp(self.now)).with(stamp(half));
        }
        let again = self.transaction.dialect().or_update("token_id", "retired = 0");
        self.transaction.execute(statement.then(&again)).await.during("writing tokens")?;
        let remembered = remember(self.transaction.dialect(), token);
        self.transaction.execute(remembered).await.during("writing tokens").map(drop)
    }

    async fn fail(&mut self, file: i64, reason: &str) -> Result<usize, DatabaseError> {
        let statement = Statement::new(
            "UPDATE t_file SET file_state = 'FAILED', reason = ?, finish_time = ? \
             WHERE file_id = ? AND file_state = 'TOKEN_PREP'",
        );
        let reason = cut(&format!("[token-exchange] {reason}"));
        self.execute(statement.with(reason).with(stamp(self.now)).with(file)).await
    }

    async fn spare(&mut self, file: i64) -> Result<(), DatabaseError> {
        let statement = Statement::new(
            "UPDATE t_file SET file_state = 'NOT_USED' WHERE file_id = ? AND file_state = 'TOKEN_PREP'",
        );
        self.execute(statement.with(file)).await.map(drop)
    }

    /// Ends the job if nothing of it is left to run. Rows that are `NOT_USED` run only after another of theirs.
    async fn fail_job(&mut self) -> Result<(), DatabaseError> {
        let job = &self.lease.job;
        let statement = Statement::new(
            "UPDATE t_job SET job_finished = ?, reason = ?, job_state = CASE WHEN EXISTS \
             (SELECT 1 FROM t_file f WHERE f.job_id = ? AND f.file_state = 'FINISHED') \
             THEN 'FINISHEDDIRTY' ELSE 'FAILED' END \
             WHERE job_id = ? AND job_state NOT IN ('FINISHED', 'FAILED', 'FINISHEDDIRTY', 'CANCELED') AND NOT EXISTS \
             (SELECT 1 FROM t_file f WHERE f.job_id = ? \
              AND f.file_state NOT IN ('FINISHED', 'FAILED', 'CANCELED', 'NOT_USED'))",
        );
        let statement = statement.with(stamp(self.now)).with(JOB_REASON).with(job).with(job).with(job);
        self.transaction.execute(statement).await.during("ending a job").map(drop)
    }

    /// The job is done with. Fails when the lease is not ours any more, and with it the whole transaction.
    async fn end(&mut self) -> Result<(), DatabaseError> {
        let statement = Statement::new(
            "DELETE FROM token_exchange_lease WHERE job_id = ? AND owner = ? AND lease_end > ?",
        );
        let lease = self.lease;
        let rows = self.execute(statement.with(&lease.job).with(&lease.owner).with(self.now.0)).await?;
        still_ours(rows, lease)
    }

    async fn put_off(&mut self, retry_at: UnixSeconds, why: &str) -> Result<(), DatabaseError> {
        let statement = Statement::new(
            "UPDATE token_exchange_lease SET lease_end = 0, attempts = attempts + 1, retry_at = ?, message = ? \
             WHERE job_id = ? AND owner = ? AND lease_end > ?",
        );
        let statement = statement.with(retry_at.0).with(cut(why));
        let lease = self.lease;
        let rows = self.execute(statement.with(&lease.job).with(&lease.owner).with(self.now.0)).await?;
        still_ours(rows, lease)
    }
}

fn still_ours(rows: usize, lease: &Lease) -> Result<(), DatabaseError> {
    if rows == 1 { Ok(()) } else { Err(DatabaseError::LeaseLost(lease.job.clone())) }
}

/// As much as fits. The character set of FTS's columns is the site's choice, and each takes ASCII.
pub(super) fn cut(text: &str) -> String {
    text.chars().take(REASON).map(|c| if c.is_ascii() { c } else { '?' }).collect()
}
