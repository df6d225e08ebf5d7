//! The daemon: reads its configuration, opens what it needs, and walks the queue again and again.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use daemon::{Failure, Shutdown, config, logs, settings as shared};
use fts_client::FtsError;
use token_core::retry::{RetryPolicy, Waits};
use token_core::{Clock, SystemClock, TokenKeeper};
use tracing::{error, info};

use crate::rucio::Rucio;
use crate::settings::{RucioSettings, Settings};
use crate::submit::{Parties, Pass, Report, Submitter};

/// Submits Rucio's queued transfer requests to FTS with an FTS-audience token.
#[derive(Debug, Parser)]
#[command(name = "conveyor", version, about)]
pub struct Arguments {
    /// The configuration file (TOML). `CONVEYOR__SECTION__KEY` in the environment overrides a key.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Walk the queue once, print what was done, and end. Exit code 0: done; 1: it could not be done now, try again;
    /// 2: the configuration, the client's secret or the database is not right.
    #[arg(long)]
    run_once: bool,
    /// With --run-once: print the report as one JSON object.
    #[arg(long, requires = "run_once")]
    json: bool,
}

/// Most requests at a time: SQLite takes 32,766 values in a statement.
const MOST: u32 = 5000;

/// Runs the daemon to its end.
///
/// # Errors
/// With --run-once, when the pass could not be made; otherwise only for what no waiting mends.
pub async fn run(arguments: Arguments) -> Result<(), Failure> {
    let settings: Settings = config::load(&arguments.config, "CONVEYOR")?;
    logs::start(&settings.log)?;
    let shutdown = Shutdown::on_signals()?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let scope = settings.fts.scopes().map_err(Failure::configuration)?;
    let oauth = Arc::new(settings.issuer.client(Arc::clone(&clock), shutdown.hard.clone())?);
    token_core::http::client(&settings.fts.http())
        .map_err(|error| Failure::configuration(format!("`fts`: {error}")))?;
    let rucio = open(&settings.rucio).await?;
    let keeper = Arc::new(shared::keeper(settings.cache.as_ref(), Arc::clone(&clock))?);
    info!(version = env!("CARGO_PKG_VERSION"), config = %arguments.config.display(), issuer = %settings.issuer.url,
        cache = settings.cache.is_some(), "conveyor starts");

    let submitter = Submitter {
        rucio,
        parties: Parties::new(settings.fts.clone(), scope, oauth, Arc::clone(&keeper)),
        rules: settings.submit.rules(),
        job_rules: settings.submit.job_rules(),
        batch: settings.submit.batch.clamp(1, MOST),
        jobs_in_flight: settings.submit.jobs_in_flight,
        clock,
        shutdown: shutdown.clone(),
    };
    let work = async {
        if arguments.run_once {
            let pass = submitter.pass().await.map_err(Failure::runtime)?;
            account(&keeper);
            // A pass that could do nothing has nothing to report but why.
            if pass.unusable.is_none() || pass.report.submitted > 0 {
                print(&pass.report, arguments.json);
            }
            return match (pass.unusable, pass.report.open) {
                (Some(error), _) => Err(failure(&error)),
                (None, 0) => Ok(()),
                (None, open) => Err(Failure::Runtime(format!(
                    "{open} requests are still claimed (state G): FTS does not say what became of their jobs; run again"
                ))),
            };
        }
        forever(&submitter, &keeper, Duration::from_secs(settings.submit.sleep_s)).await
    };
    tokio::select! {
        ended = work => ended,
        () = shutdown.hard.cancelled() => Err(Failure::runtime("stopped in the middle of work; the next start goes on")),
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

async fn forever(submitter: &Submitter, keeper: &TokenKeeper, sleep: Duration) -> Result<(), Failure> {
    let mut waits = Waits::new(&RetryPolicy {
        initial: Duration::from_secs(2),
        max: Duration::from_secs(60),
        ..RetryPolicy::default()
    });
    while !submitter.shutdown.soft.is_cancelled() {
        let rest = match submitter.pass().await {
            Ok(Pass { report, unusable }) => {
                info!(
                    picked = report.picked,
                    submitted = report.submitted,
                    recovered = report.recovered,
                    left = report.left.values().sum::<usize>(),
                    ended = report.ended.values().sum::<usize>(),
                    refused = report.refused,
                    released = report.released,
                    open = report.open,
                    "pass done"
                );
                match unusable {
                    None => {
                        waits.reset();
                        sleep
                    }
                    // Also a refused secret: it may be mended while we wait, and nothing has been claimed.
                    Some(reason) => again(&reason, waits.pause()),
                }
            }
            Err(reason) => again(&reason, waits.pause()),
        };
        account(keeper);
        keeper.tend().await;
        tokio::select! {
            () = tokio::time::sleep(rest) => (),
            () = submitter.shutdown.soft.cancelled() => (),
        }
    }
    info!("conveyor ends");
    Ok(())
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

fn again(reason: &dyn std::error::Error, rest: Duration) -> Duration {
    error!(%reason, again_in_s = rest.as_secs(), "not all could be done");
    rest
}

fn failure(error: &FtsError) -> Failure {
    match error {
        FtsError::Token(token) if token.is_our_configuration() => Failure::configuration(error),
        _ => Failure::runtime(error),
    }
}

#[expect(clippy::print_stdout, reason = "the report is the data of --run-once")]
fn print(report: &Report, json: bool) {
    if json {
        println!("{}", serde_json::to_string(report).unwrap_or_default());
        return;
    }
    println!("looked at  {}", report.picked);
    println!(
        "submitted  {} in {} jobs ({} of them open from before)",
        report.submitted, report.jobs, report.recovered
    );
    for (reason, count) in report.ended.iter().chain(&report.left) {
        println!("left       {count}: {reason}");
    }
    for (what, count) in [("refused", report.refused), ("given back", report.released), ("open", report.open)]
    {
        if count > 0 {
            println!("{what:<10} {count}");
        }
    }
}
