//! The whole chain with parts that nobody here wrote: a request of real Rucio on PostgreSQL, tokens of npm's `oidc-provider`, FTS's
//! database on MariaDB, and bytes copied between real XRootD servers that check each endpoint's token with SciTokens.
//!
//! Needs `XROOTD`, the program, with the plug-ins of Debian's packages; `XROOTD_LOOPBACK`, tests/xrootd/loopback.c compiled; and what
//! the tests of the databases and of `oidc-provider` need. `./tests/run` sees to them.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use serde_json::Value;
use testbed::grid::{Grid, GridSettings};
use testbed::job::{Trouble, run_to_end};
use testbed::pki::Pki;
use testbed::rucio::RucioDatabase;
use testbed::xrootd::XrootdPrograms;

#[path = "contract_worker/database.rs"]
#[expect(dead_code, reason = "SQLite is for the other test that has this")]
mod fts;
#[path = "interop/needed.rs"]
mod needed;
#[path = "xrootd/provider.rs"]
mod provider;
#[path = "rucio/server.rs"]
#[expect(dead_code, reason = "its ready-made grid is for the other test that has this")]
mod server;

use fts::Texts;
use needed::needed;
use provider::Provider;
use server::Server;

fn programs() -> Option<XrootdPrograms> {
    let xrootd = needed("XROOTD", "XRootD")?;
    let loopback = needed("XROOTD_LOOPBACK", "XRootD")?;
    Some(XrootdPrograms { xrootd, loopback, bytes_per_s: None })
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_are_copied_between_real_storages_by_tokens_of_a_real_issuer() {
    let (Some(programs), Some(server)) = (programs(), Server::needed()) else { return };
    let Some(modules) = needed("OIDC_PROVIDER", "npm's oidc-provider") else { return };
    let Some(mariadb) = needed(fts::SERVER, "MariaDB") else { return };
    let folder = tempfile::Builder::new().prefix("xrootd").tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let mut settings = GridSettings::new(folder.path().join("grid"));
    let rucio = server.database(folder.path(), &settings.rucio, None).await;
    let tables = fts::Database::mysql(mariadb.to_str().unwrap()).await.unwrap();
    let pki = Pki::create(folder.path()).unwrap();
    let sites = RucioDatabase::postgres(&rucio.url).await.unwrap().sites().await.unwrap();
    let areas: Vec<_> = Grid::areas(&sites).into_iter().collect();
    let provider = Provider::start(&modules, &pki, &areas, folder.path(), None).await;
    settings.postgres = Some(rucio.url.clone());
    settings.fts_mysql = Some(tables.url().to_owned());
    settings.issuer = Some(provider.issuer.clone());
    settings.pki = Some(pki);
    settings.xrootd = Some(programs);
    let grid = Grid::start(settings).await.unwrap();

    let outcome = run_to_end(&grid, Trouble::default()).await.unwrap();
    let reasons = tables.rows(&["file_state", "reason", "count(*)"], "t_file GROUP BY 1, 2").await.unwrap();
    // A storage of this version may once in some thousand requests not answer; FTS then fails the file, as it would there.
    let silent = |row: &Texts| row[1].as_deref().is_some_and(|reason| reason.contains("timed out"));
    let failed = |row: &Texts| row[0].as_deref() == Some("FAILED");
    let refused: Vec<_> = reasons.iter().filter(|row| failed(row) && !silent(row)).collect();
    assert!(refused.is_empty() && outcome.failed <= 3, "{refused:?} {reasons:?}");
    assert_eq!((outcome.requests, outcome.submitted), (480, 460), "{outcome:?}");
    assert!(outcome.finished >= 457 && outcome.files_verified == outcome.finished, "{outcome:?} {reasons:?}");
    assert_eq!(outcome.issuer_token_calls, 0, "the grid's own issuer was not asked");
    // Each storage was given tokens for itself only: two at most, one for reading and one for writing.
    let tokens =
        "t_token WHERE audience LIKE 'https://127.0.0.1:%' AND scope NOT LIKE 'fts%' GROUP BY audience";
    for row in tables.rows(&["audience", "count(*)"], tokens).await.unwrap() {
        assert!(matches!(row[1].as_deref(), Some("1" | "2")), "{row:?}");
    }
    // Both doctors find nothing wrong with it; the storages take the tokens that they would get.
    let exchange = doctor(grid.token_exchange(&["doctor", "--json"])).await;
    let taken = |finding: &&Value| finding["check"] == "access" && finding["level"] == "green";
    assert!(exchange.iter().filter(taken).count() >= grid.xrootds.len(), "{exchange:#?}");
    let conveyor = doctor(grid.conveyor(&["doctor", "--json"])).await;
    // This issuer has no slash at the end of its name, so that FTS finds no VO for it.
    let known = |finding: &&Value| finding["check"] == "whoami" && finding["level"] == "yellow";
    let known: Vec<_> = conveyor.iter().filter(known).collect();
    assert!(
        known.len() == 1 && known[0]["found"].as_str().unwrap().contains("issuer without a slash"),
        "{conveyor:#?}"
    );
    tables.remove().await.unwrap();
}

/// What a doctor finds; nothing of it is red.
async fn doctor(mut command: tokio::process::Command) -> Vec<Value> {
    let output = command.output().await.unwrap();
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(told["exit_code"], 0, "{told:#}");
    told["findings"].as_array().unwrap().clone()
}
