//! What is read and written, on FTS's tables on SQLite.

use std::path::Path;

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, Row as _, SqlitePool};

use super::hand_over::{Handed, Parcel, Rest};
use super::lease::Look;
use super::renew::Hold;
use super::*;
use crate::decide::{Fate, Kind};

const ISSUER: &str = "https://i/";
pub(crate) const NOW: UnixSeconds = UnixSeconds(1_000_000_000);
const END: UnixSeconds = UnixSeconds(NOW.0 + 120);

pub(crate) async fn start(folder: &Path) -> (FtsDatabase, SqlitePool) {
    let path = folder.join("fts.sqlite");
    let options = SqliteConnectOptions::new().filename(&path).create_if_missing(true);
    let pool = SqlitePool::connect_with(options).await.unwrap();
    sqlx::raw_sql(include_str!("../../../../tests/src/fts/schema.sql")).execute(&pool).await.unwrap();
    let place = Place::try_from(format!("sqlite:///{}", path.display())).unwrap();
    let fts = FtsDatabase::open(&place, &Tls::Off).await.unwrap();
    fts.init().await.unwrap();
    run(&pool, &format!("INSERT INTO t_token_provider VALUES ('n', '{ISSUER}', 'c', 's', NULL, NULL)")).await;
    (fts, pool)
}

pub(crate) async fn run(pool: &SqlitePool, sql: &str) {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(pool).await.unwrap();
}

pub(crate) async fn texts(pool: &SqlitePool, sql: &str) -> Vec<String> {
    let rows = sqlx::query(AssertSqlSafe(sql)).fetch_all(pool).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

/// A token that ends so many seconds from now.
pub(crate) async fn token(pool: &SqlitePool, id: &str, left: i64, refresh: &str) {
    let end = stamp(UnixSeconds(NOW.0 + left));
    let sql = format!(
        "INSERT INTO t_token (token_id, access_token, access_token_expiry, refresh_token, issuer, scope, audience) \
         VALUES ('{id}', 'x', '{end}', '{refresh}', '{ISSUER}', 's', 'a')"
    );
    run(pool, &sql).await;
}

/// A job whose rows have these states, with what FTS had planned for each.
async fn job(pool: &SqlitePool, id: &str, letter: &str, rows: &[(&str, &str)]) {
    run(
        pool,
        &format!("INSERT INTO t_job (job_id, job_state, job_type) VALUES ('{id}', 'ACTIVE', '{letter}')"),
    )
    .await;
    for (state, planned) in rows {
        let sql = format!(
            "INSERT INTO t_file (job_id, file_state, file_state_initial, source_surl, dest_surl) \
             VALUES ('{id}', '{state}', '{planned}', 'davs://s/f', 'davs://d/f')"
        );
        run(pool, &sql).await;
    }
}

fn look() -> Look {
    Look { after: 0, limit: 10, now: NOW, due_by: NOW, end: END, busy: Vec::new() }
}

#[tokio::test]
async fn rows_for_several_destinations_do_not_stand_in_for_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let (fts, pool) = start(folder.path()).await;
    let waits = ("TOKEN_PREP", "SUBMITTED");
    job(&pool, "both", "R", &[waits, waits]).await;
    job(&pool, "one-done", "R", &[("FINISHED", "SUBMITTED"), waits]).await;
    job(&pool, "one-was-never-there", "R", &[("ACTIVE", ""), waits]).await;
    job(&pool, "sources", "R", &[waits, ("TOKEN_PREP", "NOT_USED")]).await;
    job(&pool, "source-late", "R", &[("FAILED", ""), ("FAILED", ""), ("TOKEN_PREP", "NOT_USED")]).await;
    job(&pool, "hops", "H", &[waits, ("TOKEN_PREP", "NOT_USED")]).await;
    let ids = ["both", "one-done", "one-was-never-there", "sources", "source-late", "hops"];
    let kinds = |jobs: Vec<waiting::WaitingJob>| {
        ids.map(|id| jobs.iter().find(|job| job.lease.job == id).map(|job| job.kind))
    };
    let expected =
        [Kind::Plain, Kind::Plain, Kind::Plain, Kind::Replicas, Kind::Replicas, Kind::Hops].map(Some);
    assert_eq!(kinds(fts.waiting(&ids).await.unwrap()), expected);
    assert_eq!(kinds(fts.lease(&look()).await.unwrap().jobs), expected);
}

