//! Takes requests: `Q` to `G`, with all that is needed to find the job again after a crash at any point.

use std::collections::{HashMap, HashSet};

use fts_client::Identity;
use token_core::UnixSeconds;

use super::database::Transaction;
use super::stamp::Stamp;
use super::statement::{Column, Statement, Value};
use super::{DatabaseError, During as _, Rucio};
use crate::choose::End;
use crate::job::Job;
use crate::request::RequestId;

const WHAT: &str = "claiming requests";

/// Most rows at a time: eight values a row, and SQLite takes 32,766 in a statement.
const ROWS: usize = 2000;

impl Rucio {
    /// Claims the requests of these jobs, all in one transaction: state `G`, who claims, the job's id, the FTS, the destination's
    /// URL, and a row in `sources` for each source in use. `source_rse_id`, in which a preparer may have left its choice, stays
    /// until the request is submitted. The compare-and-swap on `Q` is what keeps two submitters, ours or Python's, from sending
    /// one request twice.
    ///
    /// Returns the jobs with the requests that were ours to take. Those that another submitter took meanwhile, or that were
    /// cancelled, are left out; a job that lost the request it is named after is named anew, so that its name can be found again
    /// from its rows.
    ///
    /// # Errors
    /// When a statement fails; then nothing is claimed.
    pub async fn claim(
        &self,
        jobs: Vec<Job>,
        fts: &str,
        identity: &Identity,
        now: UnixSeconds,
    ) -> Result<Vec<Job>, DatabaseError> {
        let now = Stamp::from(now);
        let mut transaction = self.database.begin().await.during(WHAT)?;
        let mut taken = HashSet::new();
        let rows: Vec<_> =
            jobs.iter().flat_map(|job| job.plans.iter().map(move |plan| (job, plan))).collect();
        for rows in rows.chunks(ROWS) {
            let mut query = Statement::new("UPDATE requests SET state = 'G', external_host = ");
            query.bind(fts).push(", last_processed_by = ").bind(self.owner.mark().as_str());
            for column in ["submitted_at", "updated_at", "last_processed_at"] {
                query.push(", ").push(column).push(" = ").bind(&now);
            }
            query.push(", external_id = v.column2, dest_url = v.column3 FROM (SELECT v.* FROM (");
            query.rows([
                Column::ids(rows.iter().map(|(_, plan)| &plan.request.id)),
                Column::texts(rows.iter().map(|(job, _)| job.id.as_str())),
                Column::texts(rows.iter().map(|(_, plan)| plan.destination_url.as_str())),
            ]);
            query.push(") AS v JOIN requests q ON q.id = v.column1 WHERE q.state = 'Q'");
            query.push(&self.database.lock("q"));
            query.push(") AS v WHERE requests.id = v.column1 AND requests.state = 'Q' RETURNING requests.id");
            for row in transaction.fetch(query).await.during(WHAT)? {
                taken.insert(RequestId(row.id(0).during(WHAT)?));
            }
        }
        let mut kept = Vec::with_capacity(jobs.len());
        for job in jobs {
            let Job { id, sid, plans } = job;
            let plans: Vec<_> = plans.into_iter().filter(|plan| taken.contains(&plan.request.id)).collect();
            if plans.iter().any(|plan| plan.request.id.0 == sid) {
                kept.push(Job { id, sid, plans });
            } else if let Some(renamed) = Job::new(plans, identity) {
                rename(&mut transaction, &renamed, id.as_str(), &now).await?;
                kept.push(renamed);
            }
        }
        let ids: Vec<_> = taken.into_iter().collect();
        unused(&mut transaction, &ids, &now).await?;
        sources(&mut transaction, &kept, &now).await?;
        transaction.commit().await.during(WHAT)?;
        Ok(kept)
    }

    /// Makes each file of these claimed jobs, which FTS refused, a job of its own.
    ///
    /// # Errors
    /// When a statement fails; then nothing has changed.
    pub async fn take_apart(
        &self,
        refused: Vec<Job>,
        identity: &Identity,
        now: UnixSeconds,
    ) -> Result<Vec<Job>, DatabaseError> {
        let (mut singles, now) = (Vec::new(), Stamp::from(now));
        if refused.is_empty() {
            return Ok(singles);
        }
        let mut transaction = self.database.begin().await.during(WHAT)?;
        for job in refused {
            for plan in job.plans {
                if let Some(single) = Job::new(vec![plan], identity) {
                    rename(&mut transaction, &single, job.id.as_str(), &now).await?;
                    singles.push(single);
                }
            }
        }
        transaction.commit().await.during(WHAT)?;
        Ok(singles)
    }

