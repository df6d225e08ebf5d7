//! What becomes of a request: where its file comes from and goes to, or why it does not go. A pure function of the request
//! and the topology.
//!
//! Filters, ranking and states are Rucio's own (its submitter's source ranking strategies, observed in 41.5.1). What this
//! daemon does not do, or what must not go by token, is left in state `Q` for Rucio's own submitter, and counted.

pub mod checksum;
mod pair;
mod plan;
mod route;
mod strategy;
mod way;

use std::collections::HashMap;
use std::sync::Arc;

use crate::expression::Expression;
use crate::request::{Attributes, Replica, Request};
use crate::tokens::TokenRules;
use crate::topology::{Rse, RseId, Topology};

pub use pair::Schemes;
pub use plan::{OnTheWay, Plan, Source, Tape, replan};
use route::Route;
pub use strategy::Strategy;
use strategy::{Candidate, Say};

/// The rules of choice that the configuration sets.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// Schemes that transfers may use.
    pub schemes: Schemes,
    /// Schemes that requests may use that were tried before, if any are named.
    pub failover_schemes: Schemes,
    /// How many sources may be named beside the main one.
    pub max_extra_sources: usize,
    /// Whether a request that was tried before takes the same source again, as Rucio's own submitter has it.
    pub retry_same_source: bool,
    /// Whether sources that may not be read are taken all the same.
    pub ignore_availability: bool,
    /// What may go by token, and by which.
    pub tokens: Arc<TokenRules>,
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

/// What [`Verdict::Leave`]'s words end with when Rucio's own submitter can do what we don't.
const TO_PYTHON: &str = "left to Rucio's own submitter";

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

impl Verdict {
    /// Whether it stays in `Q` for Rucio's own submitter.
    pub fn is_left_to_python(&self) -> bool {
        matches!(self, Self::Leave(words) if words.ends_with(TO_PYTHON))
    }
}

/// Decides about one request.
pub fn choose(request: &Request, topology: &Topology, rules: &Rules) -> Verdict {
    use Verdict::Leave;
    let Some(destination) = topology.rse(&request.destination) else {
        return Leave("destination RSE is not of this VO");
    };
    if request.attributes == Attributes::Unreadable {
        return Leave("request attributes are not a JSON object");
    }
    let Ok(strategies) = topology.strategies() else {
        return Leave(
            "`[transfers] source_ranking_strategies` names one we do not know: left to Rucio's own submitter",
        );
    };
    if request.replicas.is_empty() {
        return Verdict::End(End::NoSources, "no replica");
    }
    if destination.is("restricted_write") && !topology.is_admin(request.account.as_deref()) {
        return Verdict::End(End::NoSources, "restricted destination");
    }
    let named = Named::of(request, topology);
    let case = Case { request, destination, topology, rules, strategies, named };
    if let Some(pinned) = pinned(request, rules) {
        match case.decide(Some(pinned)) {
            Verdict::End(..) => (),
            verdict => return verdict,
        }
    }
    case.decide(None)
}

/// The source that the request is bound to, while it can be used.
fn pinned<'a>(request: &'a Request, rules: &Rules) -> Option<&'a RseId> {
    request.prepared_source.as_ref().filter(|_| rules.retry_same_source || !request.retried)
}

/// The RSEs that `source_replica_expression` allows.
enum Named {
    All,
    None,
    These(Expression),
}

impl Named {
    /// Rucio takes an expression that it can't read, or that no RSE belongs to, for one that allows none.
    fn of(request: &Request, topology: &Topology) -> Self {
        match request.attributes.text("source_replica_expression") {
            None | Some("") => Self::All,
            Some(text) => match text.parse::<Expression>() {
                Ok(expression) if topology.rses().any(|rse| expression.allows(rse)) => {
                    Self::These(expression)
                }
                _ => Self::None,
            },
        }
    }

    fn allows(&self, rse: &Rse) -> bool {
        match self {
            Self::All => true,
            Self::None => false,
            Self::These(expression) => expression.allows(rse),
        }
    }
}