#[tokio::test]
async fn a_given_token_that_nobody_renews_is_handed_over_unmanaged() {
    let folder = tempfile::tempdir().unwrap();
    let (fts, pool) = start(folder.path()).await;
    for (id, refresh) in [("plain", ""), ("renewed", "r"), ("unused", "")] {
        token(&pool, id, 600, refresh).await;
    }
    job(&pool, "j", "N", &[("TOKEN_PREP", "SUBMITTED")]).await;
    let lease = fts.lease(&look()).await.unwrap().jobs.remove(0).lease;
    let given = |id: &str, ends| Handed::Given { id: id.into(), ends };
    let fate = Fate::Release {
        state: "SUBMITTED".into(),
        source: given("plain", Some(UnixSeconds(NOW.0 + 600))),
        destination: given("renewed", None),
    };
    let parcel = Parcel { lease, kind: Kind::Plain, fates: vec![(1, fate)], rest: Rest::End };
    assert_eq!(fts.hand_over(&[parcel], NOW).await.unwrap().released, 1);
    let unmanaged = "SELECT token_id FROM t_token WHERE unmanaged = 1";
    assert_eq!(texts(&pool, unmanaged).await, ["plain"]);
    assert_eq!(texts(&pool, "SELECT file_state FROM t_file").await, ["SUBMITTED"]);
}

#[tokio::test]
async fn a_submitters_later_tokens_are_found_behind_any_number_of_others() {
    let folder = tempfile::tempdir().unwrap();
    let (fts, pool) = start(folder.path()).await;
    for n in 0..130 {
        token(&pool, &format!("{n:03}"), 2000 - n, "").await;
    }
    token(&pool, "ended", 50, "").await;
    let remember = |id: &str, how: &str| {
        format!(
            "INSERT INTO token_exchange_token VALUES ('{id}', '{how}', '', '', '', 0, 0, 0, '', 0, 0, 0, 1, NULL)"
        )
    };
    run(&pool, &remember("000", "exchange")).await;
    run(&pool, &remember("001", "client-credentials")).await;
    run(&pool, &remember("002", "refresh")).await;
    let later = async |from| fts.later_tokens(ISSUER, "a", UnixSeconds(NOW.0 + 60), from).await.unwrap();
    let first = later(0).await;
    assert_eq!((first.len(), first.first().map(String::as_str)), (later::PAGE, Some("002")), "ours are none");
    let second = later(later::PAGE).await;
    assert_eq!((second.len(), second.last().map(String::as_str)), (28, Some("129")));
    assert!(fts.later_tokens(ISSUER, "b", NOW, 0).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_refresh_token_is_used_under_a_lease_that_is_held_still() {
    let folder = tempfile::tempdir().unwrap();
    let (fts, pool) = start(folder.path()).await;
    token(&pool, "t", 60, "r").await;
    let row = fts.renewable(&["t"]).await.unwrap().remove("t").unwrap();
    let hold = fts.take_token(&row, NOW, END).await.unwrap().unwrap();
    let later = UnixSeconds(END.0 + 60);
    let held = async |hold: &Hold, now| match fts.hold_on(hold, now, later).await {
        Ok(()) => true,
        Err(DatabaseError::LeaseLost(id)) if id == "t" => false,
        Err(error) => panic!("{error}"),
    };
    assert!(held(&hold, UnixSeconds(END.0 - 1)).await);
    assert!(fts.take_token(&row, END, later).await.unwrap().is_none(), "longer than it was taken for");
    assert!(!held(&hold, later).await, "it has ended");
    let other = fts.take_token(&row, later, UnixSeconds(later.0 + 60)).await.unwrap().unwrap();
    assert!(!held(&hold, UnixSeconds(later.0 + 1)).await, "another has it");
    assert!(held(&other, UnixSeconds(later.0 + 1)).await);
}