    /// Gives requests back: `G` to `Q`, with nothing of the claim left in use. Only for a job that FTS
    /// certainly has not got, or requests that are certainly not in it.
    ///
    /// # Errors
    /// When a statement fails; the claim then stays open.
    pub async fn release(&self, job: &Job, now: UnixSeconds) -> Result<usize, DatabaseError> {
        const WHAT: &str = "releasing a claim";
        let now = Stamp::from(now);
        let mut query = Statement::new(
            "UPDATE requests SET state = 'Q', external_id = NULL, external_host = NULL, dest_url = NULL, \
             submitted_at = NULL, last_processed_by = NULL, last_processed_at = NULL, updated_at = ",
        );
        query.bind(&now).push(" WHERE state = 'G' AND external_id = ").bind(job.id.as_str());
        only(&mut query, job);
        query.push(" RETURNING id");
        let mut transaction = self.database.begin().await.during(WHAT)?;
        let rows = transaction.fetch(query).await.during(WHAT)?;
        let released = rows.iter().map(|row| row.id(0).map(RequestId)).collect::<Result<Vec<_>, _>>();
        let released = released.during(WHAT)?;
        unused(&mut transaction, &released, &now).await?;
        transaction.commit().await.during(WHAT)?;
        Ok(released.len())
    }

    /// Ends requests that cannot be submitted: `Q` to `N`, `O` or `M`, with the reason in `err_msg`, which Rucio's own
    /// submitter leaves empty. Only those still in `Q`.
    ///
    /// # Errors
    /// When a statement fails; then none has ended.
    pub async fn end(&self, ends: &[(RequestId, End, &str)], now: UnixSeconds) -> Result<(), DatabaseError> {
        const WHAT: &str = "ending requests without a source";
        if ends.is_empty() {
            return Ok(());
        }
        let now = Stamp::from(now);
        let mut alike: HashMap<(&'static str, &str), Vec<&RequestId>> = HashMap::new();
        for (id, end, reason) in ends {
            alike.entry((end.letter(), reason)).or_default().push(id);
        }
        let mut transaction = self.database.begin().await.during(WHAT)?;
        for ((letter, reason), ids) in alike {
            let mut query = Statement::new("UPDATE requests SET state = '");
            query.push(letter).push("', err_msg = ").bind(reason).push(", updated_at = ").bind(&now);
            query.push(" WHERE state = 'Q' AND id").among(ids);
            transaction.execute(query).await.during(WHAT)?;
        }
        transaction.commit().await.during(WHAT)
    }
}

/// Adds a condition for the requests of a job.
fn only(query: &mut Statement, job: &Job) {
    query.push(" AND id").among(job.plans.iter().map(|plan| &plan.request.id));
}

/// Gives claimed requests another job id.
async fn rename(
    transaction: &mut Transaction,
    job: &Job,
    from: &str,
    now: &Stamp,
) -> Result<(), DatabaseError> {
    let mut query = Statement::new("UPDATE requests SET external_id = ");
    query.bind(job.id.as_str()).push(", updated_at = ").bind(now);
    query.push(" WHERE state = 'G' AND external_id = ").bind(from);
    only(&mut query, job);
    transaction.execute(query).await.during("renaming a claim")
}

/// Takes the sources of earlier claims out of use: what a recovered claim finds in use is what it was made with.
async fn unused(
    transaction: &mut Transaction,
    requests: &[RequestId],
    now: &Stamp,
) -> Result<(), DatabaseError> {
    for ids in requests.chunks(ROWS) {
        let mut query = Statement::new("UPDATE sources SET is_using = FALSE, updated_at = ");
        query.bind(now).push(" WHERE is_using AND request_id").among(ids);
        transaction.execute(query).await.during("writing sources")?;
    }
    Ok(())
}

/// One row a source, as Rucio keeps them: the poller finds the source that FTS used by its URL.
async fn sources(transaction: &mut Transaction, jobs: &[Job], now: &Stamp) -> Result<(), DatabaseError> {
    let plans = jobs.iter().flat_map(|job| &job.plans);
    let rows: Vec<_> = plans.flat_map(|plan| plan.sources.iter().map(move |source| (plan, source))).collect();
    for rows in rows.chunks(ROWS) {
        let mut query = Statement::new(
            "INSERT INTO sources (request_id, scope, name, rse_id, dest_rse_id, url, bytes, ranking, is_using, created_at, \
             updated_at) ",
        );
        query.rows([
            Column::ids(rows.iter().map(|(plan, _)| &plan.request.id)),
            Column::texts(rows.iter().map(|(plan, _)| plan.request.scope.as_str())),
            Column::texts(rows.iter().map(|(plan, _)| plan.request.name.as_str())),
            Column::rses(rows.iter().map(|(_, source)| Some(&source.rse))),
            Column::rses(rows.iter().map(|(plan, _)| Some(&plan.request.destination))),
            Column::texts(rows.iter().map(|(_, source)| source.url.as_str())),
            Column::Integers(rows.iter().map(|(plan, _)| plan.request.bytes).collect()),
            Column::Integers(rows.iter().map(|(_, source)| Some(source.ranking)).collect()),
            Column::Each(Value::Literal("TRUE")),
            Column::Each(now.into()),
            Column::Each(now.into()),
        ]);
        // A retried request has its row already, perhaps with an older URL: the one that is posted counts.
        query.push(
            " ON CONFLICT (request_id, rse_id, scope, name) DO UPDATE \
             SET is_using = TRUE, url = excluded.url, updated_at = excluded.updated_at",
        );
        transaction.execute(query).await.during("writing sources")?;
    }
    Ok(())
}
