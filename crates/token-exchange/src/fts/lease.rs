//! Leases: which worker looks at which job, until when.
//!
//! A lease is a row with an owner, drawn at random each time, and an end. Whoever writes for a job names the owner; a worker
//! that was too slow finds that its row is another's and writes nothing.

use std::collections::BTreeSet;

use token_core::{UnixSeconds, random_hex};

use super::database::Row;
use super::statement::{Statement, Value};
use super::{DatabaseError, During as _, FtsDatabase};

const WHAT: &str = "leasing jobs";
/// How often other jobs are looked for when other workers took those that were found.
const LOOKS: u32 = 5;

/// A job that is ours to work on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The job.
    pub job: String,
    /// Who we are for this lease.
    pub owner: String,
    /// How often the job had been put off before.
    pub attempts: i64,
}

/// A job that somebody has to look at.
struct Due {
    job: String,
    /// Whether nobody has looked at it before: it has no row in our table.
    new: bool,
}

impl FtsDatabase {
    /// Leases up to `limit` jobs that have files in `TOKEN_PREP`, the longest waiting first; jobs that are leased, or put off
    /// to a later time, are passed over.
    ///
    /// # Errors
    /// When a statement fails; then nothing is leased.
    pub async fn lease(
        &self,
        limit: u32,
        now: UnixSeconds,
        end: UnixSeconds,
    ) -> Result<Vec<Lease>, DatabaseError> {
        // Jobs that others have just taken, or are about to.
        let mut passed = BTreeSet::new();
        for look in 1..=LOOKS {
            let mut jobs = self.tried(|| self.due(limit.saturating_mul(look), now)).await?;
            jobs.retain(|due| !passed.contains(&due.job));
            jobs.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
            // All workers lock rows in the same order: then they wait for each other, and not in a circle.
            jobs.sort_unstable_by(|a, b| a.job.cmp(&b.job));
            if jobs.is_empty() {
                break;
            }
            let leases = self.tried(|| self.take(&jobs, now, end)).await?;
            if !leases.is_empty() {
                return Ok(leases);
            }
            passed.extend(jobs.into_iter().map(|due| due.job));
        }
        Ok(Vec::new())
    }

    async fn due(&self, limit: u32, now: UnixSeconds) -> Result<Vec<Due>, DatabaseError> {
        let statement = Statement::new(
            "SELECT f.job_id, max(CASE WHEN l.job_id IS NULL THEN 1 ELSE 0 END) \
             FROM t_file f LEFT JOIN token_exchange_lease l ON l.job_id = f.job_id \
             WHERE f.file_state = 'TOKEN_PREP' AND (l.job_id IS NULL OR (l.lease_end <= ? AND l.retry_at <= ?)) \
             GROUP BY f.job_id ORDER BY min(f.file_id) LIMIT ?",
        );
        let statement = statement.with(now.0).with(now.0).with(i64::from(limit));
        let rows = self.database.fetch(statement).await.during(WHAT)?;
        let due = |row: &Row| Ok(Due { job: row.get(0)?, new: row.integer(1)? == 1 });
        rows.iter().map(due).collect::<Result<_, sqlx::Error>>().during(WHAT)
    }

    /// Takes those of `jobs` that are still free. Only the `UPDATE` decides: whoever comes second finds that its condition does
    /// not hold any more.
    async fn take(
        &self,
        due: &[Due],
        now: UnixSeconds,
        end: UnixSeconds,
    ) -> Result<Vec<Lease>, DatabaseError> {
        let dialect = self.database.dialect();
        let free = |due: &Due| [(&due.job).into(), Value::from(""), 0.into(), 0.into(), 0.into()];
        let mut new = due.iter().filter(|due| due.new).map(free).peekable();
        if new.peek().is_some() {
            // By itself, so that nobody waits for these rows longer than for one statement.
            let rows = Statement::new(
                "INSERT INTO token_exchange_lease (job_id, owner, lease_end, attempts, retry_at) ",
            );
            let rows = rows.rows(new).then(&dialect.or_update("job_id", "attempts = attempts"));
            self.database.execute(rows).await.during(WHAT)?;
        }

        let mut transaction = self.begin(WHAT).await?;
        let condition = " AND lease_end <= ? AND retry_at <= ?";
        let jobs: Vec<String> = match dialect.lock_free_ones() {
            None => due.iter().map(|due| due.job.clone()).collect(),
            Some(lock) => {
                let statement = Statement::new("SELECT job_id FROM token_exchange_lease WHERE job_id IN ")
                    .list(due.iter().map(|due| &due.job));
                let statement = statement.then(condition).with(now.0).with(now.0).then(lock);
                let rows = transaction.fetch(statement).await.during(WHAT)?;
                rows.iter().map(|row| row.get(0)).collect::<Result<_, _>>().during(WHAT)?
            }
        };
        if jobs.is_empty() {
            return Ok(Vec::new());
        }
        let owner = random_hex();
        let taking =
            Statement::new("UPDATE token_exchange_lease SET owner = ?, lease_end = ? WHERE job_id IN ")
                .with(&owner)
                .with(end.0)
                .list(&jobs)
                .then(condition)
                .with(now.0)
                .with(now.0);
        transaction.execute(taking).await.during(WHAT)?;
        let ours = Statement::new("SELECT job_id, attempts FROM token_exchange_lease WHERE job_id IN ");
        let ours = ours.list(&jobs).then(" AND owner = ?").with(&owner);
        let rows = transaction.fetch(ours).await.during(WHAT)?;
        transaction.commit().await.during(WHAT)?;
        rows.iter()
            .map(|row| Ok(Lease { job: row.get(0)?, owner: owner.clone(), attempts: row.integer(1)? }))
            .collect::<Result<_, _>>()
            .during(WHAT)
    }

    /// Ends leases early, since nothing was done: the jobs are there for the next worker at once.
    ///
    /// # Errors
    /// When a statement fails; the leases then end by themselves.
    pub async fn give_back(&self, leases: &[Lease]) -> Result<(), DatabaseError> {
        for lease in leases {
            let end = || {
                Statement::new("UPDATE token_exchange_lease SET lease_end = 0 WHERE job_id = ? AND owner = ?")
                    .with(&lease.job)
                    .with(&lease.owner)
            };
            self.tried(async || self.database.execute(end()).await.during("ending leases")).await?;
        }
        Ok(())
    }
}
