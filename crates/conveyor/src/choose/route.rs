//! The ways from sources to a destination: direct, or over RSEs that files may go by way of.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};

use super::pair::{self, Pair, Schemes};
use crate::topology::{Rse, RseId, Topology};

/// One hop of a way.
#[derive(Clone)]
pub(super) struct Hop<'a> {
    pub(super) source: &'a Rse,
    pub(super) destination: &'a Rse,
    pub(super) pair: Pair<'a>,
    /// Of the whole way for its first hop, of the hop for the others.
    pub(super) distance: i64,
}

/// The way from one source.
pub(super) enum Route<'a> {
    /// Its hops, the source's own first.
    Hops(Vec<Hop<'a>>),
    /// There is one, but on it no pair of protocols fits.
    Mismatch,
}

/// What is known of the way from an RSE: how far it is, and the next hop.
struct Known<'a> {
    far: i64,
    penalty: i64,
    next: Option<Hop<'a>>,
}

/// The shortest way from each of `sources`; those from which there is none are not in it. Rucio's search: from the destination
/// backwards, over RSEs for multihop and over sources whose own way is not known yet; without the former, over links to the
/// destination only. Only the last hop is bound to `limit`.
pub(super) fn routes<'a>(
    sources: &[&'a Rse],
    destination: &'a Rse,
    topology: &'a Topology,
    limit: &Schemes,
    ignore_availability: bool,
) -> HashMap<&'a RseId, Route<'a>> {
    let hubs = topology.hubs(ignore_availability);
    if hubs.is_empty() {
        direct(sources, destination, topology, limit)
    } else {
        search(sources, destination, topology, limit, hubs)
    }
}

fn direct<'a>(
    sources: &[&'a Rse],
    destination: &'a Rse,
    topology: &'a Topology,
    limit: &Schemes,
) -> HashMap<&'a RseId, Route<'a>> {
    let route = |source: &&'a Rse| {
        let distance = topology.distance(&source.id, &destination.id)?;
        let hop =
            pair::best(source, destination, limit).map(|pair| Hop { source, destination, pair, distance });
        Some((&source.id, hop.map_or(Route::Mismatch, |hop| Route::Hops(vec![hop]))))
    };
    sources.iter().filter_map(route).collect()
}

fn search<'a>(
    sources: &[&'a Rse],
    destination: &'a Rse,
    topology: &'a Topology,
    limit: &Schemes,
    hubs: &HashSet<RseId>,
) -> HashMap<&'a RseId, Route<'a>> {
    let everything = Schemes::default();
    let mut wanted: HashSet<&RseId> = sources.iter().map(|rse| &rse.id).collect();
    let mut known = HashMap::from([(&destination.id, Known { far: 0, penalty: 0, next: None })]);
    let (mut settled, mut mismatched) = (HashSet::new(), HashSet::new());
    // The second number keeps RSEs as far as each other in the order in which they were found.
    let (mut queue, mut found) = (BinaryHeap::from([Reverse((0, 0, &destination.id))]), 0);
    while let Some(Reverse((far, _, id))) = queue.pop() {
        let Some((here, rse)) = known.get(id).zip(topology.rse(id)) else { continue };
        if here.far < far || !settled.insert(id) {
            continue;
        }
        let so_far = here.far + here.penalty;
        wanted.remove(id);
        if wanted.is_empty() {
            break;
        }
        for (source, distance) in topology.links_into(id) {
            if !wanted.contains(&source.id) && !hubs.contains(&source.id) {
                continue;
            }
            let far = so_far + distance;
            if known.get(&source.id).is_some_and(|known| known.far <= far) {
                continue;
            }
            let limit = if id == &destination.id { limit } else { &everything };
            let Some(pair) = pair::best(source, rse, limit) else {
                mismatched.insert(&source.id);
                continue;
            };
            let next = Some(Hop { source, destination: rse, pair, distance });
            known.insert(&source.id, Known { far, penalty: topology.hop_penalty(source), next });
            found += 1;
            queue.push(Reverse((far, found, &source.id)));
        }
    }
    let route = |source: &&'a Rse| {
        if settled.contains(&source.id) {
            return Some((&source.id, Route::Hops(follow(&source.id, &known))));
        }
        mismatched.contains(&source.id).then_some((&source.id, Route::Mismatch))
    };
    sources.iter().filter_map(route).collect()
}

fn follow<'a>(source: &'a RseId, known: &HashMap<&'a RseId, Known<'a>>) -> Vec<Hop<'a>> {
    let (mut hops, mut at) = (Vec::new(), source);
    while let Some(Known { far, next: Some(hop), .. }) = known.get(at) {
        let distance = if hops.is_empty() { *far } else { hop.distance };
        hops.push(Hop { distance, ..hop.clone() });
        at = &hop.destination.id;
    }
    hops
}
