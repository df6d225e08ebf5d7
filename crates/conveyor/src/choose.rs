//! What becomes of a request: where its file comes from and goes to, or why it does not go. A pure function of the request
//! and the topology.
//!
//! Filters, ranking and states are Rucio's own (its submitter's source ranking strategies, observed in 41.5.1). What this
//! daemon does not do yet, or what must not go by token, is left in state `Q` for Rucio's own submitter, and counted.

mod checksum;
mod pair;

use std::sync::Arc;

use fts_client::VerifyChecksum;

use crate::name::{self, Unnamed};
use crate::request::{Replica, Request};
use crate::rucio::queue::Claimed;
use crate::tokens::TokenRules;
use crate::topology::{Rse, RseId, Topology};

pub use pair::Schemes;

/// The rules of choice that the configuration sets.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// Schemes that transfers may use.
    pub schemes: Schemes,
    /// How many sources may be named beside the main one.
    pub max_extra_sources: usize,
    /// Whether sources that may not be read are taken all the same.
    pub ignore_availability: bool,
    /// What may go by token, and by which.
    pub tokens: Arc<TokenRules>,
}

/// One source of a transfer.
#[derive(Clone, Debug, PartialEq)]
pub struct Source {
    /// Where it is.
    pub rse: RseId,
    /// Its URL, byte for byte as FTS will show it: Rucio's poller finds the source by it.
    pub url: String,
    /// Its ranking.
    pub ranking: i64,
}

/// A request that can be submitted.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The request.
    pub request: Request,
    /// The FTS, as the destination's `fts` attribute names it.
    pub fts: String,
    /// The sources, the main one first.
    pub sources: Vec<Source>,
    /// Where the file goes.
    pub destination_url: String,
    /// What FTS compares.
    pub verify: VerifyChecksum,
    /// `ALGORITHM:value`, where one fits both ends.
    pub checksum: Option<String>,
    /// IPv4 only.
    pub ipv4: bool,
    /// S3 in path style.
    pub s3_alternate: bool,
    /// No checks before and after the copy.
    pub strict_copy: bool,
}

/// A state that Rucio's finisher acts on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// `N`: no sources.
    NoSources,
    /// `O`: tape sources only.
    OnlyTape,
    /// `M`: no pair of protocols fits.
    Mismatch,
}

impl End {
    /// The letter in `requests.state`.
    pub fn letter(self) -> &'static str {
        match self {
            Self::NoSources => "N",
            Self::OnlyTape => "O",
            Self::Mismatch => "M",
        }
    }
}

/// What becomes of a request.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// It can be submitted.
    Submit(Box<Plan>),
    /// It gets a state, for a reason in words.
    End(End, &'static str),
    /// It stays in `Q` as it was, for a reason in words.
    Leave(&'static str),
}

/// Why a source fell out.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Drop {
    NotNamed,
    Blocked,
    Tape,
    NoDistance,
    Mismatch,
}

struct Candidate<'a> {
    replica: &'a Replica,
    rse: &'a Rse,
    distance: i64,
    pair: pair::Pair<'a>,
}

/// Decides about one request.
pub fn choose(request: &Request, topology: &Topology, rules: &Rules) -> Verdict {
    use Verdict::Leave;
    let Some(destination) = topology.rse(&request.destination) else {
        return Leave("destination RSE is not of this VO");
    };
    if request.attributes == crate::request::Attributes::Unreadable {
        return Leave("request attributes are not a JSON object");
    }
    if destination.is("restricted_write") {
        return Leave("restricted destination: left to Rucio's own submitter");
    }
    if destination.is_tape() || destination.staging_area || !destination.deterministic {
        return Leave("tape, staging or non-deterministic destination: left to Rucio's own submitter");
    }
    let only = match source_expression(request, topology) {
        Ok(only) => only,
        Err(reason) => return Leave(reason),
    };
    let (mut candidates, drops) = sieve(request, destination, only, topology, rules);
    if request.replicas.iter().any(|r| topology.rse(&r.rse).is_some_and(|rse| rse.is("restricted_read"))) {
        return Leave("restricted source: left to Rucio's own submitter");
    }
    if topology.has_multihop() && candidates.iter().all(|c| c.distance >= HOP_PENALTY) {
        return Leave("may need several hops: left to Rucio's own submitter");
    }
    if candidates.is_empty() {
        return none_left(request, &drops);
    }
    candidates.sort_by_key(cost);
    prefer_prepared(request, &mut candidates);
    submit(request, destination, &candidates, rules)
}

