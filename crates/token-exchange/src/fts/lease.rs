//! Leases: which worker looks at which job, until when.
//!
//! A lease is a row with an owner, drawn at random each time, and an end. Whoever writes for a job names the owner; a worker
//! that was too slow finds that its row is another's and writes nothing.

use std::collections::BTreeSet;

use token_core::{UnixSeconds, random_hex};

use super::database::Row;
use super::statement::{Statement, Value};
use super::waiting::WaitingJob;
use super::{DatabaseError, During as _, FtsDatabase};

const WHAT: &str = "leasing jobs";
/// How often other jobs are looked for when other workers took those that were found.
const LOOKS: u32 = 5;
/// So many files are looked at for each job that may be leased: most jobs have more than one.
const FILES_A_JOB: i64 = 8;
/// Most jobs named in one statement that ends leases.
const SOME: usize = 1000;

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

/// Which jobs are looked for.
#[derive(Clone, Debug)]
pub struct Look {
    /// Only files whose `file_id` is greater: 0 for all.
    pub after: i64,
    /// Most jobs.
    pub limit: u32,
    /// The time.
    pub now: UnixSeconds,
    /// Jobs that were put off to a later time are passed over.
    pub due_by: UnixSeconds,
    /// When the leases end.
    pub end: UnixSeconds,
    /// Files with tokens of these issuers, as `t_token.issuer` has them, are passed over.
    pub busy: Vec<String>,
}

/// What a look found.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// The jobs that are ours now. One whose files have left `TOKEN_PREP` meanwhile has none.
    pub jobs: Vec<WaitingJob>,
    /// The greatest `file_id` that was looked at; 0 when there was none.
    pub newest: i64,
    /// Whether there may be more.
    pub more: bool,
}

/// A job that somebody has to look at.
struct Due {
    job: String,
    /// Whether nobody has looked at it before: it has no row in our table.
    new: bool,
}

/// What one look saw.
#[derive(Default)]
struct Seen {
    jobs: Vec<Due>,
    newest: i64,
    more: bool,
}

impl FtsDatabase {
    /// Leases jobs that have files in `TOKEN_PREP`, the longest waiting first, and reads their files; jobs that are leased, or
    /// put off to a later time, are passed over.
    ///
    /// Three statements for jobs that are new: the look, one `INSERT` that only the first of two workers makes, and the reading
    /// of what is ours.
    ///
    /// # Errors
    /// When a statement fails; what was leased by then is free again when the lease ends.
    pub async fn lease(&self, look: &Look) -> Result<Found, DatabaseError> {
        // Jobs that others have just taken, or are about to.
        let mut passed = BTreeSet::new();
        let mut found = Found::default();
        for _ in 0..LOOKS {
            let Seen { mut jobs, newest, more } = self.tried(|| self.due(look, &passed)).await?;
            (found.newest, found.more) = (found.newest.max(newest), more);
            if jobs.is_empty() {
                break;
            }
            // All workers lock rows in the same order: then they wait for each other, and not in a circle.
            jobs.sort_unstable_by(|a, b| a.job.cmp(&b.job));
            let owner = random_hex();
            self.tried(|| self.take(&jobs, look, &owner)).await?;
            let ids: Vec<&str> = jobs.iter().map(|due| due.job.as_str()).collect();
            found.jobs = self.waiting_of(&owner, &ids).await?;
            if !found.jobs.is_empty() {
                break;
            }
            passed.extend(jobs.into_iter().map(|due| due.job));
        }
        Ok(found)
    }

    /// The index of FTS's on the state holds the files of one state in the order of their ids, so that no more rows are read
    /// than are wanted, however many wait.
    async fn due(&self, look: &Look, passed: &BTreeSet<String>) -> Result<Seen, DatabaseError> {
        let statement = Statement::new(&format!(
            "SELECT f.file_id, f.job_id, CASE WHEN l.job_id IS NULL THEN 1 ELSE 0 END FROM t_file f{} \
             LEFT JOIN token_exchange_lease l ON l.job_id = f.job_id WHERE f.file_state = 'TOKEN_PREP' AND f.file_id > ? \
             AND (l.job_id IS NULL OR (l.lease_end <= ? AND l.retry_at <= ?))",
            self.state_index
        ));
        let mut statement = statement.with(look.after).with(look.now.0).with(look.due_by.0);
        if !look.busy.is_empty() {
            statement = statement
                .then(
                    " AND NOT EXISTS (SELECT 1 FROM t_token t WHERE t.token_id IN (f.src_token_id, f.dst_token_id) \
                     AND t.issuer IN ",
                )
                .list(&look.busy)
                .then(")");
        }
        let most = i64::from(look.limit) * FILES_A_JOB + i64::try_from(passed.len()).unwrap_or(0);
        let statement = statement.then(" ORDER BY f.file_id LIMIT ?").with(most);
        let rows = self.database.fetch(statement).await.during(WHAT)?;
        let full = i64::try_from(rows.len()).is_ok_and(|rows| rows >= most);
        seen(look, passed, &rows, full).during(WHAT)
    }

