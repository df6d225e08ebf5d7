//! `conveyor` and the ways in which an FTS, or what stands before it, answers a submission badly, or not at all. Whatever it is: no
//! request ends failed for it, FTS has each file once, Rucio knows the job that FTS has, and the log stays short.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, SqlitePool};
use testbed::fts::{RestSettings, SubmitFault, Trouble};
use testbed::grid::{Grid, terminate};

#[path = "submission/rig.rs"]
mod rig;

use rig::*;

/// Five files in a job make 8 jobs of the first and one job each of the others, which have two sources.
const FEW: &[(&str, usize)] = &[("mc26.simple", 40), ("mc26.two_sources", 10)];
const REQUESTS: usize = 50;
const JOBS: usize = 18;
/// Most lines in the log of a daemon that starts, works, and ends.
const LINES: usize = 15;
/// Seconds that an answer is waited for where time does not matter.
const PATIENT: &str = "60";

#[tokio::test(flavor = "multi_thread")]
async fn an_error_500_is_waited_out() {
    nothing_stored(Trouble::Error500).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_503_page_of_a_load_balancer_is_waited_out() {
    nothing_stored(Trouble::NoServer).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_409_for_a_job_of_ours_is_that_job() {
    taken(SubmitFault::Meet(Trouble::SentTwice, u32::MAX)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_before_the_answer_leads_to_the_job() {
    taken(SubmitFault::Meet(Trouble::ResetBeforeAnswer, u32::MAX)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_in_the_middle_of_the_answer_leads_to_the_job() {
    taken(SubmitFault::Meet(Trouble::ResetInAnswer, u32::MAX)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_takes_too_long_is_not_waited_for() {
    taken_within(SubmitFault::Slow(Duration::from_secs(60)), "5").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_200_with_a_page_leads_to_the_job() {
    taken(SubmitFault::Meet(Trouble::Portal, u32::MAX)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_200_with_half_of_the_json_leads_to_the_job() {
    taken(SubmitFault::Meet(Trouble::HalfJson, u32::MAX)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_200_that_names_no_job_leads_to_the_job() {
    taken(SubmitFault::Meet(Trouble::NoJobId, u32::MAX)).await;
}

/// Where another job writes, FTS takes nothing (`CheckDuplicates`): the words are a database's, and they are about one file.
#[tokio::test(flavor = "multi_thread")]
async fn a_409_for_a_destination_is_for_that_file_only() {
    let (_folder, grid) = checking(&[("mc26.simple", 10)]).await;
    let one = "name = 'mc26.simple.000003'";
    change(&grid, &format!("UPDATE requests SET state = 'W' WHERE state = 'Q' AND NOT {one}")).await;
    assert_eq!(once(&grid).await["submitted"], 1);
    // From now on it is somebody else's job.
    let options = SqliteConnectOptions::new()
        .filename(grid.fts.database())
        .busy_timeout(Duration::from_secs(60))
        .foreign_keys(false);
    let fts = SqlitePool::connect_with(options).await.unwrap();
    for of_another in [
        "UPDATE t_job SET job_id = '8e531ad2-e76a-11f1-b890-02fc00000001'",
        "UPDATE t_file SET job_id = '8e531ad2-e76a-11f1-b890-02fc00000001', file_metadata = NULL",
    ] {
        sqlx::query(of_another).execute(&fts).await.unwrap();
    }
    anew(&grid, one).await;
    change(&grid, "UPDATE requests SET state = 'Q' WHERE name LIKE 'mc26.simple.00000_'").await;
    let report = once(&grid).await;
    assert_eq!((report["refused"].as_u64(), report["submitted"].as_u64()), (Some(1), Some(9)), "{report}");
    let ended = format!(
        "requests WHERE {one} AND state = 'A' AND external_id IS NULL AND err_msg LIKE '%submission is duplicated%'"
    );
    assert_eq!(count(&grid, &ended).await, 1);
    sqlx::query("DELETE FROM t_file WHERE file_metadata IS NULL").execute(&fts).await.unwrap();
    expect_all_once(&grid, 9).await;
}

/// The same words for a file of ours that FTS has already, in a job of its own: it is found there.
#[tokio::test(flavor = "multi_thread")]
async fn a_409_for_a_destination_of_ours_leads_to_the_job() {
    let (_folder, grid) = checking(&[("mc26.simple", 10)]).await;
    let one = "name = 'mc26.simple.000003'";
    change(&grid, &format!("UPDATE requests SET state = 'W' WHERE state = 'Q' AND NOT {one}")).await;
    assert_eq!(once(&grid).await["submitted"], 1);
    // As after a database that was brought back from yesterday's copy.
    anew(&grid, one).await;
    change(&grid, "UPDATE requests SET state = 'Q' WHERE name LIKE 'mc26.simple.00000_'").await;
    let report = once(&grid).await;
    assert_eq!((report["refused"].as_u64(), report["submitted"].as_u64()), (Some(0), Some(10)), "{report}");
    expect_all_once(&grid, 10).await;
}

/// FTS stores nothing: it is waited for, and then all goes once.
async fn nothing_stored(trouble: Trouble) {
    let (_folder, grid) = grid(FEW).await;
    // A few such answers are nothing to speak of.
    grid.fts.set_submit_fault(SubmitFault::Meet(trouble, 7));
    change(&grid, "UPDATE requests SET state = 'W' WHERE name LIKE 'mc26.two_sources.%'").await;
    assert_eq!(once(&grid).await["submitted"], 40);
    assert_eq!(grid.fts.submissions(), 8 + 7, "each is posted again under its id");
    change(&grid, "UPDATE requests SET state = 'Q' WHERE name LIKE 'mc26.two_sources.00000_'").await;

    grid.fts.set_submit_fault(SubmitFault::Meet(trouble, u32::MAX));
    let daemon = start(&grid, PATIENT);
    until("it is said that FTS cannot be used", async || log(&grid).contains("FTS cannot be used")).await;
    let submissions = grid.fts.submissions();
    until("it is tried again and again", async || grid.fts.submissions() > submissions + 5).await;
    assert_eq!(count(&grid, "requests WHERE state NOT IN ('Q', 'G', 'S', 'W')").await, 0);
    grid.fts.set_submit_fault(SubmitFault::None);
    until("everything is submitted", async || states(&grid, "S").await == REQUESTS).await;
    until("that is said", async || log(&grid).contains("FTS can be used again")).await;
    terminate(daemon).await.unwrap();
    expect_all_once(&grid, REQUESTS).await;
    expect_few_lines(&grid, 1);
}

/// FTS has taken the job, and its answer does not tell: all goes once while it stays so, and nobody has to know.
async fn taken(fault: SubmitFault) {
    taken_within(fault, PATIENT).await;
}

/// The same with an answer that is waited for so many seconds.
async fn taken_within(fault: SubmitFault, timeout: &str) {
    let (_folder, grid) = grid(FEW).await;
    grid.fts.set_submit_fault(fault);
    let daemon = start(&grid, timeout);
    until("everything is submitted", async || states(&grid, "S").await == REQUESTS).await;
    terminate(daemon).await.unwrap();
    assert_eq!(grid.fts.submissions(), JOBS as u64, "looked up, not posted again");
    expect_all_once(&grid, REQUESTS).await;
    expect_few_lines(&grid, 0);
}

/// A grid whose FTS takes no file for a destination that another job writes to.
async fn checking(few: &[(&str, usize)]) -> (tempfile::TempDir, Grid) {
    let rest =
        RestSettings { check_duplicates: "*".into(), uuid5_takes_bytes: true, ..RestSettings::default() };
    grid_with(rest, few).await
}

/// As if these requests had never been submitted.
async fn anew(grid: &Grid, requests: &str) {
    let ids = format!("(SELECT id FROM requests WHERE {requests})");
    for sql in [
        format!("DELETE FROM sources WHERE request_id IN {ids}"),
        "DELETE FROM messages".into(),
        format!(
            "UPDATE requests SET state = 'Q', external_id = NULL, external_host = NULL, dest_url = NULL, \
             source_rse_id = NULL, submitted_at = NULL WHERE {requests}"
        ),
    ] {
        sqlx::query(AssertSqlSafe(sql)).execute(grid.rucio.pool()).await.unwrap();
    }
}

fn start(grid: &Grid, timeout: &str) -> tokio::process::Child {
    let mut command = conveyor(grid, &[]);
    command.env("CONVEYOR__SUBMIT__SLEEP_S", "1").env("CONVEYOR__FTS__TIMEOUT_S", timeout);
    // A statement that takes a second is a warning of sqlx's.
    command.env("CONVEYOR__LOG__LEVEL", "info,sqlx=off");
    grid.spawn(command, "conveyor.log").unwrap()
}

fn log(grid: &Grid) -> String {
    std::fs::read_to_string(grid.folder.join("conveyor.log")).unwrap()
}

/// So many warnings, and few lines whatever the number of requests.
fn expect_few_lines(grid: &Grid, warnings: usize) {
    let log = log(grid);
    let warned = log.lines().filter(|line| line.contains(" WARN ") || line.contains(" ERROR ")).count();
    assert_eq!(warned, warnings, "{log}");
    // Every ten seconds it tells what it did since.
    let lines = log.lines().filter(|line| !line.contains("since the last such line")).count();
    assert!(lines <= LINES, "{log}");
}
