//! `conveyor` and what it talks to, broken at random moments again and again: no request is lost, none is twice in FTS, none stays claimed
//! after the next start.
//!
//! Needs `RUCIO_BIN` and `RUCIO_POSTGRES`, as `rucio_postgres` does. `CRASH_RUNS` says how often (default 200); each run has its share of the
//! 460 requests.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::time::{Duration, Instant};

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{Row as _, SqlitePool};
use testbed::fts::SubmitFault;
use testbed::grid::Grid;
use token_core::random_hex;
use tokio::process::Command;

#[path = "interop/needed.rs"]
mod needed;
#[path = "rucio/programs.rs"]
#[expect(dead_code, reason = "other tests use more of it")]
mod programs;
#[path = "rucio/server.rs"]
#[expect(dead_code, reason = "other tests use more of it")]
mod server;

use server::Server;

const REQUESTS: usize = 460;

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_or_doubled_wherever_it_breaks() {
    let Some(server) = Server::needed() else { return };
    let runs: usize = std::env::var("CRASH_RUNS").map_or(200, |runs| runs.parse().unwrap());
    let (_folder, database, grid) = server.grid().await;
    grid.fts.set_scheduler(false);
    // Between FTS's taking a job and its answer there is time to break something.
    grid.fts.set_submit_fault(SubmitFault::Slow(Duration::from_millis(60)));
    run(&grid, "UPDATE requests SET state = 'W'").await;
    let share = REQUESTS.div_ceil(runs);
    let (mut hits, mut broken) = (0, 0);
    for turn in 0..runs {
        let some = format!(
            "UPDATE requests SET state = 'Q' WHERE id IN (SELECT id FROM requests WHERE state = 'W' \
             AND name NOT LIKE 'bad.%' ORDER BY name LIMIT {share})"
        );
        run(&grid, &some).await;
        let mut first = grid.spawn(conveyor(&grid), "conveyor.log").unwrap();
        tokio::time::sleep(Duration::from_millis(random(300))).await;
        hits += usize::from(first.try_wait().unwrap().is_none());
        match turn % 3 {
            0 => first.start_kill().unwrap(),
            1 => _ = database.cut(&grid).await,
            // All its connections go, with what it has taken and not answered; it comes back with its database.
            _ => {
                grid.fts.server().set_up(false);
                tokio::time::sleep(Duration::from_millis(random(100))).await;
                grid.fts.server().set_up(true);
            }
        }
        broken += usize::from(!first.wait().await.unwrap().success());
        // The port is there again a moment later.
        let end = Instant::now() + Duration::from_secs(120);
        while !conveyor(&grid).output().await.unwrap().status.success() {
            assert!(Instant::now() < end, "turn {turn}: not within two minutes");
        }
        let open = programs::lines(&grid, "SELECT count(*) FROM requests WHERE state IN ('G', 'Q')").await;
        assert_eq!(open, ["0"], "turn {turn}: something is left");
    }
    needed::say(&format!("crashes: {runs} runs, {hits} in the middle of work, {broken} of which ended it"));
    assert!(hits * 2 > runs && broken * 10 > runs, "too few of {runs}: {hits}, {broken}");
    expect_each_once(&grid).await;
}

fn conveyor(grid: &Grid) -> Command {
    let mut command = grid.conveyor(&["--run-once"]);
    command
        .env("CONVEYOR__SUBMIT__FILES_PER_JOB", "1")
        .env("CONVEYOR__SUBMIT__JOBS_IN_FLIGHT", "1")
        .env("CONVEYOR__SUBMIT__BATCH", "4");
    command
}

async fn run(grid: &Grid, sql: &str) {
    grid.rucio.run(sql).await.unwrap();
}

/// Below `most`.
fn random(most: u64) -> u64 {
    u64::from_str_radix(&random_hex()[..8], 16).unwrap() % most
}

/// Each request stands once in FTS, in the job that Rucio knows, with one message.
async fn expect_each_once(grid: &Grid) {
    let options = SqliteConnectOptions::new().filename(grid.fts.database());
    let fts = SqlitePool::connect_with(options).await.unwrap();
    let rows = sqlx::query(
        "SELECT json_extract(file_metadata, '$.request_id'), group_concat(DISTINCT job_id) FROM t_file GROUP BY 1 ORDER BY 1",
    );
    let in_fts: Vec<_> = rows.fetch_all(&fts).await.unwrap();
    let in_fts: Vec<String> =
        in_fts.iter().map(|row| format!("{} {}", row.get::<String, _>(0), row.get::<String, _>(1))).collect();
    let submitted =
        "SELECT replace(id::text, '-', ''), external_id FROM requests WHERE state = 'S' ORDER BY 1";
    let in_rucio = programs::lines(grid, submitted).await;
    assert_eq!(in_rucio.len(), REQUESTS);
    assert_eq!(in_fts, in_rucio);
    let told = "SELECT count(*), count(DISTINCT payload::json->>'request-id') FROM messages \
                WHERE event_type = 'transfer-submitted'";
    assert_eq!(programs::lines(grid, told).await, ["460 460"], "one message a request");
}
