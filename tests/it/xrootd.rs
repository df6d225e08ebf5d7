//! The whole chain with parts that nobody here wrote: Rucio's requests, tokens of npm's `oidc-provider`, and bytes copied between real
//! XRootD servers that check each endpoint's token with SciTokens.
//!
//! Needs `XROOTD`, the program, with the plug-ins of Debian's packages; `XROOTD_LOOPBACK`, tests/xrootd/loopback.c compiled; and
//! `OIDC_PROVIDER` for the third-party issuer. `./tests/run` sees to them.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use testbed::grid::{Grid, GridSettings};
use testbed::job::{Trouble, run_to_end};
use testbed::pki::Pki;
use testbed::rucio::RucioDatabase;
use testbed::xrootd::XrootdPrograms;

#[path = "interop/needed.rs"]
mod needed;
#[path = "xrootd/provider.rs"]
mod provider;

use needed::needed;
use provider::Provider;

fn programs() -> Option<XrootdPrograms> {
    let xrootd = needed("XROOTD", "XRootD")?;
    let loopback = needed("XROOTD_LOOPBACK", "XRootD")?;
    Some(XrootdPrograms { xrootd, loopback })
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_are_copied_between_real_storages_by_tokens_of_a_real_issuer() {
    let Some(programs) = programs() else { return };
    let Some(modules) = needed("OIDC_PROVIDER", "npm's oidc-provider") else { return };
    let folder = tempfile::Builder::new().prefix("xrootd").tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let mut settings = GridSettings::new(folder.path().join("grid"));
    let rucio = RucioDatabase::copy(&settings.rucio, &folder.path().join("look.sqlite")).await.unwrap();
    let areas: Vec<_> = Grid::areas(&rucio.sites().await.unwrap()).into_iter().collect();
    let pki = Pki::create(folder.path()).unwrap();
    let provider = Provider::start(&modules, &pki, &areas, folder.path()).await;
    settings.issuer = Some(provider.issuer.clone());
    settings.pki = Some(pki);
    settings.xrootd = Some(programs);
    let grid = Grid::start(settings).await.unwrap();
    let outcome = run_to_end(&grid, Trouble::default()).await.unwrap();
    let reasons = sqlx_rows(&grid).await;
    let logs = || grid.xrootds.values().map(|xrootd| xrootd.log()).collect::<String>();
    assert!(outcome.is_whole() && outcome.submitted == 460, "{outcome:?} {reasons:?}{}", logs());
    assert_eq!(outcome.issuer_token_calls, 0, "the grid's own issuer was not asked");
}

async fn sqlx_rows(grid: &Grid) -> Vec<String> {
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(grid.fts.database());
    let pool = sqlx::SqlitePool::connect_with(options).await.unwrap();
    let rows: Vec<(String, i64)> = sqlx::query_as("SELECT reason, count(*) FROM t_file GROUP BY reason ORDER BY 2 DESC").fetch_all(&pool).await.unwrap();
    rows.into_iter().map(|(reason, count)| format!("{count} x {reason}")).collect()
}