    /// Takes those of `jobs` that are still free. Only the `INSERT` or the `UPDATE` decides: whoever comes second finds the row
    /// there, or that its condition does not hold any more.
    async fn take(&self, due: &[Due], look: &Look, owner: &str) -> Result<(), DatabaseError> {
        let dialect = self.database.dialect();
        let ours = |due: &Due| [(&due.job).into(), Value::from(owner), look.end.0.into(), 0.into(), 0.into()];
        let mut new = due.iter().filter(|due| due.new).map(ours).peekable();
        if new.peek().is_some() {
            let rows = Statement::new(
                "INSERT INTO token_exchange_lease (job_id, owner, lease_end, attempts, retry_at) ",
            );
            let rows = rows.rows(new).then(&dialect.or_update("job_id", "attempts = attempts"));
            self.database.execute(rows).await.during(WHAT)?;
        }
        let old: Vec<&String> = due.iter().filter(|due| !due.new).map(|due| &due.job).collect();
        if old.is_empty() {
            return Ok(());
        }
        let mut transaction = self.begin(WHAT).await?;
        let condition = " AND lease_end <= ? AND retry_at <= ?";
        let free = |statement: Statement| statement.then(condition).with(look.now.0).with(look.due_by.0);
        let jobs: Vec<String> = match dialect.lock_free_ones() {
            None => old.into_iter().cloned().collect(),
            Some(lock) => {
                let statement = Statement::new("SELECT job_id FROM token_exchange_lease WHERE job_id IN ");
                let rows = transaction.fetch(free(statement.list(old)).then(lock)).await.during(WHAT)?;
                rows.iter().map(|row| row.get(0)).collect::<Result<_, _>>().during(WHAT)?
            }
        };
        if jobs.is_empty() {
            return Ok(());
        }
        let taking =
            Statement::new("UPDATE token_exchange_lease SET owner = ?, lease_end = ? WHERE job_id IN ")
                .with(owner)
                .with(look.end.0)
                .list(&jobs);
        transaction.execute(free(taking)).await.during(WHAT)?;
        transaction.commit().await.during(WHAT)
    }

    /// Moves the ends of the leases of these owners, as far as they have not ended: their jobs are being worked on still.
    ///
    /// # Errors
    /// When a statement fails; the leases then end when they would have.
    pub async fn extend(
        &self,
        owners: &[String],
        now: UnixSeconds,
        end: UnixSeconds,
    ) -> Result<(), DatabaseError> {
        if owners.is_empty() {
            return Ok(());
        }
        let statement =
            Statement::new("UPDATE token_exchange_lease SET lease_end = ? WHERE lease_end > ? AND owner IN ")
                .with(end.0)
                .with(now.0)
                .list(owners);
        self.tried(async || self.database.execute(statement.clone()).await.during("extending leases"))
            .await?;
        Ok(())
    }

    /// Ends leases early, since nothing was done: the jobs are there for the next worker at once.
    ///
    /// # Errors
    /// When a statement fails; the leases then end by themselves.
    pub async fn give_back(&self, leases: &[Lease]) -> Result<(), DatabaseError> {
        for some in leases.chunks(SOME) {
            let owners: BTreeSet<&String> = some.iter().map(|lease| &lease.owner).collect();
            let statement = Statement::new("UPDATE token_exchange_lease SET lease_end = 0 WHERE job_id IN ")
                .list(some.iter().map(|lease| &lease.job))
                .then(" AND owner IN ")
                .list(owners);
            self.tried(async || self.database.execute(statement.clone()).await.during("ending leases"))
                .await?;
        }
        Ok(())
    }
}

/// As many jobs as may be leased, the longest waiting first, and up to which file they were looked for.
fn seen(look: &Look, passed: &BTreeSet<String>, rows: &[Row], full: bool) -> Result<Seen, sqlx::Error> {
    let mut seen = Seen { more: full, ..Seen::default() };
    let mut known = BTreeSet::new();
    for row in rows {
        let job: String = row.get(1)?;
        let another = !known.contains(&job) && !passed.contains(&job);
        if another && u32::try_from(seen.jobs.len()).is_ok_and(|jobs| jobs >= look.limit) {
            seen.more = true;
            break;
        }
        seen.newest = row.integer(0)?;
        if another {
            known.insert(job.clone());
            seen.jobs.push(Due { job, new: row.integer(2)? == 1 });
        }
    }
    Ok(seen)
}