/// Rucio's default cost of one more hop (`[transfers] hop_penalty`): a direct way that is shorter than this is never
/// beaten by one over other RSEs.
const HOP_PENALTY: i64 = 10;

/// `requests.dest_url` and `sources.url` hold this many characters; PostgreSQL refuses a whole statement for one more.
const LONGEST_URL: usize = 2048;

/// The one RSE that `source_replica_expression` allows, if it is a plain name.
fn source_expression<'a>(request: &Request, topology: &'a Topology) -> Result<Option<&'a Rse>, &'static str> {
    match request.attributes.text("source_replica_expression") {
        None | Some("") => Ok(None),
        Some(name) => topology
            .named(name)
            .map(Some)
            .ok_or("source_replica_expression is not the name of an RSE: left to Rucio's own submitter"),
    }
}

/// Rucio's filters, in its order.
fn sieve<'a>(
    request: &'a Request,
    destination: &'a Rse,
    only: Option<&Rse>,
    topology: &'a Topology,
    rules: &Rules,
) -> (Vec<Candidate<'a>>, Vec<Drop>) {
    let tape_allowed = request.attributes.boolean("allow_tape_source").unwrap_or(true);
    let mut drops = Vec::new();
    let mut kept = Vec::new();
    for replica in &request.replicas {
        let Some(rse) = topology.rse(&replica.rse) else { continue };
        let drop = |reason| -> Result<Candidate<'a>, Drop> { Err(reason) };
        let outcome = if only.is_some_and(|only| only.id != rse.id) {
            drop(Drop::NotNamed)
        } else if !rse.availability_read && !rules.ignore_availability {
            drop(Drop::Blocked)
        } else if rse.is_tape() && !tape_allowed {
            drop(Drop::Tape)
        } else {
            match topology.distance(&rse.id, &destination.id) {
                None => drop(Drop::NoDistance),
                Some(distance) => pair::best(rse, destination, &rules.schemes)
                    .map(|pair| Candidate { replica, rse, distance, pair })
                    .ok_or(Drop::Mismatch),
            }
        };
        match outcome {
            Ok(candidate) => kept.push(candidate),
            Err(reason) => drops.push(reason),
        }
    }
    (kept, drops)
}

/// Small is good: ranking, tape, distance; the name settles ties, so that the choice is the same every time.
fn cost(candidate: &Candidate<'_>) -> (i64, bool, i64, String) {
    let tape = candidate.rse.is_tape();
    (i64::from(tape) - candidate.replica.ranking, tape, candidate.distance, candidate.rse.name.clone())
}

/// The preparer's choice comes first, if it is still there.
fn prefer_prepared(request: &Request, candidates: &mut Vec<Candidate<'_>>) {
    let prepared = request.prepared_source.as_ref();
    if let Some(at) = candidates.iter().position(|c| Some(&c.rse.id) == prepared) {
        candidates.swap(0, at);
        candidates.truncate(1);
    }
}

/// Which state and words a request gets whose sources all fell out; Rucio's order of precedence.
fn none_left(request: &Request, drops: &[Drop]) -> Verdict {
    let any = |drop| drops.contains(&drop);
    if any(Drop::Tape) {
        Verdict::End(End::OnlyTape, "only tape sources")
    } else if any(Drop::Mismatch) {
        Verdict::End(End::Mismatch, "scheme mismatch")
    } else if any(Drop::NoDistance) {
        Verdict::End(End::NoSources, "no distance")
    } else if any(Drop::Blocked) {
        Verdict::End(End::NoSources, "blocked source")
    } else if request.replicas.is_empty() {
        Verdict::End(End::NoSources, "no replica")
    } else {
        Verdict::End(End::NoSources, "no replica at the named source")
    }
}

