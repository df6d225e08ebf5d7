//! What an FTS operator knows of `fts_token` 3.14.4 (observed), and that it is not so here: a test for each defect, on FTS's own kind of
//! database. Three of them stand elsewhere:
//!
//! | defect | test |
//! |---|---|
//! | SQL row by row, and a `SELECT` for each file after its release | `exchange_load`: a statement for ten files at most |
//! | a token ends while its file waits: nobody renews it before the transfer asks | `exchange_fresh`: `tokens_of_waiting_files_are_renewed_in_place_by_one_worker_each` |
//! | a transfer that asks gets its own old token, none, or is never answered again | `contract_worker`: the rules `OLD_TOKEN`, `UNDELIVERED`, `WEDGED`; `exchange_pyzmq` |
//!
//! Needs `FTS_MYSQL`, a server where databases may be made; `./tests/run` starts one.
#![expect(clippy::unwrap_used, reason = "tests")]

#[path = "contract_worker/database.rs"]
#[expect(dead_code, reason = "SQLite is for the other test that has this")]
mod database;
#[path = "interop/needed.rs"]
mod needed;
#[path = "exchange_load/rig.rs"]
#[expect(dead_code, reason = "many files at once are for the other test that has this")]
mod rig;
#[path = "exchange_defects/waiting.rs"]
mod waiting;

use std::time::{Duration, Instant};

use testbed::issuer::Fault;

use rig::{KEYED, SCOPE};
use waiting::{Kind, start};

const FILE: [&str; 2] = ["davs://s.example/data/d/f", "davs://d.example/data/d/f"];

