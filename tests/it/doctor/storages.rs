//! What `conveyor doctor` says of storages that jobs carry tokens for.

use crate::rig::Rig;

const CONFIG: &str = "conveyor.toml";

/// Jobs carry tokens for storages, with what an [[rse]] says of all RSEs.
fn sending(rig: &Rig, rse: &str) {
    let more = format!("[storage_tokens]\nsend = \"unmanaged\"\n[[rse]]\n{rse}\n[cache]");
    rig.configure(CONFIG, &[("[cache]", &more)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn storages_that_take_their_tokens_are_green() {
    let rig = Rig::healthy().await;
    sending(&rig, "audience = \"{url}\"");
    rig.conveyor()
        .await
        .is_all_green()
        .says(
            "green",
            "storage of DISK-A",
            &["HEAD /vo/rucio/doctor", "404", "scope `storage.read:/rucio storage.modify:/rucio`"],
        )
        .says("green", "storage of ISLAND", &["so the token is taken"]);
    let refusals = rig.grid.storages["DISK-A"].last_refusals();
    assert!(refusals.iter().all(|why| why.starts_with("HEAD")), "only looked at: {refusals:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_audience_that_a_storage_wants_is_found() {
    let rig = Rig::with(|grid| grid.storage_audience = Some("127.0.0.1:{port}".into())).await;
    sending(&rig, "audience = \"{url}\"");
    let port = rig.grid.storages["DISK-B"].server().address().port();
    let takes = format!("it takes audience `127.0.0.1:{port}`");
    let todo = format!("set `audience = \"127.0.0.1:{port}\"` in its [[rse]]");
    rig.conveyor()
        .await
        .says("red", "storage of DISK-B", &["refused with 403", &takes, &todo])
        .blames_only("storage of")
        .ends(2);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_base_path_that_is_missing_is_found() {
    let rig = Rig::healthy().await;
    sending(&rig, "audience = \"{url}\"");
    rig.rucio("DELETE FROM rse_attr_map WHERE key = 'oidc_base_path' AND rse_id = (SELECT id FROM rses WHERE rse = 'DISK-D')").await;
    rig.conveyor()
        .await
        .says(
            "red",
            "storage of DISK-D",
            &["refused with 403", "it takes scope path `/data/doctor`", "set `base_path = \"/vo\"`"],
        )
        .says("green", "storage of DISK-A", &["so the token is taken"])
        .blames_only("storage of DISK-D")
        .ends(2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storage_that_takes_nothing_is_said_to_take_nothing() {
    let rig = Rig::with(|grid| grid.storage_audience = Some("a name that nobody guesses".into())).await;
    sending(&rig, "audience = \"{url}\"");
    rig.conveyor()
        .await
        .says(
            "red",
            "storage of DISK-A",
            &["so are audience `https://127.0.0.1:", "does not trust this issuer"],
        )
        .ends(2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storage_that_is_away_may_come_back() {
    let rig = Rig::healthy().await;
    sending(&rig, "audience = \"{url}\"");
    rig.grid.storages["DISK-C"].server().set_up(false);
    rig.conveyor()
        .await
        .says("red", "storage of DISK-C", &["no connection to 127.0.0.1"])
        .blames_only("storage of DISK-C")
        .ends(1);
}