fn submit(request: &Request, destination: &Rse, candidates: &[Candidate<'_>], rules: &Rules) -> Verdict {
    use Verdict::Leave;
    let fts = destination.attribute("fts").map(|list| list.split(',').next().unwrap_or_default().trim());
    let main = candidates.iter().position(|c| c.rse.attribute("fts").is_some());
    let (Some(fts), Some(main)) = (fts.filter(|fts| !fts.is_empty()), main) else {
        return Leave("no `fts` attribute");
    };
    let main = &candidates[main];
    if main.rse.is_tape() {
        return Leave("tape source: left to Rucio's own submitter");
    }
    let extras = candidates
        .iter()
        .filter(|c| c.rse.id != main.rse.id && !c.rse.is_tape())
        .filter_map(|c| Some((c, pair::read_protocol(c.rse, &main.pair.write.scheme, &rules.schemes)?)))
        .take(rules.max_extra_sources);
    let chosen: Vec<_> = std::iter::once((main, main.pair.read)).chain(extras).collect();

    if !rules.tokens.by_token(destination, &main.pair.write.scheme)
        || !chosen.iter().all(|(c, p)| rules.tokens.by_token(c.rse, &p.scheme))
    {
        return rules.tokens.without.verdict();
    }
    let scope = request.external_scope();
    let sources = chosen.iter().map(|(candidate, protocol)| {
        let path = name::path(candidate.rse, scope, &request.name, candidate.replica.path.as_deref())?;
        let url = name::url(protocol, &path)?;
        Ok(Source { rse: candidate.rse.id.clone(), url, ranking: candidate.replica.ranking })
    });
    let named = sources.collect::<Result<Vec<_>, Unnamed>>().and_then(|sources| {
        let path = name::path(destination, scope, &request.name, None)?;
        Ok((sources, name::url(main.pair.write, &path)?))
    });
    let (sources, destination_url) = match named {
        Ok(named) => named,
        Err(Unnamed::Algorithm) => {
            return Leave("lfn2pfn algorithm of a policy package: left to Rucio's own submitter");
        }
        Err(Unnamed::Implementation) => return Leave("protocol implementation is neither gfal nor webdav"),
        Err(Unnamed::NoPath) => return Leave("non-deterministic source without a path"),
    };
    let urls = sources.iter().map(|source| &source.url).chain([&destination_url]);
    if urls.into_iter().any(|url| url.chars().count() > LONGEST_URL) {
        return Leave("a URL is longer than Rucio's database takes");
    }
    let rses: Vec<_> = chosen.iter().map(|(candidate, _)| candidate.rse).collect();
    Verdict::Submit(Box::new(plan(
        request.clone(),
        fts.to_owned(),
        sources,
        &rses,
        destination_url,
        destination,
    )))
}

/// A plan from what was chosen; `rses` are those of the sources, the main one first.
fn plan(
    request: Request,
    fts: String,
    sources: Vec<Source>,
    rses: &[&Rse],
    destination_url: String,
    destination: &Rse,
) -> Plan {
    let main = rses.first().copied().unwrap_or(destination);
    let (verify, checksum) = checksum::strategy(&request, main, destination);
    Plan {
        ipv4: destination.is("use_ipv4") || rses.iter().any(|rse| rse.is("use_ipv4")),
        s3_alternate: [main, destination].iter().all(|rse| rse.attribute("s3_url_style") != Some("host")),
        strict_copy: destination.is("strict_copy"),
        request,
        fts,
        sources,
        destination_url,
        verify,
        checksum,
    }
}

/// The plan that a claim was made by, from what the claim wrote down; the main source is found as it was chosen. `None` when an
/// RSE of it is gone.
pub fn replan(claimed: Claimed, topology: &Topology) -> Option<Plan> {
    let Claimed { request, fts, destination_url, mut urls, .. } = claimed;
    let destination = topology.rse(&request.destination)?;
    let mut used: Vec<(&Replica, &Rse)> =
        request.replicas.iter().map(|r| Some((r, topology.rse(&r.rse)?))).collect::<Option<_>>()?;
    used.sort_by_key(|(replica, rse)| {
        let prepared = request.prepared_source.as_ref() == Some(&rse.id);
        let distance = topology.distance(&rse.id, &destination.id).unwrap_or(i64::MAX);
        (!prepared, rse.attribute("fts").is_none(), -replica.ranking, distance, &rse.name)
    });
    let source = |(r, _): &(&Replica, &Rse)| {
        Some(Source { rse: r.rse.clone(), url: urls.remove(&r.rse)?, ranking: r.ranking })
    };
    let sources =
        used.iter().map(source).collect::<Option<Vec<_>>>().filter(|sources| !sources.is_empty())?;
    let rses: Vec<_> = used.iter().map(|(_, rse)| *rse).collect();
    Some(plan(request.clone(), fts, sources, &rses, destination_url, destination))
}

#[cfg(test)]
mod tests;
