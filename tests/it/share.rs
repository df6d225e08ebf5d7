//! The queue shared out: by activity, by RSE, and among workers that know each other by Rucio's heartbeats.
//!
//! Needs `RUCIO_BIN` and `RUCIO_POSTGRES`, as `rucio_postgres` does; `./tests/run` sees to both.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::time::{Duration, Instant};

use serde_json::Value;
use testbed::grid::{Grid, GridSettings, Signal, signal, terminate};
use tokio::process::Command;

#[path = "interop/needed.rs"]
mod needed;
#[expect(dead_code, reason = "shared with other tests")]
#[path = "rucio/programs.rs"]
mod programs;
#[expect(dead_code, reason = "shared with other tests")]
#[path = "rucio/server.rs"]
mod server;

use programs::lines;
use server::Server;

#[tokio::test(flavor = "multi_thread")]
async fn each_of_two_conveyors_and_rucios_submitter_takes_its_slice_and_no_more() {
    let Some(server) = Server::needed() else { return };
    let (_folder, _database, grid) = server.grid().await;
    // Nothing to take before all three know of each other.
    grid.rucio.run("UPDATE requests SET state = 'P' WHERE state = 'Q'").await.unwrap();
    let name = "fa81ab44a6275b35b14ca86f358cb58f5cfe4509faf1b8d5491f4855308d5c2e";
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    // One that died on this host, one that died on another a day and more ago, and one of another kind.
    for (name, host, pid, age) in [
        (name, host.trim(), 999_999_999, "1 second"),
        (name, "elsewhere", 1, "25 hours"),
        ("other", "elsewhere", 1, "1 hour"),
    ] {
        let insert = format!(
            "INSERT INTO heartbeats (executable, readable, hostname, pid, thread_id, thread_name, created_at, updated_at) \
             VALUES ('{name}', 'x', '{host}', {pid}, 0, 'x', now() at time zone 'utc' - interval '{age}', \
             now() at time zone 'utc' - interval '{age}')"
        );
        grid.rucio.run(&insert).await.unwrap();
    }
    let daemon = |cache: &str| {
        let path = grid.folder.join(cache);
        let mut command = grid.conveyor(&[]);
        command
            .env("CONVEYOR__CACHE__PATH", &path)
            .env("CONVEYOR__CACHE__KEY_FILE", path.with_extension("key"))
            .env("CONVEYOR__SHARE__HEARTBEAT", "true")
            .env("CONVEYOR__SHARE__HEARTBEAT_RENEW_S", "1")
            .env("CONVEYOR__SUBMIT__SLEEP_S", "1");
        grid.spawn(command, &format!("{cache}.log")).unwrap()
    };
    let (first, second) = (daemon("first"), daemon("second"));
    let pids = [first.id().unwrap(), second.id().unwrap()];
    let (config, submitter) = (programs::configure(&grid), server.programs.join("rucio-conveyor-submitter"));
    // As a daemon: with --run-once it takes its heartbeat away before its work is done.
    let log = std::fs::File::create(grid.folder.join("python.log")).unwrap();
    let mut theirs = Command::new(&submitter)
        .args(["--bulk", "1000", "--group-bulk", "50", "--sleep-time", "20"])
        .env("RUCIO_CONFIG", &config)
        .env("REQUESTS_CA_BUNDLE", grid.pki.ca_file())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    until("both know that they are three", async || {
        ["first.log", "second.log"].iter().all(|log| {
            let log = std::fs::read_to_string(grid.folder.join(log)).unwrap_or_default();
            log.lines()
                .rfind(|line| line.contains("place among the workers"))
                .is_some_and(|line| line.contains("of=3"))
        })
    })
    .await;
    let rows = "SELECT executable, hostname, pid FROM heartbeats ORDER BY hostname, pid, thread_id";
    let rows = lines(&grid, rows).await;
    grid.rucio.run("UPDATE requests SET state = 'Q' WHERE state = 'P'").await.unwrap();
    let (own, others): (Vec<_>, Vec<_>) = rows.into_iter().partition(|row| row.starts_with(name));
    assert_eq!(others, ["other elsewhere 1"], "who is of another kind and not too old is left alone");
    assert_eq!(own.len(), 3, "the dead are gone: {own:?}");

    // Whose a request was, by Rucio's own expression, and who sent it.
    let whose = "SELECT mod(abs(('x'||md5(id::text))::bit(32)::bigint), 3), coalesce(nullif(split_part(last_processed_by, ':', 3), ''), \
                 'python'), count(*) FROM requests WHERE state = 'S' GROUP BY 1, 2 ORDER BY 1";
    until("all is submitted", async || {
        grid.rucio.states().await.unwrap().get("S").is_some_and(|count| *count == 460)
    })
    .await;
    let sent = lines(&grid, whose).await;
    let expected: Vec<String> = own
        .iter()
        .enumerate()
        .map(|(at, row)| {
            let pid: u32 = row.rsplit(' ').next().unwrap().parse().unwrap();
            let who = if pids.contains(&pid) { pid.to_string() } else { "python".into() };
            format!("{at} {who}")
        })
        .collect();
    let shown: Vec<_> = sent.iter().map(|line| line.rsplit_once(' ').unwrap().0.to_owned()).collect();
    assert_eq!(shown, expected, "each has sent its slice, and nothing of another's: {sent:?}");
    needed::say(&format!("share: worker, process, files: {}", sent.join("; ")));
    signal(theirs.id().unwrap(), Signal::TERM).unwrap();
    assert!(theirs.wait().await.unwrap().success());
    for daemon in [first, second] {
        terminate(daemon).await.unwrap();
    }
    let left = "SELECT executable FROM heartbeats";
    assert_eq!(lines(&grid, left).await, ["other"], "who ends takes its heartbeat along");
    let twice = "SELECT count(*) FROM (SELECT 1 FROM messages WHERE event_type = 'transfer-submitted' \
                 GROUP BY (payload::json)->>'request-id' HAVING count(*) > 1) AS twice";
    assert_eq!(lines(&grid, twice).await, ["0"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn flags_take_the_part_that_rucios_own_flags_would() {
    let folder = tempfile::Builder::new().prefix("share").tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let grid = Grid::start(GridSettings::new(folder.path().join("grid"))).await.unwrap();
    let run = async |arguments: &[&str]| {
        let mut command = grid.conveyor(&["--run-once", "--json"]);
        let output = command.args(arguments).output().await.unwrap();
        let log = String::from_utf8(output.stderr).unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap(), log)
    };
    let parts: [(&[&str], &str); 7] = [
        (&["--activities", "Production Transfers", "--rses", "DISK-A"], "1 = 0"),
        (&["--activities", "Production Transfers", "None"], "r.activity = 'Production Transfers'"),
        (&["--rses", "DISK-C", "ISLAND"], "d.rse IN ('DISK-C', 'ISLAND')"),
        (&["--include-rses", "(*\\DISK-D)&fts", "--exclude-rses", "DISK-B"], "1 = 0"),
        (&["--include-rses", "DISK-B|NO-FTS", "--exclude-rses", "NO-FTS"], "d.rse = 'DISK-B'"),
        (&["--exclude-activities", "Functional Test"], "r.activity <> 'Functional Test'"),
        (&["--bulk", "50"], "1 = 1"),
    ];
    let mut seen = 0;
    for (arguments, condition) in parts {
        let query = format!(
            "SELECT count(*) FROM requests r JOIN rses d ON d.id = r.dest_rse_id WHERE r.state = 'Q' AND {condition}"
        );
        let waiting = lines(&grid, &query).await[0].parse::<u64>().unwrap();
        let (code, report, log) = run(arguments).await;
        assert_eq!(code, Some(0), "{arguments:?}: {log}");
        let report: Value = serde_json::from_str(&report).unwrap();
        assert_eq!(report["picked"], waiting, "{arguments:?}");
        seen += report["submitted"].as_u64().unwrap();
    }
    assert_eq!(seen, 460);

    let (code, _, log) = run(&["--rses", "NOWHERE"]).await;
    assert!(code == Some(0) && log.contains("there is no RSE `NOWHERE`"), "{log}");
    let (code, _, log) = run(&["--include-rses", "A|"]).await;
    let line = log.lines().last().unwrap_or_default();
    assert!(code == Some(2) && line.contains("share.include_rses") && line.contains("character 2"), "{log}");
}

async fn until(what: &str, mut done: impl AsyncFnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(120);
    while !done().await {
        assert!(Instant::now() < end, "not within two minutes: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
