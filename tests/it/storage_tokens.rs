//! Jobs that carry a token for each storage, as Rucio's own submitter sends them: managed and unmanaged, at an FTS of 3.13.4 and one
//! that knows `unmanaged_tokens`; and transfers that must not go by token.
//!
//! One test needs `RUCIO_BIN`, a folder with Rucio's programs; `./tests/run` makes one.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::{Duration, Instant};

use serde_json::Value;
use sqlx::SqlitePool;
use sqlx::sqlite::SqliteConnectOptions;
use testbed::fts::RestSettings;
use testbed::grid::{Grid, GridSettings};
use testbed::job::{Trouble, run_to_end};
use token_core::{AccessToken, Claims};

#[path = "interop/needed.rs"]
mod needed;
#[path = "rucio/programs.rs"]
#[expect(dead_code, reason = "nothing is closed here")]
mod programs;

/// The storages of the grid take their own URL for an audience, and the same tables serve one host with many ports.
const TABLE: &str = "[[rse]]\naudience = \"{url}\"\n";

#[tokio::test(flavor = "multi_thread")]
async fn managed_tokens_are_exchanged_by_the_worker_and_every_file_arrives() {
    let (_folder, grid) = grid("send = \"managed\"", TABLE, RestSettings::default()).await;
    let outcome = run_to_end(&grid, Trouble::default()).await.unwrap();
    assert!(outcome.is_whole() && outcome.submitted == 460, "{outcome:?}");
    assert_eq!(outcome.storage_refusals, 0);
    let (jobs, ends) = posted(&grid);
    assert!(jobs.iter().all(|job| job["params"].get("unmanaged_tokens").is_none()));
    let scopes = |wanted: &str| ends.values().filter(|said| said.ends_with(wanted)).count();
    assert_eq!(scopes(": storage.read:/rucio offline_access"), 3, "sources: {ends:?}");
    // The keys of a file are those that a real FTS was recorded to take from Rucio.
    let recorded = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/contract/fts/rucio-submit-bulk.json");
    let recorded: Value = serde_json::from_slice(&std::fs::read(recorded).unwrap()).unwrap();
    let keys = |file: &Value| file.as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
    for file in jobs.iter().flat_map(|job| job["files"].as_array().unwrap()) {
        assert_eq!(keys(file), keys(&recorded["request"]["body"]["files"][0]));
        assert_eq!(keys(&file["metadata"]), keys(&recorded["request"]["body"]["files"][0]["metadata"]));
    }
    let calls = grid.issuer.token_calls();
    let distinct = ends.values().collect::<BTreeSet<_>>().len() as u64;
    assert_eq!(calls.client_credentials, distinct + 1, "one a distinct token, and one for FTS");
    assert_eq!(calls.exchange, distinct, "each is exchanged once");
}

