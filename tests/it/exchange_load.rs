//! `token-exchange` under load on FTS's own kind of database: 100,000 waiting files, and workers that are killed while database
//! and issuer fail.
//!
//! Needs `FTS_MYSQL`, a server where databases may be made; `./tests/run` starts one. `LOAD_FILES` and `CHAOS_FILES` set other
//! numbers of files than 100,000 and 20,000.
#![expect(clippy::unwrap_used, reason = "tests")]

#[path = "exchange_load/chaos.rs"]
mod chaos;
#[path = "contract_worker/database.rs"]
#[expect(dead_code, reason = "SQLite is for the other test that has this")]
mod database;
#[path = "interop/needed.rs"]
mod needed;
#[path = "exchange_load/rig.rs"]
mod rig;

use std::time::{Duration, Instant};

use rig::{Files, Rig};

const ENDPOINTS: usize = 40;
const DIRECTORIES: usize = 5;

/// One after the other: the server counts statements for all, and both take the whole machine.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// A rig; none without a server.
async fn rig(issuers: usize) -> Option<Rig> {
    let server = needed::needed(database::SERVER, "MariaDB")?;
    Some(Rig::start(server.to_str().unwrap(), issuers).await.unwrap())
}

/// A number that the environment may change.
fn number(variable: &str, default: usize) -> usize {
    std::env::var(variable).map_or(default, |text| text.parse().unwrap())
}

fn files(count: usize) -> Files {
    Files { first: 0, count, in_a_job: 10, endpoints: ENDPOINTS, directories: DIRECTORIES, issuer: 0 }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_thousand_files_cost_as_many_calls_as_there_are_distinct_tokens() {
    let _alone = ALONE.lock().await;
    let Some(rig) = rig(1).await else { return };
    let count = number("LOAD_FILES", 100_000);
    rig.configure(0, "calls_per_s = 10000", "").unwrap();
    rig.submit(files(count)).await.unwrap();
    let (before, began) = (rig.statements().await.unwrap(), Instant::now());
    let worker = rig.worker(0, &["--run-once", "--json"]).spawn().unwrap();
    let status = format!("/proc/{}/status", worker.id().unwrap());
    let watching = tokio::spawn(async move {
        let mut most = 0;
        while let Ok(text) = std::fs::read_to_string(&status) {
            let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
            let Some(line) = line else { break };
            most = line.trim().trim_end_matches(" kB").parse::<u64>().unwrap();
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        most / 1024
    });
    let output = worker.wait_with_output().await.unwrap();
    let took = began.elapsed();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let statements = rig.statements().await.unwrap() - before;
    let (calls, megabytes) = (rig.issuers[0].token_calls(), watching.await.unwrap());
    #[expect(clippy::as_conversions, reason = "for people")]
    let a_file = statements as f64 / count as f64;
    needed::say(&format!(
        "{count} files, {ENDPOINTS} endpoints: {} s, {} issuer calls, {a_file:.3} statements a file, {megabytes} MB at most",
        took.as_secs(),
        calls.total()
    ));
    assert_eq!(calls.total(), 80, "one token for reading and one for writing at each endpoint");
    assert_eq!(rig.released().await.unwrap(), i64::try_from(count).unwrap());
    assert_eq!(rig.count("token_exchange_lease").await.unwrap(), 0);
    assert!(a_file <= 0.1, "{a_file} statements a file");
    assert!(megabytes < 256, "{megabytes} MB");

    // As many as were foretold, at each granularity.
    for granularity in ["endpoint", "directory", "file"] {
        rig.clear().await.unwrap();
        rig.submit(files(1000)).await.unwrap();
        let mut plan = rig.worker(0, &["plan", "--json"]);
        let plan = plan.env("TOKEN_EXCHANGE__ENDPOINTS__GRANULARITY", granularity).output().await.unwrap();
        let plan: serde_json::Value = serde_json::from_slice(&plan.stdout).unwrap();
        let before = rig.issuers[0].token_calls().total();
        let report = rig.once(granularity).await.unwrap();
        let calls = rig.issuers[0].token_calls().total() - before;
        needed::say(&format!(
            "1000 files at granularity {granularity}: {calls} calls, {} foretold",
            plan["calls"]
        ));
        assert_eq!(
            (plan["calls"].as_u64(), report["released"].as_u64()),
            (Some(calls), Some(1000)),
            "{granularity}"
        );
    }
    rig.database.remove().await.unwrap();
}
