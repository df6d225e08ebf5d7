//! Posts one job, and finds out what became of it when no answer tells.

use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::time::Duration;

use fts_client::{FileFields, FtsError, JobStatus, Lookup, Submission, Submitted};
use token_core::retry::{RetryPolicy, Waits};
use token_core::{BearerSource as _, Freshness};
use tokio::time::Instant;
use tracing::{Level, debug, enabled, warn};

use super::left::Why;
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
    /// FTS certainly has not got it: give the requests back. They are not to be looked at for a while if there is a reason.
    NotSent(Option<Why>),
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
/// And for how long: an FTS that hangs takes its time with each.
const LOOKING: Duration = Duration::from_secs(30);
/// What is asked of the files of a job that is looked up.
pub(super) const FIELDS: FileFields = FileFields::These(&["file_state", "file_metadata"]);

impl Submitter {
    /// Posts a claimed job. It touches no database: many of these run at a time and are not polled while a claim is closed, so
    /// one that held a connection would hold up all.
    pub(super) async fn post(&self, party: &Party, job: Job, topology: &Topology) -> Vec<(Job, End)> {
        // To be ended: what is under way comes to its end, and nothing more is begun.
        if self.shutdown.soft.is_cancelled() {
            return vec![(job, End::NotSent(None))];
        }
        match self.post_whole(party, &job, topology).await {
            Posted::End(End::Refused(_)) if job.plans.len() > 1 && !job.is_path() => vec![(job, End::Apart)],
            Posted::End(end) => vec![(job, end)],
            Posted::Found(status) => adopt(job, &status),
        }
    }

    /// Posts it, and once more with new tokens if FTS does not take one that it carries; then this FTS waits.
    async fn post_whole(&self, party: &Party, job: &Job, topology: &Topology) -> Posted {
        let fts = party.name.as_str();
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
        if let Some(error) = refused {
            self.doubt(party, &error, false);
        }
        Posted::End(End::NotSent(Some(Why::Away(fts.into()))))
    }

    /// An error is that FTS has not got the job, since it refused a token that came with it.
    async fn post_body(&self, party: &Party, job: &Job, body: &Submission) -> Result<Posted, FtsError> {
        let fts = party.name.as_str();
        let away = || Posted::End(End::NotSent(Some(Why::Away(fts.into()))));
        if party.doubtful.load(Ordering::Relaxed) {
            return Ok(away());
        }
        let mut waits = Waits::new(&RetryPolicy {
            initial: Duration::from_millis(200),
            max: Duration::from_secs(5),
            ..RetryPolicy::default()
        });
        let (files, began) = (job.plans.len(), Instant::now());
        let mut unknown = None;
        for look in 1..=LOOKS {
            if look > 1 && began.elapsed() > LOOKING {
                break;
            }
            match party.client.submit(body).await {
                Ok(Submitted::Accepted(id)) if id == job.id => {
                    self.tell(party, job).await;
                    return Ok(Posted::End(End::Submitted));
                }
                Ok(Submitted::Accepted(other)) => {
                    // We are of another VO than we were: the claim turns out to be nobody's, and is made anew.
                    let reason = format!("the job got id {other} where its `sid` makes {}", job.id);
                    let error = FtsError::BadAnswer { fts: fts.to_owned(), call: "submission", reason };
                    self.doubt(party, &error, true);
                    return Ok(Posted::End(End::Open));
                }
                Ok(Submitted::AlreadyThere) => debug!(job = %job.id, files, "FTS has the job already"),
                // No fault of the files: an issuer that FTS does not know, a key that it has not fetched, a clock.
                Err(error) if refuses_tokens(&error) => {
                    debug!(job = %job.id, files, %error, "a token was refused");
                    // An earlier try may still be on its way.
                    return if look == 1 { Err(error) } else { Ok(Posted::End(End::Open)) };
                }
                Err(error) if error.is_refusal() => {
                    debug!(job = %job.id, files, %error, "job refused");
                    return Ok(Posted::End(End::Refused(error.to_string())));
                }
                Err(error @ FtsError::Banned { .. }) => {
                    if self.memory.is_new(error.to_string()) {
                        warn!(%error, "a storage is banned; its requests go back to the queue (said once)");
                    }
                    return Ok(Posted::End(End::NotSent(Some(Why::Banned))));
                }
                // A later try may find no FTS to talk to, while an earlier one may have arrived: only the first can say
                // for certain that nothing was sent. An FTS that is busy is tried again under the same claim.
                Err(error) if !error.job_may_exist() && !error.is_busy() && look == 1 => {
                    debug!(job = %job.id, files, %error, "job not sent; its requests go back to the queue");
                    self.doubt(party, &error, false);
                    return Ok(away());
                }
                Err(error) => {
                    debug!(job = %job.id, files, %error, look, "fate of the job unknown: looking it up");
                    unknown = Some(error);
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
                Err(error) => {
                    debug!(job = %job.id, %error, "the job cannot be looked up");
                    unknown = Some(error);
                }
            }
        }
        debug!(job = %job.id, files, "fate of the job still unknown: it is looked for again");
        let none = || FtsError::OutcomeUnknown { fts: fts.to_owned(), reason: "no answer tells".into() };
        self.doubt(party, &unknown.unwrap_or_else(none), true);
        Ok(Posted::End(End::Open))
    }

    /// A line a request, for whoever follows a token: which request went into which job with which token. Off unless asked for
    /// (`work=debug`).
    async fn tell(&self, party: &Party, job: &Job) {
        debug!(job = %job.id, files = job.plans.len(), fts = party.name, "job submitted");
        if !enabled!(target: "work", Level::DEBUG) {
            return;
        }
        // The one that is kept: the job went with it a moment ago.
        let token =
            party.bearer.bearer(Freshness::Kept).await.ok().map(|token| token.fingerprint().to_string());
        for plan in &job.plans {
            debug!(target: "work", request = %plan.request.id, job = %job.id, fts = party.name, token, "submitted");
        }
    }

    /// Nothing more goes to this FTS before it has answered again.
    fn doubt(&self, party: &Party, error: &FtsError, claims: bool) {
        party.doubtful.store(true, Ordering::Relaxed);
        self.away(&party.name, error, claims);
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
