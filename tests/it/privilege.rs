//! Least privilege is real: a storage takes the token that was made for it and nothing else, and without the exchange
//! nothing moves.
#![expect(clippy::unwrap_used, reason = "tests")]

use reqwest::StatusCode;
use sqlx::Row as _;
use sqlx::sqlite::SqliteConnectOptions;
use testbed::grid::{Grid, GridSettings};
use token_core::AccessToken;
use token_core::http::HttpSettings;

#[tokio::test(flavor = "multi_thread")]
async fn without_the_exchange_worker_no_file_moves() {
    let (_folder, grid) = grid().await;
    submit(&grid).await;
    // Many rounds of the scheduler, which takes what it can at each.
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    let counts = grid.fts.counts().await.unwrap();
    assert_eq!(counts.files_in("TOKEN_PREP"), 560, "{counts:?}");
    assert_eq!(counts.files.len(), 1);
    assert_eq!(grid.storages.values().map(|storage| storage.accepted() + storage.refused()).sum::<u64>(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_storage_takes_its_own_token_and_no_other() {
    let (_folder, grid) = grid().await;
    grid.fts.set_scheduler(false);
    submit(&grid).await;
    let worked = grid.token_exchange(&["--run-once"]).output().await.unwrap();
    assert!(worked.status.success(), "{}", String::from_utf8_lossy(&worked.stderr));

    let tokens = tokens(&grid).await;
    let fts_tokens: Vec<_> = tokens.iter().filter(|(audience, ..)| *audience == "127.0.0.1").collect();
    assert_eq!((tokens.len(), fts_tokens.len()), (7, 1), "one submission token and six endpoint tokens");
    for (audience, scope, token) in &tokens {
        for (rse, storage) in &grid.storages {
            let Some(path) = storage.paths().into_iter().next() else { continue };
            let status = read(&grid, &format!("{}{path}", storage.url()), token).await;
            let meant = *audience == storage.url() && scope.contains("storage.read:");
            let expected = if meant { StatusCode::OK } else { StatusCode::FORBIDDEN };
            assert_eq!(status, expected, "token for {audience} with `{scope}` at {rse}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_token_cannot_write_and_a_token_reaches_no_further_than_its_area() {
    let (_folder, grid) = grid().await;
    grid.fts.set_scheduler(false);
    submit(&grid).await;
    assert!(grid.token_exchange(&["--run-once"]).output().await.unwrap().status.success());
    let source = &grid.storages["DISK-A"];
    let (_, scope, token) =
        tokens(&grid).await.into_iter().find(|(audience, ..)| *audience == source.url()).unwrap();
    assert_eq!(scope, "storage.read:/rucio");
    let client = client(&grid);
    let put = client.put(format!("{}/vo/rucio/test/new", source.url())).bearer_auth(token.expose()).body("x");
    #[expect(clippy::disallowed_methods, reason = "loopback")]
    let refused = put.send().await.unwrap();
    assert_eq!(refused.status(), StatusCode::FORBIDDEN);
    source.add_file("/vo/elsewhere/secret", bytes::Bytes::from_static(b"x"));
    assert_eq!(
        read(&grid, &format!("{}/vo/elsewhere/secret", source.url()), &token).await,
        StatusCode::FORBIDDEN
    );
}

async fn grid() -> (tempfile::TempDir, Grid) {
    let folder =
        tempfile::Builder::new().prefix("privilege").tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let grid = Grid::start(GridSettings::new(folder.path().join("grid"))).await.unwrap();
    (folder, grid)
}

async fn submit(grid: &Grid) {
    let done = grid.conveyor(&["--run-once"]).output().await.unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

/// Audience, scope and text of every token in FTS's database.
async fn tokens(grid: &Grid) -> Vec<(String, String, AccessToken)> {
    let options = SqliteConnectOptions::new().filename(grid.fts.database());
    let fts = sqlx::SqlitePool::connect_with(options).await.unwrap();
    let rows =
        sqlx::query("SELECT audience, scope, access_token FROM t_token").fetch_all(&fts).await.unwrap();
    let token = |row: &sqlx::sqlite::SqliteRow| AccessToken::new(row.get::<String, _>(2)).unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1), token(row))).collect()
}

fn client(grid: &Grid) -> reqwest::Client {
    let ca_file = Some(grid.pki.ca_file().to_owned());
    token_core::http::client(&HttpSettings { ca_file, ..HttpSettings::default() }).unwrap()
}

async fn read(grid: &Grid, url: &str, token: &AccessToken) -> StatusCode {
    #[expect(clippy::disallowed_methods, reason = "loopback")]
    client(grid).get(url).bearer_auth(token.expose()).send().await.unwrap().status()
}
