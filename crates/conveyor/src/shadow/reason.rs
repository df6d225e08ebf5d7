//! Why ours differs from theirs, where that can be told.

use std::collections::{BTreeSet, HashMap};

use super::way::Way;
use super::{Difference, compare, name};
use crate::choose::{Plan, Rules, Verdict, choose};
use crate::request::{Request, RequestId};
use crate::rucio::Stamp;
use crate::rucio::submitted::{Changes, ReplicaTimes};
use crate::topology::{Protocol, Rse, RseId, Topology};

const EQUALS: &str =
    "equal in ranking, kind and distance: Rucio takes such sources as its database gives them, we by age";
const RETRIED: &str = "it was tried before: Rucio takes the source again that failed, ours does only with submit.retry_same_source";
const PREPARED: &str = "Rucio's preparer may have chosen the source earlier, which the row no longer tells";
const EQUAL_PROTOCOLS: &str = "protocols of equal rank: Rucio takes one at random";
const EQUAL_EXTRAS: &str =
    "equal in ranking and distance: which of them Rucio names beside the main source is random";
const OLD_URL: &str =
    "the row in `sources` is of an earlier try: Rucio keeps its URL there, and posts another";

/// What is known beside the requests.
pub(super) struct Known {
    /// Of replicas that are available now.
    pub(super) times: HashMap<(RequestId, RseId), ReplicaTimes>,
    /// What operators have changed.
    pub(super) changes: Changes,
    /// Whether Rucio's preparer is on.
    pub(super) prepares: bool,
}

/// What we would do with the source that theirs took as the only main one, and why theirs may have been bound to it.
pub(super) fn bound(
    way: &Way<'_>,
    request: &Request,
    verdict: &Verdict,
    topology: &Topology,
    rules: &Rules,
    known: &Known,
) -> Option<(Verdict, String)> {
    let theirs = way.source()?;
    let Verdict::Submit(ours) = verdict else { return None };
    let first = compare::legs(ours).first()?.sources.first()?.rse.clone();
    if first == *theirs {
        return None;
    }
    let bound = Request { prepared_source: Some(theirs.clone()), ..request.clone() };
    let verdict = choose(&bound, topology, &Rules { retry_same_source: true, ..rules.clone() });
    let Verdict::Submit(plan) = &verdict else { return None };
    // One that cannot be used is done without, and then nothing is told by it.
    if compare::legs(plan).first()?.sources.first()?.rse != *theirs {
        return None;
    }
    let reason = match () {
        () if cost(plan, request, topology) == cost(ours, request, topology) => EQUALS,
        () if request.retried => RETRIED,
        () if known.prepares => PREPARED,
        () => return None,
    };
    Some((verdict, reason.to_owned()))
}

/// What ranks a way, of Rucio's default strategies.
fn cost(plan: &Plan, request: &Request, topology: &Topology) -> Option<(i64, bool, i64, usize)> {
    let legs = compare::legs(plan);
    let from = &legs.first()?.sources.first()?.rse;
    let ranking = request.replicas.iter().find(|replica| replica.rse == *from).map_or(0, |r| r.ranking);
    let mut far = 0;
    for (at, leg) in legs.iter().enumerate() {
        far += topology.distance(&leg.sources.first()?.rse, &leg.request.destination)?;
        let hub = topology.rse(&leg.request.destination).filter(|_| at + 1 < legs.len());
        far += hub.map_or(0, |rse| topology.hop_penalty(rse));
    }
    Some((ranking, topology.rse(from)?.is_tape(), far, legs.len()))
}

/// Gives a reason to those that have none and for which there is one.
pub(super) fn explain(
    differences: &mut [Difference],
    way: &Way<'_>,
    request: &Request,
    verdict: &Verdict,
    topology: &Topology,
    rules: &Rules,
    known: &Known,
) {
    let changed = changed(way, request, verdict, topology, known);
    for difference in differences.iter_mut().filter(|difference| difference.reason.is_none()) {
        difference.reason = match verdict {
            Verdict::Leave(words) if verdict.is_left_to_python() => Some((*words).to_owned()),
            // A policy of ours, and no finding about the topology.
            Verdict::End(_, words) if same(&rules.tokens.without.verdict(), verdict) => {
                Some((*words).to_owned())
            }
            Verdict::Submit(plan) => of_plan(difference, way, request, plan, topology),
            _ => None,
        }
        .or_else(|| changed.clone());
    }
}

fn same(one: &Verdict, other: &Verdict) -> bool {
    matches!((one, other), (Verdict::End(_, one), Verdict::End(_, other)) if one == other)
}

