//! Takes requests: `Q` to `G`, with all that is needed to find the job again after a crash at any point.

use std::collections::{HashMap, HashSet};

use fts_client::Identity;
use token_core::UnixSeconds;

use super::database::Transaction;
use super::stamp::Stamp;
use super::statement::{Column, Statement, Value};
use super::{DatabaseError, During as _, Rucio, hops};
use crate::choose::{End, Plan};
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
        mut jobs: Vec<Job>,
        fts: &str,
        identity: &Identity,
        now: UnixSeconds,
    ) -> Result<Vec<Job>, DatabaseError> {
        let (now, seconds) = (Stamp::from(now), now);
        // Requests that are made for hops are told of.
        let services = match jobs.iter().any(Job::is_path) {
            true => self.message_services().await?,
            false => Vec::new(),
        };
        let mut transaction = self.database.begin().await.during(WHAT)?;
        let waiting = hops::sort_out(&mut transaction, &mut jobs).await?;
        let mut taken = HashSet::new();
        // Of a file that goes in several hops, its own request is there; those for the hops before are made when it is taken.
        let there = |job: &Job| if job.is_path() { job.plans.len() - 1 } else { 0 };
        let rows: Vec<_> = jobs
            .iter()
            .flat_map(|job| job.plans.iter().skip(there(job)).map(move |plan| (job, plan)))
            .collect();
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
            if job.is_path() {
                kept.extend(taken.contains(&RequestId(job.sid.clone())).then_some(job));
                continue;
            }
            let Job { id, sid, plans } = job;
            let plans: Vec<_> = plans.into_iter().filter(|plan| taken.contains(&plan.request.id)).collect();
            if plans.iter().any(|plan| plan.request.id.0 == sid) {
                kept.push(Job { id, sid, plans });
            } else if let Some(renamed) = Job::new(plans, identity) {
                rename(&mut transaction, &renamed, id.as_str(), &now).await?;
                kept.push(renamed);
            }
        }
        hops::make(&mut transaction, &kept, fts, &self.owner.mark(), &services, seconds).await?;
        let made = kept.iter().flat_map(|job| &job.plans).map(|plan| plan.request.id.clone()).collect();
        let lock = self.database.lock("q");
        let waiting = hops::wait(&mut transaction, waiting, &made, &lock, &services, seconds).await?;
        let ids: Vec<_> = taken.into_iter().collect();
        unused(&mut transaction, &ids, &now).await?;
        let files = kept.iter().map(|job| (job.plans.as_slice(), job.is_path()));
        let files: Vec<_> = files.chain(waiting.iter().map(|plans| (plans.as_slice(), true))).collect();
        sources(&mut transaction, &files, &now).await?;
        transaction.commit().await.during(WHAT)?;
        Ok(kept)
    }

    /// Keeps the open claims of these jobs from being taken for forgotten ones, by Rucio's finisher after two hours and by other conveyors
    /// before: FTS, which alone knows what became of them, is away.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn keep_claims(&self, jobs: &[String], now: UnixSeconds) -> Result<(), DatabaseError> {
        for jobs in jobs.chunks(ROWS) {
            let mut query = Statement::new("UPDATE requests SET updated_at = ");
            query.bind(&Stamp::from(now)).push(", last_processed_by = ").bind(self.owner.mark().as_str());
            query.push(" WHERE state = 'G' AND external_id IN (SELECT v.column1 FROM (");
            query.rows([Column::texts(jobs.iter().map(String::as_str))]).push(") AS v)");
            let mut transaction = self.database.begin().await.during("keeping open claims")?;
            transaction.execute(query).await.during("keeping open claims")?;
            transaction.commit().await.during("keeping open claims")?;
        }
        Ok(())
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
        hops::unmake(&mut transaction, job).await?;
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

/// One row a source, as Rucio keeps them: the poller finds the source that FTS used by its URL. Of several hops of a file, the request
/// that they are for has the sources of all.
async fn sources(
    transaction: &mut Transaction,
    files: &[(&[Plan], bool)],
    now: &Stamp,
) -> Result<(), DatabaseError> {
    let own = files.iter().flat_map(|(plans, _)| *plans).map(|plan| (&plan.request.id, plan));
    let of_all = files.iter().filter(|(_, path)| *path).flat_map(|(plans, _)| {
        let (last, before) = plans.split_last().map_or((None, *plans), |(last, before)| (Some(last), before));
        before.iter().filter_map(move |plan| Some((&last?.request.id, plan)))
    });
    let rows =
        own.chain(of_all).flat_map(|(id, plan)| plan.sources.iter().map(move |source| (id, plan, source)));
    // Two files that wait for one hop both name its source.
    let mut seen = HashSet::new();
    let rows: Vec<_> = rows.filter(|(id, _, source)| seen.insert((*id, &source.rse))).collect();
    for rows in rows.chunks(ROWS) {
        let mut query = Statement::new(
            "INSERT INTO sources (request_id, scope, name, rse_id, dest_rse_id, url, bytes, ranking, is_using, created_at, \
             updated_at) SELECT v.* FROM (",
        );
        query.rows([
            Column::ids(rows.iter().map(|(id, ..)| *id)),
            Column::texts(rows.iter().map(|(_, plan, _)| plan.request.scope.as_str())),
            Column::texts(rows.iter().map(|(_, plan, _)| plan.request.name.as_str())),
            Column::rses(rows.iter().map(|(.., source)| Some(&source.rse))),
            Column::rses(rows.iter().map(|(_, plan, _)| Some(&plan.request.destination))),
            Column::texts(rows.iter().map(|(.., source)| source.url.as_str())),
            Column::Integers(rows.iter().map(|(_, plan, _)| plan.request.bytes).collect()),
            Column::Integers(rows.iter().map(|(.., source)| Some(source.ranking)).collect()),
            Column::Each(Value::Literal("TRUE")),
            Column::Each(now.into()),
            Column::Each(now.into()),
        ]);
        // A replica that was deleted since it was read can have no row here, and must not cost the others theirs.
        query.push(
            ") AS v WHERE EXISTS (SELECT 1 FROM replicas rep WHERE rep.scope = v.column2 AND rep.name = v.column3 \
             AND rep.rse_id = v.column4)",
        );
        // A retried request has its row already, perhaps with an older URL: the one that is posted counts.
        query.push(
            " ON CONFLICT (request_id, rse_id, scope, name) DO UPDATE \
             SET is_using = TRUE, dest_rse_id = excluded.dest_rse_id, url = excluded.url, updated_at = excluded.updated_at",
        );
        transaction.execute(query).await.during("writing sources")?;
    }
    Ok(())
}
