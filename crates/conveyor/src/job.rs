//! From plans to FTS jobs, as Rucio's fts3 transfertool writes them.

use std::collections::BTreeMap;

use fts_client::{FileEntry, Identity, JobId, Params, QueueTime, Submission};
use serde_json::json;

use crate::choose::Plan;
use crate::tokens::{Carried, FileTokens, Tokens};
use crate::topology::Topology;

/// Settings of jobs.
#[derive(Clone, Debug)]
pub struct JobRules {
    /// Most files in one job.
    pub files_per_job: usize,
    /// Hours by activity; `default` for the others. Without either, none is sent.
    pub max_time_in_queue_h: BTreeMap<String, i64>,
    /// FTS's way to pick among several sources.
    pub selection_strategy: String,
}

/// Plans that go together, and the id that their job will have.
#[derive(Clone, Debug)]
pub struct Job {
    /// What FTS makes of `sid`.
    pub id: JobId,
    /// The id of one of the requests: whoever finds the claim after a crash can make the same job again.
    pub sid: String,
    /// The files.
    pub plans: Vec<Plan>,
}

impl Job {
    /// A job of these plans; the first lends its id. `None` without plans.
    pub fn new(plans: Vec<Plan>, identity: &Identity) -> Option<Self> {
        let sid = plans.first()?.request.id.0.clone();
        Some(Self { id: identity.job_id(&sid), sid, plans })
    }
}

/// What the files of one job share: Rucio's grouping policy `rule`, and every parameter of the job.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Together {
    rule: Option<String>,
    account: Option<String>,
    params: String,
}

/// Puts plans for one FTS into jobs. A file with several sources is a job of its own, since FTS refuses it beside others.
pub fn group(plans: Vec<Plan>, identity: &Identity, rules: &JobRules) -> Vec<Job> {
    let mut alone = Vec::new();
    let mut together: BTreeMap<Together, Vec<Plan>> = BTreeMap::new();
    for plan in plans {
        if plan.sources.len() > 1 {
            alone.extend(Job::new(vec![plan], identity));
        } else {
            let params = serde_json::to_string(&params(&plan, String::new(), rules)).unwrap_or_default();
            let rule = plan.request.rule_id.clone();
            let account = plan.request.account.clone();
            together.entry(Together { rule, account, params }).or_default().push(plan);
        }
    }
    let size = rules.files_per_job.max(1);
    let cut = together.into_values().flat_map(|plans| {
        let chunks: Vec<_> = plans.chunks(size).map(<[Plan]>::to_vec).collect();
        chunks.into_iter().filter_map(|plans| Job::new(plans, identity))
    });
    alone.into_iter().chain(cut).collect()
}

/// The body to post, with the tokens that its files carry. `None` when a file has to wait for one of them, and without plans.
pub fn submission(job: &Job, topology: &Topology, rules: &JobRules, tokens: &Tokens) -> Option<Submission> {
    let mut params = params(job.plans.first()?, job.sid.clone(), rules);
    params.unmanaged_tokens = tokens.carried() == Carried::Unmanaged;
    let file = |plan| {
        let FileTokens { sources, destination } = tokens.of(plan).ok()?;
        let entry = file(plan, topology, rules);
        Some(FileEntry { source_tokens: sources, destination_tokens: destination, ..entry })
    };
    Some(Submission { files: job.plans.iter().map(file).collect::<Option<_>>()?, params })
}

fn params(plan: &Plan, sid: String, rules: &JobRules) -> Params {
    let request = &plan.request;
    let activity = request.activity.as_deref().unwrap_or("default");
    let hours = &rules.max_time_in_queue_h;
    let hours_in_queue = hours.get(activity).or_else(|| hours.get("default")).copied();
    Params {
        account: request.external_account().map(str::to_owned),
        verify_checksum: Some(plan.verify),
        copy_pin_lifetime: request.attributes.copy_pin_lifetime(),
        bring_online: None,
        job_metadata: json!({
            "issuer": "rucio",
            "multi_sources": plan.sources.len() > 1,
            "overwrite_when_only_on_disk": false,
        }),
        overwrite: request.attributes.boolean("overwrite").unwrap_or(true),
        overwrite_when_only_on_disk: false,
        priority: Some(request.priority.unwrap_or(3)),
        s3alternate: plan.s3_alternate,
        max_time_in_queue: hours_in_queue.map(QueueTime::Hours),
        strict_copy: plan.strict_copy,
        ipv4: plan.ipv4.then_some(true),
        ipv6: plan.ipv4.then_some(false),
        ..Params::deterministic(sid)
    }
}

fn file(plan: &Plan, topology: &Topology, rules: &JobRules) -> FileEntry {
    let request = &plan.request;
    let source = plan.sources.first().and_then(|source| topology.rse(&source.rse));
    let destination = topology.rse(&request.destination);
    let activity = request.activity.clone().unwrap_or_else(|| "default".into());
    FileEntry {
        sources: plan.sources.iter().map(|source| source.url.clone()).collect(),
        destinations: vec![plan.destination_url.clone()],
        // The poller and the receiver need every one of these.
        metadata: json!({
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
        }),
        filesize: request.bytes,
        checksum: plan.checksum.clone(),
        selection_strategy: Some(rules.selection_strategy.clone().into()),
        activity: Some(activity),
        ..FileEntry::default()
    }
}
