//! The statements of one hand-over. Each is about many rows, and their number goes by what is to be done, not by files.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use token_core::UnixSeconds;

use super::super::database::{Row, Transaction};
use super::super::remembered::remember;
use super::super::schema::OLDER;
use super::super::statement::{Statement, Value};
use super::super::{DatabaseError, During as _, revive, stamp};
use super::{EndpointToken, Handed, Parcel, Rest, WHAT};
use crate::decide::{Fate, Kind, TOO_LONG, job_end};

/// `t_file.reason` and our own message hold this many characters.
const REASON: usize = 2048;
/// Most files in one statement. The server looks through the values of all of them for each.
const FILES: usize = 250;
/// Most tokens in one statement: each is some kilobytes, and a server takes 16 MB by default.
const TOKENS: usize = 500;

/// One hand-over, under way.
pub(super) struct Writing {
    pub(super) transaction: Transaction,
    pub(super) now: UnixSeconds,
    pub(super) older_columns: bool,
    pub(super) managed: bool,
}

/// How a job stands now. It stays so: its row and its lease are locked.
pub(super) struct Standing {
    pub(super) owner: String,
    pub(super) lease_end: i64,
    pub(super) cancelled: bool,
}

impl Writing {
    async fn execute(&mut self, statement: Statement) -> Result<usize, DatabaseError> {
        let rows = self.transaction.execute(statement).await.during(WHAT)?;
        Ok(usize::try_from(rows).unwrap_or(usize::MAX))
    }

    pub(super) async fn standing(
        &mut self,
        parcels: &[Parcel],
    ) -> Result<HashMap<String, Standing>, DatabaseError> {
        let statement = Statement::new(
            "SELECT l.job_id, l.owner, l.lease_end, j.job_state, j.cancel_job FROM token_exchange_lease l \
             LEFT JOIN t_job j ON j.job_id = l.job_id WHERE l.job_id IN ",
        );
        let lock = self.transaction.dialect().lock();
        let jobs: BTreeSet<&String> = parcels.iter().map(|parcel| &parcel.lease.job).collect();
        let statement = statement.list(jobs).then(" ORDER BY l.job_id").then(lock);
        let rows = self.transaction.fetch(statement).await.during(WHAT)?;
        rows.iter().map(standing).collect::<Result<_, _>>().during(WHAT)
    }

    pub(super) async fn cancel(&mut self, jobs: &BTreeSet<&str>) -> Result<usize, DatabaseError> {
        let statement = Statement::new(
            "UPDATE t_file SET file_state = 'CANCELED', finish_time = ?, reason = 'Job canceled by the user' \
             WHERE file_state = 'TOKEN_PREP' AND job_id IN ",
        );
        self.execute(statement.with(stamp(self.now)).list(jobs.iter().copied())).await
    }

    /// `unmanaged`: neither FTS nor `fts_url_copy` tries to exchange or refresh them. One that is there already is put back into
    /// use, as FTS itself does, and is from now on as the configuration has it: a kept token outlives a change of that. What is
    /// written is remembered, for its renewal.
    pub(super) async fn insert(&mut self, tokens: &[(String, &EndpointToken)]) -> Result<(), DatabaseError> {
        let older: &[&str] = if self.older_columns { &OLDER } else { &[] };
        let columns: String = older.iter().map(|column| format!(", {column}")).collect();
        let dialect = self.transaction.dialect();
        let again = dialect
            .or_update("token_id", &format!("retired = 0, unmanaged = {}", dialect.would_be("unmanaged")));
        for some in tokens.chunks(TOKENS) {
            let mut statement = Statement::new(&format!(
                "INSERT INTO t_token (token_id, access_token, access_token_expiry, issuer, scope, audience, retired, \
                 unmanaged{columns}) VALUES "
            ));
            for (at, (id, token)) in some.iter().enumerate() {
                let mut row: Vec<Value> = vec![
                    id.into(),
                    token.token.expose().into(),
                    stamp(token.expires_at).into(),
                    (&token.issuer).into(),
                    (&token.scope).into(),
                    (&token.audience).into(),
                    0.into(),
                    i64::from(!self.managed).into(),
                ];
                if self.older_columns {
                    // As REST writes them: half of its life.
                    let life = self.now.until(token.expires_at);
                    let half = self.now.plus(Duration::from_secs(life.as_secs() / 2));
                    row.extend([stamp(self.now).into(), stamp(half).into()]);
                }
                statement = statement.then(if at == 0 { "" } else { ", " }).list(row);
            }
            self.transaction.execute(statement.then(&again)).await.during("writing tokens")?;
            let remembered = remember(self.transaction.dialect(), some);
            self.transaction.execute(remembered).await.during("writing tokens")?;
        }
        Ok(())
    }

