//! `token-exchange` on FTS's own kind of database: leases, hand-over, two workers at once, deadlocks, lost connections, and what
//! is wrong with a database or the way to it.
//!
//! Needs `FTS_MYSQL`, a server where databases may be made, and for one test `FTS_MYSQL_CA`, the authority of its certificate;
//! `./tests/run` starts one.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

#[path = "exchange_mariadb/blame.rs"]
mod blame;
#[path = "contract_worker/database.rs"]
#[expect(dead_code, reason = "SQLite is for the other test that has this")]
mod database;
#[path = "exchange_mariadb/fresh.rs"]
mod fresh;
#[path = "interop/needed.rs"]
mod needed;
#[path = "exchange_mariadb/retire.rs"]
mod retire;
#[path = "exchange_mariadb/site.rs"]
mod site;
#[path = "exchange_mariadb/tells.rs"]
mod tells;

use std::process::Output;
use std::time::Duration;

use site::{FILES, Site, report};
use testbed::issuer::Fault;

#[tokio::test(flavor = "multi_thread")]
async fn two_workers_release_each_file_once() {
    const JOBS: usize = 60;
    let Some(site) = Site::start(JOBS).await else { return };
    // Half of the jobs is kept back until one has the others in hand and waits for its tokens; then two more come for them at once.
    site.change(&format!(
        "INSERT INTO token_exchange_lease (job_id, owner, lease_end, attempts, retry_at) \
         SELECT job_id, 'another', unix_timestamp() + 600, 0, 0 FROM t_job ORDER BY job_id LIMIT {}",
        JOBS / 2
    ))
    .await;
    site.issuer.set_fault(Fault::Slow(Duration::from_secs(5)));
    let first = site.once().spawn().unwrap();
    let half = i64::try_from(JOBS / 2).unwrap();
    site.until("token_exchange_lease WHERE lease_end > 0 AND owner <> 'another'", half).await;
    // It has looked once more, and found nothing.
    tokio::time::sleep(Duration::from_secs(1)).await;
    site.change("UPDATE token_exchange_lease SET lease_end = 0 WHERE owner = 'another'").await;
    let [second, third] = [site.once().spawn().unwrap(), site.once().spawn().unwrap()];
    let (first, second, third) =
        tokio::join!(first.wait_with_output(), second.wait_with_output(), third.wait_with_output());
    let done = [first, second, third].map(|output| report(&output.unwrap()));
    let files = done
        .each_ref()
        .map(|done| done.strip_suffix(" released").map_or(0, |files| files.parse::<usize>().unwrap()));
    assert_eq!(files[0], JOBS / 2 * FILES, "{done:?}");
    assert_eq!(files[1] + files[2], JOBS / 2 * FILES, "{done:?}");
    let calls = site.issuer.token_calls().exchange;
    assert!(calls == 4 || calls == 6, "two endpoints for each worker that had work: {calls}");
    site.expect_all_released(JOBS).await;
    site.database.remove().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_of_another_is_respected_until_it_ends_and_who_lost_a_lease_writes_nothing() {
    let Some(site) = Site::start(3).await else { return };
    site.change(
        "INSERT INTO token_exchange_lease (job_id, owner, lease_end, attempts, retry_at) \
         SELECT min(job_id), 'another', unix_timestamp() + 600, 0, 0 FROM t_job",
    )
    .await;
    site.issuer.set_fault(Fault::Slow(Duration::from_secs(5)));
    let worker = site.once().env("TOKEN_EXCHANGE__WORKER__IN_FLIGHT", "1").spawn().unwrap();
    // It has its jobs in hand, and waits for the other token.
    tokio::time::timeout(Duration::from_secs(60), async {
        while site.issuer.token_calls().exchange == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .unwrap();
    site.change(
        "UPDATE token_exchange_lease SET owner = 'a third' WHERE job_id = (SELECT max(job_id) FROM t_job)",
    )
    .await;
    assert_eq!(report(&worker.wait_with_output().await.unwrap()), "2 released, 1 lost");
    assert_eq!(site.count("t_file WHERE file_state = 'TOKEN_PREP' AND src_token_id = dst_token_id").await, 4);
    assert_eq!(site.count("token_exchange_lease WHERE owner LIKE 'a%'").await, 2, "their rows are theirs");
    site.change("UPDATE token_exchange_lease SET lease_end = unix_timestamp() - 1").await;
    assert_eq!(report(&site.once().output().await.unwrap()), "4 released");
    site.expect_all_released(3).await;
    site.database.remove().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_another_worker_has_in_hand_are_passed_over() {
    let Some(site) = Site::start(3).await else { return };
    site.issuer.set_fault(Fault::Down);
    assert_eq!(report(&site.once().output().await.unwrap()), "");
    site.issuer.set_fault(Fault::None);
    site.change("UPDATE token_exchange_lease SET retry_at = 0").await;
    let mut taking = site.pool().begin().await.unwrap();
    let taken = "SELECT job_id FROM token_exchange_lease ORDER BY job_id LIMIT 1 FOR UPDATE";
    sqlx::query(taken).fetch_all(&mut *taking).await.unwrap();
    // The lock is there as long as it works: it waits for none, which would end in an error.
    let worker = tokio::time::timeout(Duration::from_secs(60), site.once().output()).await.unwrap().unwrap();
    assert_eq!(report(&worker), "4 released");
    assert!(!String::from_utf8_lossy(&worker.stderr).contains("tried again"));
    taking.rollback().await.unwrap();
    assert_eq!(report(&site.once().output().await.unwrap()), "2 released");
    site.expect_all_released(3).await;
    site.database.remove().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_connections_cost_nothing_but_time() {
    let Some(site) = Site::start(3).await else { return };
    // While it waits for the issuer.
    site.issuer.set_fault(Fault::Slow(Duration::from_secs(5)));
    let worker = site.once().spawn().unwrap();
    site.until("token_exchange_lease WHERE lease_end > 0", 3).await;
    assert!(site.cut_workers(Vec::new()).await > 0);
    // And in the middle of a hand-over, which waits for the job's row here.
    let mut holding = site.pool().begin().await.unwrap();
    let own = Site::number(&mut holding).await;
    sqlx::query("SELECT job_id FROM t_job FOR UPDATE").fetch_all(&mut *holding).await.unwrap();
    site.until(
        "information_schema.processlist WHERE db = DATABASE() AND info LIKE 'SELECT l.job_id, l.owner%FOR UPDATE'",
        1,
    )
    .await;
    assert!(site.cut_workers(vec![own]).await > 0);
    holding.rollback().await.unwrap();
    let output = worker.wait_with_output().await.unwrap();
    assert_eq!(report(&output), "6 released");
    assert!(String::from_utf8_lossy(&output.stderr).contains("tried again"));
    site.expect_all_released(3).await;
    site.database.remove().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadlock_is_made_good() {
    let Some(site) = Site::start(30).await else { return };
    let mut ours = site.pool().begin().await.unwrap();
    // More rows than the worker changes in one transaction: the server lets the lesser one go.
    sqlx::query("UPDATE t_file SET pid = 1").execute(&mut *ours).await.unwrap();
    let worker = site.once().spawn().unwrap();
    let waiting = "information_schema.processlist WHERE db = DATABASE() AND info LIKE 'UPDATE t_file SET src_token_id%'";
    site.until(waiting, 1).await;
    sqlx::query("UPDATE t_job SET priority = 4").execute(&mut *ours).await.unwrap();
    ours.commit().await.unwrap();
    let output = worker.wait_with_output().await.unwrap();
    assert_eq!(report(&output), "60 released");
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(log.contains("Deadlock found") && log.contains("tried again"), "{log}");
    site.expect_all_released(30).await;
    site.database.remove().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_columns_of_an_older_schema_are_filled_where_they_are() {
    let Some(site) = Site::start(1).await else { return };
    site.change("UPDATE t_token SET access_token_not_before = now(), access_token_refresh_after = now()")
        .await;
    for column in ["access_token_not_before", "access_token_refresh_after"] {
        site.change(&format!(
            "ALTER TABLE t_token MODIFY {column} timestamp NOT NULL DEFAULT '2001-01-01 00:00:00'"
        ))
        .await;
        site.change(&format!("ALTER TABLE t_token ALTER {column} DROP DEFAULT")).await;
    }
    assert_eq!(report(&site.once().output().await.unwrap()), "2 released");
    let half = "t_token WHERE unmanaged = 1 AND abs(timestampdiff(SECOND, access_token_not_before, UTC_TIMESTAMP())) < 300 \
                AND abs(timestampdiff(SECOND, UTC_TIMESTAMP(), access_token_refresh_after) - 1800) < 300";
    assert_eq!(site.count(half).await, 2);
    for column in ["access_token_not_before", "access_token_refresh_after"] {
        site.change(&format!("ALTER TABLE t_token DROP {column}")).await;
    }
    site.change("UPDATE t_file SET file_state = 'TOKEN_PREP'").await;
    site.change("UPDATE t_file SET src_token_id = (SELECT token_id FROM t_token WHERE unmanaged = 0)").await;
    site.change("UPDATE t_file SET dst_token_id = src_token_id").await;
    assert_eq!(report(&site.once().output().await.unwrap()), "2 released");
    site.expect_all_released(1).await;
    site.database.remove().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_database_is_named_and_its_password_is_not() {
    let Some(site) = Site::start(1).await else { return };
    let url = site.database.url().to_owned();
    let expect = async |code: i32, named: &str| {
        let output: Output = site.once().output().await.unwrap();
        let log = String::from_utf8_lossy(&output.stderr);
        let line = log.lines().last().unwrap_or_default();
        assert_eq!(output.status.code(), Some(code), "{log}");
        assert!(line.starts_with("token-exchange: ") && line.contains(named), "`{named}`: {line}");
        assert!(!log.contains("canary"), "{log}");
    };
    let mut other: url::Url = url.parse().unwrap();
    other.set_username("token_exchange_nobody").unwrap();
    other.set_password(Some("canary")).unwrap();
    site.configure(other.as_str(), "");
    expect(2, "token_exchange_nobody").await;
    std::fs::write(site.folder.path().join("password"), "canary").unwrap();
    other.set_password(None).unwrap();
    let file = format!("password_file = \"{}\"", site.folder.path().join("password").display());
    site.configure(other.as_str(), &file);
    expect(2, "token_exchange_nobody").await;
    // A port at which nobody listens, which may be better next time.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    other.set_port(Some(free)).unwrap();
    site.configure(other.as_str(), &file);
    expect(1, &format!("127.0.0.1:{free}")).await;
    site.configure(&url, "");
    let beat = "INSERT INTO t_hosts (hostname, beat, service_name) \
                VALUES ('d7.example', UTC_TIMESTAMP() - INTERVAL 5 SECOND, 'fts_token')";
    site.change(beat).await;
    expect(1, "d7.example").await;
    site.change("UPDATE t_hosts SET beat = UTC_TIMESTAMP() - INTERVAL 1 HOUR").await;
    site.change("DROP TABLE token_exchange_lease").await;
    expect(2, "init-db").await;
    site.change("UPDATE t_schema_vers SET major = 9, minor = 1").await;
    expect(2, "9 is the schema version").await;
    site.change("ALTER TABLE t_token DROP COLUMN unmanaged").await;
    expect(2, "column `t_token.unmanaged`").await;
    assert_eq!(site.count("t_file WHERE file_state = 'TOKEN_PREP'").await, 2);
    site.database.remove().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn with_an_authority_only_its_server_under_its_own_name_is_spoken_to() {
    let Some(site) = Site::start(1).await else { return };
    let Some(authority) = needed::needed("FTS_MYSQL_CA", "MariaDB") else { return };
    let url = site.database.url().to_owned();
    let other_name = url.replace("127.0.0.1", "localhost");
    assert_ne!(url, other_name);
    let grids = site.folder.path().join("ca.pem");
    for (url, ca_file) in [(&url, &grids), (&other_name, &authority)] {
        site.configure(url, &format!("ca_file = \"{}\"", ca_file.display()));
        let output = site.once().output().await.unwrap();
        let log = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && log.contains("invalid peer certificate"), "{log}");
    }
    site.configure(&url, &format!("ca_file = \"{}\"", authority.display()));
    assert_eq!(report(&site.once().output().await.unwrap()), "2 released");
    site.expect_all_released(1).await;
    site.database.remove().await.unwrap();
}
