//! `token-exchange` against an issuer in trouble, refusals, cancelled jobs, other workers, and restarts.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::process::Output;
use std::time::{Duration, Instant};

use serde_json::Value;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, SqlitePool};
use testbed::grid::{Grid, GridSettings};
use testbed::issuer::Fault;
use token_core::{Clock as _, SystemClock};
use tokio::process::Command;

/// From DISK-A to DISK-B: two endpoint tokens.
const SIMPLE: (&str, usize) = ("mc26.simple", 10);
/// From DISK-A or DISK-C to DISK-D: three endpoint tokens, a job of two rows each.
const SEVERAL: (&str, usize) = ("mc26.two_sources", 5);

#[tokio::test(flavor = "multi_thread")]
async fn an_issuer_in_trouble_fails_no_file_and_its_words_stand_in_the_lease_table() {
    let (_folder, grid, fts) = grid(&[SIMPLE, SEVERAL]).await;
    let faults = [Fault::TooManyRequests { retry_after_s: 1 }, Fault::Status(503), Fault::Html, Fault::Down];
    for (round, fault) in faults.into_iter().enumerate() {
        grid.issuer.set_fault(fault);
        expect_all_put_off(&grid, &fts, (6, round), "").await;
        // Nobody is asked before it is due.
        change(&fts, "UPDATE token_exchange_lease SET retry_at = retry_at + 600").await;
        let calls = grid.issuer.token_calls();
        assert_eq!((once(&grid).await.as_str(), grid.issuer.token_calls()), ("", calls));
        change(&fts, "UPDATE token_exchange_lease SET retry_at = 0").await;
    }
    grid.issuer.set_fault(Fault::None);
    assert_eq!(once(&grid).await, "20 released");
    expect_released(&fts, 20).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_not_the_one_asked_for_is_never_handed_over() {
    let (_folder, grid, fts) = grid(&[SIMPLE]).await;
    let faults = [
        (Fault::NarrowScope, "it lacks `storage."),
        (Fault::WidenScope, "it has more scopes"),
        (Fault::WrongAudience, "its audience is not `https://127.0.0.1:"),
    ];
    for (round, (fault, words)) in faults.into_iter().enumerate() {
        grid.issuer.set_fault(fault);
        expect_all_put_off(&grid, &fts, (1, round), words).await;
        assert_eq!(count(&fts, "t_token").await, 1, "the submission token alone");
        change(&fts, "UPDATE token_exchange_lease SET retry_at = 0").await;
    }
    grid.issuer.set_fault(Fault::None);
    assert_eq!(once(&grid).await, "10 released");
    expect_released(&fts, 10).await;
    assert_eq!(grid.issuer.token_calls().exchange, 2, "no false token was kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_fails_the_files_and_says_whose_it_is_but_a_refused_client_waits() {
    let (_folder, grid, fts) = grid(&[]).await;
    for (code, kind) in [("invalid_scope", "mc26.simple"), ("access_denied", "data26.production")] {
        submit(&grid, &[(kind, 10)]).await;
        grid.issuer.set_fault(Fault::Refuse(code));
        assert_eq!(once(&grid).await, "10 failed", "{code}");
        let failed = format!(
            "t_file f JOIN t_job j USING (job_id) WHERE f.file_metadata LIKE '%{kind}.%' \
             AND f.file_state = 'FAILED' AND f.finish_time IS NOT NULL AND f.reason LIKE '%SOURCE token: issuer \
             {}: %refused with {code}%' AND j.job_state = 'FAILED' AND j.job_finished IS NOT NULL",
            grid.issuer.name()
        );
        assert_eq!(count(&fts, &failed).await, 10, "{code}");
        assert_eq!(count(&fts, "token_exchange_lease").await, 0, "{code}");
    }
    submit(&grid, &[SEVERAL]).await;
    grid.issuer.set_fault(Fault::Refuse("invalid_client"));
    assert_eq!(once(&grid).await, "");
    assert_eq!(count(&fts, "token_exchange_lease WHERE message LIKE '%invalid_client%'").await, 5);
    assert_eq!(in_state(&fts, "TOKEN_PREP").await, 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_cancelled_while_it_waits_is_ended_and_costs_no_exchange() {
    let (_folder, grid, fts) = grid(&[SIMPLE]).await;
    let before = grid.issuer.token_calls();
    let cancel = "UPDATE t_job SET job_state = 'CANCELED', cancel_job = 'Y', reason = 'Job canceled by the user', \
                  job_finished = datetime('now') WHERE job_finished IS NULL";
    change(&fts, cancel).await;
    assert_eq!(once(&grid).await, "10 cancelled");
    let ended =
        "t_file WHERE file_state = 'CANCELED' AND finish_time IS NOT NULL AND reason LIKE '%by the user'";
    assert_eq!(count(&fts, ended).await, 10);
    assert_eq!(grid.issuer.token_calls(), before, "nothing was asked of the issuer");

    // Beside one that lives; and one cancelled while its tokens are fetched.
    submit(&grid, &[SEVERAL]).await;
    let several = "FROM t_job WHERE job_type = 'R'";
    change(&fts, &format!("{cancel} AND job_id IN (SELECT min(job_id) {several})")).await;
    grid.issuer.set_fault(Fault::Slow(Duration::from_secs(5)));
    let worker = exchange(&grid).spawn().unwrap();
    // The one that is cancelled already is ended at once.
    until_leased(&fts, 4).await;
    change(&fts, &format!("{cancel} AND job_id IN (SELECT max(job_id) {several})")).await;
    assert_eq!(report(&worker.wait_with_output().await.unwrap()), "6 released, 4 cancelled");
    assert_eq!((in_state(&fts, "CANCELED").await, in_state(&fts, "SUBMITTED").await), (14, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_without_token_fails_and_the_others_of_its_job_do_not() {
    let (_folder, grid, fts) = grid(&[SIMPLE]).await;
    // What FTS makes of empty token lists.
    let taken = "UPDATE t_file SET src_token_id = NULL, dst_token_id = NULL \
                 WHERE file_id = (SELECT min(file_id) FROM t_file)";
    change(&fts, taken).await;
    assert_eq!(once(&grid).await, "9 released, 1 failed");
    let failed = "t_file WHERE file_state = 'FAILED' AND src_token_id IS NULL \
                  AND reason LIKE '%SOURCE token: FTS accepted this file without a token%'";
    assert_eq!(count(&fts, failed).await, 1);
    assert_eq!(in_state(&fts, "SUBMITTED").await, 9);
    assert_eq!(count(&fts, "t_job WHERE job_state = 'SUBMITTED' AND job_finished IS NULL").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rows_of_a_job_with_several_sources_are_released_together() {
    let (_folder, grid, fts) = grid(&[SEVERAL]).await;
    assert_eq!(once(&grid).await, "10 released");
    let whole = "(SELECT job_id FROM t_file GROUP BY job_id HAVING sum(file_state = 'SUBMITTED') = 1 \
                 AND sum(file_state = 'NOT_USED') = 1 AND min(file_state = file_state_initial) = 1 \
                 AND count(DISTINCT src_token_id) = 2 AND count(DISTINCT dst_token_id) = 1)";
    assert_eq!(count(&fts, whole).await, 5);
    expect_released(&fts, 10).await;

    // The third of three tokens is not to be had now: then no row goes.
    submit(&grid, &[SEVERAL]).await;
    std::fs::remove_dir_all(grid.folder.join("exchange-tokens")).unwrap();
    grid.issuer.plan_fault(2, Fault::Status(503), Duration::from_secs(60));
    let mut worker = exchange(&grid);
    let worker = worker.env("TOKEN_EXCHANGE__WORKER__IN_FLIGHT", "1").output().await.unwrap();
    assert_eq!(report(&worker), "");
    assert_eq!((in_state(&fts, "TOKEN_PREP").await, in_state(&fts, "SUBMITTED").await), (10, 5));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_workers_release_each_file_once() {
    let all = ["mc26.simple", "mc26.two_sources", "data26.production", "data26.named_source"];
    let (_folder, grid, fts) = grid(&all.map(|kind| (kind, 1000))).await;
    grid.issuer.set_fault(Fault::Slow(Duration::from_secs(5)));
    let start = |cache: &str| {
        let mut command = exchange(&grid);
        let path = grid.folder.join(cache);
        command.env("TOKEN_EXCHANGE__CACHE__PATH", &path);
        command.env("TOKEN_EXCHANGE__CACHE__KEY_FILE", path.with_extension("key"));
        command.env("TOKEN_EXCHANGE__WORKER__BATCH", "3");
        command.spawn().unwrap()
    };
    // Half of the jobs is kept back until one has the others in hand and waits for its tokens; then another comes for them.
    let all = count(&fts, "t_job").await;
    let kept = "INSERT INTO token_exchange_lease (job_id, owner, lease_end, attempts, retry_at) \
                SELECT job_id, 'another', unixepoch() + 600, 0, 0 FROM t_job ORDER BY job_id LIMIT";
    change(&fts, &format!("{kept} {}", all / 2)).await;
    let first = start("first");
    until_leased(&fts, all - all / 2).await;
    // It has looked once more, and found nothing.
    tokio::time::sleep(Duration::from_secs(1)).await;
    change(&fts, "UPDATE token_exchange_lease SET lease_end = 0 WHERE owner = 'another'").await;
    let second = start("second");
    let (first, second) = tokio::join!(first.wait_with_output(), second.wait_with_output());
    let done = [first, second].map(|output| report(&output.unwrap()));
    let files = done.each_ref().map(|done| done.strip_suffix(" released").unwrap().parse::<u64>().unwrap());
    assert!(files.iter().sum::<u64>() == 560 && !files.contains(&0), "both had work: {done:?}");
    assert!(grid.issuer.token_calls().exchange <= 12, "{:?}", grid.issuer.token_calls());
    expect_released(&fts, 560).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_of_another_is_respected_until_it_ends_and_who_lost_a_lease_writes_nothing() {
    let (_folder, grid, fts) = grid(&[SEVERAL]).await;
    let lease = "INSERT INTO token_exchange_lease (job_id, owner, lease_end, attempts, retry_at) \
                 SELECT min(job_id), 'another', unixepoch() + 600, 0, 0 FROM t_job";
    change(&fts, lease).await;
    assert_eq!(once(&grid).await, "8 released");
    let theirs = "token_exchange_lease WHERE lease_end > 0 AND owner = 'another'";
    assert_eq!((in_state(&fts, "TOKEN_PREP").await, count(&fts, theirs).await), (2, 1));
    change(&fts, "UPDATE token_exchange_lease SET lease_end = unixepoch() - 1").await;
    assert_eq!(once(&grid).await, "2 released");
    expect_released(&fts, 10).await;

    // A worker so slow that another has taken one of its jobs.
    submit(&grid, &[SEVERAL]).await;
    std::fs::remove_dir_all(grid.folder.join("exchange-tokens")).unwrap();
    grid.issuer.set_fault(Fault::Slow(Duration::from_secs(5)));
    let asked = grid.issuer.token_calls().exchange;
    let worker = exchange(&grid).env("TOKEN_EXCHANGE__WORKER__IN_FLIGHT", "1").spawn().unwrap();
    until_leased(&fts, 5).await;
    // It has its jobs in hand, and waits for two more tokens.
    tokio::time::timeout(Duration::from_secs(60), async {
        while grid.issuer.token_calls().exchange == asked {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .unwrap();
    let taken = "UPDATE token_exchange_lease SET owner = 'another' WHERE job_id = \
                 (SELECT min(job_id) FROM token_exchange_lease)";
    change(&fts, taken).await;
    assert_eq!(report(&worker.wait_with_output().await.unwrap()), "8 released, 1 lost");
    assert_eq!((in_state(&fts, "TOKEN_PREP").await, count(&fts, theirs).await), (2, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kept_token_is_handed_over_as_the_configuration_has_it_by_now() {
    let few = (SIMPLE.0, 3);
    let (_folder, grid, fts) = grid(&[few]).await;
    for (round, managed) in ["false", "true", "false"].into_iter().enumerate() {
        if round > 0 {
            submit(&grid, &[few]).await;
        }
        let output = exchange(&grid).env("TOKEN_EXCHANGE__REFRESH__MANAGED", managed).output().await.unwrap();
        assert_eq!(report(&output), "3 released", "{managed}");
        let as_said =
            format!("t_token JOIN token_exchange_token USING (token_id) WHERE unmanaged <> {managed}");
        assert_eq!(count(&fts, &as_said).await, 2, "{managed}");
        assert_eq!(grid.issuer.token_calls().exchange, 2, "the tokens are the same");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_table_and_a_living_fts_token_are_named() {
    let (_folder, grid, fts) = grid(&[SIMPLE]).await;
    let beat = "INSERT INTO t_hosts (hostname, beat, service_name) \
                VALUES ('fts-daemon-7.example', datetime('now', '-5 seconds'), 'fts_token')";
    change(&fts, beat).await;
    expect_refusal(&exchange(&grid).output().await.unwrap(), 1, "fts-daemon-7.example");
    // One that has been dead for an hour is none.
    change(&fts, "UPDATE t_hosts SET beat = datetime('now', '-1 hour')").await;
    change(&fts, "DROP TABLE token_exchange_lease").await;
    expect_refusal(&exchange(&grid).output().await.unwrap(), 2, "init-db");
    assert_eq!((in_state(&fts, "TOKEN_PREP").await, grid.issuer.token_calls().exchange), (10, 0));
    assert!(grid.token_exchange(&["init-db"]).output().await.unwrap().status.success());
    assert_eq!(once(&grid).await, "10 released");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_token_can_reach_fails_and_the_issuer_is_not_asked_for_it() {
    for (key, side, rse) in [("area", "DESTINATION", "DISK-B"), ("base_path", "SOURCE", "DISK-A")] {
        let (_folder, grid, fts) = grid(&[SIMPLE]).await;
        edit(&grid, |text| {
            let (before, entry) = text.split_once(rse).unwrap();
            let moved = entry.replacen(&format!("{key} = \""), &format!("{key} = \"/elsewhere"), 1);
            format!("{before}{rse}{moved}")
        });
        assert_eq!(once(&grid).await, "10 failed", "{key}");
        let failed = format!(
            "t_file WHERE file_state = 'FAILED' \
             AND reason LIKE '%{side} token: its path is not below the endpoint''s `{key}`%'"
        );
        assert_eq!(count(&fts, &failed).await, 10, "{key}");
        let calls = grid.issuer.token_calls();
        assert!(calls.exchange <= 1 && calls.refused == 0, "the other side at most: {calls:?}");
        assert_eq!(count(&fts, "t_job WHERE job_state = 'FAILED' AND job_finished IS NOT NULL").await, 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_restart_tokens_come_from_the_cache() {
    let (_folder, grid, fts) = grid(&[SIMPLE, SEVERAL]).await;
    assert_eq!(once(&grid).await, "20 released");
    let calls = grid.issuer.token_calls();
    assert_eq!(calls.exchange, 4, "DISK-A, DISK-B, DISK-C and DISK-D");
    assert_eq!(grid.rucio.requeue(u32::MAX).await.unwrap(), 15);
    submit(&grid, &[]).await;
    assert_eq!(once(&grid).await, "20 released");
    assert_eq!(grid.issuer.token_calls(), calls, "no call was made");
    expect_released(&fts, 40).await;
}

/// A grid in whose FTS so many files of each kind wait in TOKEN_PREP, and its FTS's database.
async fn grid(few: &[(&str, usize)]) -> (tempfile::TempDir, Grid, SqlitePool) {
    let folder = tempfile::Builder::new().prefix("exchange").tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let grid = Grid::start(GridSettings::new(folder.path().join("grid"))).await.unwrap();
    grid.fts.set_scheduler(false);
    change(grid.rucio.pool(), "UPDATE requests SET state = 'W'").await;
    submit(&grid, few).await;
    // In trouble, not for half a minute.
    edit(&grid, |text| text.replace("[[issuer]]", "[[issuer]]\nretry_total_s = 1"));
    let options =
        SqliteConnectOptions::new().filename(grid.fts.database()).busy_timeout(Duration::from_secs(60));
    let fts = SqlitePool::connect_with(options).await.unwrap();
    (folder, grid, fts)
}

/// Queues so many more of each kind, and submits all that is queued.
async fn submit(grid: &Grid, few: &[(&str, usize)]) {
    for (kind, count) in few {
        let some = format!(
            "SELECT id FROM requests WHERE state = 'W' AND name LIKE '{kind}.%' ORDER BY name LIMIT {count}"
        );
        change(grid.rucio.pool(), &format!("UPDATE requests SET state = 'Q' WHERE id IN ({some})")).await;
    }
    let done = grid.conveyor(&["--run-once"]).output().await.unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

fn exchange(grid: &Grid) -> Command {
    let mut command = grid.token_exchange(&["--run-once", "--json"]);
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    command
}

async fn once(grid: &Grid) -> String {
    report(&exchange(grid).output().await.unwrap())
}

/// What a worker says it did; empty for nothing.
fn report(output: &Output) -> String {
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !log.contains("ERROR"), "{log}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let done = ["released", "failed", "cancelled", "lost"].into_iter().filter(|what| report[what] != 0);
    done.map(|what| format!("{} {what}", report[what])).collect::<Vec<_>>().join(", ")
}

fn edit(grid: &Grid, change: impl FnOnce(&str) -> String) {
    let before = std::fs::read_to_string(grid.exchange_config()).unwrap();
    let after = change(&before);
    assert_ne!(before, after);
    std::fs::write(grid.exchange_config(), after).unwrap();
}

/// Waits until a worker of ours has leased so many jobs.
async fn until_leased(fts: &SqlitePool, jobs: i64) {
    let end = Instant::now() + Duration::from_secs(60);
    let ours = "token_exchange_lease WHERE lease_end > 0 AND owner <> 'another'";
    while count(fts, ours).await < jobs {
        assert!(Instant::now() < end, "nothing was leased");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn change(pool: &SqlitePool, sql: &str) {
    sqlx::query(AssertSqlSafe(sql)).execute(pool).await.unwrap();
}

async fn count(pool: &SqlitePool, what: &str) -> i64 {
    let sql = format!("SELECT count(*) FROM {what}");
    sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(pool).await.unwrap()
}

async fn in_state(fts: &SqlitePool, state: &str) -> i64 {
    count(fts, &format!("t_file WHERE file_state = '{state}'")).await
}

fn expect_refusal(output: &Output, code: i32, named: &str) {
    let log = String::from_utf8_lossy(&output.stderr);
    let line = log.lines().last().unwrap();
    assert_eq!(output.status.code(), Some(code), "{log}");
    assert!(line.starts_with("token-exchange: ") && line.contains(named), "{line}");
}

/// A worker leaves all files in TOKEN_PREP, and each job's lease row says why, and when it is looked at again.
async fn expect_all_put_off(grid: &Grid, fts: &SqlitePool, (jobs, before): (i64, usize), words: &str) {
    let now = SystemClock.now().0;
    assert_eq!(once(grid).await, "");
    assert_eq!(count(fts, "t_file WHERE file_state <> 'TOKEN_PREP'").await, 0);
    let put_off = format!(
        "token_exchange_lease WHERE message LIKE '%issuer {}: %{words}%' AND lease_end = 0 \
         AND attempts = {before} + 1 AND retry_at >= {now} + 2",
        grid.issuer.name()
    );
    let messages = sqlx::query_scalar("SELECT message FROM token_exchange_lease").fetch_all(fts);
    let messages: Vec<Option<String>> = messages.await.unwrap();
    assert_eq!(count(fts, &put_off).await, jobs, "{messages:?}");
}

/// Every file has the state that FTS had planned, a source token for reading and a destination token for writing, each for
/// its own endpoint; no lease is left.
async fn expect_released(fts: &SqlitePool, files: i64) {
    let sql = "t_file f JOIN t_token s ON s.token_id = f.src_token_id \
               JOIN t_token d ON d.token_id = f.dst_token_id WHERE f.file_state = f.file_state_initial \
               AND f.source_surl LIKE replace(s.audience, 'https:', 'davs:') || '/%' AND s.scope LIKE 'storage.read:/%' \
               AND f.dest_surl LIKE replace(d.audience, 'https:', 'davs:') || '/%' AND d.scope LIKE '%storage.modify:/%' \
               AND s.unmanaged = 1 AND d.unmanaged = 1 AND s.scope || ' ' || d.scope || ' ' NOT LIKE '%:/ %'";
    assert_eq!((count(fts, sql).await, count(fts, "t_file").await), (files, files));
    assert_eq!(count(fts, "token_exchange_lease").await, 0);
}
