//! Whether what Rucio's submitter put into one job could be one of ours.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::Difference;
use crate::choose::Plan;
use crate::job::{JobRules, Together};
use crate::request::RequestId;

/// Parameters by which Rucio, too, tells jobs apart.
const RUCIOS: [&str; 7] = [
    "verify_checksum",
    "copy_pin_lifetime",
    "bring_online",
    "job_metadata",
    "overwrite",
    "priority",
    "max_time_in_queue",
];
const FIRST_OF_ALL: &str =
    "Rucio gives a job these parameters of its first file; ours holds only files for which they are the same";

/// A request of one of their jobs.
pub(super) struct Filed {
    id: RequestId,
    /// What the files of our job share; `None` where it would have one of its own.
    together: Option<Together>,
}

impl Filed {
    pub(super) fn of(plan: &Plan, rules: &JobRules) -> Self {
        Self { id: plan.request.id.clone(), together: Together::of(plan, rules) }
    }
}

/// The requests of one of their jobs that would not go with its first in one of ours. That ours may be larger or smaller says nothing: it
/// depends on what is in the queue at the same time.
pub(super) fn differences(job: &[Filed]) -> Vec<Difference> {
    let Some((first, others)) = job.split_first() else { return Vec::new() };
    let apart = others.iter().filter_map(|other| {
        let apart: BTreeSet<String> = match (&first.together, &other.together) {
            (Some(one), Some(other)) => apart(one, other),
            _ => ["several sources or hops".to_owned()].into(),
        };
        if apart.is_empty() {
            return None;
        }
        let params_only = apart.iter().all(|name| name.starts_with("params.") && !rucios(name));
        Some(Difference {
            request_id: other.id.clone(),
            field: "job".into(),
            theirs: format!("one with request {}", first.id),
            ours: format!("another: {} differ", apart.into_iter().collect::<Vec<_>>().join(", ")),
            reason: params_only.then(|| FIRST_OF_ALL.to_owned()),
        })
    });
    apart.collect()
}

fn rucios(name: &str) -> bool {
    name.strip_prefix("params.").is_some_and(|name| RUCIOS.contains(&name))
}

/// In what two files differ that would have to be the same.
fn apart(one: &Together, other: &Together) -> BTreeSet<String> {
    let keys = [
        ("rule", one.rule != other.rule),
        ("activity", one.activity != other.activity),
        ("source", one.source != other.source),
        ("destination", one.destination != other.destination),
    ];
    let of_key = keys.into_iter().filter(|(_, differ)| *differ).map(|(name, _)| name.to_owned());
    let params = |together: &Together| {
        serde_json::from_str::<Map<String, Value>>(&together.params).unwrap_or_default()
    };
    let (ones, others) = (params(one), params(other));
    let names: BTreeSet<&String> = ones.keys().chain(others.keys()).collect();
    let of_params = names
        .into_iter()
        .filter(|name| ones.get(*name) != others.get(*name))
        .map(|name| format!("params.{name}"));
    of_key.chain(of_params).collect()
}
