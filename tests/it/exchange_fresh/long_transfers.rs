//! Transfers that run longer than their tokens live, through the whole chain. Tokens live 20 s and files take 60 s;
//! `FRESH_TOKEN_LIFE_S` and `FRESH_FILE_S` say otherwise.

use std::time::Duration;

use testbed::grid::terminate;
use testbed::storage::CopyFault;

use super::rig::Rig;

const FILES: usize = 3;

fn seconds(name: &str, default: u64) -> Duration {
    let set = std::env::var(name).ok().and_then(|text| text.parse().ok());
    Duration::from_secs(set.unwrap_or(default))
}

async fn slow_rig() -> (Rig, Duration) {
    let (life, file) = (seconds("FRESH_TOKEN_LIFE_S", 20), seconds("FRESH_FILE_S", 60));
    assert!(file > life);
    let rig = Rig::start(|settings| settings.endpoint_token_life = Some(life)).await;
    for storage in rig.grid.storages.values() {
        storage.set_copy_fault(CopyFault::Trickle(file));
    }
    rig.submit("mc26.simple", FILES).await;
    (rig, file)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_managed_transfer_longer_than_its_tokens_finishes() {
    let (rig, file) = slow_rig().await;
    let folder = format!("messaging_directory = \"{}\"", rig.grid.messaging_directory().display());
    rig.configure("[refresh]", &folder);
    rig.grid.fts.set_scheduler(true);
    let worker = rig.worker("worker");
    let finished = "t_file f JOIN t_token s ON s.token_id = f.src_token_id JOIN t_token d ON d.token_id = f.dst_token_id \
                    WHERE f.file_state = 'FINISHED' AND s.unmanaged = 0 AND d.unmanaged = 0 AND s.refresh_token IS NULL";
    rig.until(finished, i64::try_from(FILES).unwrap(), file.as_secs() + 120).await;
    assert_eq!(rig.count("t_file WHERE unixepoch(finish_time) - unixepoch(start_time) < 15").await, 0);
    terminate(worker).await.unwrap();
    let log = rig.log("worker");
    assert!(log.contains("refresh request answered") && !log.contains("refresh request refused"), "{log}");
    let refused: u64 = rig.grid.storages.values().map(testbed::storage::Storage::refused).sum();
    assert_eq!(refused, 0, "no storage saw a token that had ended");
    assert!(!rig.grid.messaging_directory().join("url_copy-token-refresh.ipc").exists(), "it is taken away");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unmanaged_one_finishes_with_strict_copy_and_else_it_is_said_why_not() {
    let (rig, file) = slow_rig().await;
    // So that it is looked at every second.
    rig.configure("[refresh]", "margin_s = 3");
    // As for a submitter who asks for it.
    rig.change("UPDATE t_job SET internal_job_params = coalesce(internal_job_params || ',', '') || 'strict'")
        .await;
    // Such a copy makes no directory.
    let urls: Vec<String> =
        sqlx::query_scalar("SELECT dest_surl FROM t_file").fetch_all(&rig.fts).await.unwrap();
    for url in urls {
        let (at, path) = rig.grid.storage_of(&url).unwrap();
        let storage = rig.grid.storages.values().find(|storage| storage.url() == at).unwrap();
        storage.add_directory(path.rsplit_once('/').unwrap().0);
    }
    rig.submit("data26.production", 1).await;
    assert_eq!(rig.count("t_job WHERE coalesce(internal_job_params, '') NOT LIKE '%strict'").await, 1);
    rig.grid.fts.set_scheduler(true);
    let worker = rig.worker("worker");
    let all = i64::try_from(FILES).unwrap();
    rig.until("t_file WHERE file_state = 'FINISHED'", all, file.as_secs() + 120).await;
    // As recorded of a real FTS: the copy is made, and the look at it after that refused.
    let failed =
        "t_file WHERE file_state = 'FAILED' AND reason = 'DESTINATION [1] HTTP 403 : Permission refused '";
    rig.until(failed, 1, file.as_secs() + 120).await;
    assert_eq!(rig.count("t_token WHERE unmanaged = 1").await, 4);
    terminate(worker).await.unwrap();
    assert!(rig.log("worker").contains("run longer than the unmanaged token lives"), "{}", rig.log("worker"));
}
