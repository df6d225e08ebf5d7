//! Posts one job, and finds out what became of it when no answer tells.

use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::time::Duration;

use fts_client::{FileFields, FtsError, JobStatus, Lookup, Submission, Submitted};
use token_core::Freshness;
use token_core::retry::{RetryPolicy, Waits};
use tracing::{info, warn};

use super::{Party, Submitter};
use crate::choose::Plan;
use crate::job::{Job, submission};
use crate::tokens::Carried;
use crate::topology::Topology;

/// How the claim on a job's requests ends.
pub(super) enum End {
    /// FTS has the job.
    Submitted,
    /// FTS refused it for what is in it, with these words.
    Refused(String),
    /// FTS refused a job of several files: each is to be posted by itself, so that one bad file does not sink the others.
    Apart,
    /// FTS certainly has not got it: give the requests back.
    NotSent(Option<FtsError>),
    /// Not known yet: the claim stays open, to be resolved by the job's id.
    Open,
}

/// How posting one job went.
enum Posted {
    End(End),
    /// FTS has a job of this id from an earlier try: see which files are in it.
    Found(Box<JobStatus>),
}

/// How often a job whose fate is unknown is looked for before it is left to the next pass.
const LOOKS: u32 = 5;
/// What is asked of the files of a job that is looked up.
pub(super) const FIELDS: FileFields = FileFields::These(&["file_state", "file_metadata"]);

impl Submitter {
    /// Posts a claimed job. It touches no database: many of these run at a time and are not polled while a claim is closed, so
    /// one that held a connection would hold up all.
    pub(super) async fn post(&self, party: &Party, job: Job, topology: &Topology) -> Vec<(Job, End)> {
        match self.post_whole(party, &job, topology).await {
            Posted::End(End::Refused(_)) if job.plans.len() > 1 => vec![(job, End::Apart)],
            Posted::End(end) => vec![(job, end)],
            Posted::Found(status) => adopt(job, &status),
        }
    }

    /// Posts it, and once more with new tokens if FTS does not take one that it carries; then this FTS waits.
    async fn post_whole(&self, party: &Party, job: &Job, topology: &Topology) -> Posted {
        let mut refused = None;
        for freshness in [Freshness::Kept, Freshness::Fresh] {
            let tokens = party.tokens.of(&job.plans, topology, freshness).await;
            let Some(body) = submission(job, topology, &self.job_rules, &tokens) else {
                return Posted::End(End::NotSent(None));
            };
            match self.post_body(party, job, &body).await {
                Ok(posted) => return posted,
                Err(error) => refused = Some(error),
            }
            if tokens.carried() == Carried::None {
                break;
            }
        }
        party.doubtful.store(true, Ordering::Relaxed);
        Posted::End(End::NotSent(refused))
    }

    /// An error is that FTS has not got the job, since it refused a token that came with it.
    async fn post_body(&self, party: &Party, job: &Job, body: &Submission) -> Result<Posted, FtsError> {
        if party.doubtful.load(Ordering::Relaxed) {
            return Ok(Posted::End(End::NotSent(None)));
        }
        let mut waits = Waits::new(&RetryPolicy {
            initial: Duration::from_millis(200),
            max: Duration::from_secs(5),
            ..RetryPolicy::default()
        });
        let files = job.plans.len();
        for look in 1..=LOOKS {
            match party.client.submit(body).await {
                Ok(Submitted::Accepted(id)) if id == job.id => {
                    info!(job = %job.id, files, fts = party.client.url(), "job submitted");
                    return Ok(Posted::End(End::Submitted));
                }
                Ok(Submitted::Accepted(other)) => {
                    warn!(expected = %job.id, got = %other, "FTS gave the job another id than its `sid` makes");
                    // We are of another VO than we were: the claim turns out to be nobody's, and is made anew.
                    party.doubtful.store(true, Ordering::Relaxed);
                    return Ok(Posted::End(End::Open));
                }
                Ok(Submitted::AlreadyThere) => info!(job = %job.id, files, "FTS has the job already"),
                // No fault of the files: an issuer that FTS does not know, a key that it has not fetched, a clock.
                Err(error) if refuses_tokens(&error) => {
                    warn!(job = %job.id, files, %error, "a token was refused");
                    // An earlier try may still be on its way.
                    return if look == 1 { Err(error) } else { Ok(Posted::End(End::Open)) };
                }
                Err(error) if error.is_refusal() => {
                    warn!(job = %job.id, files, %error, "job refused");
                    return Ok(Posted::End(End::Refused(error.to_string())));
                }
                Err(error @ FtsError::Banned { .. }) => {
                    warn!(job = %job.id, files, %error, "storage banned; its requests go back to the queue");
                    return Ok(Posted::End(End::NotSent(None)));
                }
                // A later try may find no FTS to talk to, while an earlier one may have arrived: only the first can say
                // for certain that nothing was sent. An FTS that is busy is tried again under the same claim.
                Err(error) if !error.job_may_exist() && !error.is_busy() && look == 1 => {
                    warn!(job = %job.id, files, %error, "job not sent; its requests go back to the queue");
                    party.doubtful.store(true, Ordering::Relaxed);
                    return Ok(Posted::End(End::NotSent(Some(error))));
                }
                Err(error) => {
                    warn!(job = %job.id, files, %error, look, "fate of the job unknown: looking it up");
                    tokio::select! {
                        () = tokio::time::sleep(waits.pause()) => (),
                        () = self.shutdown.soft.cancelled() => return Ok(Posted::End(End::Open)),
                    }
                }
            }
            match party.client.job(&job.id, FIELDS).await {
                Ok(Lookup::Known(status)) => return Ok(Posted::Found(status)),
                // Not there now. It may still be on its way, so it goes again under the same id, never under another.
                Ok(Lookup::Unknown) => (),
                Err(error) => warn!(job = %job.id, %error, "the job cannot be looked up"),
            }
        }
        warn!(job = %job.id, files, "fate of the job still unknown: the next pass looks again");
        Ok(Posted::End(End::Open))
    }
}

/// Whether FTS refused a submission for its tokens, not for its files.
fn refuses_tokens(error: &FtsError) -> bool {
    matches!(error, FtsError::Refused { field: Some(field), .. } if field.contains("token"))
}

/// What of our claim is in the job that FTS has is submitted. The rest, if any, goes back to the queue: the id was then taken
/// by an older job of the same request, with other files beside it.
pub(super) fn adopt(job: Job, status: &JobStatus) -> Vec<(Job, End)> {
    let metadata = status.files.iter().filter_map(|file| file.file_metadata.as_ref());
    let ids: HashSet<&str> = metadata.filter_map(|metadata| metadata.get("request_id")?.as_str()).collect();
    let Job { id, sid, plans } = job;
    let (ours, strangers): (Vec<_>, Vec<_>) =
        plans.into_iter().partition(|plan| ids.contains(plan.request.id.0.as_str()));
    let part = |plans: Vec<Plan>, end| {
        (!plans.is_empty()).then(|| (Job { id: id.clone(), sid: sid.clone(), plans }, end))
    };
    [part(ours, End::Submitted), part(strangers, End::NotSent(None))].into_iter().flatten().collect()
}
