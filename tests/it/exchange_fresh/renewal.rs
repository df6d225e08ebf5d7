use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use testbed::grid::terminate;
use testbed::issuer::Fault;

use super::rig::Rig;

/// From DISK-A to DISK-B: two endpoint tokens.
const SIMPLE: &str = "mc26.simple";

#[tokio::test(flavor = "multi_thread")]
async fn tokens_of_waiting_files_are_renewed_in_place_by_one_worker_each() {
    const LIFE: Duration = Duration::from_secs(20);
    let rig = Rig::start(|settings| settings.endpoint_token_life = Some(LIFE)).await;
    rig.submit(SIMPLE, 5).await;
    let workers = [rig.worker("first"), rig.worker("second")];
    rig.until("t_file WHERE file_state = 'SUBMITTED'", 5, 60).await;
    // Until each was renewed three times; meanwhile no file ever waits with a token that has ended.
    let (begun, mut seen) = (Instant::now(), BTreeSet::new());
    let ids: BTreeSet<String> = rig.handed_over().await.into_iter().map(|(id, ..)| id).collect();
    assert_eq!(ids.len(), 2);
    while seen.len() < 2 * 4 {
        assert!(begun.elapsed() < 9 * LIFE, "{} tokens", seen.len());
        for (id, token, left) in rig.handed_over().await {
            assert!(ids.contains(&id) && left > 0, "{id} ends in {left} s");
            seen.insert(token);
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    // Nobody else renews what one has renewed: but for the first tokens, which each worker may have got for its own files, and what is
    // in flight just now, each call made a token that was handed over.
    let calls = rig.grid.issuer.token_calls().exchange;
    assert!(calls <= 2 * 4 + 2 + 2, "{calls} calls for {} tokens", seen.len());
    assert_eq!(rig.count("token_exchange_token WHERE attempts = 0 AND message IS NULL").await, 2);

    // A file that has ended needs none.
    rig.change("UPDATE t_file SET file_state = 'FINISHED'").await;
    rig.until("token_exchange_token", 0, 60).await;
    let calls = rig.grid.issuer.token_calls();
    tokio::time::sleep(LIFE).await;
    assert_eq!(rig.grid.issuer.token_calls(), calls);
    for worker in workers {
        terminate(worker).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_later_token_of_the_submitter_serves_when_the_first_has_ended() {
    // Both the bearer and what it is exchanged for.
    let rig = Rig::start(|settings| settings.token_life = Duration::from_secs(20)).await;
    rig.submit(SIMPLE, 2).await;
    let worker = rig.worker("worker");
    rig.until("t_file WHERE file_state = 'SUBMITTED'", 2, 60).await;
    let first: Vec<String> = rig.handed_over().await.into_iter().map(|(id, ..)| id).collect();
    // In time it is renewed from the first bearer; then that has ended, which is said.
    let why = "token_exchange_token WHERE message LIKE '%its submitter has given FTS no later one%'";
    rig.until(why, 2, 90).await;
    rig.until_said("worker", "a token that files wait for has ended and is not renewed").await;
    // A submitter goes on submitting, with a later token each time; what has ended is tried again at growing intervals, and lives when a
    // try falls into the life of one of those.
    let mut ended: BTreeSet<String> = first.into_iter().collect();
    let give_up = Instant::now() + Duration::from_secs(240);
    while !ended.is_empty() {
        assert!(Instant::now() < give_up, "not renewed: {ended:?}");
        rig.submit("data26.production", 1).await;
        for _ in 0..50 {
            let now = rig.handed_over().await;
            ended.retain(|id| !now.iter().any(|(now, _, left)| now == id && *left > 0));
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    terminate(worker).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issuer_in_trouble_is_tried_again_and_the_token_in_use_stays() {
    let rig = Rig::start(|settings| settings.endpoint_token_life = Some(Duration::from_secs(20))).await;
    rig.configure("[[issuer]]", "retry_total_s = 0");
    rig.submit(SIMPLE, 2).await;
    let worker = rig.worker("worker");
    rig.until("t_file WHERE file_state = 'SUBMITTED'", 2, 60).await;
    let before = rig.handed_over().await;
    rig.grid.issuer.set_fault(Fault::Status(503));
    rig.until("token_exchange_token WHERE attempts > 0 AND message LIKE '%503%'", 2, 60).await;
    rig.until("t_token WHERE refresh_message LIKE '%503%' AND refresh_timestamp IS NOT NULL", 2, 60).await;
    let same = |(one, other): (&(String, String, i64), &(String, String, i64))| one.1 == other.1;
    assert!(rig.handed_over().await.iter().zip(&before).all(same), "nothing was written over it");
    rig.grid.issuer.set_fault(Fault::None);
    rig.until("token_exchange_token WHERE attempts = 0 AND message IS NULL", 2, 60).await;
    rig.until("t_token WHERE refresh_message IS NOT NULL", 0, 60).await;
    assert_eq!(rig.count("t_file WHERE file_state = 'SUBMITTED'").await, 2);
    terminate(worker).await.unwrap();
}
