//! `conveyor shadow`: what it would submit for requests that Rucio's own submitter has worked on, and where that differs. Nothing is
//! written and nobody is asked but Rucio's database.
//!
//! A request is looked at as it was when it was submitted: without replicas that came later, and without the source that it has by now.
//! What an operator has changed meanwhile is there only as it is today, and is named as the reason where it can be.

mod compare;
mod jobs;
mod print;
mod reason;
mod way;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use daemon::Failure;
use serde::Serialize;
use token_core::{Clock, UnixSeconds};

use crate::choose::{Rules, Verdict, choose};
use crate::request::RequestId;
use crate::rucio::look::Sight;
use crate::rucio::{DatabaseError, Rucio};
use crate::settings::Settings;
use crate::topology::Topology;
use jobs::Filed;
use reason::Known;
use way::Way;

/// What to look at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    /// What was done in so many seconds.
    pub(crate) last_s: u64,
    /// Most requests of each VO, the latest first.
    pub(crate) most: u32,
}

/// Where ours is not theirs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Difference {
    request_id: RequestId,
    /// In what.
    field: String,
    /// What Rucio's submitter made of it.
    theirs: String,
    /// What we would.
    ours: String,
    /// Why, if that is known; then it says nothing against ours.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

/// What was found.
#[derive(Debug, Default, Serialize)]
struct Report {
    /// Seconds looked back.
    last_s: u64,
    /// Requests that were compared; a hop is compared with the request that it is for.
    compared: usize,
    /// Those by the state they are in.
    states: BTreeMap<String, usize>,
    /// Those for which nothing differs.
    same: usize,
    /// Those for which something differs, all of it for known reasons.
    explained: usize,
    /// The others.
    unexplained: usize,
    /// Requests for hops whose own request is gone.
    not_compared: usize,
    /// Differences by reason.
    reasons: BTreeMap<String, usize>,
    differences: Vec<Difference>,
}

/// Compares, and prints what differs.
///
/// # Errors
/// When the database or configuration can't be used, and when something differs that has no known reason.
pub(crate) async fn run(
    window: Window,
    json: bool,
    settings: &Settings,
    rucio: &Rucio,
    clock: &dyn Clock,
    prepares: bool,
) -> Result<(), Failure> {
    let mut report = Report { last_s: window.last_s, ..Report::default() };
    for vo in settings.rucio.served(rucio).await? {
        of_vo(&rucio.of_vo(&vo), window, settings, clock.now(), prepares, &mut report).await?;
    }
    print::show(&report, json);
    match report.unexplained {
        0 => Ok(()),
        count => Err(Failure::Runtime(format!(
            "{count} of {} requests differ from what Rucio's submitter made of them without a known reason",
            report.compared
        ))),
    }
}

/// Compares what was done for one VO.
async fn of_vo(
    rucio: &Rucio,
    window: Window,
    settings: &Settings,
    now: UnixSeconds,
    prepares: bool,
    report: &mut Report,
) -> Result<(), Failure> {
    let share = settings.share.share(settings.submit.ignore_availability).map_err(Failure::Configuration)?;
    let rules = settings.submit.rules(settings.token_rules(rucio.vo()).into());
    let since = UnixSeconds(now.0.saturating_sub(i64::try_from(window.last_s).unwrap_or(i64::MAX)));
    let read = async {
        let topology = rucio.topology(now).await?;
        let part = share.part(&topology, None);
        let ids = rucio.submitted(&part, since, window.most).await?;
        let links = rucio.links(&ids).await?;
        let all: BTreeSet<RequestId> =
            ids.iter().cloned().chain(links.iter().flat_map(|l| [&l.hop, &l.next]).cloned()).collect();
        let all: Vec<_> = all.into_iter().collect();
        let sights: BTreeMap<_, _> = rucio
            .look_at(&all, now)
            .await?
            .into_iter()
            .map(|sight| (sight.request.id.clone(), sight))
            .collect();
        let times = rucio.replica_times(&all).await?;
        let changes = rucio.changes(since).await?;
        Ok::<_, DatabaseError>((topology, links, sights, Known { times, changes, prepares }))
    };
    let (topology, links, sights, mut known) = read.await.map_err(Failure::runtime)?;
    known.prepares |=
        topology.option("conveyor", "use_preparer").is_some_and(|value| value.eq_ignore_ascii_case("true"));
    let (ways, alone) = way::ways(&sights, &links);
    report.not_compared += alone;
    let mut filed: HashMap<String, Vec<Filed>> = HashMap::new();
    let mut found: BTreeMap<RequestId, Vec<Difference>> = BTreeMap::new();
    let job_rules = settings.submit.job_rules();
    for way in &ways {
        let (differences, verdict) = one(way, &topology, &rules, &known);
        found.entry(way.id().clone()).or_default().extend(differences);
        if let (Verdict::Submit(plan), Some(job), [_]) = (verdict, &way.own.job, way.legs.as_slice()) {
            filed.entry(job.clone()).or_default().push(Filed::of(&plan, &job_rules));
        }
        *report.states.entry(way.own.state.clone()).or_default() += 1;
    }
    for difference in filed.values().flat_map(|job| jobs::differences(job)) {
        found.entry(difference.request_id.clone()).or_default().push(difference);
    }
    report.compared += found.len();
    for differences in found.into_values() {
        let reasons = differences.iter().filter_map(|difference| difference.reason.clone());
        for reason in reasons {
            *report.reasons.entry(reason).or_default() += 1;
        }
        match differences.iter().filter(|difference| difference.reason.is_none()).count() {
            0 if differences.is_empty() => report.same += 1,
            0 => report.explained += 1,
            _ => report.unexplained += 1,
        }
        report.differences.extend(differences);
    }
    Ok(())
}

/// Where ours differs from theirs for one request, and what ours is, with a source that theirs was bound to.
fn one(way: &Way<'_>, topology: &Topology, rules: &Rules, known: &Known) -> (Vec<Difference>, Verdict) {
    let request = way.as_it_was(topology, known);
    let verdict = choose(&request, topology, rules);
    let mut differences = compare::compare(way, &verdict, topology);
    if differences.is_empty() {
        return (differences, verdict);
    }
    // With the source that theirs took, what is left?
    if let Some((bound, reason)) = reason::bound(way, &request, &verdict, topology, rules, known) {
        let left = compare::compare(way, &bound, topology);
        for difference in &mut differences {
            let stays = left.iter().any(|other| {
                (&other.request_id, &other.field) == (&difference.request_id, &difference.field)
            });
            if !stays {
                difference.reason = Some(reason.clone());
            }
        }
        let known_before: BTreeSet<_> = differences
            .iter()
            .map(|difference| (difference.request_id.clone(), difference.field.clone()))
            .collect();
        differences.extend(left.into_iter().filter(|difference| {
            !known_before.contains(&(difference.request_id.clone(), difference.field.clone()))
        }));
        reason::explain(&mut differences, way, &request, &bound, topology, rules, known);
        return (differences, bound);
    }
    reason::explain(&mut differences, way, &request, &verdict, topology, rules, known);
    (differences, verdict)
}

/// The name of an RSE, or its id where it is not of this VO or deleted.
fn name<'a>(id: &'a crate::topology::RseId, topology: &'a Topology) -> &'a str {
    topology.rse(id).map_or(id.0.as_str(), |rse| rse.name.as_str())
}

/// Whether Rucio's submitter ended the request instead of submitting it.
fn is_end(sight: &Sight) -> bool {
    matches!(sight.state.as_str(), "N" | "O" | "M")
}
