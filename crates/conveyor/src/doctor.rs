//! `conveyor doctor`: looks over the configuration, Rucio's database, each issuer, each FTS with the token it would get, and the
//! storages where jobs carry tokens for them. Tokens are asked for; nothing is written and no job is posted.

mod fts;
mod rses;
mod storages;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use daemon::doctor::{
    Desk, Examined, Finding, Grant, Offset, Options, examine, finish, listed, own, secrets,
};
use daemon::settings::IssuerSettings;
use daemon::{Failure, Shutdown};
use token_core::{Clock, SystemClock};
use url::Url;

use crate::access::{self, Access};
use crate::rucio::{DatabaseError, Rucio};
use crate::settings::Settings;
use crate::tokens::Carried;
use crate::topology::{self, Topology};
use fts::Place;

/// Most FTS instances that are looked at.
const MOST: usize = 20;
/// Longest time that one token is tried for: a person waits.
const PATIENCE_S: u64 = 5;
const RUCIO: &str = "Rucio's database";

/// A VO, and what Rucio says of its RSEs.
struct Vo {
    name: String,
    topology: Topology,
}

/// Looks everything over and prints what was found. `over` stands before Rucio's table of options.
///
/// # Errors
/// When something is red.
pub(crate) async fn run(
    mut settings: Settings,
    over: topology::Options,
    options: Options,
    json: bool,
) -> Result<(), Failure> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let shutdown = Shutdown::on_signals()?;
    all_issuers(&mut settings).for_each(|issuer| issuer.retry_total_s = issuer.retry_total_s.min(PATIENCE_S));
    let desk = Desk::new(Duration::from_secs(options.within));
    let mut findings = Vec::new();

    let files = settings.issuers().flat_map(IssuerSettings::secret_files);
    findings.extend(secrets(files.chain(settings.rucio.database_file.as_deref())));
    let looked = desk.look(RUCIO, rucio(&settings, over, &*clock)).await;
    let (vos, lines) = looked.unwrap_or_else(|| (Vec::new(), vec![desk.late(RUCIO, "connection")]));
    findings.extend(lines);

    let issuers = issuers(&mut settings, &desk, &*clock).await;
    for examined in issuers.values() {
        findings.extend(examined.findings.clone());
    }

    let names: Vec<String> = match vos.as_slice() {
        [] => named(&settings),
        some => some.iter().map(|vo| vo.name.clone()).collect(),
    };
    let accesses = match access::of_vos(&settings, &names, &clock, &shutdown) {
        Ok(accesses) => accesses,
        Err(failure) => {
            let todo = "mend the configuration or the file that it names";
            findings.push(Finding::bad("our clients", "configuration", failure.to_string(), todo));
            Vec::new()
        }
    };
    let mut places = places(&settings, &vos, &accesses);
    if let Some(more) = places.len().checked_sub(MOST + 1) {
        findings.push(Finding::skipped("FTS", "whoami", format!("{} more than {MOST}", more + 1)));
        places.truncate(MOST);
    }
    if places.is_empty() {
        findings.push(Finding::skipped("FTS", "whoami", "no FTS is known: see the lines before this one"));
    }
    let checked = desk.each(&places, async |place| {
        let of = format!("FTS {}", place.url);
        let known = place.access.and_then(|access| {
            let grantor = access.grantor(&place.url);
            issuers.get(grantor.oauth.issuer().as_str())
        });
        let looked = desk.look(&of, fts::look_over(place, &settings, known, &*clock)).await;
        looked.unwrap_or_else(|| vec![desk.late(&of, "whoami")])
    });
    findings.extend(checked.await.into_iter().flatten());

    for (vo, access) in vos.iter().zip(&accesses) {
        let rules = settings.token_rules(&vo.name);
        if rules.carried != Carried::None {
            findings
                .extend(storages::look_over(vo, access, &rules, &settings, &issuers, &desk, &*clock).await);
        }
    }
    drop(desk);
    finish(&findings, json)
}