/// A request and all that decides about it.
struct Case<'a> {
    request: &'a Request,
    destination: &'a Rse,
    topology: &'a Topology,
    rules: &'a Rules,
    strategies: &'a [Strategy],
    named: Named,
}

/// The ways from the sources that were left when a strategy first asked for them.
struct Ways<'a> {
    routes: HashMap<&'a RseId, Route<'a>>,
    /// Those sources, any of which may be named beside the main one.
    sources: Vec<(&'a Replica, &'a Rse)>,
}

impl<'a> Case<'a> {
    /// Sifts and ranks the sources, only `pinned` being the main one if it is given, and plans the best way that can be submitted.
    fn decide(&self, pinned: Option<&RseId>) -> Verdict {
        let known = self.request.replicas.iter().filter_map(|replica| {
            Some(Candidate { replica, rse: self.topology.rse(&replica.rse)?, costs: Vec::new() })
        });
        let (mut kept, mut dropped): (Vec<Candidate<'a>>, _) = (known.collect(), Vec::new());
        let mut ways: Option<Ways<'a>> = None;
        for strategy in self.strategies {
            if kept.is_empty() {
                break;
            }
            if strategy.looks_at_routes() && ways.is_none() {
                ways = Some(self.ways(&kept, pinned));
            }
            kept.retain_mut(|candidate| {
                let route = ways.as_ref().and_then(|ways| ways.routes.get(&candidate.rse.id));
                match strategy.say(candidate, self, route) {
                    Say::Keep => true,
                    Say::Cost(cost) => {
                        candidate.costs.push(cost);
                        true
                    }
                    Say::Drop => {
                        dropped.push(*strategy);
                        false
                    }
                }
            });
        }
        // Equals stay in the order in which they are read: the oldest replica first.
        kept.sort_by(|a, b| a.costs.cmp(&b.costs));
        let ways = ways.unwrap_or_else(|| self.ways(&kept, pinned));
        let candidates = way::compressed(&kept, &ways.routes, self.request);
        if candidates.is_empty() {
            let unknown = |replica: &Replica| self.topology.rse(&replica.rse).is_none();
            if self.request.replicas.iter().any(unknown) {
                return Verdict::Leave(
                    "a source RSE is newer than what was read of the RSEs: looked at again when they are read anew",
                );
            }
            return none_left(&dropped);
        }
        way::plan(self.request, self.topology, self.rules, &candidates, &ways.sources)
    }

    fn ways(&self, kept: &[Candidate<'a>], pinned: Option<&RseId>) -> Ways<'a> {
        let main: Vec<_> =
            kept.iter().filter(|c| pinned.is_none_or(|id| *id == c.rse.id)).map(|c| c.rse).collect();
        let failover = self.request.retried && !self.rules.failover_schemes.0.is_empty();
        let limit = if failover { &self.rules.failover_schemes } else { &self.rules.schemes };
        let routes =
            route::routes(&main, self.destination, self.topology, limit, self.rules.ignore_availability);
        Ways { routes, sources: kept.iter().map(|c| (c.replica, c.rse)).collect() }
    }
}

/// Which state and words a request gets whose sources all fell out; Rucio's order of precedence.
fn none_left(dropped: &[Strategy]) -> Verdict {
    let order = [
        (Strategy::TapeAllowed, End::OnlyTape),
        (Strategy::SchemeMatch, End::Mismatch),
        (Strategy::Distance, End::NoSources),
        (Strategy::SingleHop, End::NoSources),
        (Strategy::NoTapeOnTheWay, End::NoSources),
        (Strategy::Open, End::NoSources),
        (Strategy::Unrestricted, End::NoSources),
        (Strategy::Named, End::NoSources),
    ];
    let first = order.into_iter().find(|(strategy, _)| dropped.contains(strategy));
    let (end, words) = first.map_or((End::NoSources, "no replica"), |(s, end)| (end, s.reason()));
    Verdict::End(end, words)
}

#[cfg(test)]
mod tests;
