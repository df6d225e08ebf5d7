//! `conveyor` against an FTS that loses answers, refuses, hangs and goes away, against competitors, and killed in the middle.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::Value;
use sqlx::{Row as _, SqlitePool};
use testbed::fts::SubmitFault;
use testbed::grid::{Grid, Signal, signal, terminate};

#[path = "submission/rig.rs"]
mod rig;

use rig::*;

/// Five files in a job make 8 jobs of the first and one job each of the others, which have two sources.
const FEW: &[(&str, usize)] = &[("mc26.simple", 40), ("mc26.two_sources", 10)];
const REQUESTS: usize = 50;
const JOBS: usize = 18;

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_is_looked_up_and_no_job_is_doubled() {
    let (_folder, grid) = grid(FEW).await;
    grid.fts.set_submit_fault(SubmitFault::LoseAnswer(7));
    let report = once(&grid).await;
    assert_eq!((&report["submitted"], &report["jobs"]), (&REQUESTS.into(), &JOBS.into()));
    assert_eq!(grid.fts.submissions(), JOBS as u64, "looked up, not posted again");
    expect_all_once(&grid, REQUESTS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_refused_with_503_is_posted_again_under_the_same_id() {
    let (_folder, grid) = grid(FEW).await;
    grid.fts.record();
    grid.fts.set_submit_fault(SubmitFault::Refuse503(7));
    assert_eq!(once(&grid).await["submitted"], REQUESTS);
    assert_eq!(grid.fts.submissions(), JOBS as u64 + 7);
    expect_one_body_an_id(&grid, JOBS);
    expect_all_once(&grid, REQUESTS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_fts_nothing_is_claimed_and_one_line_names_it() {
    let (_folder, grid) = grid(&[("mc26.simple", 40), ("bad.no_distance", 5)]).await;
    grid.fts.server().set_up(false);
    let before = std::fs::read(grid.rucio.path()).unwrap();
    let output = conveyor(&grid, &["--run-once"]).output().await.unwrap();
    let log = String::from_utf8(output.stderr).unwrap();
    let line = log.lines().last().unwrap();
    assert_eq!(output.status.code(), Some(1), "{log}");
    assert!(line.starts_with("conveyor: ") && line.contains(&grid.fts.url()), "{line}");
    assert!(before == std::fs::read(grid.rucio.path()).unwrap(), "Rucio's database was changed");
    grid.fts.server().set_up(true);
    until("FTS is there again", async || {
        conveyor(&grid, &["--run-once"]).output().await.unwrap().status.success()
    })
    .await;
    expect_all_once(&grid, 40).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_fts_that_goes_away_and_comes_back_gets_every_request_once() {
    let (_folder, grid) = grid(FEW).await;
    grid.fts.set_submit_fault(SubmitFault::Slow(Duration::from_secs(1)));
    let mut command = conveyor(&grid, &[]);
    command.env("CONVEYOR__SUBMIT__SLEEP_S", "1").env("CONVEYOR__SUBMIT__FILES_PER_JOB", "1");
    let daemon = grid.spawn(command, "conveyor.log").unwrap();
    until("some jobs are posted", async || grid.fts.counts().await.unwrap().jobs >= 4).await;
    grid.fts.server().set_up(false);
    until("what was not sent is given back", async || states(&grid, "Q").await > 0).await;
    grid.fts.server().set_up(true);
    until("everything is submitted", async || states(&grid, "S").await == REQUESTS).await;
    terminate(daemon).await.unwrap();
    expect_all_once(&grid, REQUESTS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_was_given_back_leaves_nothing_behind() {
    let (_folder, grid) = grid(&[("mc26.simple", 1)]).await;
    let mut command = conveyor(&grid, &[]);
    command.env("CONVEYOR__SUBMIT__SLEEP_S", "1");
    let daemon = grid.spawn(command, "conveyor.log").unwrap();
    until("FTS is known to the daemon", async || states(&grid, "S").await == 1).await;
    grid.fts.server().set_up(false);
    // The preparer chose the source of one of them.
    let (requests, chosen) = ("name LIKE 'mc26.two_sources.00000_'", "name LIKE 'mc26.two_sources.000000'");
    let disk_c = "(SELECT id FROM rses WHERE rse = 'DISK-C')";
    change(&grid, &format!("UPDATE requests SET source_rse_id = {disk_c} WHERE {chosen}")).await;
    change(&grid, &format!("UPDATE requests SET state = 'Q' WHERE {requests}")).await;
    let log = || std::fs::read_to_string(grid.folder.join("conveyor.log")).unwrap();
    until("they were claimed and given back", async || log().contains("FTS cannot be used")).await;
    terminate(daemon).await.unwrap();

    let left = |what: &str| format!("requests WHERE {requests} AND {what}");
    let open =
        "(state <> 'Q' OR external_id IS NOT NULL OR external_host IS NOT NULL OR dest_url IS NOT NULL)";
    assert_eq!(count(&grid, &left(open)).await, 0);
    let chosen = count(&grid, &left(&format!("source_rse_id = {disk_c}"))).await;
    // Meanwhile a source is shut.
    change(&grid, "UPDATE rses SET availability_read = 0 WHERE rse = 'DISK-A'").await;
    grid.fts.server().set_up(true);
    grid.fts.record();
    until("FTS is there again", async || {
        conveyor(&grid, &["--run-once"]).output().await.unwrap().status.success()
    })
    .await;
    let posted: BTreeSet<_> = posted(&grid).into_iter().flat_map(|(id, file)| urls(&id, &file)).collect();
    assert_eq!(posted.len(), 10);
    let using = format!(
        "SELECT s.request_id, s.url FROM sources s JOIN requests r ON r.id = s.request_id AND r.{requests} \
         WHERE s.is_using = 1"
    );
    assert_eq!(posted, pairs(grid.rucio.pool(), &using).await, "sources in use are those that were posted");
    assert_eq!(chosen, 1, "the preparer's choice is still there");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_bad_file_does_not_sink_the_others_of_its_job() {
    let (_folder, grid) = grid(FEW).await;
    // The first, after which the job is named, and one in the middle of another job: their metadata is too long for FTS.
    let bad = "name IN ('mc26.simple.000000', 'mc26.simple.000017')";
    change(&grid, &format!("UPDATE requests SET md5 = hex(zeroblob(2500)) WHERE {bad}")).await;
    let report = once(&grid).await;
    assert_eq!((&report["refused"], &report["submitted"]), (&2.into(), &(REQUESTS - 2).into()));
    expect_all_once(&grid, REQUESTS - 2).await;
    let ended = format!(
        "requests WHERE {bad} AND state = 'A' AND external_id IS NULL \
         AND err_msg LIKE '%metadata exceeds size limit of 4096%'"
    );
    assert_eq!(count(&grid, &ended).await, 2);
    assert_eq!(count(&grid, "messages WHERE event_type = 'transfer-submission_failed'").await, 2);
    assert_eq!(once(&grid).await["picked"], 0, "what was refused is not tried again");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_conveyors_on_one_queue_send_each_request_once() {
    let (_folder, grid) = grid(&[]).await;
    change(&grid, "UPDATE requests SET state = 'Q'").await;
    let start = |cache: &str, files: &str| {
        let mut command = conveyor(&grid, &["--run-once", "--json"]);
        let path = grid.folder.join(cache);
        command
            .env("CONVEYOR__CACHE__PATH", &path)
            .env("CONVEYOR__CACHE__KEY_FILE", path.with_extension("key"));
        command.env("CONVEYOR__SUBMIT__BATCH", "20").env("CONVEYOR__SUBMIT__FILES_PER_JOB", files);
        command
    };
    // Slow until both are there.
    grid.fts.set_submit_fault(SubmitFault::Slow(Duration::from_secs(2)));
    // Each would make other jobs of the same requests.
    let (mut first, mut second) = (start("first", "5"), start("second", "7"));
    let both = async {
        until("both work", async || ["first", "second"].iter().all(|name| grid.folder.join(name).exists()))
            .await;
        grid.fts.set_submit_fault(SubmitFault::Slow(Duration::from_millis(50)));
    };
    let (first, second, ()) = tokio::join!(first.output(), second.output(), both);
    let reports = [first, second].map(|output| {
        let output = output.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice::<Value>(&output.stdout).unwrap()
    });
    assert!(
        reports.iter().all(|report| report["submitted"].as_u64() > Some(0)),
        "both had work: {reports:?}"
    );
    let sum = |key: &str| reports.iter().map(|report| report[key].as_u64().unwrap()).sum::<u64>();
    assert_eq!(
        (sum("submitted"), sum("recovered")),
        (460, 0),
        "neither took the other's claims for left behind"
    );
    expect_all_once(&grid, 460).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_submitter_has_taken_is_left_alone() {
    let (_folder, grid) = grid(FEW).await;
    // As Rucio's own submitter claims.
    let theirs = "name IN ('mc26.simple.000000', 'mc26.simple.000007', 'mc26.two_sources.000003')";
    change(&grid, &format!("UPDATE requests SET state = 'G' WHERE {theirs}")).await;
    // And one, after which a job is named, between our look and our claim.
    let quick = "CREATE TRIGGER quick BEFORE UPDATE ON requests WHEN new.state = 'G' AND old.name = 'mc26.simple.000001' \
                 BEGIN SELECT RAISE(IGNORE); END";
    change(&grid, quick).await;
    assert_eq!(once(&grid).await["submitted"], REQUESTS - 4);
    let all = format!("requests WHERE external_id IS NULL AND ({theirs} OR name = 'mc26.simple.000001')");
    assert_eq!(count(&grid, &all).await, 4);
    let untouched = format!("requests WHERE {theirs} AND state = 'G' AND dest_url IS NULL");
    assert_eq!(count(&grid, &untouched).await, 3);
    // Given back by the other one, it is submitted as a job that is named after itself.
    change(&grid, "DROP TRIGGER quick").await;
    assert_eq!(once(&grid).await["submitted"], 1);
    expect_all_once(&grid, REQUESTS - 3).await;
}

/// A submitter of Rucio's own that runs as a daemon stamps what it looks at, and has it to itself for ten minutes.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_python_submitter_has_just_looked_at_a_daemon_leaves_to_it() {
    let (_folder, grid) = grid(FEW).await;
    let theirs = "name IN ('mc26.simple.000000', 'mc26.two_sources.000003')";
    let stamp = "last_processed_by = 'conveyor-submitter', last_processed_at = strftime('%Y-%m-%d %H:%M:%S.000000', 'now')";
    change(&grid, &format!("UPDATE requests SET {stamp} WHERE {theirs}")).await;
    let daemon = grid.spawn(conveyor(&grid, &[]), "conveyor.log").unwrap();
    until("all others are submitted", async || states(&grid, "S").await == REQUESTS - 2).await;
    terminate(daemon).await.unwrap();
    assert_eq!(
        count(&grid, &format!("requests WHERE {theirs} AND state = 'Q' AND external_id IS NULL")).await,
        2
    );
    // As Rucio's own, a single walk takes all.
    assert_eq!(once(&grid).await["submitted"], 2);
    expect_all_once(&grid, REQUESTS).await;
}

/// FTS is away for longer than Rucio's finisher waits for a claim: it is kept from being taken for forgotten.
#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_nobody_can_resolve_stays_ours() {
    let (_folder, grid) = grid(&[("mc26.simple", 10)]).await;
    grid.fts.set_submit_fault(SubmitFault::Slow(Duration::from_secs(30)));
    let mut daemon = grid.spawn(conveyor(&grid, &["--run-once"]), "conveyor.log").unwrap();
    until("FTS has the jobs", async || grid.fts.counts().await.unwrap().jobs == 2).await;
    kill(&mut daemon).await;
    let lately = "state = 'G' AND updated_at > strftime('%Y-%m-%d %H:%M:%S', 'now', '-5 minutes')";
    change(&grid, "UPDATE requests SET updated_at = strftime('%Y-%m-%d %H:%M:%S.000000', 'now', '-100 minutes') WHERE state = 'G'").await;
    assert_eq!(count(&grid, &format!("requests WHERE {lately}")).await, 0);
    grid.fts.server().set_up(false);
    let daemon = grid.spawn(conveyor(&grid, &[]), "second.log").unwrap();
    until("its claims are young again", async || {
        count(&grid, &format!("requests WHERE {lately}")).await == 10
    })
    .await;
    grid.fts.set_submit_fault(SubmitFault::None);
    grid.fts.server().set_up(true);
    until("they are adopted", async || states(&grid, "S").await == 10).await;
    terminate(daemon).await.unwrap();
    assert_eq!(grid.fts.submissions(), 2, "nothing was posted again");
    expect_all_once(&grid, 10).await;
}

/// As `add_messages` of Rucio has it.
#[tokio::test(flavor = "multi_thread")]
async fn each_service_of_hermes_has_a_message_of_its_own() {
    let (_folder, grid) = grid(&[("mc26.simple", 10)]).await;
    change(&grid, "INSERT INTO configs (section, opt, value, created_at, updated_at) \
         VALUES ('hermes', 'services_list', 'influx, activemq,email', '2026-01-01 00:00:00.000000', '2026-01-01 00:00:00.000000')").await;
    assert_eq!(once(&grid).await["submitted"], 10);
    let told = "SELECT DISTINCT json_extract(payload, '$.\"request-id\"'), services FROM messages WHERE event_type = 'transfer-submitted'";
    let told = pairs(grid.rucio.pool(), told).await;
    let of = |service: &str| told.iter().filter(|(_, services)| services == service).count();
    assert_eq!((of("influx"), of("activemq"), told.len()), (10, 10, 20));
}

/// Between our look and our claim, a replica is deleted: the others' claims are made all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_is_deleted_meanwhile_costs_nobody_else_its_claim() {
    let (_folder, grid) = grid(FEW).await;
    let gone = "CREATE TRIGGER gone BEFORE UPDATE ON requests WHEN new.state = 'G' AND old.name = 'mc26.simple.000001' \
                BEGIN DELETE FROM replicas WHERE name = 'mc26.simple.000001'; END";
    change(&grid, gone).await;
    assert_eq!(once(&grid).await["submitted"], REQUESTS);
    let rows = "sources s JOIN requests r ON r.id = s.request_id WHERE r.name = 'mc26.simple.000001'";
    assert_eq!(count(&grid, rows).await, 0);
    assert_eq!(count(&grid, "requests WHERE state = 'S'").await, i64::try_from(REQUESTS).unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conveyor_killed_between_claim_and_answer_goes_on_with_the_same_jobs() {
    let (_folder, grid) = grid(FEW).await;
    grid.fts.record();
    grid.fts.set_submit_fault(SubmitFault::Slow(Duration::from_secs(30)));
    let mut daemon = grid.spawn(conveyor(&grid, &["--run-once"]), "conveyor.log").unwrap();
    until("FTS has jobs that it has not answered", async || grid.fts.counts().await.unwrap().jobs > 2).await;
    kill(&mut daemon).await;
    assert!(grid.fts.counts().await.unwrap().jobs < JOBS as u64);
    grid.fts.set_submit_fault(SubmitFault::None);
    let report = once(&grid).await;
    assert_eq!((&report["recovered"], &report["submitted"]), (&REQUESTS.into(), &REQUESTS.into()));
    expect_one_body_an_id(&grid, JOBS);
    expect_all_once(&grid, REQUESTS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_whose_job_never_arrived_is_posted_under_the_same_id() {
    let (_folder, grid) = grid(FEW).await;
    grid.fts.record();
    grid.fts.set_submit_fault(SubmitFault::Refuse503(u32::MAX));
    let mut command = conveyor(&grid, &["--run-once"]);
    // All at once: what is not posted when the first one's fate is unknown would be given back.
    command.env("CONVEYOR__SUBMIT__JOBS_IN_FLIGHT", "50");
    let mut daemon = grid.spawn(command, "conveyor.log").unwrap();
    until("some jobs were refused", async || grid.fts.submissions() > 4).await;
    kill(&mut daemon).await;
    let claims = "SELECT id, external_id FROM requests WHERE external_id IS NOT NULL";
    let before = pairs(grid.rucio.pool(), claims).await;
    assert_eq!((before.len(), grid.fts.counts().await.unwrap().jobs), (REQUESTS, 0));
    grid.fts.set_submit_fault(SubmitFault::None);
    assert_eq!(once(&grid).await["recovered"], REQUESTS);
    assert_eq!(before, pairs(grid.rucio.pool(), claims).await);
    assert!(grid.fts.submissions() > JOBS as u64, "some were posted twice");
    expect_one_body_an_id(&grid, JOBS);
    expect_all_once(&grid, REQUESTS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_of_a_vo_that_we_are_no_longer_of_is_made_anew() {
    let (_folder, grid) = grid(FEW).await;
    grid.fts.set_submit_fault(SubmitFault::Refuse503(u32::MAX));
    let mut command = conveyor(&grid, &["--run-once", "--json"]);
    // All at once: what is not posted when the first one's fate is unknown would be given back.
    let output = command.env("CONVEYOR__SUBMIT__JOBS_IN_FLIGHT", "50").output().await.unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (output.status.code(), report["open"].as_u64()),
        (Some(1), Some(50)),
        "the jobs' fate is not known"
    );
    assert_eq!(states(&grid, "G").await, REQUESTS);
    grid.fts.set_submit_fault(SubmitFault::None);
    let fts = SqlitePool::connect(&format!("sqlite://{}", grid.fts.database().display())).await.unwrap();
    sqlx::query("INSERT INTO t_gridmap (dn, vo) VALUES ('rucio-conveyor', 'another')")
        .execute(&fts)
        .await
        .unwrap();
    let report = once(&grid).await;
    assert_eq!((report["released"].as_u64(), report["submitted"].as_u64()), (Some(50), Some(50)));
    expect_all_once(&grid, REQUESTS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_and_sources_are_those_that_rucio_writes() {
    let (_folder, grid) = grid(FEW).await;
    grid.fts.record();
    once(&grid).await;
    expect_all_once(&grid, REQUESTS).await;
    let golden: Value = serde_json::from_str(include_str!("../data/rucio-41.5.1.golden.json")).unwrap();
    let keys = |payload: &Value| payload.as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
    let posted: BTreeMap<_, _> = posted(&grid).into_iter().collect();
    let messages = sqlx::query("SELECT payload FROM messages WHERE event_type = 'transfer-submitted'");
    for row in messages.fetch_all(grid.rucio.pool()).await.unwrap() {
        let message: Value = serde_json::from_str(row.get(0)).unwrap();
        assert_eq!(keys(&message), keys(&golden["messages_example"][0]["payload"]));
        let metadata = &posted[message["request-id"].as_str().unwrap()]["metadata"];
        for (theirs, ours) in
            [("src-rse", "src_rse"), ("dst-rse", "dst_rse"), ("name", "name"), ("bytes", "filesize")]
        {
            assert_eq!(message[theirs], metadata[ours], "{theirs}");
        }
    }
    let sources: BTreeSet<_> = posted.iter().flat_map(|(id, file)| urls(id, file)).collect();
    assert_eq!(sources.len(), 60);
    let using = "SELECT request_id, url FROM sources WHERE is_using = 1";
    assert_eq!(sources, pairs(grid.rucio.pool(), using).await);
    let to =
        |(id, file): (&String, &Value)| (id.clone(), file["destinations"][0].as_str().unwrap().to_owned());
    let destinations = "SELECT id, dest_url FROM requests WHERE state = 'S'";
    assert_eq!(posted.iter().map(to).collect::<BTreeSet<_>>(), pairs(grid.rucio.pool(), destinations).await);
}

async fn kill(daemon: &mut tokio::process::Child) {
    signal(daemon.id().unwrap(), Signal::KILL).unwrap();
    assert!(!daemon.wait().await.unwrap().success());
}

/// What was posted last for each request.
fn posted(grid: &Grid) -> Vec<(String, Value)> {
    let files = grid.fts.recorded().into_iter().flat_map(|job| job["files"].as_array().unwrap().clone());
    files.map(|file| (file["metadata"]["request_id"].as_str().unwrap().to_owned(), file)).collect()
}

fn urls(id: &str, file: &Value) -> Vec<(String, String)> {
    let urls = file["sources"].as_array().unwrap().iter();
    urls.map(|url| (id.to_owned(), url.as_str().unwrap().to_owned())).collect()
}

/// However often a job was posted, it was the same job.
fn expect_one_body_an_id(grid: &Grid, jobs: usize) {
    let bodies = grid.fts.recorded();
    let distinct: BTreeSet<String> = bodies.iter().map(Value::to_string).collect();
    let ids: BTreeSet<String> = bodies.iter().map(|body| body["params"]["sid"].to_string()).collect();
    assert_eq!((distinct.len(), ids.len()), (jobs, jobs));
}
