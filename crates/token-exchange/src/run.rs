//! The daemon: reads its configuration, opens FTS's database, and works round after round.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use daemon::config::Loaded;
use daemon::metrics::Issuers;
use daemon::terminal::say;
use daemon::{Failure, Reload, Shutdown, Vitals, config, logs, settings as shared};
use token_core::{Clock, SystemClock, TokenKeeper};
use tracing::{info, warn};

use crate::about::{self, ABOUT};
use crate::api::Api;
use crate::command::{Command, show};
use crate::doctor;
use crate::failed::Watch;
use crate::fresh::lane;
use crate::fresh::renewer::Renewer;
use crate::fts::{DatabaseError, FtsDatabase};
use crate::fts3config::Fts3Config;
use crate::issuers::{self, KnownIssuer};
use crate::refresh::service::Service;
use crate::seen::{Seen, Sight};
use crate::settings::Settings;
use crate::worker::{IssuerClient, Lanes, Report, ShortLived, Tempo, Tokens, Worker};

/// Where the configuration file usually is.
const USUAL: &str = "/etc/token-conveyor/token-exchange.toml";

/// Exchanges FTS submission tokens for one token per storage endpoint, in place of FTS's fts_token.
#[derive(Debug, Parser)]
#[command(name = "token-exchange", version, about)]
pub struct Arguments {
    /// The configuration file (TOML). `TOKEN_EXCHANGE__SECTION__KEY` in the environment overrides a key.
    #[arg(long, value_name = "FILE", global = true, default_value = USUAL)]
    config: PathBuf,
    /// FTS's own configuration file: its database and intervals hold where --config says nothing, which then need not be there.
    #[arg(long, value_name = "FILE", global = true)]
    fts3config: Option<PathBuf>,
    /// Work until nothing is due, print what was done, and end. Exit code 0: done; 1: it could not be done now;
    /// 2: the configuration or the database is not right.
    #[arg(long)]
    run_once: bool,
    /// With --run-once: print the report as one JSON object.
    #[arg(long, requires = "run_once")]
    json: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

/// What SIGHUP changes.
const CAN_CHANGE: [&str; 5] =
    ["log.level", "worker.batch", "worker.interval_ms", "issuer.calls_per_s", "issuer.burst"];
/// Where metrics and health are told when nothing else is said, on loopback.
const PORT: u16 = 9771;
impl Arguments {
    /// The configuration file of ours, if there is to be one.
    fn own(&self) -> Option<&Path> {
        config::own(&self.config, USUAL, self.fts3config.as_deref())
    }

    /// FTS's own configuration, and ours over it.
    fn read(&self) -> Result<(Fts3Config, Loaded<Settings>), Failure> {
        let theirs = self.fts3config.as_deref().map(Fts3Config::read).transpose()?.unwrap_or_default();
        let mut loaded: Loaded<Settings> = config::read_over(&theirs.keys, self.own(), ABOUT.prefix)?;
        if let Some(path) = &self.fts3config {
            loaded.beneath = theirs.beneath(path.display().to_string());
        }
        Ok((theirs, loaded))
    }

