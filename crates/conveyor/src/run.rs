//! The daemon: reads its configuration, opens what it needs, and walks the queue again and again.

use std::sync::Arc;
use std::time::Duration;

use daemon::metrics::Issuers;
use daemon::terminal::say;
use daemon::{Failure, Reload, Shutdown, Vitals, Watch, logs, settings as shared};
use fts_client::FtsError;
use futures_util::future::join_all;
use token_core::{Clock, SystemClock, TokenKeeper};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, Span, info, info_span, warn};

use crate::about::{self, ABOUT};
use crate::access::{self, Access};
use crate::command::{Arguments, Command};
use crate::doctor;
use crate::explain;
use crate::forever::forever;
use crate::pulse::Pulse;
use crate::rucio::Rucio;
use crate::rucio_cfg::RucioCfg;
use crate::seen::{Seen, Sight};
use crate::settings::{RucioSettings, Settings};
use crate::shadow::{self, Window};
use crate::submit::{Memory, Parties, Pass, Report, Submitter, Tempo, WAITS};
use crate::trace;

/// What SIGHUP changes.
const CAN_CHANGE: [&str; 11] = [
    "log.level",
    "submit.batch",
    "submit.jobs_in_flight",
    "submit.sleep_s",
    "submit.look_every_s",
    "issuer.calls_per_s",
    "issuer.burst",
    "vo.issuer.calls_per_s",
    "vo.issuer.burst",
    "fts.instance.issuer.calls_per_s",
    "fts.instance.issuer.burst",
];
/// Where metrics and health are told when nothing else is said, on loopback.
const PORT: u16 = 9770;

