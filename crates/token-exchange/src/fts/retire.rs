//! Retirement: tokens that have ended and that no file refers to are deleted, and what we hold of them and of jobs that are gone.
//!
//! No row of `t_file` may refer to a token that is deleted, whatever its state: FTS's foreign keys forbid it. FTS moves old files to
//! `t_file_backup`, which has none, and then their tokens go. A token that still lives is never deleted: REST writes a submission's
//! tokens down before its files, and those of a submitter serve renewals.

use token_core::UnixSeconds;

use super::database::Row;
use super::statement::Statement;
use super::{DatabaseError, During as _, FtsDatabase, stamp};

const WHAT: &str = "deleting old tokens";

/// Whether no file refers to the token, each way by its own index of FTS's.
const UNUSED: &str = "NOT EXISTS (SELECT 1 FROM t_file f WHERE f.src_token_id = t_token.token_id) \
    AND NOT EXISTS (SELECT 1 FROM t_file f WHERE f.dst_token_id = t_token.token_id)";

/// What came of looking through some tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Retired {
    /// Tokens deleted.
    pub tokens: usize,
    /// The last id that was looked at; none at the end of the table.
    pub last: Option<String>,
}

impl FtsDatabase {
    /// Looks through the next `most` tokens by id after `after`, and deletes those that ended before `ended` and that no file refers to.
    /// Any number of workers may do so at once.
    ///
    /// # Errors
    /// When a statement fails.
    pub async fn retire(
        &self,
        after: &str,
        most: u32,
        now: UnixSeconds,
        ended: UnixSeconds,
    ) -> Result<Retired, DatabaseError> {
        let look = Statement::new(&format!(
            "SELECT token_id, CASE WHEN access_token_expiry < ? AND {UNUSED} AND NOT EXISTS (SELECT 1 FROM token_exchange_token n \
             WHERE n.token_id = t_token.token_id AND n.lease_end > ?) THEN 1 ELSE 0 END FROM t_token \
             WHERE token_id > ? ORDER BY token_id LIMIT ?"
        ));
        let look = look.with(stamp(ended)).with(now.0).with(after).with(i64::from(most));
        let rows = self.tried(async || self.database.fetch(look.clone()).await.during(WHAT)).await?;
        let seen = |row: &Row| Ok((row.get::<String>(0)?, row.integer(1)? == 1));
        let seen: Vec<(String, bool)> =
            rows.iter().map(seen).collect::<Result<_, sqlx::Error>>().during(WHAT)?;
        let full = u32::try_from(seen.len()).is_ok_and(|seen| seen >= most);
        let last = seen.last().filter(|_| full).map(|(id, _)| id.clone());
        let old: Vec<&str> = seen.iter().filter(|(_, old)| *old).map(|(id, _)| id.as_str()).collect();
        let tokens = match self.delete(&old, now, ended).await {
            Err(error) if is_in_use(&error) => {
                // A file has come to refer to one of them since the look: that one stays.
                let mut tokens = 0;
                for id in old {
                    match self.delete(&[id], now, ended).await {
                        Err(error) if is_in_use(&error) => (),
                        deleted => tokens += deleted?,
                    }
                }
                tokens
            }
            deleted => deleted?,
        };
        Ok(Retired { tokens, last })
    }

    /// Deletes those of these tokens for which all still holds that the look saw.
    async fn delete(
        &self,
        ids: &[&str],
        now: UnixSeconds,
        ended: UnixSeconds,
    ) -> Result<usize, DatabaseError> {
        if ids.is_empty() {
            return Ok(0);
        }
        let ids = || ids.iter().copied();
        let theirs = Statement::new("DELETE FROM t_token WHERE token_id IN ")
            .list(ids())
            .then(&format!(" AND access_token_expiry < ? AND {UNUSED}"))
            .with(stamp(ended));
        let ours = Statement::new("DELETE FROM token_exchange_token WHERE token_id IN ")
            .list(ids())
            .then(
                " AND lease_end <= ? AND NOT EXISTS (SELECT 1 FROM t_token t WHERE t.token_id = token_exchange_token.token_id)",
            )
            .with(now.0);
        self.tried(async || {
            let mut transaction = self.begin(WHAT).await?;
            let deleted = transaction.execute(theirs.clone()).await.during(WHAT)?;
            transaction.execute(ours.clone()).await.during(WHAT)?;
            transaction.commit().await.during(WHAT)?;
            Ok(usize::try_from(deleted).unwrap_or(usize::MAX))
        })
        .await
    }

    /// Deletes the lease rows of jobs that were put off before `before` and of which no file waits any more: FTS or its operator
    /// has ended them without us.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn retire_leases(&self, now: UnixSeconds, before: UnixSeconds) -> Result<usize, DatabaseError> {
        const UNUSED: &str = "lease_end <= ? AND retry_at <= ? AND NOT EXISTS (SELECT 1 FROM t_file f \
            WHERE f.job_id = token_exchange_lease.job_id AND f.file_state = 'TOKEN_PREP')";
        let unused = |statement: Statement| statement.then(UNUSED).with(now.0).with(before.0);
        // Seen without a lock first: rows that others have in hand are not waited for.
        let look =
            unused(Statement::new("SELECT job_id FROM token_exchange_lease WHERE ")).then(" LIMIT 500");
        let rows = self.tried(async || self.database.fetch(look.clone()).await.during(WHAT)).await?;
        let jobs: Vec<String> = rows.iter().map(|row| row.get(0)).collect::<Result<_, _>>().during(WHAT)?;
        if jobs.is_empty() {
            return Ok(0);
        }
        let delete =
            Statement::new("DELETE FROM token_exchange_lease WHERE job_id IN ").list(jobs).then(" AND ");
        let delete = unused(delete);
        let deleted = self.tried(async || self.database.execute(delete.clone()).await.during(WHAT)).await?;
        Ok(usize::try_from(deleted).unwrap_or(usize::MAX))
    }
}

fn is_in_use(error: &DatabaseError) -> bool {
    let DatabaseError::Statement { source, .. } = error else { return false };
    source.as_database_error().is_some_and(sqlx::error::DatabaseError::is_foreign_key_violation)
}
