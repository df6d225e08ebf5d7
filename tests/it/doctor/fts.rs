//! What `conveyor doctor` says of FTS and of clocks.

use crate::rig::Rig;

#[tokio::test(flavor = "multi_thread")]
async fn an_audience_that_fts_does_not_take_is_found_by_trying_others() {
    let rig = Rig::healthy().await;
    rig.configure("conveyor.toml", &[("audience = \"{host}\"", "audience = \"{url}\"")]);
    rig.conveyor()
        .await
        .says(
            "red",
            "FTS",
            &["anonymous: it does not take audience `https://127.0.0.1:", "and takes `127.0.0.1`"],
        )
        .says("red", "FTS", &["set `audience = \"127.0.0.1\"`"])
        .blames_only("FTS")
        .ends(2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issuer_that_fts_does_not_know_is_named() {
    let rig = Rig::with(|grid| grid.fts_knows = Some("https://127.0.0.1:1/".into())).await;
    let issuer = format!("does not know issuer `{}`", rig.grid.issuer.name());
    rig.conveyor()
        .await
        .says(
            "red",
            "FTS",
            &["anonymous with audience `127.0.0.1`; so it does with audience", &issuer, "restart"],
        )
        .blames_only("FTS")
        .ends(2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_of_fts_that_is_five_minutes_behind_is_named() {
    let rig = Rig::with(|grid| grid.clocks_off = (0, -300)).await;
    rig.conveyor()
        .await
        .says("red", "FTS", &["s behind that of issuer", "a fresh token is not valid there"])
        .says("red", "FTS", &["anonymous: by its clock the token begins in ", "mend the clock"])
        .says("green", "issuer", &["as ours"])
        .blames_only("FTS")
        .ends(2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_of_the_issuer_that_is_five_minutes_ahead_is_named() {
    let rig = Rig::with(|grid| grid.clocks_off = (300, 0)).await;
    rig.conveyor()
        .await
        .says("red", "issuer", &["s ahead of ours"])
        .says("red", "FTS", &["s behind that of issuer"])
        .says("red", "FTS", &["by its clock the token begins in "])
        .ends(2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_for_another_name_is_named_with_the_names_it_has() {
    let names = vec!["fts.elsewhere.example".to_owned(), "localhost".to_owned()];
    let rig = Rig::with(|grid| grid.fts_certificate = Some((names, false))).await;
    rig.conveyor()
        .await
        .says("red", "FTS", &["it is not for the name `127.0.0.1`, but for fts.elsewhere.example, localhost"])
        .blames_only("FTS")
        .ends(2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_has_ended_is_named() {
    let rig = Rig::with(|grid| grid.fts_certificate = Some((vec!["127.0.0.1".to_owned()], true))).await;
    rig.conveyor()
        .await
        .says("red", "FTS", &["`CN=Grid in a box` ended", "days ago: it has expired", "renew it"])
        .blames_only("FTS")
        .ends(2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_fts_that_takes_no_tokens_is_told_which_setting() {
    let rig = Rig::with(|grid| grid.rest.oauth2 = false).await;
    rig.conveyor()
        .await
        .says("red", "FTS", &["Unsupported authentication method", "set `OAuth2 = True`"])
        .ends(2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_fts_that_is_away_may_come_back() {
    let rig = Rig::healthy().await;
    rig.grid.fts.server().set_up(false);
    rig.conveyor()
        .await
        .says("red", "FTS", &["no connection to 127.0.0.1"])
        .says("skipped", "FTS", &["not looked at: there was no answer"])
        .blames_only("FTS")
        .ends(1);
}
