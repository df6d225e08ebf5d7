//! What `conveyor doctor` says of Rucio's database, the issuer, and the token for FTS.

use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use testbed::issuer::Fault;

use crate::rig::Rig;

const CONFIG: &str = "conveyor.toml";

#[tokio::test(flavor = "multi_thread")]
async fn all_is_green_where_all_is_well() {
    let rig = Rig::healthy().await;
    let seen = rig.conveyor().await;
    seen.is_all_green()
        .says("green", "issuer https://127.0.0.1", &["its name is exact"])
        .says("green", "issuer https://127.0.0.1", &["2 that tokens can be signed with"])
        .says("green", "issuer https://127.0.0.1", &["signed by `CN=Grid in a box CA`"])
        .says("green", "FTS https://127.0.0.1", &["`rucio-conveyor` of VO `testvo`, by oauth2"])
        .says("green", "FTS https://127.0.0.1", &["REST 3.13", "schema 10"])
        .says("green", "FTS https://127.0.0.1", &["given to `rucio-conveyor` for audience `127.0.0.1`"])
        .says("green", "RSEs of VO def", &["5 of 5 can be written by token"]);
    assert_eq!(seen.count("clock"), 2, "issuer and FTS");

    // For a person: a line each, without colours into a pipe.
    let output = rig.grid.conveyor(&["doctor"]).output().await.unwrap();
    rig.shows_no_secret(&output);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.lines().rev().skip(1).all(|line| line.starts_with("ok  ")), "{text}");
    assert!(
        text.ends_with("0 doubtful, 0 not right, 0 not looked at\n") && !text.contains('\u{1b}'),
        "{text}"
    );
    assert_eq!(rig.grid.fts.submissions(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_share_of_nothing_and_a_secret_for_all_are_doubtful() {
    let rig = Rig::healthy().await;
    rig.configure(
        CONFIG,
        &[("[http]", "[share]\nactivities = [\"Functional Tests\"]\nrses = [\"NOPE\"]\n[http]")],
    );
    let secret = rig.grid.conveyor_secret();
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o604)).unwrap();
    rig.conveyor()
        .await
        .says(
            "yellow",
            "RSEs of VO def",
            &["no queued request has the activity `Functional Tests`", "Functional Test,"],
        )
        .says("yellow", "RSEs of VO def", &["there is no RSE `NOPE`"])
        .says(
            "yellow",
            "our configuration",
            &["others may read", &secret.display().to_string(), "chmod o-rwx"],
        )
        .ends(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issuer_that_is_away_may_come_back() {
    let rig = Rig::healthy().await;
    rig.grid.issuer.set_fault(Fault::Down);
    rig.conveyor()
        .await
        .says("red", "issuer", &["no connection to 127.0.0.1", "refused"])
        .says("skipped", "issuer", &["not looked at: there was no answer"])
        .says("skipped", "FTS", &["not looked at: its issuer can't be used"])
        .says("green", "RSEs of VO def", &["5 of 5"])
        .ends(1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issuer_without_its_slash_is_named_as_it_is() {
    let rig = Rig::healthy().await;
    let name = rig.grid.issuer.name().to_owned();
    rig.configure(CONFIG, &[(&name, name.trim_end_matches('/'))]);
    let todo = format!("set `url = \"{name}\"`");
    rig.conveyor()
        .await
        .says("red", "issuer", &[&format!("it names itself `{name}`"), "slash at the end", &todo])
        .blames_only("issuer")
        .ends(2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_authority_is_named() {
    let rig = Rig::healthy().await;
    let ours = rig.grid.pki.ca_file().display().to_string();
    let strange = concat!(env!("CARGO_MANIFEST_DIR"), "/../crates/token-core/tests/data/ca.pem");
    rig.configure(CONFIG, &[(&ours, strange)]);
    let strange = format!("which is not among the authorities of `ca_file` = {strange}");
    rig.conveyor()
        .await
        .says("red", "issuer", &["signed by `CN=Grid in a box CA`", &strange])
        .says("red", "FTS", &["signed by `CN=Grid in a box CA`", &strange])
        .ends(2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authority_that_has_a_new_key_is_named() {
    let rig = Rig::healthy().await;
    let (ours, namesake) = (rig.grid.pki.ca_file().display().to_string(), rig.namesake());
    rig.configure(CONFIG, &[(&ours, &namesake)]);
    rig.conveyor()
        .await
        .says("red", "issuer", &["signed by `CN=Grid in a box CA`", "has another key", &namesake])
        .ends(2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_scope_is_named() {
    let rig = Rig::healthy().await;
    rig.configure(CONFIG, &[("storage.modify:/\"", "storage.modify:/ storage.stage:/\"")]);
    rig.conveyor()
        .await
        .says("red", "FTS", &["refused with invalid_scope"])
        .says(
            "red",
            "FTS",
            &["does not get `storage.stage:/`", "register `storage.stage:/` for client `rucio-conveyor`"],
        )
        .says("skipped", "FTS", &["there is no token to show"])
        .blames_only("FTS")
        .ends(2);
}

#[tokio::test(flavor = "multi_thread")]
async fn narrowed_scopes_are_named() {
    let rig = Rig::healthy().await;
    rig.grid.issuer.set_fault(Fault::NarrowScope);
    rig.conveyor()
        .await
        .says("red", "FTS", &["narrowed:", "`storage.modify:/` is missing", "scope policies"])
        .blames_only("FTS")
        .ends(2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_for_another_audience_is_named() {
    let rig = Rig::healthy().await;
    rig.grid.issuer.set_fault(Fault::WrongAudience);
    rig.conveyor()
        .await
        .says("red", "FTS", &["audience `127.0.0.1` was asked for, and `https://elsewhere.invalid` given"])
        .ends(2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_is_wrong_or_has_ended_is_named() {
    let rig = Rig::healthy().await;
    std::fs::write(rig.grid.conveyor_secret(), "canary-of-last-year\n").unwrap();
    rig.conveyor()
        .await
        .says(
            "red",
            "FTS",
            &["invalid_client", "client `rucio-conveyor`, or its secret is wrong or has ended"],
        )
        .blames_only("FTS")
        .ends(2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_file_that_can_not_be_used_is_named_and_the_rest_is_looked_at() {
    let rig = Rig::healthy().await;
    let path = rig.grid.conveyor_secret();
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
    rig.conveyor()
        .await
        .says("red", "our clients", &["the secret file", "rucio-conveyor.secret"])
        .says("skipped", "FTS", &["our client can't be used"])
        .says("green", "FTS", &["REST 3.13"])
        .says("green", "issuer", &["its name is exact"])
        .blames_only("our clients")
        .ends(2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_that_the_client_may_not_use_is_named() {
    let rig = Rig::healthy().await;
    rig.grid.issuer.set_fault(Fault::Refuse("unauthorized_client"));
    rig.conveyor().await.says("red", "FTS", &["enable this grant for client `rucio-conveyor`"]).ends(2);
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_that_end_too_soon_are_named() {
    let rig = Rig::with(|grid| grid.token_life = Duration::from_secs(300)).await;
    rig.conveyor()
        .await
        .says("yellow", "FTS", &["it lives", "600 s are wanted (`fts.min_token_life_s`)"])
        .ends(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn rses_are_named_with_what_they_lack() {
    let rig = Rig::healthy().await;
    let attribute = |rse: &str, key: &str| {
        format!(
            "DELETE FROM rse_attr_map WHERE key = '{key}' AND rse_id = (SELECT id FROM rses WHERE rse = '{rse}')"
        )
    };
    rig.rucio(&attribute("DISK-A", "fts")).await;
    rig.rucio(&attribute("DISK-B", "oidc_support")).await;
    rig.rucio(
        "UPDATE rse_protocols SET scheme = 'root' WHERE rse_id = (SELECT id FROM rses WHERE rse = 'DISK-C')",
    )
    .await;
    rig.rucio("UPDATE rse_attr_map SET value = '/pnfs' WHERE key = 'oidc_base_path' AND rse_id = (SELECT id FROM rses WHERE rse = 'DISK-D')")
        .await;
    rig.conveyor()
        .await
        .says("green", "RSEs of VO def", &["2 of 5 can be written by token"])
        .says("yellow", "RSEs of VO def", &["without the attribute `fts`", ": DISK-A", "set-attribute"])
        .says("yellow", "RSEs of VO def", &["without `oidc_support`", ": DISK-B"])
        .says("yellow", "RSEs of VO def", &["without a davs protocol", ": DISK-C"])
        .says("red", "RSEs of VO def", &["`oidc_base_path`", ": DISK-D"])
        .blames_only("RSEs")
        .ends(2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rucio_database_of_another_schema_is_named_and_the_issuer_is_looked_at() {
    let rig = Rig::healthy().await;
    rig.rucio("ALTER TABLE requests RENAME COLUMN transfertool TO transfer_tool").await;
    rig.conveyor()
        .await
        .says("red", "Rucio's database", &["lacks column `requests.transfertool`", "version 41"])
        .says("skipped", "Rucio's database", &["it was not opened"])
        .says("green", "issuer", &["its name is exact"])
        .says("skipped", "FTS", &["no FTS is known"])
        .blames_only("Rucio's database")
        .ends(2);
}
