//! Renewal in place on FTS's own kind of database.

use super::site::{Site, report};

#[tokio::test(flavor = "multi_thread")]
async fn two_workers_renew_each_token_once_and_forget_what_no_file_waits_for() {
    let Some(site) = Site::start(6).await else { return };
    assert_eq!(report(&site.once().output().await.unwrap()), "12 released");
    assert_eq!(site.count("token_exchange_token WHERE how = 'exchange' AND lease_end = 0").await, 2);
    let handed = "(SELECT t.access_token FROM t_token t JOIN token_exchange_token n USING (token_id)) x";
    let before = site.database.rows(&["access_token"], handed).await.unwrap();
    // As if most of its life had passed.
    site.change("UPDATE token_exchange_token SET renew_at = 0").await;
    let calls = site.issuer.token_calls().exchange;
    let [first, second] = [site.once().spawn().unwrap(), site.once().spawn().unwrap()];
    let (first, second) = tokio::join!(first.wait_with_output(), second.wait_with_output());
    let logs = [first, second].map(|output| String::from_utf8_lossy(&output.unwrap().stderr).into_owned());
    let renewed: usize = logs.iter().map(|log| log.matches("renewed in place").count()).sum();
    assert_eq!((renewed, site.issuer.token_calls().exchange - calls), (2, 2), "{logs:?}");
    let after = site.database.rows(&["access_token"], handed).await.unwrap();
    assert!(after.len() == 2 && !after.iter().any(|row| before.contains(row)));
    // The time zone of the server is another one than UTC.
    let ends = "t_token t JOIN token_exchange_token n USING (token_id) WHERE n.turn = 1 AND n.attempts = 0 \
                AND abs(timestampdiff(SECOND, UTC_TIMESTAMP(), t.access_token_expiry) - 3600) < 300 \
                AND abs(unix_timestamp(t.access_token_expiry) - n.expires_at) IN (0, 5.5 * 3600) \
                AND abs(timestampdiff(SECOND, UTC_TIMESTAMP(), t.refresh_timestamp)) < 300";
    assert_eq!(site.count(ends).await, 2);
    site.expect_all_released(6).await;

    // Spare rows of a job that has ended wait for nothing.
    site.change("UPDATE token_exchange_token SET renew_at = 0").await;
    site.change("UPDATE t_file SET file_state = 'NOT_USED'").await;
    site.change("UPDATE t_job SET job_state = 'FINISHED'").await;
    assert_eq!(report(&site.once().output().await.unwrap()), "");
    assert_eq!((site.count("token_exchange_token").await, site.count("t_token").await), (0, 3));
    assert_eq!(site.issuer.token_calls().exchange - calls, 2);
    site.database.remove().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_of_the_version_before_is_named_and_mended_by_init_db() {
    let Some(site) = Site::start(1).await else { return };
    site.change("DROP TABLE token_exchange_token").await;
    let output = site.once().output().await.unwrap();
    let log = String::from_utf8_lossy(&output.stderr);
    let line = log.lines().last().unwrap_or_default();
    assert!(output.status.code() == Some(2) && line.contains("`token_exchange_token`"), "{log}");
    assert!(line.contains("init-db"), "{line}");
    assert!(site.worker(&["init-db"]).output().await.unwrap().status.success());
    assert_eq!(report(&site.once().output().await.unwrap()), "2 released");
    site.database.remove().await.unwrap();
}
