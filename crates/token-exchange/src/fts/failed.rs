//! Reads what FTS has failed, and keeps up to when that was looked at, for all workers together.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use token_core::UnixSeconds;

use super::database::Row;
use super::statement::Statement;
use super::{DatabaseError, During as _, FtsDatabase, seconds, stamp};
use crate::blame::{Failure, UsedToken};

const WHAT: &str = "looking at failed files";
/// Our row in `token_exchange_look`.
const NAME: &str = "failed";
/// Most files in one statement.
const MOST: i64 = 500;

/// A span of `t_file.finish_time`: after `from`, up to `to`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Not this second any more.
    pub from: UnixSeconds,
    /// This one still.
    pub to: UnixSeconds,
}

impl FtsDatabase {
    /// Up to when failed files were looked at; none if that was never done.
    ///
    /// # Errors
    /// When a statement fails.
    pub async fn failures_seen(&self) -> Result<Option<UnixSeconds>, DatabaseError> {
        let statement = Statement::new("SELECT up_to FROM token_exchange_look WHERE name = ?").with(NAME);
        let rows = self.tried(async || self.database.fetch(statement.clone()).await.during(WHAT)).await?;
        rows.first().map(|row| row.integer(0).map(UnixSeconds)).transpose().during(WHAT)
    }

    /// Says that the span from `from` to `to` was looked at; false when another worker was there before us. Whoever is told true counts
    /// what was in it, and nobody else. With `from` none, looking begins at `to`, and there is nothing to count.
    ///
    /// # Errors
    /// When the statement fails. It may have been made all the same: then nobody counts what was in it.
    pub async fn take_failures(
        &self,
        from: Option<UnixSeconds>,
        to: UnixSeconds,
    ) -> Result<bool, DatabaseError> {
        let statement = match from {
            Some(from) => {
                Statement::new("UPDATE token_exchange_look SET up_to = ? WHERE name = ? AND up_to = ?")
                    .with(to.0)
                    .with(NAME)
                    .with(from.0)
            }
            None => Statement::new("INSERT INTO token_exchange_look (name, up_to) ")
                .rows([[NAME.into(), to.0.into()]])
                .then(&self.database.dialect().or_update("name", "up_to = up_to")),
        };
        self.database.execute(statement).await.during(WHAT).map(|rows| rows == 1)
    }

    /// What FTS failed in this span, and what is known of the tokens. FTS's index on the time of the end is read, and of that no more
    /// than the span.
    ///
    /// # Errors
    /// When a statement fails.
    pub async fn failures(&self, span: Span) -> Result<Vec<Failure>, DatabaseError> {
        let mut all = Vec::new();
        let mut after = (stamp(span.from), i64::MAX);
        loop {
            let statement = selected(
                self.end_index,
                "f.finish_time >= ? AND f.finish_time <= ? AND (f.finish_time > ? OR f.file_id > ?) \
                 AND f.file_state = 'FAILED' ORDER BY f.finish_time, f.file_id LIMIT ?",
            );
            let statement =
                statement.with(&after.0).with(stamp(span.to)).with(&after.0).with(after.1).with(MOST);
            let rows = self.tried(async || self.database.fetch(statement.clone()).await.during(WHAT)).await?;
            let Some(last) = rows.last() else { break };
            after = (last.get(7).during(WHAT)?, last.integer(0).during(WHAT)?);
            let full = i64::try_from(rows.len()).is_ok_and(|rows| rows >= MOST);
            all.append(&mut self.with_tokens(&rows).await?);
            if !full {
                break;
            }
        }
        Ok(all)
    }

    /// One file, if it has failed.
    ///
    /// # Errors
    /// When a statement fails.
    pub async fn failure(&self, file: i64) -> Result<Option<Failure>, DatabaseError> {
        let statement = selected("", "f.file_id = ? AND f.file_state = 'FAILED'").with(file);
        let rows = self.database.fetch(statement).await.during(WHAT)?;
        Ok(self.with_tokens(&rows).await?.pop())
    }

