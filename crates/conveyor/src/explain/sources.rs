//! Every replica that a request could come from: in which order they are preferred, and why one is not.
//!
//! Asked of the choice itself: a source by itself tells why it falls out, and taking the best away again and again tells the order.
//! So this can never say another thing than what is done.

use serde::Serialize;

use crate::choose::{Rules, Verdict, choose};
use crate::request::{Replica, Request};
use crate::topology::Topology;

/// One replica.
#[derive(Debug, Serialize)]
pub(super) struct SourceView {
    /// The RSE's name; its id where it is not of this VO or deleted.
    pub(super) rse: String,
    /// From 1, the main source; none when it fell out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) preference: Option<usize>,
    /// Whether the job names it.
    pub(super) used: bool,
    /// `sources.ranking`.
    pub(super) ranking: i64,
    /// The direct distance.
    pub(super) distance: Option<i64>,
    /// Whether it is on tape.
    pub(super) tape: bool,
    /// Its URL in the job.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) url: Option<String>,
    /// Why it can't be taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) dropped: Option<String>,
}

pub(super) fn all(request: &Request, topology: &Topology, rules: &Rules) -> Vec<SourceView> {
    let chosen = match choose(request, topology, rules) {
        Verdict::Submit(plan) => plan.sources,
        _ => Vec::new(),
    };
    let mut left = request.replicas.clone();
    let mut views = Vec::new();
    while let Some(main) = main(request, &left, topology, rules) {
        let Some(at) = left.iter().position(|replica| replica.rse == main) else { break };
        let replica = left.remove(at);
        views.push(SourceView { preference: Some(views.len() + 1), ..view(&replica, request, topology) });
    }
    for replica in &left {
        let dropped = match choose(&alone(request, vec![replica.clone()]), topology, rules) {
            Verdict::Submit(_) => "others are taken before it".to_owned(),
            Verdict::End(_, reason) | Verdict::Leave(reason) => reason.to_owned(),
        };
        views.push(SourceView { dropped: Some(dropped), ..view(replica, request, topology) });
    }
    for view in &mut views {
        let source = chosen.iter().find(|source| {
            topology.rse(&source.rse).map_or(source.rse.0 == view.rse, |rse| rse.name == view.rse)
        });
        view.used = source.is_some();
        view.url = source.map(|source| source.url.clone());
    }
    views
}

/// The main source if there were only these replicas.
fn main(
    request: &Request,
    left: &[Replica],
    topology: &Topology,
    rules: &Rules,
) -> Option<crate::topology::RseId> {
    match choose(&alone(request, left.to_vec()), topology, rules) {
        Verdict::Submit(plan) => plan.sources.first().map(|source| source.rse.clone()),
        _ => None,
    }
}

fn alone(request: &Request, replicas: Vec<Replica>) -> Request {
    Request { replicas, ..request.clone() }
}

fn view(replica: &Replica, request: &Request, topology: &Topology) -> SourceView {
    let rse = topology.rse(&replica.rse);
    SourceView {
        rse: rse.map_or_else(|| replica.rse.0.clone(), |rse| rse.name.clone()),
        preference: None,
        used: false,
        ranking: replica.ranking,
        distance: topology.distance(&replica.rse, &request.destination),
        tape: rse.is_some_and(crate::topology::Rse::is_tape),
        url: None,
        dropped: None,
    }
}