#[tokio::test(flavor = "multi_thread")]
async fn defect_1_an_issuer_that_refuses_connections_crashes_the_daemon() {
    let Some(rig) = start(1).await else { return };
    rig.issuers[0].set_fault(Fault::Down);
    rig.job(0, Kind::Plain, &rig.bearers[0], &[FILE]).await;
    let mut worker = rig.worker(0, &[]).spawn().unwrap();
    rig.until("token_exchange_lease WHERE attempts > 0 AND message LIKE '%no connection%'", 1).await;
    assert!(worker.try_wait().unwrap().is_none(), "it lives");
    rig.issuers[0].set_fault(Fault::None);
    rig.until("t_file WHERE file_state = 'SUBMITTED'", 1).await;
    worker.kill().await.unwrap();
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn defect_2_every_failure_fails_every_waiting_file() {
    let Some(rig) = start(1).await else { return };
    rig.job(0, Kind::Plain, &rig.bearers[0], &[FILE]).await;
    for fault in [
        Fault::Status(500),
        Fault::Page(503),
        Fault::TooManyRequests { retry_after_s: 1 },
        Fault::Html,
        Fault::Reset,
        Fault::Refuse("invalid_client"),
    ] {
        rig.issuers[0].set_fault(fault.clone());
        assert_eq!(rig.once().await, "", "{fault:?}");
        assert_eq!(rig.states().await, ["TOKEN_PREP"], "{fault:?}");
        rig.run("UPDATE token_exchange_lease SET retry_at = 0").await.unwrap();
    }
    rig.issuers[0].set_fault(Fault::Refuse("invalid_scope"));
    assert_eq!((rig.once().await.as_str(), rig.states().await), ("1 failed", vec!["FAILED".to_owned()]));
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn defect_3_who_comes_after_a_failure_waits_for_hours_and_after_five_for_ever() {
    let Some(rig) = start(1).await else { return };
    rig.issuers[0].set_fault(Fault::Status(503));
    rig.job(0, Kind::Plain, &rig.bearers[0], &[FILE]).await;
    assert_eq!(rig.once().await, "");
    rig.run("UPDATE token_exchange_lease SET attempts = 50").await.unwrap();
    rig.issuers[0].set_fault(Fault::None);
    // The same token, and nobody waits for the others' turn.
    rig.job(1, Kind::Plain, &rig.bearers[0], &[FILE]).await;
    assert_eq!(
        (rig.once().await.as_str(), rig.states().await),
        ("1 released", vec!["TOKEN_PREP".into(), "SUBMITTED".into()])
    );
    rig.run("UPDATE token_exchange_lease SET retry_at = 0").await.unwrap();
    assert_eq!(rig.once().await, "1 released", "the fifty-first time");
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn defect_4_a_file_waits_for_the_next_poll_of_half_a_minute() {
    let Some(rig) = start(1).await else { return };
    let mut worker = rig.worker(0, &[]).spawn().unwrap();
    // It has looked at what it finds at its start.
    rig.until("token_exchange_look", 1).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    rig.job(0, Kind::Plain, &rig.bearers[0], &[FILE]).await;
    let began = Instant::now();
    rig.until("t_file WHERE file_state = 'SUBMITTED'", 1).await;
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    worker.kill().await.unwrap();
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn defect_5_one_silent_issuer_stops_all_others() {
    let Some(rig) = start(2).await else { return };
    rig.configure(0, "retry_total_s = 0\ntimeout_s = 60", "").unwrap();
    rig.issuers[0].set_fault(Fault::Silent(Duration::from_secs(120)));
    for issuer in 0..2 {
        for number in 0..20 {
            let file = FILE.map(|url| format!("{}/{number}/f", url.trim_end_matches("/f")));
            let file = [file[0].as_str(), file[1].as_str()];
            rig.job(issuer * 100 + number, Kind::Plain, &rig.bearers[issuer], &[file]).await;
        }
    }
    let mut worker = rig.worker(0, &[]);
    let mut worker = worker.env("TOKEN_EXCHANGE__ENDPOINTS__GRANULARITY", "directory").spawn().unwrap();
    let began = Instant::now();
    rig.until("t_file WHERE file_state = 'SUBMITTED'", 20).await;
    assert!(began.elapsed() < Duration::from_secs(40), "{:?}", began.elapsed());
    let whose = format!(
        "t_file f JOIN t_token t ON t.token_id = f.src_token_id WHERE t.issuer = '{}' AND f.file_state = 'SUBMITTED'",
        rig.issuers[1].name()
    );
    assert_eq!(rig.count(&whose).await.unwrap(), 20);
    worker.kill().await.unwrap();
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn defect_6_tokens_that_differ_in_their_jti_only_are_exchanged_each() {
    let Some(rig) = start(1).await else { return };
    for number in 0..10 {
        let bearer = rig.bearer("rucio", SCOPE).await;
        rig.job(number, Kind::Plain, &bearer, &[FILE]).await;
    }
    assert_eq!(rig.once().await, "10 released");
    assert_eq!(rig.issuers[0].token_calls().exchange, 2, "one for each side");
    // Another identity's is its own.
    let bearer = rig.bearer("dirac", SCOPE).await;
    rig.job(10, Kind::Plain, &bearer, &[FILE]).await;
    assert_eq!((rig.once().await.as_str(), rig.issuers[0].token_calls().exchange), ("1 released", 4));
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn defect_7_the_form_is_not_encoded_so_that_the_issuer_reads_another_question() {
    let Some(rig) = start(1).await else { return };
    rig.issuers[0].note_given();
    let odd = "/data/a+b&c=d;e";
    let files = [format!("davs://s.example{odd}/f"), format!("davs://d.example{odd}/f")];
    rig.job(0, Kind::Plain, &rig.bearers[0], &[[files[0].as_str(), files[1].as_str()]]).await;
    assert_eq!(rig.once_at("directory").await, "1 released");
    let scopes = rig.database.rows(&["scope"], "t_token WHERE unmanaged = 1 ORDER BY scope").await.unwrap();
    let scopes: Vec<&str> = scopes.iter().filter_map(|row| row[0].as_deref()).collect();
    let given = rig.issuers[0].given();
    assert_eq!(scopes.len(), 2);
    for scope in scopes {
        assert!(scope.starts_with("storage.read:/data/a+b&c=d;e"), "{scope}");
        assert!(
            given.keys().any(|given| given.ends_with(&format!("example {scope}"))),
            "`{scope}`: {given:?}"
        );
    }
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn defect_8_one_host_works_and_no_lock_keeps_two_from_the_same() {
    let Some(rig) = start(1).await else { return };
    // The first by its name of all hosts, which leads by FTS's rule: it is another, and has just given a sign of life.
    rig.run("INSERT INTO t_hosts (hostname, beat, service_name) VALUES ('a.example', UTC_TIMESTAMP(), 'fts_server')").await.unwrap();
    for number in 0..60 {
        rig.job(number, Kind::Plain, &rig.bearers[0], &[FILE]).await;
    }
    for worker in 0..3 {
        rig.configure(worker, "", "batch = 3").unwrap();
    }
    let workers: Vec<_> =
        (0..3).map(|worker| rig.worker(worker, &["--run-once", "--json"]).spawn().unwrap()).collect();
    let mut released = Vec::new();
    for worker in workers {
        let output = worker.wait_with_output().await.unwrap();
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(report["lost"], 0);
        released.push(report["released"].as_u64().unwrap());
    }
    assert_eq!(released.iter().sum::<u64>(), 60, "each once: {released:?}");
    assert_eq!(rig.count("t_file WHERE file_state = 'SUBMITTED'").await.unwrap(), 60);
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn defect_11_the_source_is_blamed_for_the_destinations_token() {
    let Some(rig) = start(1).await else { return };
    let bearer = rig.bearer("rucio", "fts storage.read:/").await;
    rig.job(0, Kind::Plain, &bearer, &[FILE]).await;
    assert_eq!(rig.once().await, "1 failed");
    let named = "t_file WHERE reason LIKE '[token-exchange] DESTINATION token: %storage.modify:/data%'";
    assert_eq!(rig.count(named).await.unwrap(), 1);
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn defect_12_a_job_cancelled_while_it_waits_is_exchanged_for_and_transferred() {
    let Some(rig) = start(1).await else { return };
    rig.job(0, Kind::Plain, &rig.bearers[0], &[FILE, FILE]).await;
    // As REST does it: the job alone.
    rig.run("UPDATE t_job SET job_state = 'CANCELED', reason = 'Job canceled by the user', job_finished = UTC_TIMESTAMP()")
        .await
        .unwrap();
    assert_eq!(
        (rig.once().await.as_str(), rig.states().await),
        ("2 cancelled", vec!["CANCELED".to_owned(); 2])
    );
    assert_eq!(rig.issuers[0].token_calls().exchange, 0, "nothing was asked for");
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn defect_13_a_refused_replica_or_hop_leaves_the_others_for_good() {
    let Some(rig) = start(1).await else { return };
    let bearer = rig.bearer("rucio", "fts storage.read:/data/good storage.modify:/data/good").await;
    let (good, bad) = ("davs://s.example/data/good/f", "davs://s.example/data/bad/f");
    let (target, beyond) = ("davs://d.example/data/good/f", "davs://d.example/data/bad/f");
    rig.job(0, Kind::Replicas, &bearer, &[[bad, target], [good, target], [good, target]]).await;
    assert_eq!(rig.once_at("directory").await, "2 released, 1 failed");
    assert_eq!(rig.states().await, ["FAILED", "SUBMITTED", "NOT_USED"], "the next replica is tried");
    rig.run("DELETE FROM t_file").await.unwrap();
    rig.job(1, Kind::Hops, &bearer, &[[good, target], [target, beyond]]).await;
    assert_eq!(rig.once_at("directory").await, "1 failed");
    assert_eq!(rig.states().await, ["NOT_USED", "FAILED"], "the first hop is not run for nothing");
    assert_eq!(rig.count("t_job WHERE job_state = 'FAILED' AND job_finished IS NOT NULL").await.unwrap(), 1);
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn defect_14_the_clients_secret_stands_in_clear_in_the_database_and_a_key_is_not_taken() {
    let Some(rig) = start(1).await else { return };
    // Nothing in FTS's table is good for anything.
    assert_eq!(rig.count("t_token_provider WHERE client_secret = 's'").await.unwrap(), 1);
    let config = std::fs::read_to_string(rig.config(0)).unwrap();
    let lines: Vec<String> = config
        .lines()
        .map(|line| match line.split(' ').next() {
            Some("client_id") => format!("client_id = \"{KEYED}\"\nauthentication = \"private_key_jwt\""),
            Some("client_secret_file") => {
                format!("private_key_file = \"{}\"", rig.folder.path().join("keyed.pem").display())
            }
            _ => line.to_owned(),
        })
        .collect();
    std::fs::write(rig.config(0), lines.join("\n")).unwrap();
    rig.job(0, Kind::Plain, &rig.bearers[0], &[FILE]).await;
    assert_eq!(rig.once().await, "1 released");
    rig.end().await;
}
