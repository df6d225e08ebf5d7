//! What `token-exchange doctor` says.

use std::time::Duration;

use serde_json::json;
use testbed::issuer::Fault;

use crate::rig::Rig;

const CONFIG: &str = "token-exchange.toml";

#[tokio::test(flavor = "multi_thread")]
async fn all_is_green_where_all_is_well() {
    let rig = Rig::healthy().await;
    let messages =
        format!("[refresh]\nmessaging_directory = \"{}\"\n[cache]", rig.grid.messaging_directory().display());
    rig.configure(CONFIG, &[("[cache]", &messages)]);
    let seen = rig.exchange_of(json!({})).await;
    seen.is_all_green()
        .says("green", "FTS's database", &["schema 10"])
        .says("green", "FTS's database", &["FTS's own worker does not run"])
        .says(
            "green",
            "issuer",
            &["FTS knows it as `testbed`, VO `testvo`", "`fts-exchange` of our configuration"],
        )
        .says("green", "issuer", &["its name is exact"])
        .says("green", "issuer", &["of client `rucio-conveyor` for audience `127.0.0.1`"])
        .says(
            "green",
            "storage https://127.0.0.1",
            &["given to `fts-exchange` for audience `https://127.0.0.1:"],
        )
        .says(
            "green",
            "storage https://127.0.0.1",
            &["HEAD /vo/rucio/doctor", "404", "so the token is taken"],
        )
        .says("green", "FTS's messaging directory", &["this user can make a socket"]);
    assert_eq!(seen.count("access"), rig.grid.storages.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_token_of_a_job_is_taken_from_ftss_database() {
    let rig = Rig::healthy().await;
    // Nothing was submitted yet: the client is looked at by itself.
    rig.exchange(&[])
        .await
        .says("skipped", "issuer", &["FTS holds no living token of a job", "--subject-token-file"])
        .says("green", "issuer", &["it knows `fts-exchange` and its secret"])
        .says("skipped", "storages", &["there is no token to exchange"])
        .ends(0);
    rig.rucio("UPDATE requests SET state = 'W' WHERE state = 'Q' AND name NOT LIKE 'mc26.simple.%'").await;
    let done = rig.grid.conveyor(&["--run-once"]).output().await.unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    rig.exchange(&[]).await.is_all_green().says("green", "issuer", &["of client `rucio-conveyor`"]).says(
        "green",
        "storage https://127.0.0.1",
        &["HEAD /vo/rucio/test/", "so the token is taken"],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_of_exchange_that_is_not_enabled_is_named() {
    let rig = Rig::healthy().await;
    rig.grid.issuer.set_fault(Fault::Refuse("unauthorized_client"));
    rig.exchange_of(json!({}))
        .await
        .says("red", "storage", &["unauthorized_client", "enable this grant for client `fts-exchange`"])
        .blames_only("storage")
        .ends(2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exchange_that_a_policy_forbids_is_named() {
    let rig = Rig::healthy().await;
    rig.grid.issuer.set_fault(Fault::Refuse("access_denied"));
    rig.exchange_of(json!({})).await.says("red", "storage", &["access_denied", "exchange policies"]).ends(2);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_client_on_both_sides_is_named() {
    let rig = Rig::healthy().await;
    rig.exchange_of(json!({"sub": "fts-exchange", "client_id": "fts-exchange"}))
        .await
        .says("red", "issuer", &["the same client `fts-exchange`", "offline_access"])
        .blames_only("issuer")
        .ends(2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_would_have_to_be_widened_is_named() {
    let rig = Rig::healthy().await;
    let before = rig.grid.issuer.token_calls().total();
    rig.exchange_of(json!({"scope": "fts"}))
        .await
        .says(
            "red",
            "issuer",
            &["nothing to narrow to `storage.read:/ storage.modify:/`", "upscoping", "`[fts] scope`"],
        )
        .says("red", "storage", &["not asked:", "beyond the subject token"])
        .ends(2);
    assert_eq!(rig.grid.issuer.token_calls().total(), before, "more than was given is never asked for");
}

#[tokio::test(flavor = "multi_thread")]
async fn scopes_that_an_exchange_narrows_or_widens_are_named() {
    let rig = Rig::healthy().await;
    rig.grid.issuer.set_fault(Fault::NarrowScope);
    rig.exchange_of(json!({}))
        .await
        .says("red", "storage", &["narrowed:", "`storage.modify:/rucio` is missing"])
        .ends(2);
    rig.grid.issuer.set_fault(Fault::WidenScope);
    rig.exchange_of(json!({}))
        .await
        .says("red", "storage", &["widened: `storage.read:/`", "such a token is not handed over"])
        .ends(2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_audience_that_the_issuer_does_not_give_is_named() {
    let rig = Rig::healthy().await;
    rig.grid.issuer.set_fault(Fault::WrongAudience);
    rig.exchange_of(json!({}))
        .await
        .says(
            "red",
            "storage",
            &["audience `https://127.0.0.1:", "was asked for, and `https://elsewhere.invalid` given"],
        )
        .ends(2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_secret_of_the_worker_is_named() {
    let rig = Rig::healthy().await;
    std::fs::write(rig.grid.folder.join("fts-exchange.secret"), "canary-of-last-year\n").unwrap();
    rig.exchange_of(json!({}))
        .await
        .says("red", "storage", &["invalid_client", "client `fts-exchange`"])
        .ends(2);
    rig.exchange(&[]).await.says("red", "issuer", &["invalid_client", "or its secret is wrong"]).ends(2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_submitted_token_that_has_ended_is_named() {
    let rig = Rig::healthy().await;
    rig.exchange_of(json!({"iat": 1, "nbf": 1, "exp": 1_700_000_000}))
        .await
        .says("red", "issuer", &["it ended", "s ago"])
        .ends(2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_without_its_base_path_is_named() {
    let rig = Rig::healthy().await;
    rig.configure(CONFIG, &[("base_path = \"/vo\"\narea = \"/rucio\"", "area = \"/vo/rucio\"")]);
    rig.exchange_of(json!({}))
        .await
        .says(
            "red",
            "storage",
            &[
                "refused with 403",
                "it takes scope path `/rucio/doctor`",
                "set `base_path = \"/vo\"` in its [[endpoint]]",
            ],
        )
        .blames_only("storage")
        .ends(2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_audience_that_a_storage_wants_is_found() {
    let rig = Rig::with(|grid| grid.storage_audience = Some("127.0.0.1".into())).await;
    rig.exchange_of(json!({}))
        .await
        .says("red", "storage", &["it takes audience `127.0.0.1`", "in its [[endpoint]]"])
        .blames_only("storage")
        .ends(2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_fts_database_of_another_schema_is_named() {
    let rig = Rig::healthy().await;
    rig.fts("ALTER TABLE t_token RENAME COLUMN unmanaged TO unmanaged_token").await;
    rig.exchange_of(json!({}))
        .await
        .says("red", "FTS's database", &["lacks column `t_token.unmanaged`", "schema 10"])
        .says("skipped", "issuer", &["FTS's database was not read"])
        .says("green", "issuer", &["its name is exact"])
        .blames_only("FTS's database")
        .ends(2);
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_of_ours_that_are_missing_are_named() {
    let rig = Rig::healthy().await;
    rig.fts("DROP TABLE token_exchange_token").await;
    rig.exchange_of(json!({}))
        .await
        .says("red", "FTS's database", &["init-db"])
        .blames_only("FTS's database")
        .ends(2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issuer_without_a_row_in_t_token_provider_is_named() {
    let rig = Rig::healthy().await;
    rig.fts("DELETE FROM t_token_provider").await;
    rig.exchange_of(json!({}))
        .await
        .says("red", "issuer", &["FTS has no row for it", "t_token_provider"])
        .blames_only("issuer")
        .ends(2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_of_t_token_provider_without_its_slash_is_named() {
    let rig = Rig::healthy().await;
    rig.fts("UPDATE t_token_provider SET issuer = rtrim(issuer, '/')").await;
    rig.exchange_of(json!({})).await.says("red", "issuer", &["without a slash at the end"]).ends(2);
}

#[tokio::test(flavor = "multi_thread")]
async fn fts_token_running_beside_is_named() {
    let rig = Rig::healthy().await;
    rig.fts("INSERT INTO t_hosts (hostname, service_name, beat) VALUES ('fts-07.example', 'fts_token', datetime('now'))").await;
    rig.exchange_of(json!({}))
        .await
        .says("red", "FTS's database", &["it runs on fts-07.example", "stop it there"])
        .blames_only("FTS's database")
        .ends(2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_messaging_directory_that_is_not_there_is_named() {
    let rig = Rig::healthy().await;
    rig.configure(CONFIG, &[("[cache]", "[refresh]\nmessaging_directory = \"/no/such/folder\"\n[cache]")]);
    rig.exchange_of(json!({}))
        .await
        .says("red", "FTS's messaging directory /no/such/folder", &["No such file", "MessagingDirectory"])
        .ends(2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issuer_that_is_away_or_whose_tokens_are_short_is_said() {
    let rig = Rig::with(|grid| grid.endpoint_token_life = Some(Duration::from_secs(600))).await;
    rig.exchange_of(json!({}))
        .await
        .says("yellow", "storage", &["1800 s are wanted (`worker.min_token_life_s`)"])
        .ends(0);
    rig.grid.issuer.set_fault(Fault::Down);
    rig.exchange_of(json!({}))
        .await
        .says("red", "issuer", &["no connection"])
        .says("skipped", "storage", &["its issuer or our client there can't be used"])
        .ends(1);
}