    async fn with_tokens(&self, rows: &[Row]) -> Result<Vec<Failure>, DatabaseError> {
        let ids: Vec<i64> = rows.iter().map(|row| row.integer(0)).collect::<Result<_, _>>().during(WHAT)?;
        let first = self.first_reasons(&ids).await?;
        let used = |row: &Row| [5, 6].map(|at| row.get::<Option<String>>(at).ok().flatten());
        let tokens: BTreeSet<String> = rows.iter().flat_map(used).flatten().collect();
        let tokens = self.used_tokens(&tokens).await?;
        let read = |row: &Row| {
            let text = |at| Ok::<_, sqlx::Error>(row.get::<Option<String>>(at)?.unwrap_or_default());
            let time = |at| Ok::<_, sqlx::Error>(row.get::<Option<String>>(at)?.as_deref().and_then(seconds));
            let file = row.integer(0)?;
            Ok(Failure {
                file,
                reason: first.get(&file).cloned().map_or_else(|| text(3), Ok)?,
                started: time(4)?,
                finished: time(7)?,
                urls: [text(1)?, text(2)?],
                tokens: used(row).map(|id| id.and_then(|id| tokens.get(&id).cloned())),
            })
        };
        rows.iter().map(read).collect::<Result<_, sqlx::Error>>().during(WHAT)
    }

    /// The reasons of first attempts, where there were several.
    async fn first_reasons(&self, files: &[i64]) -> Result<HashMap<i64, String>, DatabaseError> {
        let mut first = HashMap::new();
        if files.is_empty() || self.database.columns("t_file_retry_errors").await.during(WHAT)?.is_empty() {
            return Ok(first);
        }
        let statement = Statement::new("SELECT file_id, reason FROM t_file_retry_errors WHERE file_id IN ")
            .list(files.iter().copied())
            .then(" ORDER BY file_id, attempt");
        for row in &self.database.fetch(statement).await.during(WHAT)? {
            let reason: Option<String> = row.get(1).during(WHAT)?;
            if let Some(reason) = reason.filter(|reason| !reason.is_empty()) {
                first.entry(row.integer(0).during(WHAT)?).or_insert(reason);
            }
        }
        Ok(first)
    }

    async fn used_tokens(&self, ids: &BTreeSet<String>) -> Result<HashMap<String, UsedToken>, DatabaseError> {
        if ids.is_empty() {
            return Ok(HashMap::new());
        }
        let statement = Statement::new(
            "SELECT t.token_id, t.issuer, t.audience, t.scope, CAST(t.access_token_expiry AS CHAR), \
             CASE WHEN coalesce(t.unmanaged, 0) = 1 THEN n.expires_at - n.obtained_at END \
             FROM t_token t LEFT JOIN token_exchange_token n ON n.token_id = t.token_id AND n.obtained_at > 0 \
             WHERE t.token_id IN ",
        );
        let rows = self.database.fetch(statement.list(ids)).await.during(WHAT)?;
        let read = |row: &Row| {
            let life = row.maybe_integer(5)?.and_then(|life| u64::try_from(life).ok());
            let token = UsedToken {
                id: row.get(0)?,
                issuer: row.get(1)?,
                audience: row.get(2)?,
                scope: row.get(3)?,
                expires_at: seconds(&row.get::<String>(4)?),
                unrenewed_life: life.map(Duration::from_secs),
            };
            Ok((token.id.clone(), token))
        };
        rows.iter().map(read).collect::<Result<_, sqlx::Error>>().during(WHAT)
    }
}

fn selected(index: &str, condition: &str) -> Statement {
    Statement::new(&format!(
        "SELECT f.file_id, f.source_surl, f.dest_surl, f.reason, CAST(f.start_time AS CHAR), f.src_token_id, f.dst_token_id, \
         CAST(f.finish_time AS CHAR) FROM t_file f{index} WHERE {condition}"
    ))
}
