//! `conveyor shadow` beside what Rucio's own submitter has really submitted: nothing differs that has no known reason, what is planted is
//! found, and nothing is written.
//!
//! Needs `RUCIO_BIN`, a folder with Rucio's programs, and for one test `RUCIO_POSTGRES`, the URL of a server where databases may be made;
//! `./tests/run` sees to both.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::Value;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, Row as _, SqlitePool};
use testbed::binaries::Binaries;
use tokio::process::Command;

#[path = "interop/needed.rs"]
mod needed;
#[path = "rucio/server.rs"]
#[expect(dead_code, reason = "other tests use more of it")]
mod server;
#[path = "rucio/submitted.rs"]
mod submitted;

const FIRST: &str = "rucio-41.5.1.sqlite";
const CHOICES: &str = "rucio-41.5.1-choices.sqlite";

/// A folder, and the database in it that Rucio's submitter has worked on.
async fn worked_on(name: &str, group_bulk: u32) -> Option<(tempfile::TempDir, PathBuf)> {
    let programs = needed::needed("RUCIO_BIN", "Rucio")?;
    let folder = tempfile::Builder::new().prefix("shadow").tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let (database, _) = submitted::by_rucio(&programs, folder.path(), name, group_bulk).await;
    Some((folder, database))
}

/// What tells of Rucio's preparer.
fn rucio_cfg(folder: &Path) -> String {
    let config = folder.join("preparer.cfg");
    std::fs::write(&config, "[conveyor]\nuse_preparer = true\n").unwrap();
    config.display().to_string()
}

/// Runs the command on a database; its exit code and what it says.
async fn shadow(folder: &Path, url: &str, flags: &[&str]) -> (Option<i32>, Value) {
    let config = folder.join("shadow.toml");
    std::fs::write(&config, format!("[rucio]\ndatabase = \"{url}\"\nvos = [\"*\"]\n")).unwrap();
    let program = Binaries::find(false).await.unwrap().conveyor;
    let mut command = Command::new(program);
    command.arg("--config").arg(&config).args(["shadow", "--json"]).args(flags).kill_on_drop(true);
    let output = command.output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let report = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{said}"));
    (output.status.code(), report)
}

fn url(database: &Path) -> String {
    format!("sqlite:///{}", database.display())
}

async fn open(database: &Path) -> SqlitePool {
    SqlitePool::connect_with(SqliteConnectOptions::new().filename(database)).await.unwrap()
}

async fn change(database: &SqlitePool, sql: &str) {
    let done = sqlx::query(AssertSqlSafe(sql)).execute(database).await.unwrap();
    assert!(done.rows_affected() > 0, "nothing was changed by: {sql}");
}

fn reasons(report: &Value) -> BTreeSet<&str> {
    report["reasons"]
        .as_object()
        .unwrap()
        .keys()
        .map(|reason| reason.split([':', ',']).next().unwrap())
        .collect()
}

/// What differs, and has no known reason: the file's name and the field.
async fn unexplained(report: &Value, database: &SqlitePool) -> Vec<String> {
    let mut found = Vec::new();
    for difference in report["differences"].as_array().unwrap() {
        if difference["reason"].is_null() {
            let name = sqlx::query("SELECT name FROM requests WHERE id = $1")
                .bind(difference["request_id"].as_str().unwrap().to_owned());
            let name: String = name.fetch_one(database).await.unwrap().get(0);
            found.push(format!("{name} {}", difference["field"].as_str().unwrap()));
        }
    }
    found.sort();
    found
}

/// All that is by design where Rucio's submitter worked on the database of all choices.
const BY_DESIGN: [&str; 4] = [
    "Rucio's preparer may have chosen the source earlier",
    "it was tried before",
    "not by token (a side is not davs or lacks `oidc_support`)",
    "the row in `sources` is of an earlier try",
];