/// Runs the daemon to its end.
///
/// # Errors
/// With --run-once, when the pass could not be made; otherwise only for what no waiting mends.
pub async fn run(arguments: Arguments) -> Result<(), Failure> {
    if arguments.looked()? {
        return Ok(());
    }
    let mut rucio_cfg = arguments.rucio_cfg()?;
    let mut loaded = arguments.settings(rucio_cfg.as_ref())?;
    if let Some(Command::Doctor(options)) = &arguments.command {
        let over = rucio_cfg.as_ref().map(RucioCfg::options).unwrap_or_default();
        return doctor::run(loaded.settings, over, *options, arguments.json).await;
    }
    let logs = logs::start(&loaded.settings.log)?;
    let shutdown = Shutdown::on_signals()?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    token_core::http::client(&loaded.settings.fts.http())
        .map_err(|error| Failure::configuration(format!("`fts`: {error}")))?;
    let mut rucio = open(&loaded.settings.rucio).await?;
    let mut options = Vec::new();
    if let Some(theirs) = &mut rucio_cfg {
        options = rucio.options("conveyor").await.map_err(Failure::runtime)?;
        // What stands in the file alone is before the table.
        rucio = rucio.with_options(theirs.options());
        if theirs.complete(options.clone()) {
            loaded = arguments.settings(Some(theirs))?;
        }
        theirs.notes().iter().for_each(|note| warn!("{note}"));
    }
    loaded.settings.fts.check_instances().map_err(Failure::Configuration)?;
    if !arguments.run_once {
        rucio = rucio.waiting_for_python();
    }
    let settings = loaded.settings.clone();
    match &arguments.command {
        Some(Command::Explain { request }) => {
            return explain::run(request, arguments.json, &settings, &rucio, &clock, &shutdown).await;
        }
        Some(Command::Shadow { last, most }) => {
            let window = Window { last_s: *last, most: *most };
            let prepares = rucio_cfg.as_ref().is_some_and(RucioCfg::prepares);
            return shadow::run(window, arguments.json, &settings, &rucio, &*clock, prepares).await;
        }
        Some(Command::Trace { id }) => return trace::run(id, arguments.json, &rucio).await,
        Some(Command::Config(_) | Command::Doctor(_)) | None => (),
    }
    let vos = settings.rucio.served(&rucio).await?;
    let accesses = access::of_vos(&settings, &vos, &clock, &shutdown)?;
    let keeper = Arc::new(shared::keeper(settings.cache.as_ref(), Arc::clone(&clock), arguments.run_once)?);
    info!(
        version = env!("CARGO_PKG_VERSION"),
        config = arguments.read_from(),
        cache = settings.cache.is_some(),
        "conveyor starts"
    );
    let reload = Reload::new(ABOUT, loaded, &CAN_CHANGE)?;
    let share = settings.share.share(settings.submit.ignore_availability).map_err(Failure::Configuration)?;
    let pulse = Pulse::of_this_process(&rucio, &settings.share).map(Arc::new);
    let vitals = Vitals::new("rucio", clock.now());
    vitals.database_is_back();
    let seen = Arc::new(Seen::new(Arc::clone(&clock)));
    let clients = accesses.iter().flat_map(Access::clients).map(Arc::clone).collect();
    let watch = Arc::new(Watch::new(
        ("conveyor", env!("CARGO_PKG_VERSION")),
        vitals.clone(),
        Issuers::new(clients, Arc::clone(&keeper), Arc::clone(&clock)),
        Arc::clone(&seen) as Arc<_>,
    ));
    let tempo = Arc::new(Tempo::new(&settings.submit));
    let submitter = |access: Access| {
        let tokens = Arc::new(settings.token_rules(&access.vo));
        info!(vo = access.vo, issuer = access.issuer(), authorised_by = tokens.carried.mode(), "VO served");
        Submitter {
            rucio: rucio.of_vo(&access.vo),
            sight: Sight { seen: Arc::clone(&seen), work: vitals.work(format!("queue of VO {}", access.vo)) },
            parties: Parties::new(access, Arc::clone(&keeper), Arc::clone(&tokens), Arc::clone(&clock)),
            share: share.clone(),
            pulse: pulse.clone(),
            rules: settings.submit.rules(tokens),
            job_rules: settings.submit.job_rules(),
            tempo: Arc::clone(&tempo),
            clock: Arc::clone(&clock),
            shutdown: shutdown.clone(),
            memory: Memory::new(Duration::from_secs(settings.rucio.topology_refresh_s)),
        }
    };
    let submitters: Vec<Submitter> = accesses.into_iter().map(submitter).collect();
    let work = async {
        if arguments.run_once {
            return once(&submitters, &keeper, arguments.json).await;
        }
        // Each VO at its own pace: one that has to wait holds up no other.
        let all = submitters.iter().map(|submitter| {
            let span = vo_span(submitter, submitters.len());
            forever(submitter, &keeper).instrument(span)
        });
        let stop = CancellationToken::new();
        let work = async {
            join_all(all).await;
            stop.cancel();
        };
        let read = || {
            let mut theirs = arguments.rucio_cfg()?;
            theirs.iter_mut().for_each(|theirs| _ = theirs.complete(options.clone()));
            let read = arguments.settings(theirs.as_ref())?;
            about::check(&read.settings).map(|()| read)
        };
        let apply = |settings: &Settings| {
            logs.set_level(&settings.log.level)?;
            tempo.set(&settings.submit);
            settings.issuers().for_each(|issuer| watch.issuers.set_rate(issuer));
            Ok(())
        };
        tokio::join!(
            work,
            Arc::clone(&watch).run(&settings.http, PORT, &shutdown.soft, &stop),
            reload.run(&watch, read, apply, &stop)
        );
        Ok(())
    };
    let ended = tokio::select! {
        ended = work => ended,
        () = shutdown.hard.cancelled() => Err(Failure::runtime("stopped in the middle of work; the next start goes on")),
    };
    if let Some(pulse) = pulse {
        pulse.stop().await;
    }
    ended
}