    /// REST 3.13.4 calls every token managed, and for a managed one that has less than its margin to live, `fts_url_copy` asks
    /// until the file fails (observed). One that nobody renews is to be used to its end.
    pub(super) async fn unmanage(&mut self, tokens: &BTreeSet<&str>) -> Result<(), DatabaseError> {
        let tokens: Vec<&str> = tokens.iter().copied().collect();
        for some in tokens.chunks(TOKENS) {
            let statement = Statement::new(
                "UPDATE t_token SET unmanaged = 1 WHERE coalesce(unmanaged, 0) = 0 AND coalesce(refresh_token, '') = '' \
                 AND token_id IN ",
            );
            self.execute(statement.list(some.iter().copied())).await?;
        }
        Ok(())
    }

    /// Lets files go, each with its own tokens.
    pub(super) async fn release(&mut self, fates: &[(i64, Fate<Handed>)]) -> Result<usize, DatabaseError> {
        let released: Vec<(i64, String, String, &str)> = fates
            .iter()
            .filter_map(|(file, fate)| match fate {
                Fate::Release { state, source, destination } => {
                    Some((*file, source.id(), destination.id(), state.as_str()))
                }
                _ => None,
            })
            .collect();
        let mut count = 0;
        for some in released.chunks(FILES) {
            let values = |column: fn(&(i64, String, String, &str)) -> String| {
                some.iter().map(move |row| (row.0, column(row))).collect::<Vec<_>>()
            };
            let statement = Statement::new("UPDATE t_file SET src_token_id = ")
                .chosen("file_id", &values(|row| row.1.clone()))
                .then(", dst_token_id = ")
                .chosen("file_id", &values(|row| row.2.clone()))
                .then(", file_state = ")
                .chosen("file_id", &values(|row| row.3.to_owned()))
                .then(" WHERE file_state = 'TOKEN_PREP' AND file_id IN ")
                .list(some.iter().map(|row| row.0));
            count += self.execute(statement).await?;
        }
        Ok(count)
    }

    /// Ends the files that fail, are not needed, or have waited for too long; tells how many failed and how many waited too long.
    pub(super) async fn end_files(
        &mut self,
        fates: &[(i64, Fate<Handed>)],
    ) -> Result<(usize, usize), DatabaseError> {
        let mut failing: BTreeMap<&str, Vec<i64>> = BTreeMap::new();
        let (mut spare, mut expired, mut revived) = (Vec::new(), Vec::new(), Vec::new());
        for (file, fate) in fates {
            match fate {
                Fate::Fail(reason) => failing.entry(reason).or_default().push(*file),
                Fate::Spare => spare.push(*file),
                Fate::Expire => expired.push(*file),
                Fate::Revive => revived.push(*file),
                Fate::Release { .. } | Fate::Wait(_) => (),
            }
        }
        let now = stamp(self.now);
        let mut failed = 0;
        for (reason, files) in failing {
            let reason = cut(&format!("[token-exchange] {reason}"));
            failed += self.ended("FAILED", &files, &reason, &now).await?;
        }
        let expired = self.ended("CANCELED", &expired, TOO_LONG, &now).await?;
        for (from, to, files) in [("TOKEN_PREP", "NOT_USED", spare), ("NOT_USED", "SUBMITTED", revived)] {
            for some in files.chunks(FILES) {
                let statement =
                    Statement::new("UPDATE t_file SET file_state = ? WHERE file_state = ? AND file_id IN ");
                self.execute(statement.with(to).with(from).list(some.iter().copied())).await?;
            }
        }
        Ok((failed, expired))
    }

