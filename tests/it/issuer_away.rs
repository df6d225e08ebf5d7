//! `conveyor` while the issuer is away for an hour of its clock and requests keep coming: none fails or is doubled for it, and what an
//! operator sees is one line for each thing that goes and one for each that comes back.
//!
//! The clock is moved by hand, in the steps of the daemon's loop. The waits between calls to the issuer (its breaker's) are real.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::io;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use conveyor::access;
use conveyor::rucio::Rucio;
use conveyor::seen::{Seen, Sight};
use conveyor::settings::Settings;
use conveyor::submit::{Memory, Parties, Submitter, Tempo};
use daemon::{Shutdown, Vitals};
use testbed::grid::Grid;
use testbed::issuer::Fault;
use token_core::{Clock, ManualClock, SystemClock, TokenKeeper, UnixSeconds};

#[path = "submission/rig.rs"]
mod rig;

use rig::*;

const HOUR: i64 = 3600;
/// A walk over the queue so often, as `submit.sleep_s` is by default, and a look at what has come in between.
const STEP: i64 = 10;

#[tokio::test]
async fn an_hour_without_the_issuer_costs_a_line_for_each_thing_that_goes_or_comes() {
    let log = Log::default();
    let writer = log.clone();
    let logs = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::INFO)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    let _logs = tracing::subscriber::set_default(logs);
    let (_folder, grid) = grid(&[]).await;
    // At the end of the hour it shows what the issuer's and FTS's clocks show.
    let clock = Arc::new(ManualClock::new(UnixSeconds(SystemClock.now().0 - HOUR)));
    let submitter = submitter(&grid, &clock).await;

    grid.issuer.set_fault(Fault::Down);
    let mut requests = 0;
    for step in 0..HOUR / STEP {
        one_more(&grid).await;
        requests += 1;
        for second in 0..2 {
            let pass = if second == 0 { submitter.pass().await } else { submitter.news().await };
            let report = pass.unwrap().report;
            assert_eq!((report.submitted, report.released, report.open), (0, 0, 0), "step {step}");
            clock.advance(Duration::from_secs(5));
        }
        // Long enough in all for the breaker to open, and to find the issuer away twice more.
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    assert_eq!(states(&grid, "Q").await, requests, "they wait, untouched");
    let before = log.text();

    grid.issuer.set_fault(Fault::None);
    let end = Instant::now() + Duration::from_secs(240);
    while states(&grid, "S").await < requests {
        assert!(Instant::now() < end, "not within four minutes: {}", log.text());
        clock.advance(Duration::from_secs(1));
        submitter.news().await.unwrap();
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(count(&grid, "requests WHERE state NOT IN ('S', 'W')").await, 0);
    expect_all_once(&grid, requests).await;

    let count = |log: &str, words: &str| log.lines().filter(|line| line.contains(words)).count();
    let after = log.text();
    for (when, went, back) in [(&before, 1, 0), (&after, 1, 1)] {
        assert_eq!(count(when, "FTS cannot be used"), went, "{when}");
        assert_eq!(count(when, "the issuer is left alone"), went, "{when}");
        assert_eq!(count(when, "FTS can be used again"), back, "{when}");
        assert_eq!(count(when, "the issuer answers again"), back, "{when}");
        assert_eq!(count(when, " WARN ") + count(when, " ERROR "), 2, "nothing else is warned of: {when}");
    }
    assert!(after.lines().count() <= 8, "{after}");
}

/// One that works as the daemon does, by this clock.
async fn submitter(grid: &Grid, clock: &Arc<ManualClock>) -> Submitter {
    let clock = Arc::clone(clock) as Arc<dyn Clock>;
    let mut settings: Settings = daemon::config::load(&grid.conveyor_config(), "NO_SUCH_PREFIX").unwrap();
    settings.issuer.as_mut().unwrap().retry_total_s = 1;
    let url = settings.rucio.url().unwrap();
    let rucio = Rucio::open(&url, None, &settings.rucio.vo).await.unwrap();
    let shutdown = Shutdown::default();
    let vos = [settings.rucio.vo.clone()];
    let access = access::of_vos(&settings, &vos, &clock, &shutdown).unwrap().remove(0);
    let keeper = Arc::new(TokenKeeper::new(None, Arc::clone(&clock)));
    let tokens = Arc::new(settings.token_rules(&access.vo));
    let seen = Arc::new(Seen::new(Arc::clone(&clock)));
    Submitter {
        sight: Sight { seen, work: Vitals::new("rucio", clock.now()).work("queue") },
        parties: Parties::new(access, keeper, Arc::clone(&tokens), Arc::clone(&clock)),
        share: settings.share.share(false).unwrap(),
        pulse: None,
        rules: settings.submit.rules(tokens),
        job_rules: settings.submit.job_rules(),
        tempo: Arc::new(Tempo::new(&settings.submit)),
        memory: Memory::new(Duration::from_secs(settings.rucio.topology_refresh_s)),
        rucio,
        clock,
        shutdown,
    }
}

/// The throttler lets one more go.
async fn one_more(grid: &Grid) {
    change(
        grid,
        "UPDATE requests SET state = 'Q' WHERE id = (SELECT id FROM requests WHERE state = 'W' \
         AND name NOT LIKE 'bad.%' ORDER BY name LIMIT 1)",
    )
    .await;
}

/// What is logged on this thread.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