    /// What the configuration is read from, for people.
    fn read_from(&self) -> String {
        config::read_from(self.own(), self.fts3config.as_deref())
    }
}

/// How often the keeper is reminded of its housekeeping.
const TEND: Duration = Duration::from_secs(10);

/// Runs the daemon to its end.
///
/// # Errors
/// With --run-once, when the rounds could not be made; otherwise only for what no waiting mends.
pub async fn run(arguments: Arguments) -> Result<(), Failure> {
    if let Some(Command::Config(command)) = &arguments.command {
        let place = Cell::new(None);
        let load = || {
            let (theirs, loaded) = arguments.read()?;
            place.set(theirs.place);
            Ok(loaded)
        };
        let check = |settings: &Settings| about::check(settings, place.take());
        return ABOUT.run(command, &arguments.read_from(), load, check);
    }
    let (theirs, loaded) = arguments.read()?;
    let settings = loaded.settings.clone();
    if let Some(Command::Doctor(asked)) = &arguments.command {
        return doctor::run(asked, settings, theirs.place).await;
    }
    let logs = logs::start(&settings.log)?;
    if !theirs.unmapped.is_empty() {
        info!(keys = theirs.unmapped.join(" "), "keys of fts3config that are not taken over");
    }
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let (place, tls) = settings.fts.place(theirs.place).map_err(Failure::configuration)?;
    let fts = FtsDatabase::open(&place, &tls).await.map_err(database)?;
    if let Some(Command::InitDb) = arguments.command {
        fts.init().await.map_err(Failure::runtime)?;
        info!(database = %place, "tables token_exchange_lease, token_exchange_token and token_exchange_look are there");
        return Ok(());
    }
    let known = issuers::known(&settings, &fts.providers().await.map_err(database)?);
    let rules = known.iter().map(KnownIssuer::rule).collect();
    let planning = settings.planning(rules).map_err(Failure::configuration)?;
    if let Some(command) = &arguments.command {
        let issuers = known.iter().map(KnownIssuer::shown).collect();
        return show(command, &fts, &planning, issuers, clock.now()).await;
    }
    fts.ready(clock.now()).await.map_err(database)?;
    let shutdown = Shutdown::on_signals()?;
    let reload = Reload::new(ABOUT, loaded, &CAN_CHANGE)?;
    let clients: Vec<Option<IssuerClient>> =
        known.iter().map(|known| known.client(&clock, &shutdown.hard)).collect::<Result<_, _>>()?;
    let clients: Vec<IssuerClient> = clients.into_iter().flatten().collect();
    let keeper = Arc::new(shared::keeper(settings.cache.as_ref(), Arc::clone(&clock), arguments.run_once)?);
    info!(
        version = env!("CARGO_PKG_VERSION"),
        config = arguments.read_from(),
        issuers = clients.len(),
        endpoints = planning.endpoints.len(),
        cache = settings.cache.is_some(),
        managed = settings.refresh.managed(),
        "token-exchange starts"
    );

    let vitals = Vitals::new("fts", clock.now());
    vitals.database_is_back();
    let seen = Arc::new(Seen::new(fts.clone(), Arc::clone(&clock)));
    let oauth = clients.iter().flat_map(IssuerClient::clients).map(Arc::clone).collect();
    let told = Arc::new(daemon::Watch::new(
        ("token-exchange", env!("CARGO_PKG_VERSION")),
        vitals.clone(),
        Issuers::new(oauth, Arc::clone(&keeper), Arc::clone(&clock)),
        Arc::clone(&seen) as Arc<_>,
    ));
    let tempo = Arc::new(Tempo::new(&settings.worker));
    let min_life = Duration::from_secs(settings.worker.min_token_life_s);
    let limits: Vec<usize> = clients.iter().map(IssuerClient::max_in_flight).collect();
    let lanes = Lanes::new(settings.worker.in_flight, &limits);
    let tokens = Arc::new(Tokens::new(clients, lanes, Arc::clone(&keeper), min_life));
    let renewer = Arc::new(Renewer {
        fts: fts.clone(),
        tokens: Arc::clone(&tokens),
        clock: Arc::clone(&clock),
        lease: Duration::from_secs(settings.worker.lease_s.max(10)),
        tempo: Arc::clone(&tempo),
        in_flight: settings.worker.in_flight,
        margin: settings.refresh.margin(),
        seen: Arc::clone(&seen),
    });
    let api = Api::new(&settings.api, &known, &planning, &tokens, &clock, &seen)?;
    let retirement = settings.retire.retirement(fts.clone(), Arc::clone(&clock));
    let watch = Watch {
        fts: fts.clone(),
        endpoints: planning.endpoints.clone(),
        clock: Arc::clone(&clock),
        seen: Arc::clone(&seen),
    };
    let worker = Worker {
        fts: fts.handing_over_managed(settings.refresh.managed()),
        planning,
        tokens,
        tempo: Arc::clone(&tempo),
        lease: Duration::from_secs(settings.worker.lease_s.max(10)),
        clock,
        shutdown: shutdown.clone(),
        sight: Sight { seen, work: vitals.work("waiting files") },
    };
    let work = async {
        if arguments.run_once {
            let mut report = worker.rounds().await.map_err(Failure::runtime)?;
            renewer.adopt().await.map_err(Failure::runtime)?;
            renewer.rounds().await.map_err(Failure::runtime)?;
            if let Some(retirement) = &retirement {
                report.retired = retirement.walk(&shutdown.soft).await.map_err(Failure::runtime)?;
            }
            account(&report, &keeper);
            print(&report, arguments.json);
            return Ok(());
        }
        let service = async {
            if let Some(folder) = &settings.refresh.messaging_directory {
                let within = Duration::from_secs(settings.refresh.answer_within_s);
                Service::new(Arc::clone(&renewer), folder, within).run(&shutdown.soft).await;
            }
        };
        let retiring = async {
            if let Some(retirement) = &retirement {
                retirement.run(&renewer.seen, &shutdown.soft).await;
            }
        };
        let api = async {
            match &api {
                Some(api) => api.run(&shutdown.soft).await,
                None => Ok(()),
            }
        };
        let lanes = async {
            tokio::join!(
                worker.forever(|report| account(report, &keeper)),
                lane::run(&renewer, &shutdown.soft),
                service,
                retiring,
                watch.run(&shutdown.soft)
            );
            Ok(())
        };
        let read = || {
            let (theirs, read) = arguments.read()?;
            about::check(&read.settings, theirs.place).map(|()| read)
        };
        let apply = |settings: &Settings| {
            logs.set_level(&settings.log.level)?;
            tempo.set(&settings.worker);
            settings.issuer.iter().for_each(|issuer| told.issuers.set_rate(&issuer.shared));
            Ok(())
        };
        let beside = async {
            tokio::join!(
                tend(&keeper),
                Arc::clone(&told).run(&settings.http, PORT, &shutdown.soft, &shutdown.hard),
                reload.run(&told, read, apply, &shutdown.hard)
            )
        };
        tokio::select! {
            ended = async { tokio::try_join!(lanes, api) } => drop(ended?),
            _ = beside => (),
        }
        info!("token-exchange ends");
        Ok(())
    };
    tokio::select! {
        ended = work => ended,
        () = shutdown.hard.cancelled() => Err(Failure::runtime("stopped in the middle of work; leases end by themselves")),
    }
}

/// What the operator must mend, or what may be better next time.
fn database(error: DatabaseError) -> Failure {
    match error {
        DatabaseError::Statement { .. } => Failure::runtime(error),
        error if error.is_transient() => Failure::runtime(error),
        error => Failure::configuration(error),
    }
}

/// Looks after the keeper for ever.
async fn tend(keeper: &TokenKeeper) {
    loop {
        tokio::time::sleep(TEND).await;
        keeper.tend().await;
    }
}

fn account(report: &Report, keeper: &TokenKeeper) {
    let counts = keeper.counts();
    info!(
        jobs = report.jobs,
        released = report.released,
        failed = report.failed,
        cancelled = report.cancelled,
        waiting = report.waiting.values().sum::<usize>(),
        lost = report.lost,
        tokens_kept = counts.kept,
        tokens_shared = counts.shared,
        tokens_fetched = counts.fetched,
        tokens_renewed = counts.renewed,
        fetches_failed = counts.failed,
        cache_trouble = counts.behind.and_then(|cache| cache.trouble),
        "done since the last such line"
    );
    let ShortLived { files, shortest_s, file_id } = report.short_lived;
    if files > 0 {
        warn!(
            files,
            shortest_s,
            file_id,
            "files were released with unmanaged tokens that live shorter than `worker.min_token_life_s`: a transfer that waits and \
             runs longer than its token lives fails, since nobody can give it another"
        );
    }
    for (reason, files) in &report.waiting {
        info!(files, reason, "waiting");
    }
}

fn print(report: &Report, json: bool) {
    if json {
        say(&serde_json::to_string(report).unwrap_or_default());
        return;
    }
    let mut lines = vec![
        format!("jobs       {}", report.jobs),
        format!("released   {}", report.released),
        format!("failed     {}", report.failed),
        format!("cancelled  {}", report.cancelled),
        format!("retired    {} tokens", report.retired),
    ];
    if report.short_lived.files > 0 {
        let ShortLived { files, shortest_s, file_id } = report.short_lived;
        lines.push(format!(
            "short lived {files} files, with an unmanaged token of {shortest_s} s or more (file {file_id})"
        ));
    }
    lines.extend(report.waiting.iter().map(|(reason, files)| format!("waiting    {files}: {reason}")));
    say(&lines.join("\n"));
}
