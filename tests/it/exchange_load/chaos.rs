//! Three workers at once, one of them killed every few seconds, database connections cut, and an issuer of whose answers a quarter
//! are none.

use std::collections::HashMap;
use std::fs::File;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use sqlx::AssertSqlSafe;
use testbed::issuer::Fault;
use tokio::process::Child;

use super::rig::{Files, Rig};
use super::{ALONE, needed, number, rig};

const WORKERS: usize = 3;
const KILL_EVERY: Duration = Duration::from_secs(4);
const CUT_EVERY: Duration = Duration::from_secs(3);
/// Exchanges at a time, of one worker.
const IN_FLIGHT: u64 = 8;
/// sled writes to disk every half second: what was got in the last one is asked for again after a kill.
const UNWRITTEN: u64 = 600;

#[tokio::test(flavor = "multi_thread")]
async fn killed_workers_cut_connections_and_a_bad_issuer_cost_only_time() {
    let _alone = ALONE.lock().await;
    let Some(rig) = rig(1).await else { return };
    let count = number("CHAOS_FILES", 20_000);
    let files = Files { first: 0, count, in_a_job: 5, endpoints: 20, directories: 20, issuer: 0 };
    rig.submit(files).await.unwrap();
    rig.issuers[0].note_given();
    rig.issuers[0].set_fault(Fault::Mixed { percent: 5, silence: Duration::from_secs(6) });
    let issuer = format!(
        "timeout_s = 3\nretry_total_s = 10\nmax_in_flight = {IN_FLIGHT}\ncalls_per_s = 10000\nburst = 1000\n"
    );
    for worker in 0..WORKERS {
        let lines = format!("lease_s = 10\nbatch = 20\nin_flight = {IN_FLIGHT}\n");
        rig.configure(worker, &issuer, &lines).unwrap();
    }
    let mut workers: Vec<Child> = (0..WORKERS).map(|worker| start(&rig, worker)).collect();
    let (began, mut killed_at, mut cut_at) = (Instant::now(), Instant::now(), Instant::now());
    let (mut kills, mut cuts) = ([0_u64; WORKERS], 0);
    let mut turn = 0;
    loop {
        let waiting = rig.count("t_file WHERE file_state = 'TOKEN_PREP'").await.unwrap();
        if waiting == 0 {
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(1200), "{waiting} files wait still");
        if killed_at.elapsed() >= KILL_EVERY {
            killed_at = Instant::now();
            workers[turn].kill().await.unwrap();
            kills[turn] += 1;
            workers[turn] = start(&rig, turn);
            turn = (turn + 1) % WORKERS;
        }
        if cut_at.elapsed() >= CUT_EVERY {
            cut_at = Instant::now();
            cuts += cut(&rig).await;
        }
        for (number, worker) in workers.iter_mut().enumerate() {
            if let Some(status) = worker.try_wait().unwrap() {
                // One whose connection is cut while it looks at the tables says so and ends, to be started again.
                let log = std::fs::read_to_string(log(&rig, number)).unwrap();
                let last = log.lines().last().unwrap_or_default();
                assert!(status.code() == Some(1) && last.starts_with("token-exchange: "), "{status}: {last}");
                kills[number] += 1;
                *worker = start(&rig, number);
            }
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let took = began.elapsed();
    // What is left are leases of workers that were killed after the commit of another; they end in ten seconds and are taken up.
    let end = Instant::now() + Duration::from_secs(60);
    while rig.count("token_exchange_lease").await.unwrap() > 0 && Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    for worker in &mut workers {
        worker.kill().await.unwrap();
    }
    let given = rig.issuers[0].given();
    let calls = rig.issuers[0].token_calls();
    let again = given.values().map(|times| times - 1).sum::<u64>();
    let all_kills: u64 = kills.iter().sum();
    needed::say(&format!(
        "{count} files, {WORKERS} workers: {} s, {all_kills} kills, {cuts} connections cut; {} requests, {} met a fault, {} tokens \
         given, {again} again",
        took.as_secs(),
        calls.total(),
        calls.faulted,
        given.len(),
    ));
    assert_eq!(rig.count("t_file WHERE file_state <> 'SUBMITTED'").await.unwrap(), 0, "none failed");
    assert_eq!(rig.released().await.unwrap(), i64::try_from(count).unwrap(), "none without its tokens");
    assert_eq!(rig.count("token_exchange_lease").await.unwrap(), 0, "no lease is left");
    assert!(all_kills >= 2 && cuts >= 2 && calls.faulted > 0, "there was chaos");
    // A worker asks once for a token while it lives. After a kill, it has lost what was in flight, and what sled had not written.
    let mut by_worker: HashMap<&str, u64> = HashMap::new();
    for (token, times) in &given {
        let worker = token.split(' ').next().unwrap();
        let number: usize = worker.strip_prefix("worker-").unwrap().parse().unwrap();
        assert!(*times <= 1 + kills[number], "{token} was given {times} times");
        *by_worker.entry(worker).or_default() += times - 1;
    }
    for (worker, again) in by_worker {
        let number: usize = worker.strip_prefix("worker-").unwrap().parse().unwrap();
        let share = kills[number] * (IN_FLIGHT + UNWRITTEN);
        assert!(
            again <= share,
            "{worker} asked {again} times again, and {} kills excuse {share}",
            kills[number]
        );
    }
    rig.database.remove().await.unwrap();
}

fn log(rig: &Rig, worker: usize) -> PathBuf {
    rig.folder.path().join(format!("worker-{worker}.log"))
}

fn start(rig: &Rig, worker: usize) -> Child {
    let log = File::options().create(true).append(true).open(log(rig, worker)).unwrap();
    let mut command = rig.worker(worker, &[]);
    // Each directory has tokens of its own.
    command.env("TOKEN_EXCHANGE__ENDPOINTS__GRANULARITY", "directory");
    command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap()
}

/// Cuts all connections of workers, in the middle of whatever they do.
async fn cut(rig: &Rig) -> usize {
    let mut own = Vec::new();
    let mut held = Vec::new();
    while let Some(mut connection) = rig.pool().unwrap().try_acquire() {
        own.push(
            sqlx::query_scalar::<_, u64>("SELECT CONNECTION_ID()").fetch_one(&mut *connection).await.unwrap(),
        );
        held.push(connection);
    }
    drop(held);
    let all =
        rig.database.rows(&["id"], "information_schema.processlist WHERE db = DATABASE()").await.unwrap();
    let ids = all.iter().filter_map(|row| row[0].as_deref()?.parse::<u64>().ok());
    let mut cut = 0;
    for id in ids.filter(|id| !own.contains(id)) {
        // One that has just ended by itself can't be cut any more.
        let killed = sqlx::raw_sql(AssertSqlSafe(format!("KILL {id}"))).execute(rig.pool().unwrap()).await;
        cut += usize::from(killed.is_ok());
    }
    cut
}
