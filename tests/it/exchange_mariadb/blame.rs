//! What FTS failed for a token's reason is counted once, by side, storage and what was wrong.

use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::process::Child;

use super::site::{Site, report};

const REFUSED: [&str; 2] =
    ["SOURCE [1] HTTP 403 : Permission refused ", "DESTINATION [1] HTTP 403 : Permission refused "];

impl Site {
    fn daemon(&self, name: &str) -> Child {
        let log = std::fs::File::create(self.folder.path().join(name)).unwrap();
        self.worker(&[]).stdout(Stdio::null()).stderr(log).spawn().unwrap()
    }

    fn logs(&self) -> String {
        ["first.log", "second.log"]
            .map(|name| std::fs::read_to_string(self.folder.path().join(name)).unwrap_or_default())
            .concat()
    }

    /// FTS fails a file: its reason, and what else is so.
    async fn fail(&self, file: i64, reason: &str, also: &str) {
        self.change(&format!(
            "UPDATE t_file SET file_state = 'FAILED', start_time = UTC_TIMESTAMP() - INTERVAL 60 SECOND, \
             finish_time = UTC_TIMESTAMP(), reason = '{reason}' {also} WHERE file_id = {file}"
        ))
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fts_failed_for_a_token_is_counted_once_and_its_cause_is_told() {
    let Some(site) = Site::start(5).await else { return };
    assert_eq!(report(&site.once().output().await.unwrap()), "10 released");
    let ids = site.database.rows(&["file_id"], "t_file ORDER BY file_id").await.unwrap();
    let ids: Vec<i64> = ids.iter().map(|row| row[0].as_deref().unwrap().parse().unwrap()).collect();
    // From before anybody looked.
    site.fail(
        ids[9],
        REFUSED[0],
        ", start_time = '2020-01-01 00:00:00', finish_time = '2020-01-01 00:01:00'",
    )
    .await;
    let mut workers = [site.daemon("first.log"), site.daemon("second.log")];
    site.until("token_exchange_look WHERE name = 'failed'", 1).await;
    site.change(
        "INSERT INTO t_token (token_id, access_token, access_token_expiry, issuer, scope, audience, unmanaged) SELECT n.id, 'canary', \
         UTC_TIMESTAMP() + INTERVAL n.ends SECOND, issuer, 'storage.read:/data', n.aud, 1 FROM t_token_provider, \
         (SELECT 'ended' AS id, -120 AS ends, 'https://source.example' AS aud UNION SELECT 'ending', -30, 'https://source.example' \
          UNION SELECT 'other', 900, 'https://else.example' UNION SELECT 'narrow', 900, 'https://destination.example') n",
    )
    .await;
    site.fail(ids[0], REFUSED[0], ", src_token_id = 'ended'").await;
    site.fail(ids[1], REFUSED[0], ", src_token_id = 'ended'").await;
    site.fail(ids[2], REFUSED[0], ", src_token_id = 'ending'").await;
    site.fail(ids[3], REFUSED[1], ", dst_token_id = NULL").await;
    site.fail(ids[4], REFUSED[1], ", dst_token_id = 'other'").await;
    site.fail(ids[5], REFUSED[1], ", dst_token_id = 'narrow'").await;
    let bearer = "(SELECT token_id FROM t_token WHERE audience = 'fts.example')";
    site.fail(ids[6], REFUSED[0], &format!(", src_token_id = {bearer}, dst_token_id = src_token_id")).await;
    // The last attempt stumbled over what the first had left.
    site.fail(
        ids[7],
        "TRANSFER [13] Copy failed (3rd pull). Last attempt: copy HTTP 401 : Authentication Error ",
        "",
    )
    .await;
    site.change(&format!(
        "INSERT INTO t_file_retry_errors (file_id, attempt, reason) VALUES ({}, 0, 'TRANSFER [5] Copy failed (3rd pull). Last \
         attempt: Transfer failure: Remote side failed with status code 403'), ({}, 1, 'x')",
        ids[7], ids[7]
    ))
    .await;
    site.fail(ids[8], "SOURCE [2] Result HTTP 404 : File not found  after 1 attempts", "").await;
    let expected = [
        (2, "SOURCE", "source", "the token had ended before the transfer began"),
        (1, "SOURCE", "source", "the token ended during the transfer"),
        (1, "SOURCE", "source", "the bearer of the submission"),
        (1, "SOURCE", "source", "refused the token that the other one brought"),
        (1, "DESTINATION", "destination", "the file had no token"),
        (1, "DESTINATION", "destination", "audience is not this storage"),
        (1, "DESTINATION", "destination", "scopes do not cover the path"),
    ];
    let end = Instant::now() + Duration::from_secs(60);
    while site.logs().matches("FTS has failed files for their token").count() < expected.len() {
        assert!(Instant::now() < end, "{}", site.logs());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    for worker in &mut workers {
        worker.kill().await.unwrap();
    }
    let log = site.logs();
    let status = site.worker(&["status", "--json"]).output().await.unwrap();
    let status: Value = serde_json::from_slice(&status.stdout).unwrap();
    for (files, side, endpoint, why) in expected {
        let lines: Vec<&str> = log
            .lines()
            .filter(|line| {
                line.contains(&format!("side=\"{side}\""))
                    && line.contains(&format!("https://{endpoint}.example"))
                    && line.contains(why)
            })
            .collect();
        let counted: usize = lines
            .iter()
            .map(|line| {
                line.split("files=").nth(1).unwrap().split(' ').next().unwrap().parse::<usize>().unwrap()
            })
            .sum();
        assert_eq!(counted, files, "{why}: {log}");
        let told = status["failed"].as_array().unwrap().iter().filter(|told| {
            told["why"].as_str().unwrap().contains(why) && told["side"] == side && told["files"] == files
        });
        assert_eq!(told.count(), 1, "{why}: {status}");
    }
    assert!(!log.contains("canary"));
    let explained = site.worker(&["explain", &ids[0].to_string()]).output().await.unwrap();
    let explained = String::from_utf8_lossy(&explained.stdout).into_owned();
    assert!(
        explained.contains("the source token: ") && explained.contains("had ended before the transfer"),
        "{explained}"
    );
    site.database.remove().await.unwrap();
}
