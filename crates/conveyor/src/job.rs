//! From plans to FTS jobs, as Rucio's fts3 transfertool writes them.

mod group;

use std::collections::BTreeMap;

use fts_client::{FileEntry, Identity, JobId, Params, QueueTime, Submission};
use serde_json::json;

use crate::choose::{Plan, checksum};
use crate::tokens::{Carried, FileTokens, Tokens};
use crate::topology::Topology;

pub use group::{GroupBy, Together, group};

/// Settings of jobs.
#[derive(Clone, Debug)]
pub struct JobRules {
    /// Most files in one job.
    pub files_per_job: usize,
    /// Hours by activity; `default` for the others. Without either, none is sent.
    pub max_time_in_queue_h: BTreeMap<String, i64>,
    /// FTS's way to pick among several sources.
    pub selection_strategy: String,
    /// How long files may take to come from tape, in seconds.
    pub bring_online_s: i64,
    /// What the files of one job have in common.
    pub group_by: GroupBy,
    /// How long files may take to get onto tape, in seconds, instead of what an RSE says that says anything; 0 is no time.
    pub archive_timeout_override_s: Option<i64>,
}

/// Plans that go together, and the id that their job will have.
#[derive(Clone, Debug)]
pub struct Job {
    /// What FTS makes of `sid`.
    pub id: JobId,
    /// The id of one of the requests: whoever finds the claim after a crash can make the same job again.
    pub sid: String,
    /// The files; of a file that goes in several hops, its hops in their order.
    pub plans: Vec<Plan>,
}

impl Job {
    /// A job of these plans; the first lends its id, and of several hops the last, whose request is there before the others'.
    /// `None` without plans.
    pub fn new(plans: Vec<Plan>, identity: &Identity) -> Option<Self> {
        let named = if is_path(&plans) { plans.last() } else { plans.first() };
        let sid = named?.request.id.0.clone();
        Some(Self { id: identity.job_id(&sid), sid, plans })
    }

    /// Whether it is one file that goes in several hops.
    pub fn is_path(&self) -> bool {
        is_path(&self.plans)
    }
}

/// Whether these are the hops of one file: each begins where the one before it ends. No other job has a file twice in that way.
fn is_path(plans: &[Plan]) -> bool {
    let follows = |pair: &[Plan]| match pair {
        [one, next] => {
            let file = |plan: &Plan| (plan.request.scope.clone(), plan.request.name.clone());
            next.sources.first().is_some_and(|source| source.rse == one.request.destination)
                && file(one) == file(next)
        }
        _ => false,
    };
    plans.len() > 1 && plans.windows(2).all(follows)
}

/// Puts the plans of a job that was found again into the order in which they were posted, if they are the hops of one file.
pub fn in_order(mut plans: Vec<Plan>) -> Vec<Plan> {
    let mut hops: Vec<Plan> = Vec::with_capacity(plans.len());
    let starts = |plan: &Plan| plan.sources.first().map(|source| source.rse.clone());
    while !plans.is_empty() {
        let next = plans.iter().position(|plan| match hops.last() {
            Some(last) => starts(plan).as_ref() == Some(&last.request.destination),
            None => plans.iter().all(|other| starts(plan).as_ref() != Some(&other.request.destination)),
        });
        // Where they are no chain, the rest stays as it was.
        hops.push(plans.remove(next.unwrap_or(0)));
    }
    hops
}

/// The body to post, with the tokens that its files carry. `None` when a file has to wait for one of them, and without plans.
pub fn submission(job: &Job, topology: &Topology, rules: &JobRules, tokens: &Tokens) -> Option<Submission> {
    let path = if job.is_path() { job.plans.as_slice() } else { job.plans.get(..1)? };
    let mut params = params(path, job.sid.clone(), rules)?;
    params.unmanaged_tokens = tokens.carried() == Carried::Unmanaged;
    let verify = job.is_path().then(|| checksum::along(job.plans.iter().map(|plan| plan.verify)));
    let file = |plan| {
        let FileTokens { sources, destination } = tokens.of(plan).ok()?;
        let entry = file(plan, verify, topology, rules);
        Some(FileEntry { source_tokens: sources, destination_tokens: destination, ..entry })
    };
    Some(Submission { files: job.plans.iter().map(file).collect::<Option<_>>()?, params })
}