/// Rucio's database, and the VOs in it.
async fn rucio(settings: &Settings, over: topology::Options, clock: &dyn Clock) -> (Vec<Vo>, Vec<Finding>) {
    let of = RUCIO;
    let unopened = |error: &dyn std::fmt::Display, transient: bool| match transient {
        true => {
            Finding::passing(of, "connection", error.to_string(), "is it up, and may this host and user in?")
        }
        false => Finding::bad(of, "schema", error.to_string(), "mend `[rucio]`, or ask its administrators"),
    };
    let skipped = |because: &str| Finding::skipped(of, "RSEs", because);
    let url = match settings.rucio.url() {
        Ok(url) => url,
        Err(line) => return (Vec::new(), vec![unopened(&line, false), skipped("it was not opened")]),
    };
    let rucio = match Rucio::open(&url, settings.rucio.schema.as_deref(), &settings.rucio.vo).await {
        Ok(rucio) => rucio.with_options(over),
        Err(error) => {
            let line = unopened(&error, error.is_transient());
            return (Vec::new(), vec![line, skipped("it was not opened")]);
        }
    };
    let mut findings =
        vec![Finding::good(of, "schema", "opened; every table and column that is used is there")];
    let before = clock.now();
    match rucio.clock().await {
        Ok(time) => findings.extend(time.map(|time| own(of, Offset::of(time, before)))),
        Err(error) => findings.push(unopened(&error, true)),
    }
    let served = match settings.rucio.served(&rucio).await {
        Ok(served) => served,
        Err(failure) => {
            findings.push(unopened(&failure, matches!(failure, Failure::Runtime(_))));
            findings.push(skipped("the VOs are not known"));
            return (Vec::new(), findings);
        }
    };
    let mut vos = Vec::new();
    for name in served {
        match rucio.of_vo(&name).topology(before).await {
            Ok(topology) => {
                let of = format!("RSEs of VO {name}");
                findings.extend(rses::look_over(&of, &topology, &settings.token_rules(&name)));
                findings.extend(share(&of, settings, &topology, rucio.of_vo(&name).activities().await));
                vos.push(Vo { name, topology });
            }
            Err(error) => findings.push(unopened(&error, true)),
        }
    }
    (vos, findings)
}

/// What looks wrong in `[share]`: names that nothing has.
fn share(
    of: &str,
    settings: &Settings,
    topology: &Topology,
    queued: Result<Vec<String>, DatabaseError>,
) -> Vec<Finding> {
    let doubt = |found: String| Finding::doubt(of, "share", found, "see `[share]` and the flags for it");
    let share = match settings.share.share(settings.submit.ignore_availability) {
        Ok(share) => share,
        Err(line) => return vec![Finding::bad(of, "share", line, "mend `[share]`")],
    };
    let mut findings: Vec<Finding> = share.doubts(topology).into_iter().map(doubt).collect();
    let Ok(queued) = queued else { return findings };
    let named = settings.share.activities.iter().chain(&settings.share.exclude_activities);
    for activity in named.filter(|activity| !queued.contains(activity)) {
        findings.push(doubt(format!(
            "no queued request has the activity `{activity}`; there are: {}",
            listed(&queued)
        )));
    }
    findings
}

/// Every issuer that the configuration names.
fn all_issuers(settings: &mut Settings) -> impl Iterator<Item = &mut IssuerSettings> {
    let of_vos = settings.vo.iter_mut().filter_map(|vo| vo.issuer.as_mut());
    let of_instances = settings.fts.instance.iter_mut().filter_map(|instance| instance.issuer.as_mut());
    settings.issuer.iter_mut().chain(of_vos).chain(of_instances)
}

/// Looks each issuer over once, by its name.
async fn issuers(settings: &mut Settings, desk: &Desk, clock: &dyn Clock) -> BTreeMap<String, Examined> {
    let mut once: BTreeMap<String, IssuerSettings> = BTreeMap::new();
    for issuer in all_issuers(settings) {
        once.entry(issuer.url.clone()).or_insert_with(|| issuer.clone());
    }
    let examined = desk.each(once, async |(url, issuer)| {
        let of = format!("issuer {url}");
        let looked = desk.look(&of, examine(&issuer, Some(Grant::ClientCredentials), clock)).await;
        let late = || Examined { findings: vec![desk.late(&of, "metadata")], ..Examined::default() };
        (url, looked.unwrap_or_else(late))
    });
    examined.await.into_iter().collect()
}

/// The VOs as the configuration names them, when the database can't be asked.
fn named(settings: &Settings) -> Vec<String> {
    match settings.rucio.vos.as_slice() {
        [] => vec![settings.rucio.vo.clone()],
        [all] if all == "*" => settings.vo.iter().map(|vo| vo.name.clone()).collect(),
        some => some.to_vec(),
    }
}

/// Each FTS that a VO's RSEs name, and those of the configuration.
fn places<'a>(settings: &Settings, vos: &[Vo], accesses: &'a [Access]) -> Vec<Place<'a>> {
    let mut known: BTreeSet<(Option<String>, Url)> = BTreeSet::new();
    for vo in vos {
        let rules = settings.token_rules(&vo.name);
        let urls = vo.topology.rses().filter(|rse| rules.by_token(rse, "davs")).filter_map(rses::fts);
        known.extend(urls.map(|url| (Some(vo.name.clone()), url)));
    }
    for instance in &settings.fts.instance {
        if !known.iter().any(|(_, url)| rses::base(url) == rses::base(&instance.url)) {
            let vo = instance.vo.clone().or_else(|| accesses.first().map(|access| access.vo.clone()));
            known.insert((vo, instance.url.clone()));
        }
    }
    let place = |(vo, url): (Option<String>, Url)| {
        let access = accesses.iter().find(|access| Some(&access.vo) == vo.as_ref());
        Place { url, access }
    };
    known.into_iter().map(place).collect()
}
