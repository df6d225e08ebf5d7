//! A file's way as Rucio's own submitter has sent it: its hops, each a request.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::reason::Known;
use crate::request::{Replica, Request, RequestId};
use crate::rucio::Stamp;
use crate::rucio::look::Sight;
use crate::rucio::submitted::Link;
use crate::topology::{RseId, Topology};

/// What was made of one request.
pub(super) struct Way<'a> {
    /// Its hops, itself the last.
    pub(super) legs: Vec<&'a Sight>,
    /// Itself.
    pub(super) own: &'a Sight,
}

/// The ways of these requests, and how many hops belong to none. A request that waits in the queue behind hops that were submitted
/// counts; others in the queue do not.
pub(super) fn ways<'a>(sights: &'a BTreeMap<RequestId, Sight>, links: &[Link]) -> (Vec<Way<'a>>, usize) {
    let before: HashMap<&RequestId, &RequestId> = links.iter().map(|link| (&link.next, &link.hop)).collect();
    let is_hop = |sight: &Sight| sight.request.attributes.truth("is_intermediate_hop") == Some(true);
    let way = |own: &'a Sight| {
        let mut legs = vec![own];
        let mut at = &own.request.id;
        while let Some((hop, sight)) = before.get(at).and_then(|hop| Some((*hop, sights.get(*hop)?))) {
            // A chain has no more than a few hops; one that bites its tail is none.
            if legs.len() > links.len() {
                break;
            }
            legs.insert(0, sight);
            at = hop;
        }
        Way { legs, own }
    };
    let ways: Vec<_> = sights
        .values()
        .filter(|sight| !is_hop(sight))
        .map(way)
        .filter(|way| way.own.state != "Q" || way.legs.len() > 1)
        .filter(|way| !matches!(way.own.state.as_str(), "P" | "W" | "G"))
        .collect();
    let of_ways: HashSet<_> = ways.iter().flat_map(|way| &way.legs).map(|sight| &sight.request.id).collect();
    let alone = sights.values().filter(|sight| is_hop(sight) && !of_ways.contains(&sight.request.id)).count();
    (ways, alone)
}

impl Way<'_> {
    /// The request's id.
    pub(super) fn id(&self) -> &RequestId {
        &self.own.request.id
    }

    /// When it was decided about: when it was submitted, or ended.
    pub(super) fn at(&self) -> &Stamp {
        let submitted = self.legs.iter().find_map(|leg| leg.submitted_at.as_ref());
        submitted.unwrap_or(&self.own.updated_at)
    }

    /// Where it came from: the main source of its first hop.
    pub(super) fn source(&self) -> Option<&RseId> {
        self.legs.first()?.source.as_ref()
    }

    /// The request as it was then: without the source it has by now, replicas that came later, and those on its way.
    pub(super) fn as_it_was(&self, topology: &Topology, known: &Known) -> Request {
        let on_the_way: HashSet<&RseId> =
            self.legs.iter().rev().skip(1).map(|leg| &leg.request.destination).collect();
        let was_there = |replica: &&Replica| {
            let times = known.times.get(&(self.id().clone(), replica.rse.clone()));
            topology.rse(&replica.rse).is_some()
                && !on_the_way.contains(&replica.rse)
                && times.is_none_or(|times| times.created_at <= *self.at())
        };
        let request = &self.own.request;
        Request {
            prepared_source: None,
            replicas: request.replicas.iter().filter(was_there).cloned().collect(),
            ..request.clone()
        }
    }
}