/// One pass for every VO, and the report.
async fn once(submitters: &[Submitter], keeper: &TokenKeeper, json: bool) -> Result<(), Failure> {
    let passes = submitters.iter().map(|submitter| {
        let span = vo_span(submitter, submitters.len());
        submitter.pass().instrument(span)
    });
    let (mut reports, mut failed, mut open, mut waiting) = (Vec::new(), None, 0, 0);
    for (submitter, pass) in submitters.iter().zip(join_all(passes).await) {
        let vo = submitter.rucio.vo();
        let of_this_vo = |failure: Failure| match submitters.len() {
            1 => failure,
            _ => failure.at(&format!("VO `{vo}`")),
        };
        match pass {
            Ok(Pass { report, unusable, .. }) => {
                submitter.tell_authorisation(&report);
                open += report.open;
                waiting += report.left.get(WAITS).copied().unwrap_or_default();
                // A pass that could do nothing has nothing to report but why.
                let done = report.submitted + report.refused + report.released + report.open;
                if unusable.is_none() || done > 0 || submitters.len() > 1 {
                    reports.push((vo, report));
                }
                failed = failed.or(unusable.map(|error| of_this_vo(failure(&error))));
            }
            Err(error) => failed = failed.or(Some(of_this_vo(Failure::runtime(error)))),
        }
    }
    account(keeper);
    if !reports.is_empty() {
        print(&reports, json);
    }
    match (failed, open, waiting) {
        (Some(failure), ..) => Err(failure),
        (None, 0, 0) => Ok(()),
        (None, 0, waiting) => Err(Failure::Runtime(format!(
            "{waiting} requests wait for a token of a storage: the warnings above name it; run again"
        ))),
        (None, open, _) => Err(Failure::Runtime(format!(
            "{open} requests are still claimed (state G): FTS does not say what became of their jobs; run again"
        ))),
    }
}

/// Names the VO in all logs where there are several.
fn vo_span(submitter: &Submitter, vos: usize) -> Span {
    match vos {
        1 => Span::none(),
        _ => info_span!("vo", name = submitter.rucio.vo()),
    }
}

/// Opens Rucio's database.
async fn open(settings: &RucioSettings) -> Result<Rucio, Failure> {
    let url = settings.url().map_err(Failure::configuration)?;
    Rucio::open(&url, settings.schema.as_deref(), &settings.vo).await.map_err(|error| match error {
        error if error.is_transient() => Failure::runtime(error),
        error => Failure::configuration(error),
    })
}

/// Says where tokens came from.
fn account(keeper: &TokenKeeper) {
    let counts = keeper.counts();
    info!(
        kept = counts.kept,
        shared = counts.shared,
        fetched = counts.fetched,
        renewed = counts.renewed,
        failed = counts.failed,
        cache_trouble = counts.behind.and_then(|cache| cache.trouble),
        "tokens for FTS"
    );
}

fn failure(error: &FtsError) -> Failure {
    match error {
        FtsError::Token(token) if token.is_our_configuration() => Failure::configuration(error),
        _ => Failure::runtime(error),
    }
}

fn print(reports: &[(&str, Report)], json: bool) {
    let mut sum = Report::default();
    reports.iter().for_each(|(_, report)| sum.add(report));
    if json {
        let mut shown = serde_json::to_value(&sum).unwrap_or_default();
        if reports.len() > 1 {
            let each = reports.iter().map(|(vo, report)| ((*vo).to_owned(), serde_json::json!(report)));
            shown["vos"] = each.collect::<serde_json::Map<_, _>>().into();
        }
        say(&shown.to_string());
        return;
    }
    for (vo, report) in reports {
        if reports.len() > 1 {
            say(&format!("VO {vo}"));
        }
        for line in lines(report) {
            say(&line);
        }
    }
}

/// A report in words.
fn lines(report: &Report) -> Vec<String> {
    let Report { picked, submitted, jobs, recovered, .. } = report;
    let mut lines = vec![
        format!("looked at  {picked}"),
        format!("submitted  {submitted} in {jobs} jobs ({recovered} of them open from before)"),
    ];
    lines.extend(
        report
            .ended
            .iter()
            .chain(&report.left)
            .map(|(reason, count)| format!("left       {count}: {reason}")),
    );
    lines.extend(report.authorised.iter().map(|(mode, count)| format!("authorised {count}: {mode}")));
    let others = [("refused", report.refused), ("given back", report.released), ("open", report.open)];
    lines.extend(
        others.iter().filter(|(_, count)| *count > 0).map(|(what, count)| format!("{what:<10} {count}")),
    );
    lines
}
