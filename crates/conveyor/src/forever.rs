//! The daemon's loop: a walk over the whole queue at times, a look at what has come lately in between, and few words about it.

use std::time::Duration;

use token_core::TokenKeeper;
use token_core::retry::{RetryPolicy, Waits};
use tokio::time::Instant;
use tracing::{info, warn};

use crate::submit::{Pass, Rates, Report, Submitter};

/// How often what was done is summed up in a line, if there is anything to tell.
const SAY: Duration = Duration::from_secs(10);
/// And how often if there is nothing.
const SAY_IDLE: Duration = Duration::from_secs(600);
/// A walk that found nothing to do is followed by a rest of so many times its own length, so that a long queue of what is not ours to
/// handle costs the database little.
const REST: u32 = 20;
/// The longest such rest.
const LONGEST_REST: Duration = Duration::from_secs(300);

/// Submits until it is asked to end.
pub(crate) async fn forever(submitter: &Submitter, keeper: &TokenKeeper) {
    let policy = RetryPolicy {
        initial: Duration::from_secs(2),
        max: Duration::from_secs(60),
        ..RetryPolicy::default()
    };
    let mut waits = Waits::new(&policy);
    let mut next_walk = Instant::now();
    let mut away_since: Option<Instant> = None;
    let mut tally = Tally::new();
    while !submitter.shutdown.soft.is_cancelled() {
        submitter.sight.work.moves();
        let Rates { sleep, look, .. } = submitter.tempo.now();
        let began = Instant::now();
        let whole = began >= next_walk;
        let worked = if whole { submitter.pass().await } else { submitter.news().await };
        let rest = match worked {
            Ok(pass) => {
                waits.reset();
                submitter.sight.work.vitals().database_is_back();
                if let Some(since) = away_since.take() {
                    info!(after_s = since.elapsed().as_secs(), "Rucio's database can be used again");
                }
                if whole {
                    submitter.sight.seen.walked(submitter.rucio.vo(), &pass, began.elapsed());
                }
                let Pass { report, .. } = pass;
                if whole {
                    let idle = report.submitted + report.released == 0;
                    let long = if idle { (began.elapsed() * REST).min(LONGEST_REST) } else { Duration::ZERO };
                    next_walk = Instant::now() + sleep.max(long);
                }
                tally.add(report, whole);
                look.min(next_walk.saturating_duration_since(Instant::now()))
            }
            Err(reason) => {
                submitter.sight.work.vitals().database_is_away(&reason);
                if away_since.is_none() {
                    warn!(%reason, "Rucio's database cannot be used; it is tried again");
                    away_since = Some(Instant::now());
                }
                // What was in hand is to be looked for.
                next_walk = Instant::now();
                waits.pause()
            }
        };
        tally.say(submitter, keeper);
        keeper.tend().await;
        tokio::select! {
            () = tokio::time::sleep(rest) => (),
            () = submitter.shutdown.soft.cancelled() => (),
        }
    }
    tally.tell(submitter, keeper);
    info!("conveyor ends");
}

/// What was done since it was last told.
struct Tally {
    report: Report,
    said: Instant,
}

impl Tally {
    fn new() -> Self {
        Self { report: Report::default(), said: Instant::now() }
    }

    fn add(&mut self, report: Report, whole: bool) {
        // What stays in the queue is no event: it is told as it was found last, and only a whole walk finds all of it.
        let (left, open) = match whole {
            true => (report.left.clone(), report.open),
            false => (self.report.left.clone(), self.report.open),
        };
        self.report.add(&report);
        self.report = Report { left, open, ..std::mem::take(&mut self.report) };
    }

    fn say(&mut self, submitter: &Submitter, keeper: &TokenKeeper) {
        let Report { submitted, refused, released, recovered, ended, .. } = &self.report;
        let eventful = submitted + refused + released + recovered + ended.len() > 0;
        if self.said.elapsed() >= if eventful { SAY } else { SAY_IDLE } {
            self.tell(submitter, keeper);
        }
    }

    /// One line for all of it, and one for each reason for which requests were not submitted.
    fn tell(&mut self, submitter: &Submitter, keeper: &TokenKeeper) {
        let report = std::mem::take(&mut self.report);
        let counts = keeper.counts();
        info!(
            submitted = report.submitted,
            jobs = report.jobs,
            recovered = report.recovered,
            ended = report.ended.values().sum::<usize>(),
            refused = report.refused,
            released = report.released,
            left = report.left.values().sum::<usize>(),
            open = report.open,
            tokens_fetched = counts.fetched + counts.renewed,
            tokens_failed = counts.failed,
            cache_trouble = counts.behind.and_then(|cache| cache.trouble),
            "done since the last such line"
        );
        submitter.tell_authorisation(&report);
        for (reason, count) in report.ended.iter().chain(&report.left) {
            info!(count, reason, "not submitted");
        }
        self.report = Report { left: report.left, open: report.open, ..Report::default() };
        self.said = Instant::now();
    }
}