fn of_plan(
    difference: &Difference,
    way: &Way<'_>,
    request: &Request,
    plan: &Plan,
    topology: &Topology,
) -> Option<String> {
    let at = way.legs.iter().position(|leg| leg.request.id == difference.request_id)?;
    let (theirs, ours) = (way.legs.get(at)?, *compare::legs(plan).get(at)?);
    let from = at.checked_sub(1).and_then(|before| way.legs.get(before)).map(|leg| &leg.request.destination);
    match difference.field.as_str() {
        "sources" => {
            let destination = &theirs.request.destination;
            let rank = |rse: &RseId| {
                let replica = request.replicas.iter().find(|replica| replica.rse == *rse);
                (replica.map(|replica| replica.ranking), topology.written_distance(rse, destination))
            };
            let theirs: BTreeSet<&RseId> = compare::used(theirs, from).into_keys().collect();
            let ours: BTreeSet<&RseId> = ours.sources.iter().map(|source| &source.rse).collect();
            let ranks = |one: &BTreeSet<&RseId>, other: &BTreeSet<&RseId>| {
                let mut ranks: Vec<_> = one.difference(other).map(|rse| rank(rse)).collect();
                ranks.sort();
                ranks
            };
            (ranks(&theirs, &ours) == ranks(&ours, &theirs)).then(|| EQUAL_EXTRAS.to_owned())
        }
        "destination URL" => {
            let rse = topology.rse(&theirs.request.destination)?;
            let equal = equals(rse, &difference.theirs, &difference.ours, |protocol| protocol.tpc_write);
            equal.then(|| EQUAL_PROTOCOLS.to_owned())
        }
        field => {
            let rse = topology.named(field.strip_prefix("URL at ")?)?;
            if equals(rse, &difference.theirs, &difference.ours, |protocol| protocol.tpc_read) {
                return Some(EQUAL_PROTOCOLS.to_owned());
            }
            theirs.sources.get(&rse.id)?.of_earlier_try.then(|| OLD_URL.to_owned())
        }
    }
}

/// Whether two URLs are of two protocols of equal rank.
fn equals(rse: &Rse, theirs: &str, ours: &str, rank: impl Fn(&Protocol) -> Option<i64>) -> bool {
    let ranks = |url: &str| {
        let url = url.to_owned();
        let of_protocol = move |protocol: &&Protocol| {
            let start = format!("{}://{}", protocol.scheme, protocol.hostname);
            let rest = url.strip_prefix(&start);
            rest.is_some_and(|rest| match protocol.port {
                0 => true,
                port => rest.strip_prefix(&format!(":{port}")).is_some_and(|rest| rest.starts_with('/')),
            })
        };
        rse.protocols.iter().filter(of_protocol).filter_map(&rank).collect::<BTreeSet<_>>()
    };
    ranks(theirs).intersection(&ranks(ours)).next().is_some() && !same_protocol(theirs, ours)
}

/// Whether scheme, host and port are the same.
fn same_protocol(one: &str, other: &str) -> bool {
    let start = |url: &str| url.split('/').take(3).collect::<Vec<_>>().join("/");
    start(one) == start(other)
}

/// What has changed since among all that decides about the request.
fn changed(
    way: &Way<'_>,
    request: &Request,
    verdict: &Verdict,
    topology: &Topology,
    known: &Known,
) -> Option<String> {
    let at = way.at();
    let later = |when: &Stamp| when > at;
    let said = |what: String, when: &Stamp| format!("{what} changed at {}, after that", when.as_str());
    let gone =
        way.source().filter(|source| !way.own.request.replicas.iter().any(|replica| replica.rse == **source));
    if let Some(rse) = gone {
        return Some(format!("the replica at {} is not available any more", name(rse, topology)));
    }
    let replica = request.replicas.iter().find_map(|replica| {
        let times = known.times.get(&(way.id().clone(), replica.rse.clone()))?;
        later(&times.updated_at).then_some((&replica.rse, &times.updated_at))
    });
    let ours = match verdict {
        Verdict::Submit(plan) => compare::legs(plan),
        _ => Vec::new(),
    };
    let rses = way
        .legs
        .iter()
        .map(|leg| &leg.request.destination)
        .chain(ours.iter().map(|leg| &leg.request.destination))
        .chain(request.replicas.iter().map(|replica| &replica.rse));
    let rse = rses.filter_map(|rse| Some((rse, known.changes.rses.get(rse)?))).find(|(_, when)| later(when));
    let option = known.changes.options.iter().find(|(_, when)| later(when));
    rse.map(|(rse, when)| {
        said(format!("RSE {}, its attributes, protocols or distances", name(rse, topology)), when)
    })
    .or_else(|| option.map(|(option, when)| said(format!("Rucio's option {option}"), when)))
    .or_else(|| replica.map(|(rse, when)| said(format!("the replica at {}", name(rse, topology)), when)))
}
