//! A grid with few requests, `conveyor` on it, and what must be true afterwards.
#![allow(dead_code, reason = "each test uses a part of it")]

use std::collections::BTreeSet;
use std::future::Future;
use std::time::{Duration, Instant};

use serde_json::Value;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, Row as _, SqlitePool};
use testbed::fts::RestSettings;
use testbed::grid::{Grid, GridSettings};
use tokio::process::Command;

/// A grid whose queue holds so many of each kind; the other requests wait for Rucio's throttler.
pub(crate) async fn grid(few: &[(&str, usize)]) -> (tempfile::TempDir, Grid) {
    grid_with(RestSettings::default(), few).await
}

/// The same with an FTS that is set so.
pub(crate) async fn grid_with(rest: RestSettings, few: &[(&str, usize)]) -> (tempfile::TempDir, Grid) {
    let folder = tempfile::Builder::new().prefix("submit").tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let settings = GridSettings { rest, ..GridSettings::new(folder.path().join("grid")) };
    let grid = Grid::start(settings).await.unwrap();
    grid.fts.set_scheduler(false);
    change(&grid, "UPDATE requests SET state = 'W'").await;
    for (kind, count) in few {
        let some = format!("SELECT id FROM requests WHERE name LIKE '{kind}.%' ORDER BY name LIMIT {count}");
        change(&grid, &format!("UPDATE requests SET state = 'Q' WHERE id IN ({some})")).await;
    }
    (folder, grid)
}

pub(crate) fn conveyor(grid: &Grid, arguments: &[&str]) -> Command {
    let mut command = grid.conveyor(arguments);
    command.env("CONVEYOR__SUBMIT__FILES_PER_JOB", "5");
    command
}

pub(crate) async fn once(grid: &Grid) -> Value {
    let output = conveyor(grid, &["--run-once", "--json"]).output().await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

pub(crate) async fn until<F: Future<Output = bool>>(what: &str, mut done: impl FnMut() -> F) {
    let end = Instant::now() + Duration::from_secs(60);
    while !done().await {
        assert!(Instant::now() < end, "not within a minute: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub(crate) async fn change(grid: &Grid, sql: &str) {
    sqlx::query(AssertSqlSafe(sql)).execute(grid.rucio.pool()).await.unwrap();
}

pub(crate) async fn count(grid: &Grid, what: &str) -> i64 {
    let sql = format!("SELECT count(*) FROM {what}");
    sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(grid.rucio.pool()).await.unwrap()
}

pub(crate) async fn pairs(pool: &SqlitePool, sql: &str) -> BTreeSet<(String, String)> {
    let rows = sqlx::query(AssertSqlSafe(sql)).fetch_all(pool).await.unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

pub(crate) async fn states(grid: &Grid, state: &str) -> usize {
    let states = grid.rucio.states().await.unwrap();
    states.get(state).map_or(0, |count| usize::try_from(*count).unwrap())
}

/// Each submitted request stands in one job of FTS with a row a source, Rucio knows it by that job's id, and one message
/// tells of it; FTS has nothing else.
pub(crate) async fn expect_all_once(grid: &Grid, requests: usize) {
    let options = SqliteConnectOptions::new().filename(grid.fts.database());
    let fts = SqlitePool::connect_with(options).await.unwrap();
    let triples = async |pool: &SqlitePool, sql: &'static str| -> Vec<(String, String, i64)> {
        let rows = sqlx::query(sql).fetch_all(pool).await.unwrap();
        rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect()
    };
    let in_fts = "SELECT json_extract(file_metadata, '$.request_id'), job_id, count(*) FROM t_file GROUP BY 1, 2 \
                  ORDER BY 1";
    let in_rucio = "SELECT r.id, r.external_id, count(*) FROM requests r JOIN sources s ON s.request_id = r.id \
                    AND s.is_using = 1 WHERE r.state = 'S' GROUP BY 1, 2 ORDER BY 1";
    let in_rucio = triples(grid.rucio.pool(), in_rucio).await;
    assert_eq!(in_rucio.len(), requests);
    assert_eq!(triples(&fts, in_fts).await, in_rucio);
    let told = "SELECT json_extract(payload, '$.\"request-id\"'), json_extract(payload, '$.\"external-id\"'), count(*) \
                FROM messages WHERE event_type = 'transfer-submitted' GROUP BY 1, 2 ORDER BY 1";
    let once: Vec<_> = in_rucio.into_iter().map(|(id, job, _)| (id, job, 1)).collect();
    assert_eq!(triples(grid.rucio.pool(), told).await, once);
    for state in ["G", "Q"] {
        let open = format!("requests WHERE state = '{state}' AND external_id IS NOT NULL");
        assert_eq!(count(grid, &open).await, 0, "no claim is open");
    }
}