/// The parameters for the hops of one file, most often one. What Rucio asks of the last hop, of the first, and of all.
fn params(hops: &[Plan], sid: String, rules: &JobRules) -> Option<Params> {
    let (first, last) = (hops.first()?, hops.last()?);
    let request = &last.request;
    let activity = request.activity.as_deref().unwrap_or("default");
    let hours = &rules.max_time_in_queue_h;
    let hours_in_queue = hours.get(activity).or_else(|| hours.get("default")).copied();
    let tape = last.tape;
    // Set by the finisher after FTS found a corrupted file at the destination.
    let corrupted = |plan: &Plan| plan.request.attributes.truth("overwrite");
    let over = corrupted(last) == Some(true) || tape.is_none_or(|tape| tape.overwrite);
    let (several, over_hops) =
        (hops.len() > 1, hops.iter().rev().skip(1).all(|hop| corrupted(hop) != Some(false)));
    let overwrite = over && (over_hops || !several);
    let on_disk = tape.is_some_and(|tape| tape.overwrite_when_only_on_disk);
    let of_rse = tape.and_then(|tape| tape.archive_timeout_s);
    let archive_timeout = match rules.archive_timeout_override_s {
        Some(time) => of_rse.map(|_| time).filter(|time| *time != 0),
        None => of_rse,
    };
    let mut job_metadata = json!({
        "issuer": "rucio",
        "multi_sources": !several && last.sources.len() > 1,
        "overwrite_when_only_on_disk": on_disk,
    });
    if several {
        job_metadata["multihop"] = true.into();
    }
    Some(Params {
        account: request.external_account().map(str::to_owned),
        verify_checksum: Some(checksum::along(hops.iter().map(|hop| hop.verify))),
        copy_pin_lifetime: request.attributes.copy_pin_lifetime(),
        bring_online: first.from_tape.then_some(rules.bring_online_s),
        archive_timeout,
        dst_file_report: of_rse.is_some(),
        job_metadata,
        overwrite,
        overwrite_hop: several && over_hops && !overwrite,
        overwrite_when_only_on_disk: on_disk,
        multihop: several,
        priority: Some(request.priority.unwrap_or(3)),
        s3alternate: [first, last].iter().all(|hop| hop.s3_alternate),
        max_time_in_queue: hours_in_queue.map(QueueTime::Hours),
        strict_copy: last.strict_copy,
        ipv4: last.ipv4.then_some(true),
        ipv6: last.ipv4.then_some(false),
        ..Params::deterministic(sid)
    })
}

/// One file. `verify` is what holds for all hops, where there are several.
fn file(
    plan: &Plan,
    verify: Option<fts_client::VerifyChecksum>,
    topology: &Topology,
    rules: &JobRules,
) -> FileEntry {
    let request = &plan.request;
    let source = plan.sources.first().and_then(|source| topology.rse(&source.rse));
    let destination = topology.rse(&request.destination);
    let activity = request.activity.clone().unwrap_or_else(|| "default".into());
    let checksum = match (verify, source, destination) {
        (Some(verify), Some(source), Some(destination)) => {
            checksum::value(request, source, destination, verify)
        }
        _ => plan.checksum.clone(),
    };
    // The poller and the receiver need every one of these.
    let mut metadata = json!({
        "request_id": request.id.0,
        "scope": request.external_scope(),
        "name": request.name,
        "activity": request.activity,
        "request_type": "TRANSFER",
        "src_type": source.map(|rse| rse.kind()),
        "dst_type": destination.map(|rse| rse.kind()),
        "src_rse": source.map(|rse| &rse.name),
        "dst_rse": destination.map(|rse| &rse.name),
        "src_rse_id": source.map(|rse| &rse.id.0),
        "dest_rse_id": request.destination.0,
        "filesize": request.bytes,
        "md5": request.md5,
        "adler32": request.adler32,
    });
    if plan.tape.is_some() {
        metadata["vo"] = request.vo().unwrap_or("def").into();
    }
    FileEntry {
        sources: plan.sources.iter().map(|source| source.url.clone()).collect(),
        destinations: vec![plan.destination_url.clone()],
        metadata,
        filesize: request.bytes,
        checksum,
        selection_strategy: Some(rules.selection_strategy.clone().into()),
        staging_metadata: plan.from_tape.then(|| json!({ "default": { "activity": request.activity } })),
        activity: Some(activity),
        ..FileEntry::default()
    }
}