#[tokio::test(flavor = "multi_thread")]
async fn unmanaged_tokens_are_used_as_they_are() {
    let rest = RestSettings { unmanaged_tokens: Some(true), ..RestSettings::default() };
    let (_folder, grid) = grid("send = \"unmanaged\"", TABLE, rest).await;
    let outcome = run_to_end(&grid, Trouble::default()).await.unwrap();
    assert!(outcome.is_whole() && outcome.submitted == 460, "{outcome:?}");
    assert_eq!((outcome.storage_refusals, grid.issuer.token_calls().exchange), (0, 0));
    let (jobs, ends) = posted(&grid);
    assert!(jobs.iter().all(|job| job["params"]["unmanaged_tokens"] == true));
    assert!(ends.values().all(|said| !said.contains("offline_access")), "{ends:?}");
    let fts = fts(&grid).await;
    let managed: i64 =
        sqlx::query_scalar("SELECT count(*) FROM t_token WHERE unmanaged = 0").fetch_one(&fts).await.unwrap();
    assert_eq!(managed, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_any_worker_an_older_fts_takes_them_too() {
    let rest = RestSettings { non_managed_tokens: true, ..RestSettings::default() };
    let (_folder, grid) = grid("send = \"unmanaged\"", TABLE, rest).await;
    let mut command = grid.conveyor(&["--run-once", "--json"]);
    let output = command.env("CONVEYOR__LOG__LEVEL", "trace").output().await.unwrap();
    let report = report(&output);
    assert_eq!(report["authorised"]["unmanaged storage tokens"], 460, "{report}");
    let said = String::from_utf8(output.stderr).unwrap();
    let lines: Vec<_> = said.lines().filter(|line| line.contains(" authorised token_for_fts=")).collect();
    assert!(lines.len() == 1 && lines[0].contains("unmanaged_storage_tokens=460"), "{lines:?}");
    until("every file is there", async || grid.fts.counts().await.unwrap().files_in("FINISHED") >= 460).await;

    // No token stands in the log, in the report, in Rucio's database or in the cache.
    let tokens: Vec<String> =
        sqlx::query_scalar("SELECT access_token FROM t_token").fetch_all(&fts(&grid).await).await.unwrap();
    assert!(tokens.len() == 6, "{}", tokens.len());
    let mut places = vec![("log".to_owned(), said.into_bytes()), ("report".to_owned(), output.stdout)];
    let cache = files_below(&grid.folder.join("conveyor-tokens"));
    for path in cache.into_iter().chain([grid.rucio.path().to_owned(), grid.conveyor_config()]) {
        places.push((path.display().to_string(), std::fs::read(&path).unwrap()));
    }
    for signature in tokens.iter().map(|token| token.rsplit('.').next().unwrap().as_bytes()) {
        for (place, bytes) in &places {
            assert!(!bytes.windows(signature.len()).any(|part| part == signature), "a token is in: {place}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_asked_for_as_rucios_own_submitter_asks() {
    let Some(rucio) = needed::needed("RUCIO_BIN", "Rucio") else { return };
    // No table: Rucio's own audience, which the storages of the grid do not take; nothing is transferred here.
    let (_folder, grid) = grid("send = \"managed\"", "", RestSettings::default()).await;
    grid.fts.set_scheduler(false);
    // One without a base path, and one whose base path is no part of its prefix.
    for (base, rse) in [("", "DISK-D"), ("/else", "DISK-C")] {
        let row = format!("key = 'oidc_base_path' AND rse_id = (SELECT id FROM rses WHERE rse = '{rse}')");
        grid.rucio.run(&format!("UPDATE rse_attr_map SET value = '{base}' WHERE {row}")).await.unwrap();
    }
    let before = grid.folder.join("before.sqlite");
    grid.rucio.run("PRAGMA wal_checkpoint(TRUNCATE)").await.unwrap();
    std::fs::copy(grid.rucio.path(), &before).unwrap();
    assert_eq!(report(&grid.conveyor(&["--run-once", "--json"]).output().await.unwrap())["submitted"], 460);
    let ours = by_request(&grid, 0);
    let recorded = grid.fts.recorded().len();
    std::fs::copy(&before, grid.rucio.path()).unwrap();
    let config = programs::configure(&grid);
    let submitter = rucio.join("rucio-conveyor-submitter");
    programs::run(&grid, &submitter, &config, &["--run-once", "--bulk", "1000", "--group-bulk", "100"]).await;
    let theirs = by_request(&grid, recorded);
    assert_eq!(theirs.len(), 460);
    let differing = theirs.iter().find(|(id, tokens)| ours.get(*id) != Some(tokens));
    assert!(differing.is_none(), "Rucio {differing:?}, ours {:?}", differing.map(|(id, _)| ours.get(id)));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_fts_that_takes_no_unmanaged_tokens_fails_no_request() {
    let rest = RestSettings { unmanaged_tokens: Some(false), ..RestSettings::default() };
    let (_folder, grid) = grid("send = \"unmanaged\"", TABLE, rest).await;
    let output = grid.conveyor(&["--run-once", "--json"]).output().await.unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.lines().last().unwrap().contains("Unmanaged tokens are not allowed!"), "{said}");
    let states = grid.rucio.states().await.unwrap();
    assert_eq!((states.get("A"), states.get("S"), states.get("G")), (None, None, None), "{states:?}");
    assert_eq!(grid.fts.counts().await.unwrap().jobs, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issuer_that_fts_does_not_know_fails_no_request() {
    let (_folder, grid) = grid("send = \"managed\"", TABLE, RestSettings::default()).await;
    let fts = fts(&grid).await;
    sqlx::query("PRAGMA foreign_keys = OFF").execute(&fts).await.unwrap();
    sqlx::query("UPDATE t_token_provider SET issuer = 'x' || issuer").execute(&fts).await.unwrap();
    let output = grid.conveyor(&["--run-once"]).output().await.unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.lines().last().unwrap().contains("unknown issuer"), "{said}");
    // Once more with tokens got anew, by each of the eight that were under way; then FTS waits.
    let tries = grid.fts.submissions();
    assert!((2..=16).contains(&tries), "{tries} submissions");
    assert_eq!(grid.rucio.states().await.unwrap().get("A"), None);
    sqlx::query("UPDATE t_token_provider SET issuer = substr(issuer, 2)").execute(&fts).await.unwrap();
    assert_eq!(report(&grid.conveyor(&["--run-once", "--json"]).output().await.unwrap())["submitted"], 460);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_without_its_token_waits_and_the_others_go() {
    let table = format!("[[rse]]\nname = \"DISK-D\"\npath = \"/a/../../x\"\n{TABLE}");
    let (_folder, grid) = grid("send = \"managed\"", &table, RestSettings::default()).await;
    let output = grid.conveyor(&["--run-once", "--json"]).output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let report = report(&output);
    assert_eq!((output.status.code(), &report["submitted"]), (Some(1), &360.into()), "{report}");
    assert!(said.lines().last().unwrap().starts_with("conveyor: 100 requests wait for a token"), "{said}");
    assert_eq!(report["left"]["no token for a storage now"], 100, "{report}");
    assert!(said.contains("RSE DISK-D: `/a/../../x` cannot stand in a scope"), "{said}");
    let untouched = "SELECT count(*) FROM requests WHERE name LIKE 'mc26.two_sources%' AND state = 'Q' AND external_id IS NULL";
    assert_eq!(programs::lines(&grid, untouched).await, ["100"]);
    let (jobs, _) = posted(&grid);
    assert!(!jobs.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_that_end_too_soon_are_not_sent() {
    let (_folder, grid) =
        grid("send = \"unmanaged\"\nmin_life_s = 7200", TABLE, RestSettings::default()).await;
    let output = grid.conveyor(&["--run-once", "--json"]).output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("live 3600 s, less than storage_tokens.min_life_s = 7200"), "{said}");
    assert_eq!(report(&output)["left"]["no token for a storage now"], 460);
    assert_eq!(grid.fts.submissions(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_must_not_go_by_token_is_left_or_failed_and_the_table_may_say_otherwise() {
    let (_folder, grid) = grid("", "", RestSettings::default()).await;
    grid.fts.set_scheduler(false);
    let off = "UPDATE rse_attr_map SET value = 'false' WHERE key = 'oidc_support' AND rse_id IN (SELECT id FROM rses WHERE rse = 'DISK-A')";
    grid.rucio.run(off).await.unwrap();
    let run = async |more: &str| {
        let text = std::fs::read_to_string(grid.conveyor_config()).unwrap();
        std::fs::write(grid.conveyor_config(), format!("{text}{more}")).unwrap();
        let report = report(&grid.conveyor(&["--run-once", "--json"]).output().await.unwrap());
        std::fs::write(grid.conveyor_config(), text).unwrap();
        report
    };
    let sum = |report: &Value, key: &str| {
        let of =
            report[key].as_object().unwrap().iter().filter(|(reason, _)| reason.starts_with("not by token"));
        of.map(|(_, count)| count.as_u64().unwrap()).sum::<u64>()
    };
    // 200 come from DISK-A alone, 100 from DISK-A or DISK-C together.
    let first = run("").await;
    assert_eq!(
        (sum(&first, "left"), sum(&first, "ended"), &first["submitted"]),
        (300, 0, &160.into()),
        "{first}"
    );
    let written = "SELECT count(*) FROM requests WHERE state = 'Q' AND name LIKE 'mc26.%' AND last_processed_by IS NULL \
                   AND external_host IS NULL AND err_msg IS NULL";
    assert_eq!(programs::lines(&grid, written).await, ["300"], "left as they were");
    // The table speaks for 200 of them.
    let second = run(
        "[[rse]]\nname = \"DISK-A\"\noidc_support = true\n[[rse]]\nname = \"DISK-D\"\noidc_support = false\n",
    )
    .await;
    assert_eq!((sum(&second, "left"), &second["submitted"]), (100, &200.into()), "{second}");
    let third = run("[submit]\nwithout_token = \"fail\"\n").await;
    assert_eq!((sum(&third, "left"), sum(&third, "ended")), (0, 100), "{third}");
    let ended = "SELECT count(*) FROM requests WHERE state = 'M' AND err_msg LIKE 'not by token:%'";
    assert_eq!(programs::lines(&grid, ended).await, ["100"]);
}

/// A grid whose `conveyor` has these keys in [storage_tokens], and this at its end; its client may ask for `offline_access`.
async fn grid(storage_tokens: &str, more: &str, rest: RestSettings) -> (tempfile::TempDir, Grid) {
    let folder = tempfile::Builder::new().prefix("tokens").tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let settings = GridSettings { rest, ..GridSettings::new(folder.path().join("grid")) };
    let grid = Grid::start(settings).await.unwrap();
    grid.fts.record();
    let text = std::fs::read_to_string(grid.conveyor_config()).unwrap();
    let text = text.replace("rucio-conveyor", "rucio-submitter");
    std::fs::write(grid.conveyor_config(), format!("{text}[storage_tokens]\n{storage_tokens}\n{more}"))
        .unwrap();
    (folder, grid)
}

fn report(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)))
}

/// What was posted, and the audience and scope of every token by the storage that it is for; one token a source and destination.
fn posted(grid: &Grid) -> (Vec<Value>, BTreeMap<(String, &'static str), String>) {
    let jobs = grid.fts.recorded();
    let mut ends = BTreeMap::new();
    for file in jobs.iter().flat_map(|job| job["files"].as_array().unwrap()) {
        for (urls, tokens) in [("sources", "source_tokens"), ("destinations", "destination_tokens")] {
            let (urls_of, tokens) = (file[urls].as_array().unwrap(), file[tokens].as_array().unwrap());
            assert_eq!(urls_of.len(), tokens.len(), "{file}");
            for (url, token) in urls_of.iter().zip(tokens) {
                let host = url.as_str().unwrap().split('/').nth(2).unwrap().to_owned();
                let said = claims(token);
                assert_eq!(*ends.entry((host, urls)).or_insert_with(|| said.clone()), said);
            }
        }
    }
    (jobs, ends)
}

/// Audience and scopes, sorted.
fn claims(token: &Value) -> String {
    let claims = Claims::peek(&AccessToken::new(token.as_str().unwrap()).unwrap()).unwrap();
    let aud: Vec<&str> = claims.aud.iter().map(AsRef::as_ref).collect();
    format!("{}: {}", aud.join(" "), claims.scopes().unwrap())
}

/// What the tokens of each request are, of the jobs posted after the first `skip`.
fn by_request(grid: &Grid, skip: usize) -> BTreeMap<String, Vec<(String, String)>> {
    let jobs = grid.fts.recorded();
    let files = jobs[skip..].iter().flat_map(|job| job["files"].as_array().unwrap());
    let of = |file: &Value| {
        let mut ends = Vec::new();
        for (urls, tokens) in [("sources", "source_tokens"), ("destinations", "destination_tokens")] {
            let pairs = file[urls].as_array().unwrap().iter().zip(file[tokens].as_array().unwrap());
            ends.extend(pairs.map(|(url, token)| (url.as_str().unwrap().to_owned(), claims(token))));
        }
        // Rucio's order of equal sources is random.
        ends.sort();
        (file["metadata"]["request_id"].as_str().unwrap().to_owned(), ends)
    };
    files.map(of).collect()
}

async fn fts(grid: &Grid) -> SqlitePool {
    SqlitePool::connect_with(SqliteConnectOptions::new().filename(grid.fts.database())).await.unwrap()
}

async fn until(what: &str, mut done: impl AsyncFnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(120);
    while !done().await {
        assert!(Instant::now() < end, "not within two minutes: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}
