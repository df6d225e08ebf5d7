//! The main job, whole: as it is, with the issuer down for ten seconds, and with `conveyor` killed in the middle.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;
use sqlx::Row as _;
use sqlx::sqlite::SqliteConnectOptions;
use testbed::grid::{Grid, GridSettings};
use testbed::job::{Outcome, Trouble, run_to_end};

#[tokio::test(flavor = "multi_thread")]
async fn every_request_is_transferred_or_left_with_a_reason() {
    let (_folder, grid) = grid("main").await;
    let outcome = run_to_end(&grid, Trouble::default()).await.unwrap();
    expect_whole(&outcome);
    assert!(outcome.issuer_token_calls <= 8, "{} token calls", outcome.issuer_token_calls);
    assert_eq!(outcome.storage_refusals, 0, "every token was enough for what FTS does");
    expect_one_job_a_request(&grid).await;
    expect_no_secret_outside(&grid).await;

    // Queued again as Rucio's finisher does, and submitted by a new process: its token comes from sled.
    let before = grid.issuer.token_calls().client_credentials;
    assert_eq!(grid.rucio.requeue(u32::MAX).await.unwrap(), 460);
    let again = grid.conveyor(&["--run-once", "--json"]).output().await.unwrap();
    assert!(again.status.success(), "{}", String::from_utf8_lossy(&again.stderr));
    let report: Value = serde_json::from_slice(&again.stdout).unwrap();
    assert_eq!(report["submitted"], 460);
    assert_eq!(before, 1);
    assert_eq!(grid.issuer.token_calls().client_credentials, before, "the token comes from sled");
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_seconds_without_issuer_fail_no_file() {
    let (_folder, grid) = grid("fault").await;
    let outcome = run_to_end(&grid, Trouble { fault: true, kill: false }).await.unwrap();
    expect_whole(&outcome);
    assert!(outcome.seconds > 10.0, "the fault was in the way: {} s", outcome.seconds);
    expect_one_job_a_request(&grid).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_conveyor_loses_and_doubles_nothing() {
    let (_folder, grid) = grid("kill").await;
    let outcome = run_to_end(&grid, Trouble { fault: false, kill: true }).await.unwrap();
    expect_whole(&outcome);
    expect_one_job_a_request(&grid).await;
    expect_no_secret_outside(&grid).await;
}

async fn grid(name: &str) -> (tempfile::TempDir, Grid) {
    let folder = tempfile::Builder::new().prefix(name).tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let grid = Grid::start(GridSettings::new(folder.path().join("grid"))).await.unwrap();
    (folder, grid)
}

fn expect_whole(outcome: &Outcome) {
    assert_eq!((outcome.requests, outcome.submitted, outcome.finished, outcome.failed), (480, 460, 460, 0));
    assert_eq!(outcome.files_verified, 460);
    let left: Vec<_> = outcome.left.iter().map(|(reason, count)| (reason.as_str(), *count)).collect();
    assert_eq!(
        left,
        [("blocked source", 5), ("no `fts` attribute", 5), ("no distance", 5), ("scheme mismatch", 5)]
    );
    // Those of Rucio's own submitter.
    let states: Vec<_> = outcome.states.iter().map(|(state, count)| (state.as_str(), *count)).collect();
    assert_eq!(states, [("M", 5), ("N", 10), ("Q", 5), ("S", 460)]);
    assert!(outcome.is_whole());
}

/// Each request stands in exactly one job of FTS, and Rucio knows it by that job's id.
async fn expect_one_job_a_request(grid: &Grid) {
    let fts = sqlx::SqlitePool::connect_with(SqliteConnectOptions::new().filename(grid.fts.database()))
        .await
        .unwrap();
    let jobs = sqlx::query(
        "SELECT json_extract(file_metadata, '$.request_id'), job_id FROM t_file GROUP BY 1, 2 ORDER BY 1",
    );
    let in_fts: Vec<(String, String)> =
        jobs.fetch_all(&fts).await.unwrap().iter().map(|row| (row.get(0), row.get(1))).collect();
    let submitted = sqlx::query("SELECT id, external_id FROM requests WHERE state = 'S' ORDER BY id");
    let in_rucio: Vec<(String, String)> = submitted
        .fetch_all(grid.rucio.pool())
        .await
        .unwrap()
        .iter()
        .map(|row| (row.get(0), row.get(1)))
        .collect();
    assert_eq!(in_rucio.len(), 460);
    assert_eq!(in_fts, in_rucio);
}

/// No token and no secret stands in a log, in Rucio's database, in a configuration file or in a token cache.
async fn expect_no_secret_outside(grid: &Grid) {
    let fts = sqlx::SqlitePool::connect_with(SqliteConnectOptions::new().filename(grid.fts.database()))
        .await
        .unwrap();
    let mut secrets: BTreeSet<String> = sqlx::query_scalar("SELECT access_token FROM t_token")
        .fetch_all(&fts)
        .await
        .unwrap()
        .into_iter()
        .collect();
    assert!(secrets.len() >= 7, "the submission token and six endpoint tokens");
    for file in ["rucio-conveyor.secret", "fts-exchange.secret"] {
        secrets.insert(std::fs::read_to_string(grid.folder.join(file)).unwrap().trim().to_owned());
    }
    // A signature alone gives a token away too.
    let parts: Vec<String> =
        secrets.iter().filter_map(|token| token.rsplit('.').next().map(str::to_owned)).collect();
    let mut looked_at = 0;
    for path in files_below(&grid.folder) {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name.starts_with("fts.sqlite") || name.ends_with(".secret") {
            continue;
        }
        looked_at += 1;
        let bytes = std::fs::read(&path).unwrap();
        for secret in &parts {
            let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!found, "a secret stands in {}", path.display());
        }
    }
    assert!(looked_at > 5, "logs, databases, configuration and caches were looked at");
}

fn files_below(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}
