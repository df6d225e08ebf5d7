//! Which plans go together in a job: Rucio's grouping policies.

use std::collections::BTreeMap;

use clap::ValueEnum;
use fts_client::Identity;
use serde::Deserialize;

use super::{Job, JobRules, params};
use crate::choose::Plan;
use crate::topology::RseId;

/// What the files of one job have in common, beside its parameters and the account: Rucio's `--group-policy`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum GroupBy {
    /// The rule.
    #[default]
    Rule,
    /// The destination.
    Dest,
    /// The main source and the destination.
    SrcDest,
    /// The rule, the main source and the destination.
    RuleSrcDest,
    /// The activity and the destination.
    ActivityDest,
    /// The activity, the main source and the destination.
    ActivitySrcDest,
}

impl GroupBy {
    /// Whether the rule, the activity, the main source and the destination count.
    fn counts(self) -> (bool, bool, bool, bool) {
        match self {
            Self::Rule => (true, false, false, false),
            Self::Dest => (false, false, false, true),
            Self::SrcDest => (false, false, true, true),
            Self::RuleSrcDest => (true, false, true, true),
            Self::ActivityDest => (false, true, false, true),
            Self::ActivitySrcDest => (false, true, true, true),
        }
    }
}

/// What the files of one job share. Beside Rucio's policy that is every parameter of the job, of which one is the account: Rucio gives a
/// job the account, and some parameters, of its first file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Together {
    /// The rule, where it counts.
    pub rule: Option<String>,
    /// The activity, where it counts.
    pub activity: Option<String>,
    /// The main source, where it counts.
    pub source: Option<RseId>,
    /// The destination, where it counts.
    pub destination: Option<RseId>,
    /// The account with its VO.
    pub account: Option<String>,
    /// The parameters, as JSON.
    pub params: String,
}

impl Together {
    /// Of a plan of one hop from one source. `None` for others, whose job is theirs alone, since FTS refuses them beside others.
    pub fn of(plan: &Plan, rules: &JobRules) -> Option<Self> {
        if plan.sources.len() > 1 || !plan.before.is_empty() {
            return None;
        }
        let params = params(std::slice::from_ref(plan), String::new(), rules)?;
        let (rule, activity, source, destination) = rules.group_by.counts();
        let request = &plan.request;
        Some(Self {
            rule: request.rule_id.clone().filter(|_| rule),
            activity: request.activity.clone().filter(|_| activity),
            source: plan.sources.first().map(|main| main.rse.clone()).filter(|_| source),
            destination: destination.then(|| request.destination.clone()),
            account: request.account.clone(),
            params: serde_json::to_string(&params).ok()?,
        })
    }
}

/// Puts plans for one FTS into jobs.
pub fn group(plans: Vec<Plan>, identity: &Identity, rules: &JobRules) -> Vec<Job> {
    let mut alone = Vec::new();
    let mut together: BTreeMap<Together, Vec<Plan>> = BTreeMap::new();
    for plan in plans {
        match Together::of(&plan, rules) {
            Some(key) => together.entry(key).or_default().push(plan),
            None => alone.extend(Job::new(plan.hops(), identity)),
        }
    }
    let size = rules.files_per_job.max(1);
    let cut = together.into_values().flat_map(|plans| {
        let chunks: Vec<_> = plans.chunks(size).map(<[Plan]>::to_vec).collect();
        chunks.into_iter().filter_map(|plans| Job::new(plans, identity))
    });
    alone.into_iter().chain(cut).collect()
}
