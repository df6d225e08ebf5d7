//! The rows of a job that are not in `TOKEN_PREP` any more, and the jobs that have ended.

use std::collections::HashMap;

use super::database::Transaction;
use super::statement::Statement;
use super::{DatabaseError, During as _};

const WHAT: &str = "looking at the other rows of jobs";

/// The state of each row of these jobs that has left `TOKEN_PREP`, by job. They stay as they are until the transaction ends: FTS
/// picks a job's next row when one of them ends, and would pass over those that we have in hand.
pub(super) async fn others(
    transaction: &mut Transaction,
    jobs: &[&str],
) -> Result<HashMap<String, Vec<(i64, String)>>, DatabaseError> {
    let lock = transaction.dialect().lock();
    rows(transaction, jobs, &format!(" AND file_state <> 'TOKEN_PREP' ORDER BY file_id{lock}")).await
}

/// The state of each row of these jobs, by job.
pub(super) async fn all(
    transaction: &mut Transaction,
    jobs: &[&str],
) -> Result<HashMap<String, Vec<(i64, String)>>, DatabaseError> {
    rows(transaction, jobs, " ORDER BY file_id").await
}

async fn rows(
    transaction: &mut Transaction,
    jobs: &[&str],
    rest: &str,
) -> Result<HashMap<String, Vec<(i64, String)>>, DatabaseError> {
    let mut found: HashMap<String, Vec<(i64, String)>> = HashMap::new();
    if jobs.is_empty() {
        return Ok(found);
    }
    let statement = Statement::new("SELECT job_id, file_id, file_state FROM t_file WHERE job_id IN ");
    let statement = statement.list(jobs.iter().copied()).then(rest);
    for row in transaction.fetch(statement).await.during(WHAT)? {
        let of = found.entry(row.get(0).during(WHAT)?).or_default();
        of.push((row.integer(1).during(WHAT)?, row.get(2).during(WHAT)?));
    }
    Ok(found)
}