#[tokio::test(flavor = "multi_thread")]
async fn nothing_differs_without_a_reason_and_nothing_is_written() {
    let Some((folder, database)) = worked_on(FIRST, 100).await else { return };
    let before = std::fs::read(&database).unwrap();
    let (code, report) = shadow(folder.path(), &url(&database), &[]).await;
    assert_eq!((code, &report["compared"], &report["same"]), (Some(0), &475.into(), &475.into()), "{report}");
    assert_eq!(report["states"], serde_json::json!({"M": 5, "N": 10, "S": 460}));
    assert!(std::fs::read(&database).unwrap() == before, "the database was changed");

    // The latest of them.
    let (code, report) = shadow(folder.path(), &url(&database), &["--most", "20"]).await;
    assert_eq!((code, &report["compared"]), (Some(0), &20.into()), "{report}");
    let pool = open(&database).await;
    change(&pool, "UPDATE requests SET updated_at = '2026-01-01 00:00:00.000000'").await;
    let (code, report) = shadow(folder.path(), &url(&database), &["--last", "86400"]).await;
    assert_eq!((code, &report["compared"]), (Some(0), &0.into()), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_file_a_job_is_no_difference_either() {
    // Then only the first of several hops is in FTS, and the others wait in the queue.
    let Some((folder, database)) = worked_on(CHOICES, 1).await else { return };
    let before = std::fs::read(&database).unwrap();
    let (code, report) =
        shadow(folder.path(), &url(&database), &["--rucio-cfg", &rucio_cfg(folder.path())]).await;
    assert_eq!((code, &report["unexplained"]), (Some(0), &0.into()), "{report}");
    assert!(report["same"].as_u64().unwrap() > 340, "{}", report["same"]);
    assert!(report["states"]["Q"].as_u64().unwrap() > 20, "{}", report["states"]);
    assert_eq!(reasons(&report), BY_DESIGN.into(), "{report}");
    assert!(std::fs::read(&database).unwrap() == before, "the database was changed");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_on_postgresql() {
    let Some(server) = server::Server::needed() else { return };
    let Some((folder, database)) = worked_on(CHOICES, 100).await else { return };
    let copy = server.database(folder.path(), &database, None).await;
    let (code, report) = shadow(folder.path(), &copy.url, &["--rucio-cfg", &rucio_cfg(folder.path())]).await;
    assert_eq!((code, &report["unexplained"]), (Some(0), &0.into()), "{report}");
    assert!(report["same"].as_u64().unwrap() > 340, "{}", report["same"]);
    assert_eq!(reasons(&report), BY_DESIGN.into(), "{report}");
}

/// Of what failed lately Rucio keeps sums for five minutes, an hour and a day, of which some are there twice.
const FAILURES: [(&str, i64, &str, &str, [i64; 2]); 8] = [
    ("A", 300, "-10 minutes", "B", [10, 90]),
    ("A", 300, "-15 minutes", "E", [1, 2]),
    ("C", 300, "-20 minutes", "B", [1, 2]),
    ("D", 300, "-50 minutes", "B", [7, 93]),
    // Twice, and that too long ago to count.
    ("B", 3600, "-70 minutes", "A", [0, 1000]),
    ("B", 3600, "-70 minutes", "A", [0, 1000]),
    ("E", 300, "-90 minutes", "A", [0, 1000]),
    ("M1", 300, "-5 minutes", "A", [29, 71]),
];

#[tokio::test(flavor = "multi_thread")]
async fn sources_that_fail_come_last_where_rucio_has_it_so() {
    let Some(programs) = needed::needed("RUCIO_BIN", "Rucio") else { return };
    let folder = tempfile::Builder::new().prefix("shadow").tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let original = folder.path().join("failures.sqlite");
    std::fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("data").join(CHOICES), &original).unwrap();
    let pool = open(&original).await;
    let rse = |name: &str| format!("(SELECT id FROM rses WHERE rse = '{name}' AND vo = 'def')");
    for (from, resolution, ago, to, [done, failed]) in FAILURES {
        let row = format!(
            "INSERT INTO transfer_stats (id, resolution, timestamp, src_rse_id, dest_rse_id, activity, files_done, bytes_done, \
             files_failed, created_at, updated_at) SELECT lower(hex(randomblob(16))), {resolution}, \
             strftime('%Y-%m-%d %H:%M:00.000000', 'now', '{ago}'), {}, {}, 'User Subscriptions', {done}, 1, {failed}, \
             '2026-01-01 00:00:00.000000', '2026-01-01 00:00:00.000000'",
            rse(from),
            rse(to)
        );
        change(&pool, &row).await;
    }
    let strategies = "EnforceSourceRSEExpression,SkipBlocklistedRSEs,SkipRestrictedRSEs,EnforceStagingBuffer,RestrictTapeSources,\
                      SkipSchemeMissmatch,SkipIntermediateTape,FailureRate,HighestAdjustedRankingFirst,PreferDiskOverTape,\
                      PathDistance,PreferSingleHop";
    let option = "('transfers', 'source_ranking_strategies'";
    change(
        &pool,
        &format!("INSERT INTO configs (section, opt, value, created_at, updated_at) VALUES {option}, '{strategies}', '2026-01-01 00:00:00.000000', '2026-01-01 00:00:00.000000')"),
    )
    .await;
    pool.close().await;
    let (database, _) = submitted::by_rucio(&programs, folder.path(), original.to_str().unwrap(), 100).await;
    let (code, report) =
        shadow(folder.path(), &url(&database), &["--rucio-cfg", &rucio_cfg(folder.path())]).await;
    assert_eq!((code, &report["unexplained"]), (Some(0), &0.into()), "{report}");
    let same = report["same"].as_u64().unwrap();
    assert!(same > 300, "{report}");

    // Had it not counted what failed, ours would have chosen other sources for some.
    let pool = open(&database).await;
    change(&pool, "DELETE FROM transfer_stats").await;
    pool.close().await;
    let (_, blind) = shadow(folder.path(), &url(&database), &[]).await;
    let blind = blind["same"].as_u64().unwrap();
    eprintln!(
        "{same} requests as Rucio's own submitter made them, {blind} when what failed lately is not known"
    );
    assert!(blind + 5 < same, "{blind} of {same}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_planted_is_found() {
    let Some((folder, database)) = worked_on(CHOICES, 100).await else { return };
    let pool = open(&database).await;
    let rse = |name: &str| format!("(SELECT id FROM rses WHERE rse = '{name}' AND vo = 'def')");
    let request = |name: &str| {
        format!(
            "(SELECT id FROM requests WHERE name = '{name}' AND attributes NOT LIKE '%is_intermediate_hop%')"
        )
    };
    for plant in [
        format!("UPDATE requests SET source_rse_id = {} WHERE name = 'direct.nearest.000000'", rse("E")),
        "UPDATE requests SET dest_url = dest_url || 'x' WHERE name = 'direct.plain.000001'".to_owned(),
        "UPDATE requests SET external_host = 'https://elsewhere.example:8446' WHERE name = 'direct.plain.000002'".to_owned(),
        format!("UPDATE sources SET url = url || 'x' WHERE request_id = {}", request("path.identity.000000")),
        format!(
            "DELETE FROM sources WHERE request_id = {} AND rse_id = {}",
            request("multi.seven.000000"),
            rse("M4")
        ),
        "UPDATE requests SET state = 'N' WHERE name = 'path.webdav.000000'".to_owned(),
        format!(
            "UPDATE requests SET source_rse_id = {}, state = 'S' WHERE name = 'tape.forbidden.000000'",
            rse("TAPE")
        ),
        // As if its last hop came from elsewhere.
        format!(
            "UPDATE requests SET source_rse_id = {} WHERE name = 'hop.one.000000' AND dest_rse_id = {}",
            rse("A"),
            rse("FAR")
        ),
        format!(
            "UPDATE requests SET dest_rse_id = {} WHERE name = 'hop.two.000000' AND dest_rse_id = {}",
            rse("HOP-SUMS"),
            rse("HOP")
        ),
        "UPDATE requests SET external_id = (SELECT external_id FROM requests WHERE name = 'path.xrootd.000000') \
         WHERE name = 'path.portless.000000'"
            .to_owned(),
        // What FTS took of several, and the poller wrote down, is no difference.
        format!("UPDATE requests SET source_rse_id = {}, state = 'D' WHERE name = 'multi.seven.000001'", rse("M4")),
    ] {
        change(&pool, &plant).await;
    }
    // Of a preparer nothing is said here, so that its choices have no known reason.
    let (code, report) = shadow(folder.path(), &url(&database), &[]).await;
    assert_eq!(code, Some(1), "{report}");
    let found = unexplained(&report, &pool).await;
    let (grouped, others): (Vec<_>, Vec<_>) =
        found.iter().map(String::as_str).partition(|one| one.ends_with(" job"));
    assert_eq!(
        others,
        [
            "direct.nearest.000000 source",
            "direct.plain.000001 destination URL",
            "direct.plain.000002 FTS",
            "hop.one.000000 source",
            "hop.two.000000 way",
            "multi.seven.000000 sources",
            "path.identity.000000 URL at IDENTITY",
            "path.webdav.000000 state",
            "prepared.young.000000 source",
            "prepared.young.000001 source",
            "prepared.young.000002 source",
            "tape.forbidden.000000 state",
        ]
    );
    assert!(!grouped.is_empty() && grouped.iter().all(|one| one.starts_with("path.")), "{grouped:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_changed_meanwhile_is_the_reason() {
    let Some((folder, database)) = worked_on(CHOICES, 100).await else { return };
    let pool = open(&database).await;
    let later = "strftime('%Y-%m-%d %H:%M:%f000', 'now', '+60 seconds')";
    // A replica that came later is none; others come from C by now.
    let rse_c = "(SELECT id FROM rses WHERE rse = 'C' AND vo = 'def')";
    for plant in [
        format!(
            "INSERT INTO replicas (rse_id, scope, name, bytes, state, lock_cnt, created_at, updated_at) \
             SELECT {rse_c}, scope, name, bytes, 'A', 0, {later}, {later} FROM requests WHERE name LIKE 'direct.plain.%'"
        ),
        format!("UPDATE rses SET availability_read = 0, updated_at = {later} WHERE rse = 'A' AND vo = 'def'"),
    ] {
        change(&pool, &plant).await;
    }
    let flags = ["--rucio-cfg", &rucio_cfg(folder.path())];
    let (code, report) = shadow(folder.path(), &url(&database), &flags).await;
    assert_eq!((code, &report["unexplained"]), (Some(0), &0.into()), "{report}");
    let changed = "RSE A, its attributes, protocols or distances changed at ";
    let of_change = report["differences"].as_array().unwrap().iter();
    let of_change =
        of_change.filter(|difference| difference["reason"].as_str().unwrap().starts_with(changed));
    assert!(of_change.count() > 100, "{report}");

    // Without a trace of the change nothing explains it.
    change(&pool, "UPDATE rses SET updated_at = '2026-01-01 00:00:00.000000' WHERE rse = 'A'").await;
    let (code, report) = shadow(folder.path(), &url(&database), &[]).await;
    assert_eq!(code, Some(1), "{report}");
    let unexplained = report["unexplained"].as_u64().unwrap();
    assert!(unexplained > 100, "{unexplained}");
}
