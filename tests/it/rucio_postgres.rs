//! `conveyor` on Rucio's PostgreSQL: the same as on SQLite, and beside others who work on the same queue.
//!
//! Needs `RUCIO_BIN`, a folder with Rucio's programs, and `RUCIO_POSTGRES`, the URL of a server where databases may be made;
//! `./tests/run` sees to both.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::Value;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{Row as _, SqlitePool};
use testbed::fts::SubmitFault;
use testbed::grid::{Grid, terminate};
use testbed::job::{Trouble, run_to_end};
use tokio::process::Command;

#[path = "golden/compare.rs"]
mod compare;
#[path = "interop/needed.rs"]
mod needed;
#[path = "rucio/programs.rs"]
mod programs;
#[path = "rucio/server.rs"]
mod server;

use server::Server;

#[tokio::test(flavor = "multi_thread")]
async fn rucios_poller_and_finisher_bring_every_rule_to_ok() {
    let Some(server) = Server::needed() else { return };
    let (_folder, _database, grid) = server.grid().await;
    let outcome = run_to_end(&grid, Trouble::default()).await.unwrap();
    assert!(outcome.is_whole() && outcome.submitted == 460, "{outcome:?}");
    expect_all_once(&grid).await;
    let submitted =
        programs::lines(&grid, "SELECT id, external_id FROM requests WHERE state = 'S' ORDER BY id LIMIT 1")
            .await;
    let (request, job) = submitted[0].split_once(' ').unwrap();
    expect_traced(&grid, request, job, false).await;
    programs::expect_closed(&grid, &server.programs).await;
    expect_traced(&grid, request, job, true).await;
}

