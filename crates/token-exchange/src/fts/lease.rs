//! Leases: which worker looks at which job, until when.
//!
//! A lease is a row with an owner, drawn at random each time, and an end. Whoever writes for a job names the owner; a worker
//! that was too slow finds that its row is another's and writes nothing.

use sqlx::{QueryBuilder, Row as _, Sqlite};
use token_core::{UnixSeconds, random_hex};

use super::{DatabaseError, During as _, FtsDatabase};

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
        const WHAT: &str = "leasing jobs";
        let mut transaction = self.begin(WHAT).await?;
        let jobs: Vec<String> = sqlx::query_scalar(
            "SELECT f.job_id FROM t_file f LEFT JOIN token_exchange_lease l ON l.job_id = f.job_id \
             WHERE f.file_state = 'TOKEN_PREP' AND (l.job_id IS NULL OR (l.lease_end <= $1 AND l.retry_at <= $1)) \
             GROUP BY f.job_id ORDER BY min(f.file_id) LIMIT $2",
        )
        .bind(now.0)
        .bind(limit)
        .fetch_all(&mut *transaction)
        .await
        .during(WHAT)?;
        if jobs.is_empty() {
            return Ok(Vec::new());
        }
        let owner = random_hex();
        let mut query = QueryBuilder::<Sqlite>::new(
            "INSERT INTO token_exchange_lease (job_id, owner, lease_end, attempts, retry_at) ",
        );
        query.push_values(&jobs, |mut row, job| {
            row.push_bind(job).push_bind(&owner).push_bind(end.0).push("0").push("0");
        });
        query.push(
            " ON CONFLICT (job_id) DO UPDATE SET owner = excluded.owner, lease_end = excluded.lease_end \
             RETURNING job_id, attempts",
        );
        let rows = query.build().fetch_all(&mut *transaction).await.during(WHAT)?;
        let lease = |row: &sqlx::sqlite::SqliteRow| {
            Ok(Lease { job: row.try_get(0)?, owner: owner.clone(), attempts: row.try_get(1)? })
        };
        let leases = rows.iter().map(lease).collect::<Result<_, sqlx::Error>>().during(WHAT)?;
        transaction.commit().await.during(WHAT)?;
        Ok(leases)
    }

    /// Ends leases early, since nothing was done: the jobs are there for the next worker at once.
    ///
    /// # Errors
    /// When a statement fails; the leases then end by themselves.
    pub async fn give_back(&self, leases: &[Lease]) -> Result<(), DatabaseError> {
        for lease in leases {
            sqlx::query("UPDATE token_exchange_lease SET lease_end = 0 WHERE job_id = $1 AND owner = $2")
                .bind(&lease.job)
                .bind(&lease.owner)
                .execute(&self.pool)
                .await
                .during("ending leases")?;
        }
        Ok(())
    }
}