    async fn ended(
        &mut self,
        state: &str,
        files: &[i64],
        reason: &str,
        now: &str,
    ) -> Result<usize, DatabaseError> {
        let mut count = 0;
        for some in files.chunks(FILES) {
            let statement = Statement::new(
                "UPDATE t_file SET file_state = ?, reason = ?, finish_time = ? WHERE file_state = 'TOKEN_PREP' AND file_id IN ",
            );
            count +=
                self.execute(statement.with(state).with(reason).with(now).list(some.iter().copied())).await?;
        }
        Ok(count)
    }

    /// Ends the jobs of which nothing is left to run.
    pub(super) async fn end_jobs(&mut self, kinds: &HashMap<&str, Kind>) -> Result<(), DatabaseError> {
        let jobs: Vec<&str> = kinds.keys().copied().collect();
        let mut ends: BTreeMap<(&str, &str), Vec<String>> = BTreeMap::new();
        for (job, rows) in revive::all(&mut self.transaction, &jobs).await? {
            let states: Vec<String> = rows.into_iter().map(|(_, state)| state).collect();
            if let Some(end) = kinds.get(job.as_str()).and_then(|kind| job_end(*kind, &states)) {
                ends.entry(end).or_default().push(job);
            }
        }
        for ((state, reason), jobs) in ends {
            let statement = Statement::new(
                "UPDATE t_job SET job_state = ?, reason = ?, job_finished = ? \
                 WHERE job_state NOT IN ('FINISHED', 'FAILED', 'FINISHEDDIRTY', 'CANCELED') AND job_id IN ",
            );
            let statement = statement.with(state).with(reason).with(stamp(self.now)).list(jobs);
            self.transaction.execute(statement).await.during("ending jobs")?;
        }
        Ok(())
    }

    /// Ends the leases of jobs that are done with, and puts the others off.
    pub(super) async fn leases(
        &mut self,
        parcels: &[&Parcel],
        cancelled: BTreeSet<&str>,
    ) -> Result<(), DatabaseError> {
        let mut done = cancelled;
        let mut later: BTreeMap<(i64, &str), Vec<&str>> = BTreeMap::new();
        for parcel in parcels {
            let job = parcel.lease.job.as_str();
            match &parcel.rest {
                Rest::Hold => (),
                Rest::End => drop(done.insert(job)),
                Rest::PutOff { retry_at, why } => later.entry((retry_at.0, why)).or_default().push(job),
            }
        }
        if !done.is_empty() {
            let ended = Statement::new("DELETE FROM token_exchange_lease WHERE job_id IN ");
            self.execute(ended.list(done)).await?;
        }
        for ((retry_at, why), jobs) in later {
            let put_off = Statement::new(
                "UPDATE token_exchange_lease SET lease_end = 0, attempts = attempts + 1, retry_at = ?, message = ? \
                 WHERE job_id IN ",
            );
            self.execute(put_off.with(retry_at).with(cut(why)).list(jobs)).await?;
        }
        Ok(())
    }
}

fn standing(row: &Row) -> Result<(String, Standing), sqlx::Error> {
    let state: Option<String> = row.get(3)?;
    let cancel: Option<String> = row.get(4)?;
    let cancelled = state.as_deref() == Some("CANCELED") || cancel.as_deref() == Some("Y");
    Ok((row.get(0)?, Standing { owner: row.get(1)?, lease_end: row.integer(2)?, cancelled }))
}

/// As much as fits. The character set of FTS's columns is the site's choice, and each takes ASCII.
pub(in crate::fts) fn cut(text: &str) -> String {
    text.chars().take(REASON).map(|c| if c.is_ascii() { c } else { '?' }).collect()
}
