//! Retirement of old tokens, under FTS's own foreign keys.

use std::process::Output;

use serde_json::Value;

use super::site::Site;

/// The states in which FTS may still come back to a file.
const LIVE: [&str; 13] = [
    "STAGING",
    "ARCHIVING",
    "QOS_TRANSITION",
    "QOS_REQUEST_SUBMITTED",
    "STARTED",
    "SUBMITTED",
    "READY",
    "ACTIVE",
    "NOT_USED",
    "ON_HOLD",
    "ON_HOLD_STAGING",
    "FORCE_START",
    "TOKEN_PREP",
];

impl Site {
    /// A token that ends so many seconds from now.
    async fn token(&self, id: &str, ends_in_s: i64) {
        self.change(&format!(
            "INSERT INTO t_token (token_id, access_token, access_token_expiry, issuer, scope, audience) SELECT '{id}', 'x', \
             UTC_TIMESTAMP() + INTERVAL {ends_in_s} SECOND, issuer, 'storage.read:/', 'https://s' FROM t_token_provider"
        ))
        .await;
    }

    /// A file that refers to these tokens, of a job that is put off for long.
    async fn file(&self, state: &str, source: &str, destination: &str) {
        self.change(&format!(
            "INSERT INTO t_file (job_id, file_state, file_state_initial, source_surl, dest_surl, src_token_id, dst_token_id) \
             SELECT min(job_id), '{state}', 'SUBMITTED', 'davs://s/f', 'davs://d/f', '{source}', '{destination}' FROM t_job"
        ))
        .await;
    }

    async fn tokens(&self, like: &str) -> i64 {
        self.count(&format!("t_token WHERE token_id LIKE '{like}%'")).await
    }
}

fn retired(output: &Output) -> u64 {
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !log.contains("ERROR"), "{log}");
    serde_json::from_slice::<Value>(&output.stdout).unwrap()["retired"].as_u64().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_has_ended_and_no_file_refers_to_is_deleted() {
    let Some(site) = Site::start(1).await else { return };
    assert_eq!(retired(&site.once().output().await.unwrap()), 0);
    site.change(
        "INSERT INTO token_exchange_lease (job_id, owner, lease_end, attempts, retry_at) \
         SELECT job_id, 'x', 0, 1, unix_timestamp() + 600 FROM t_job",
    )
    .await;
    for (at, state) in LIVE.iter().enumerate() {
        // Each side has an index and a foreign key of its own.
        let (source, destination) = (format!("live{at}s"), format!("live{at}d"));
        site.token(&source, -86_400).await;
        site.token(&destination, -86_400).await;
        site.file(state, &source, &destination).await;
    }
    for (id, ends_in_s) in
        [("old1", -4000), ("old2", -864_000), ("new", 30), ("just", -60), ("over", -90_000)]
    {
        site.token(id, ends_in_s).await;
    }
    for (id, lease) in [("old1", 0), ("old2", 600)] {
        site.change(&format!(
            "INSERT INTO token_exchange_token (token_id, how, subject_id, subject_sub, subject_audience, obtained_at, expires_at, \
             renew_at, owner, lease_end, turn, attempts, handed) VALUES ('{id}', 'exchange', '', '', '', 0, 0, \
             unix_timestamp() + 600, '', unix_timestamp() + {lease}, 0, 0, 1)"
        ))
        .await;
    }
    site.file("FINISHED", "over", "over").await;
    assert_eq!(retired(&site.once().output().await.unwrap()), 1);
    assert_eq!((site.tokens("old1").await, site.tokens("old2").await), (0, 1), "one is being renewed");
    assert_eq!(
        site.count("token_exchange_token WHERE token_id LIKE 'old%'").await,
        1,
        "what we hold goes with it"
    );
    // Of a submission in the making, of one that has just ended, and the bearer that renewals are exchanged for.
    assert_eq!((site.tokens("new").await, site.tokens("just").await), (1, 1));
    assert_eq!(site.count("t_token WHERE audience = 'fts.example'").await, 1);
    assert_eq!((site.tokens("live").await, site.tokens("over").await), (26, 1), "files refer to them");

    // As FTS does with old files; and it is over for the lease, and for a job that nobody waits for.
    site.change("DELETE FROM t_file WHERE file_state IN ('FINISHED', 'ACTIVE', 'TOKEN_PREP')").await;
    site.change("UPDATE token_exchange_token SET lease_end = 0 WHERE token_id = 'old2'").await;
    site.change("UPDATE token_exchange_lease SET retry_at = unix_timestamp() - 4000").await;
    assert_eq!(retired(&site.once().env("TOKEN_EXCHANGE__RETIRE__BATCH", "2").output().await.unwrap()), 6);
    assert_eq!((site.tokens("live").await, site.tokens("o").await), (22, 0));
    assert_eq!(site.count("token_exchange_lease").await, 0);
    assert_eq!(site.count("token_exchange_token").await, 2, "those of the released files");
    site.database.remove().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn two_workers_delete_side_by_side_and_what_a_file_has_just_come_to_use_stays() {
    const TOKENS: i64 = 3000;
    let Some(site) = Site::start(1).await else { return };
    site.change(&format!(
        "INSERT INTO t_token (token_id, access_token, access_token_expiry, issuer, scope, audience) SELECT \
         concat('old', lpad(seq, 6, '0')), 'x', UTC_TIMESTAMP() - INTERVAL 1 DAY, issuer, 's', 'a' FROM seq_1_to_{TOKENS}, t_token_provider"
    ))
    .await;
    // A file that nobody else can see yet.
    let mut using = site.pool().begin().await.unwrap();
    sqlx::query(
        "INSERT INTO t_file (job_id, file_state, src_token_id, dst_token_id) \
         SELECT min(job_id), 'SUBMITTED', 'old000700', 'old000700' FROM t_job",
    )
    .execute(&mut *using)
    .await
    .unwrap();
    let [first, second] = [site.once().spawn().unwrap(), site.once().spawn().unwrap()];
    let waiting = "information_schema.processlist WHERE db = DATABASE() AND info LIKE 'DELETE FROM t_token%'";
    site.until(waiting, 1).await;
    using.commit().await.unwrap();
    let (first, second) = tokio::join!(first.wait_with_output(), second.wait_with_output());
    let deleted = [first, second].map(|output| retired(&output.unwrap()));
    assert_eq!(deleted.iter().sum::<u64>(), u64::try_from(TOKENS).unwrap() - 1, "{deleted:?}");
    assert_eq!(site.tokens("old").await, 1);
    site.database.remove().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn it_can_be_left_to_ftss_own_housekeeper() {
    let Some(site) = Site::start(1).await else { return };
    site.token("old", -864_000).await;
    let off = site.once().env("TOKEN_EXCHANGE__RETIRE__ENABLED", "false").output().await.unwrap();
    assert_eq!((retired(&off), site.tokens("old").await), (0, 1));
    site.database.remove().await.unwrap();
}
