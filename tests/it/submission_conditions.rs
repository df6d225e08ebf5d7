//! `conveyor` while an issuer or an FTS is in trouble: no request fails or is doubled for it, and an operator sees one line when it begins
//! and one when it ends.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::time::{Duration, Instant};

use testbed::fts::{DatabaseFault, SubmitFault};
use testbed::grid::{Grid, GridSettings, terminate};
use testbed::issuer::Fault;

const REQUESTS: i64 = 460;

#[tokio::test(flavor = "multi_thread")]
async fn an_issuer_that_is_away_costs_two_lines() {
    trouble(async |grid| grid.issuer.set_fault(Fault::Down), async |grid| grid.issuer.set_fault(Fault::None))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_fts_that_refuses_connections_costs_two_lines() {
    trouble(async |grid| grid.fts.server().set_up(false), async |grid| grid.fts.server().set_up(true)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_fts_that_answers_503_costs_two_lines() {
    let fault = |grid: &Grid, fault| grid.fts.set_submit_fault(fault);
    trouble(
        async |grid| fault(grid, SubmitFault::Refuse503(u32::MAX)),
        async |grid| fault(grid, SubmitFault::None),
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_fts_without_its_database_costs_two_lines() {
    trouble(
        async |grid| grid.fts.set_database_fault(DatabaseFault::Unreachable),
        async |grid| grid.fts.set_database_fault(DatabaseFault::None),
    )
    .await;
}

/// The daemon works through the whole queue, in which nothing can be done for a while.
async fn trouble(begin: impl AsyncFn(&Grid), end: impl AsyncFn(&Grid)) {
    let folder = tempfile::Builder::new().prefix("trouble").tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let grid = Grid::start(GridSettings::new(folder.path().join("grid"))).await.unwrap();
    grid.fts.set_scheduler(false);
    begin(&grid).await;
    let mut command = grid.conveyor(&[]);
    command
        .env("CONVEYOR__SUBMIT__SLEEP_S", "1")
        .env("CONVEYOR__SUBMIT__FILES_PER_JOB", "5")
        // A statement that takes a second is a warning of sqlx's.
        .env("CONVEYOR__LOG__LEVEL", "info,sqlx=off")
        .env("CONVEYOR__ISSUER__RETRY_TOTAL_S", "1");
    let daemon = grid.spawn(command, "conveyor.log").unwrap();
    let log = || std::fs::read_to_string(grid.folder.join("conveyor.log")).unwrap();
    until("it is said that FTS cannot be used", || log().contains("FTS cannot be used")).await;
    // Long enough for several tries.
    tokio::time::sleep(Duration::from_secs(8)).await;
    let states = grid.rucio.states().await.unwrap();
    assert!(["A", "S", "F"].iter().all(|state| !states.contains_key(*state)), "{states:?}");
    end(&grid).await;
    let due = Instant::now() + Duration::from_secs(150);
    while grid.rucio.states().await.unwrap().get("S") != Some(&REQUESTS) {
        assert!(Instant::now() < due, "not within two minutes: {}", log());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    until("it is said that FTS can be used again", || log().contains("FTS can be used again")).await;
    terminate(daemon).await.unwrap();

    let log = log();
    let count = |words: &str| log.lines().filter(|line| line.contains(words)).count();
    assert_eq!((count("FTS cannot be used"), count("FTS can be used again")), (1, 1), "{log}");
    // Beside the FTS, the issuer: one line however often it is tried.
    let warned: Vec<_> =
        log.lines().filter(|line| line.contains(" WARN ") || line.contains(" ERROR ")).collect();
    let left_alone = count("the issuer is left alone");
    assert!(left_alone <= 1 && warned.len() == 1 + left_alone, "nothing else is warned of: {warned:#?}");
    assert_eq!(
        grid.fts.counts().await.unwrap().files.values().sum::<u64>(),
        files(&grid).await,
        "none is doubled"
    );
}

/// One row a source in use.
async fn files(grid: &Grid) -> u64 {
    let rows = grid.rucio.texts("SELECT count(*) FROM sources WHERE is_using = 1").await.unwrap();
    rows[0][0].as_deref().unwrap().parse().unwrap()
}

async fn until(what: &str, done: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !done() {
        assert!(Instant::now() < end, "not within a minute: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
