//! From ranked sources to the one way that is submitted.

use std::collections::{HashMap, HashSet};

use super::pair;
use super::plan::{Leg, Plan};
use super::route::{Hop, Route};
use super::strategy::Candidate;
use super::{Rules, Verdict};
use crate::name::{self, Unnamed};
use crate::request::{Replica, Request};
use crate::topology::{Protocol, Rse, RseId, Topology};

/// `requests.dest_url` and `sources.url` hold this many characters; PostgreSQL refuses a whole statement for one more.
const LONGEST_URL: usize = 2048;

/// A way that may be submitted.
pub(super) struct Way<'a> {
    hops: &'a [Hop<'a>],
    /// The replica that it was looked for from; not the first hop's source where a nearer one lies on the way.
    replica: &'a Replica,
    /// Whether it is one hop by itself, beside which other sources may be named.
    direct: bool,
}

/// The ways of the candidates, in their order: one that passes another source begins there, and each source begins one only.
pub(super) fn compressed<'a>(
    candidates: &'a [Candidate<'a>],
    routes: &'a HashMap<&'a RseId, Route<'a>>,
    request: &Request,
) -> Vec<Way<'a>> {
    let sources: HashSet<&RseId> = request.replicas.iter().map(|replica| &replica.rse).collect();
    let mut seen = HashSet::new();
    let way = |candidate: &'a Candidate<'a>| {
        let Some(Route::Hops(hops)) = routes.get(&candidate.rse.id) else { return None };
        let from = hops.iter().rposition(|hop| sources.contains(&hop.source.id)).unwrap_or(0);
        let way = Way { hops: &hops[from..], replica: candidate.replica, direct: hops.len() == 1 };
        seen.insert(&way.hops.first()?.source.id).then_some(way)
    };
    candidates.iter().filter_map(way).collect()
}

/// Plans the first way that one FTS can carry all of.
pub(super) fn plan(
    request: &Request,
    topology: &Topology,
    rules: &Rules,
    ways: &[Way<'_>],
    sources: &[(&Replica, &Rse)],
) -> Verdict {
    use Verdict::Leave;
    let fts = |way: &Way<'_>| way.hops.iter().map(fts).next_back().flatten();
    let usable = |way: &&Way<'_>| {
        way.hops.iter().all(|hop| self::fts(hop).is_some())
            && intermediate(way).all(|rse| topology.tombstone_delay_s(rse).is_some())
    };
    let Some(way) = ways.iter().find(usable) else {
        return Leave("no `fts` attribute");
    };
    let Some(fts) = fts(way) else { return Leave("no `fts` attribute") };
    if !intermediate(way).all(Rse::takes_hops) {
        return Leave("by way of a non-deterministic or volatile RSE: left to Rucio's own submitter");
    }
    let mut legs = Vec::with_capacity(way.hops.len());
    for hop in way.hops {
        let last = legs.len() + 1 == way.hops.len();
        let mut reads = vec![(hop.source, hop.pair.read, legs.is_empty())];
        if way.direct && !hop.source.is_tape() {
            reads.extend(further(hop, topology, rules, sources).map(|(rse, protocol)| (rse, protocol, true)));
        }
        let by_token = |rse: &Rse, protocol: &Protocol| rules.tokens.by_token(rse, &protocol.scheme);
        if !by_token(hop.destination, hop.pair.write)
            || !reads.iter().all(|(rse, read, _)| by_token(rse, read))
        {
            return rules.tokens.without.verdict();
        }
        let wanted =
            if last { request.clone() } else { Plan::hop_request(request, hop.source, hop.destination) };
        match leg(request, wanted, hop, way, &reads, topology) {
            Ok(leg) => legs.push(leg),
            Err(unnamed) => return Leave(unnamed.reason()),
        }
    }
    let urls = legs.iter().flat_map(|leg| leg.sources.iter().map(|s| &s.url).chain([&leg.destination_url]));
    if urls.into_iter().any(|url| url.chars().count() > LONGEST_URL) {
        return Leave("a URL is longer than Rucio's database takes");
    }
    match Plan::of_legs(legs, &fts, topology) {
        Some(plan) => Verdict::Submit(Box::new(plan)),
        None => Leave("no way"),
    }
}

/// The RSEs that a way goes by way of.
fn intermediate<'a>(way: &Way<'a>) -> impl Iterator<Item = &'a Rse> {
    way.hops.iter().skip(1).map(|hop| hop.source)
}

/// The FTS that carries a hop, if one may: the destination's first, or the source's where its URLs are signed for Google.
fn fts(hop: &Hop<'_>) -> Option<String> {
    let (source, destination) = (hop.source.attribute("fts")?, hop.destination.attribute("fts")?);
    let list = if hop.source.attribute("sign_url") == Some("gcs") { source } else { destination };
    list.split(',').next().map(|first| first.trim().to_owned()).filter(|first| !first.is_empty())
}

/// Further sources for a direct hop from disk, the best first.
fn further<'a>(
    hop: &Hop<'a>,
    topology: &Topology,
    rules: &Rules,
    sources: &[(&Replica, &'a Rse)],
) -> impl Iterator<Item = (&'a Rse, &'a Protocol)> {
    let far = |rse: &Rse| topology.written_distance(&rse.id, &hop.destination.id);
    let mut others: Vec<_> = sources
        .iter()
        .filter(|(_, rse)| rse.id != hop.source.id && !rse.is_tape())
        .filter_map(|(replica, rse)| Some(((-replica.ranking, far(rse)?), *rse)))
        .collect();
    others.sort_by_key(|(order, _)| *order);
    let protocol = |rse: &'a Rse| Some((rse, pair::further(rse, hop.destination, &hop.pair.write.scheme)?));
    let further: Vec<_> =
        others.into_iter().filter_map(|(_, rse)| protocol(rse)).take(rules.max_extra_sources).collect();
    further.into_iter()
}

/// One hop with its URLs. `reads` are its sources with their protocols, and whether what is known of their replica counts: Rucio
/// forgets it where a way begins at a source that lay on the way from another.
fn leg<'a>(
    request: &Request,
    wanted: Request,
    hop: &Hop<'a>,
    way: &Way<'_>,
    reads: &[(&'a Rse, &Protocol, bool)],
    topology: &Topology,
) -> Result<Leg<'a>, Unnamed> {
    let mut sources = Vec::with_capacity(reads.len());
    for (rse, protocol, own) in reads {
        let replica = request.replicas.iter().find(|replica| replica.rse == rse.id);
        let known = replica.filter(|_| *own && (way.direct || way.replica.rse == rse.id));
        let explicit = known.and_then(|replica| replica.path.as_deref());
        // Without a path of its own, that of the replica is looked up, and loses a slash at either end.
        let found = replica.and_then(|replica| replica.path.as_deref()).filter(|_| !rse.deterministic);
        let found = found
            .map(|path| path.strip_prefix('/').unwrap_or(path))
            .map(|p| p.strip_suffix('/').unwrap_or(p));
        let url = name::source_url(request, rse, protocol, explicit.or(found), hop.destination, topology)?;
        sources.push(super::Source {
            rse: rse.id.clone(),
            url,
            ranking: known.map_or(0, |replica| replica.ranking),
        });
    }
    let destination_url = name::destination_url(&wanted, hop.destination, hop.pair.write, topology)?;
    let rses = reads.iter().map(|(rse, ..)| *rse).collect();
    Ok(Leg { request: wanted, sources, rses, destination: hop.destination, destination_url })
}
