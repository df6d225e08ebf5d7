//! What was made of a request beside what we would make of it.

use std::collections::{BTreeMap, BTreeSet};

use super::way::Way;
use super::{Difference, is_end, name};
use crate::choose::{Plan, Verdict};
use crate::rucio::look::Sight;
use crate::topology::{RseId, Topology};

/// Every difference, without reasons.
pub(super) fn compare(way: &Way<'_>, verdict: &Verdict, topology: &Topology) -> Vec<Difference> {
    let whole = |theirs: String, ours: String| {
        vec![Difference { request_id: way.id().clone(), field: "state".into(), theirs, ours, reason: None }]
    };
    match verdict {
        Verdict::Submit(plan) if is_end(way.own) => {
            whole(way.own.state.clone(), format!("submitted from {}", along(&legs(plan), topology)))
        }
        Verdict::Submit(plan) => of_plan(way, plan, topology),
        Verdict::End(end, _) if way.own.state == end.letter() => Vec::new(),
        Verdict::End(end, words) => whole(made(way, topology), format!("{}: {words}", end.letter())),
        Verdict::Leave(_) if verdict.is_left_to_python() => {
            whole(made(way, topology), "left in the queue".to_owned())
        }
        Verdict::Leave(words) => whole(made(way, topology), format!("left in the queue: {words}")),
    }
}

/// What they made of it, in words.
fn made(way: &Way<'_>, topology: &Topology) -> String {
    match is_end(way.own) {
        true => way.own.state.clone(),
        false => format!("submitted from {}", theirs_along(way, topology)),
    }
}

/// The hops of a plan, itself the last.
pub(super) fn legs(plan: &Plan) -> Vec<&Plan> {
    plan.before.iter().chain([plan]).collect()
}

/// The RSEs that a way goes along.
fn along(legs: &[&Plan], topology: &Topology) -> String {
    let from = legs.first().and_then(|leg| leg.sources.first()).map(|source| &source.rse);
    let rses = from.into_iter().chain(legs.iter().map(|leg| &leg.request.destination));
    rses.map(|rse| name(rse, topology)).collect::<Vec<_>>().join(" > ")
}

fn theirs_along(way: &Way<'_>, topology: &Topology) -> String {
    let rses = way.source().into_iter().chain(way.legs.iter().map(|leg| &leg.request.destination));
    rses.map(|rse| name(rse, topology)).collect::<Vec<_>>().join(" > ")
}

fn of_plan(way: &Way<'_>, plan: &Plan, topology: &Topology) -> Vec<Difference> {
    let ours = legs(plan);
    let to = |leg: &Plan| leg.request.destination.clone();
    if ours.iter().map(|leg| to(leg)).ne(way.legs.iter().map(|leg| leg.request.destination.clone())) {
        return vec![Difference {
            request_id: way.id().clone(),
            field: "way".into(),
            theirs: theirs_along(way, topology),
            ours: along(&ours, topology),
            reason: None,
        }];
    }
    let mut from: Option<&RseId> = None;
    let mut differences = Vec::new();
    for (theirs, ours) in way.legs.iter().zip(ours) {
        of_leg(theirs, ours, from, topology, &mut differences);
        from = Some(&theirs.request.destination);
    }
    differences
}

/// One hop; `from` is where the hop before it ends.
fn of_leg(
    theirs: &Sight,
    ours: &Plan,
    from: Option<&RseId>,
    topology: &Topology,
    differences: &mut Vec<Difference>,
) {
    // Behind a hop that is on its way, a request may wait in the queue as it was.
    if matches!(theirs.state.as_str(), "Q" | "P" | "W" | "G") {
        return;
    }
    let mut differ = |field: &str, theirs_has: &str, ours_has: &str| {
        if theirs_has != ours_has {
            differences.push(Difference {
                request_id: theirs.request.id.clone(),
                field: field.to_owned(),
                theirs: theirs_has.to_owned(),
                ours: ours_has.to_owned(),
                reason: None,
            });
        }
    };
    let sources = used(theirs, from);
    let our_urls: BTreeMap<&RseId, &str> =
        ours.sources.iter().map(|source| (&source.rse, source.url.as_str())).collect();
    if let (Some(main), Some(our_main)) = (&theirs.source, ours.sources.first()) {
        // The poller writes down the source that FTS took.
        let as_taken = matches!(theirs.state.as_str(), "D" | "F" | "L")
            && sources.len() > 1
            && our_urls.contains_key(main);
        if !as_taken {
            differ("source", name(main, topology), name(&our_main.rse, topology));
        }
    }
    if !sources.is_empty() {
        let list = |rses: BTreeSet<&str>| rses.into_iter().collect::<Vec<_>>().join(", ");
        differ(
            "sources",
            &list(sources.keys().map(|rse| name(rse, topology)).collect()),
            &list(our_urls.keys().map(|rse| name(rse, topology)).collect()),
        );
    }
    for (rse, url) in &sources {
        if let Some(our_url) = our_urls.get(rse) {
            differ(&format!("URL at {}", name(rse, topology)), url, our_url);
        }
    }
    if let Some(url) = &theirs.destination_url {
        // On tape a path may end in the time at which it was made.
        let timed = topology.rse(&theirs.request.destination).is_some_and(|rse| rse.is_tape());
        if !timed || timeless(url) != timeless(&ours.destination_url) {
            differ("destination URL", url, &ours.destination_url);
        }
    }
    if let Some(fts) = &theirs.fts {
        differ("FTS", fts, &ours.fts);
    }
}

/// The sources that their job named, by RSE. A later hop comes from where the one before it ends, and has no other.
pub(super) fn used<'a>(theirs: &'a Sight, from: Option<&RseId>) -> BTreeMap<&'a RseId, &'a str> {
    let urls = theirs.sources.iter().filter_map(|(rse, used)| Some((rse, used.url.as_deref()?)));
    urls.filter(|(rse, _)| from.is_none_or(|from| from == *rse)).collect()
}

/// Without a time, ten digits after the last `_`.
fn timeless(url: &str) -> &str {
    match url.rsplit_once('_') {
        Some((before, time)) if time.len() == 10 && time.bytes().all(|b| b.is_ascii_digit()) => before,
        _ => url,
    }
}