/// `conveyor trace` finds the request by its id and by its job's, before Rucio has archived it and after.
async fn expect_traced(grid: &Grid, request: &str, job: &str, archived: bool) {
    for id in [request, job] {
        let output = conveyor(grid, &["trace", id, "--json"]).output().await.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let traced: Value = serde_json::from_slice(&output.stdout).unwrap();
        let requests = traced["requests"].as_array().unwrap();
        let plain = request.replace('-', "");
        let found = requests.iter().find(|found| found["request"] == *plain);
        let found = found.unwrap_or_else(|| panic!("{id}: {traced}"));
        assert_eq!((&found["job"], &found["archived"]), (&job.into(), &archived.into()), "{found}");
        assert!(found["submitted_at"].is_string() && found["destination"].is_string(), "{found}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_becomes_of_each_request_is_what_rucios_own_submitter_made_of_it() {
    let Some(server) = Server::needed() else { return };
    for case in compare::cases() {
        let folder = tempfile::Builder::new().prefix("pg").tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let database = server.database(folder.path(), &case.database, None).await;
        let compared = case.compare(folder.path(), Some(database.url.clone())).await.unwrap();
        let by_design = compared.by_design();
        let (total, differing) = (compared.requests, compared.failures);
        let rows = compared.rows;
        needed::say(&format!(
            "{} on PostgreSQL: {}/{total}, {rows} rows",
            case.name,
            total - differing.len()
        ));
        by_design.iter().for_each(|line| needed::say(line));
        assert!(total > 0 && differing.is_empty(), "{differing:#?}");
        assert!(compared.row_failures.is_empty(), "{:#?}", compared.row_failures);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_are_cut_lose_nothing_and_double_nothing() {
    let Some(server) = Server::needed() else { return };
    let (_folder, database, grid) = server.grid().await;
    grid.fts.set_submit_fault(SubmitFault::Slow(Duration::from_millis(50)));
    let mut command = conveyor(&grid, &[]);
    command.env("CONVEYOR__SUBMIT__BATCH", "100");
    let daemon = grid.spawn(command, "conveyor.log").unwrap();
    let log = grid.folder.join("conveyor.log");
    let mut cuts = 0;
    until("everything is submitted", async || {
        // In the middle of whatever it does: each pass gets somewhat further.
        // What meets idle connections only is mended without a word.
        let said = std::fs::read_to_string(&log).unwrap_or_default().contains("database cannot be used");
        if (cuts < 6 || !said) && submitted(&grid).await > cuts.min(10) * 40 && database.cut(&grid).await > 0
        {
            cuts += 1;
        }
        submitted(&grid).await == 460
    })
    .await;
    terminate(daemon).await.unwrap();
    assert!(cuts >= 3, "only cut {cuts} times");
    let log = std::fs::read_to_string(log).unwrap();
    assert!(log.contains("database cannot be used"), "{log}");
    expect_all_once(&grid).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_conveyors_and_rucios_own_submitter_send_each_request_once() {
    let Some(server) = Server::needed() else { return };
    let (_folder, _database, grid) = server.grid().await;
    let start = |cache: &str, files: &str| {
        let mut command = conveyor(&grid, &["--run-once", "--json"]);
        let path = grid.folder.join(cache);
        command
            .env("CONVEYOR__CACHE__PATH", &path)
            .env("CONVEYOR__CACHE__KEY_FILE", path.with_extension("key"))
            .env("CONVEYOR__SUBMIT__BATCH", "20")
            .env("CONVEYOR__SUBMIT__FILES_PER_JOB", files);
        command
    };
    grid.fts.set_submit_fault(SubmitFault::Slow(Duration::from_millis(20)));
    let (config, submitter) = (programs::configure(&grid), server.programs.join("rucio-conveyor-submitter"));
    // One file a job, as is Rucio's default: with more it drops a whole group when it loses one of it, and leaves the others in G.
    let arguments = ["--run-once", "--bulk", "200", "--group-bulk", "1"];
    let theirs = programs::run(&grid, &submitter, &config, &arguments);
    let ours = async {
        until("Rucio's submitter is in the middle of its work", async || submitted(&grid).await > 5).await;
        // Each would make other jobs of the same requests.
        let (mut first, mut second) = (start("first", "5"), start("second", "7"));
        grid.fts.set_submit_fault(SubmitFault::Slow(Duration::from_secs(2)));
        let both = async {
            until("both work", async || {
                ["first", "second"].iter().all(|name| grid.folder.join(name).exists())
            })
            .await;
            grid.fts.set_submit_fault(SubmitFault::Slow(Duration::from_millis(20)));
        };
        let (first, second, ()) = tokio::join!(first.output(), second.output(), both);
        (first, second)
    };
    let (said, (first, second)) = tokio::join!(theirs, ours);
    let mut sent = Vec::new();
    for output in [first, second] {
        let output = output.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(report["recovered"], 0, "neither takes the other's claims for left behind");
        sent.push(report["submitted"].as_u64().unwrap());
    }
    let theirs = "SELECT count(*) FROM requests WHERE state = 'S' AND last_processed_by IS NULL";
    sent.push(programs::lines(&grid, theirs).await[0].parse().unwrap());
    assert!(sent.iter().all(|sent| *sent > 0), "all three had work: {sent:?}");
    assert!(said.contains("not in queued state"), "they were after the same requests");
    expect_all_once(&grid).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_one_line_and_the_password_is_in_no_log() {
    let Some(server) = Server::needed() else { return };
    let (_folder, database, grid) = server.grid().await;
    let password = database.password();
    let run = async |variables: &[(&str, &str)]| {
        let mut command = conveyor(&grid, &["--run-once"]);
        command.env("CONVEYOR__LOG__LEVEL", "trace").envs(variables.iter().copied());
        let output = command.output().await.unwrap();
        let log = String::from_utf8(output.stderr).unwrap() + &String::from_utf8(output.stdout).unwrap();
        assert!(password.is_none_or(|password| !log.contains(password)), "the password is in the log");
        (output.status.code(), log.trim_end().lines().last().unwrap_or_default().to_owned())
    };
    grid.rucio.run("ALTER TABLE sources RENAME COLUMN ranking TO rank").await.unwrap();
    let (code, line) = run(&[]).await;
    assert!(code == Some(2) && line.contains("lacks column `sources.ranking`"), "{code:?} {line}");
    grid.rucio.run("ALTER TABLE sources RENAME COLUMN rank TO ranking").await.unwrap();

    let nobody = "postgresql://nobody:canary@127.0.0.1:1/rucio";
    let (code, line) = run(&[("CONVEYOR__RUCIO__DATABASE", nobody)]).await;
    assert!(
        code == Some(1) && line.contains("127.0.0.1:1/rucio") && !line.contains("canary"),
        "{code:?} {line}"
    );
    let elsewhere = format!("{}_not", database.url);
    let (code, line) = run(&[("CONVEYOR__RUCIO__DATABASE", &elsewhere)]).await;
    assert!(code == Some(2) && line.contains("does not exist"), "{code:?} {line}");

    let (code, line) = run(&[]).await;
    assert_eq!(code, Some(0), "{line}");
    expect_all_once(&grid).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tables_may_live_in_a_schema() {
    let Some(server) = Server::needed() else { return };
    let (_folder, _database, grid) = server.grid_in(Some("prod")).await;
    let run = async |schema: &str| {
        let mut command = conveyor(&grid, &["--run-once"]);
        command.env("CONVEYOR__RUCIO__SCHEMA", schema).output().await.unwrap()
    };
    let public = run("public").await;
    let said = String::from_utf8_lossy(&public.stderr).into_owned();
    assert!(
        public.status.code() == Some(2)
            && said.contains("lacks table `requests` (`requests` is in schema `prod`)"),
        "{said}"
    );
    let prod = run("prod").await;
    assert!(prod.status.success(), "{}", String::from_utf8_lossy(&prod.stderr));
    expect_all_once(&grid).await;
}

fn conveyor(grid: &Grid, arguments: &[&str]) -> Command {
    let mut command = grid.conveyor(arguments);
    command.env("CONVEYOR__SUBMIT__FILES_PER_JOB", "5").env("CONVEYOR__SUBMIT__SLEEP_S", "1");
    command
}

async fn submitted(grid: &Grid) -> usize {
    let states = grid.rucio.states().await.unwrap();
    states.get("S").map_or(0, |count| usize::try_from(*count).unwrap())
}

async fn until(what: &str, mut done: impl AsyncFnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(120);
    while !done().await {
        assert!(Instant::now() < end, "not within two minutes: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Each of the 460 stands in one job of FTS, Rucio knows it by that job's id, and one message tells of it; FTS has nothing else.
async fn expect_all_once(grid: &Grid) {
    let options = SqliteConnectOptions::new().filename(grid.fts.database());
    let fts = SqlitePool::connect_with(options).await.unwrap();
    let rows = sqlx::query(
        "SELECT json_extract(file_metadata, '$.request_id'), group_concat(DISTINCT job_id), count(DISTINCT dest_surl) \
         FROM t_file GROUP BY 1",
    );
    let in_fts: BTreeMap<String, String> =
        rows.fetch_all(&fts).await.unwrap().iter().map(|row| (row.get(0), row.get(1))).collect();
    let mut in_rucio = BTreeMap::new();
    for line in programs::lines(grid, "SELECT id, external_id FROM requests WHERE state = 'S'").await {
        let (id, job) = line.split_once(' ').unwrap();
        in_rucio.insert(id.replace('-', ""), job.to_owned());
    }
    assert_eq!(in_rucio.len(), 460);
    assert_eq!(in_fts, in_rucio);
    let mut told = BTreeMap::new();
    for line in
        programs::lines(grid, "SELECT payload FROM messages WHERE event_type = 'transfer-submitted'").await
    {
        let payload: Value = serde_json::from_str(&line).unwrap();
        let text = |key: &str| payload[key].as_str().unwrap().to_owned();
        assert!(told.insert(text("request-id"), text("external-id")).is_none(), "told twice: {payload}");
    }
    assert_eq!(told, in_rucio);
    let open = "SELECT count(*) FROM requests WHERE state IN ('G', 'Q') AND external_id IS NOT NULL";
    assert_eq!(programs::lines(grid, open).await, ["0"], "no claim is open");
}
