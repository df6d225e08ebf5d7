//! Rucio's own poller and finisher, from PyPI, close what `conveyor` submitted: they find the rows and metadata they expect.
//!
//! Needs `RUCIO_BIN`, a folder with Rucio's programs; `./tests/run` makes one.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::{Path, PathBuf};

use sqlx::Row as _;
use testbed::grid::{Grid, GridSettings};
use testbed::job::{Trouble, run_to_end};
use tokio::process::Command;

#[path = "interop/needed.rs"]
mod needed;

#[tokio::test(flavor = "multi_thread")]
async fn rucios_poller_and_finisher_bring_every_rule_to_ok() {
    let Some(programs) = needed::needed("RUCIO_BIN", "Rucio") else { return };
    let folder = tempfile::Builder::new().prefix("rucio").tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let grid = Grid::start(GridSettings::new(folder.path().join("grid"))).await.unwrap();
    assert!(run_to_end(&grid, Trouble::default()).await.unwrap().is_whole());
    let config = configure(&grid);

    rucio(&grid, &programs.join("rucio-conveyor-poller"), &config, &["--older-than", "0"]).await;
    let states = grid.rucio.states().await.unwrap();
    assert_eq!(states.get("D"), Some(&460), "the poller saw every file finished: {states:?}");

    rucio(&grid, &programs.join("rucio-conveyor-finisher"), &config, &[]).await;
    let states: Vec<_> = grid.rucio.states().await.unwrap().into_iter().collect();
    assert_eq!(states, [("Q".to_owned(), 5)], "the finisher archived all but those that nobody can submit");
    assert_eq!(
        pairs(&grid, "SELECT state, count(*) FROM locks GROUP BY state").await,
        ["O 460", "R 5", "S 15"]
    );
    let rules = pairs(&grid, "SELECT name, state FROM rules WHERE name NOT LIKE 'bad.%' ORDER BY name").await;
    assert_eq!(
        rules,
        ["data26.named_source O", "data26.production O", "mc26.simple O", "mc26.two_sources O"]
    );
    assert_eq!(pairs(&grid, "SELECT 'left', count(*) FROM sources").await, ["left 0"]);
}

/// A `rucio.cfg` for the grid's database and issuer, as an operator's would be.
fn configure(grid: &Grid) -> PathBuf {
    let secret = std::fs::read_to_string(grid.conveyor_secret()).unwrap();
    let client = serde_json::json!({"box": {"client_id": "rucio-conveyor", "client_secret": secret.trim(),
        "issuer": grid.issuer.name(), "redirect_uris": []}});
    let secrets = grid.folder.join("idpsecrets.json");
    std::fs::write(&secrets, client.to_string()).unwrap();
    let config = grid.folder.join("rucio.cfg");
    let text = format!(
        "[common]\nloglevel = INFO\n[database]\ndefault = {}\n[conveyor]\ntransfertool = fts3\npoller_oidc_support = true\n\
         [oidc]\nidpsecrets = {}\nadmin_issuer = box\n[cache]\nenabled = false\n[policy]\npermission = generic\nschema = generic\n",
        grid.rucio.url(),
        secrets.display(),
    );
    std::fs::write(&config, text).unwrap();
    config
}

async fn rucio(grid: &Grid, program: &Path, config: &Path, arguments: &[&str]) {
    let done = Command::new(program)
        .args(["--run-once", "--db-bulk", "1000"])
        .args(arguments)
        .env("RUCIO_CONFIG", config)
        .env("REQUESTS_CA_BUNDLE", grid.pki.ca_file())
        .output()
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&done.stderr).into_owned() + &String::from_utf8_lossy(&done.stdout);
    assert!(done.status.success(), "{}: {said}", program.display());
}

async fn pairs(grid: &Grid, statement: &'static str) -> Vec<String> {
    let rows = sqlx::query(statement).fetch_all(grid.rucio.pool()).await.unwrap();
    let text = |row: &sqlx::sqlite::SqliteRow, at: usize| {
        row.try_get::<String, _>(at).unwrap_or_else(|_| row.get::<i64, _>(at).to_string())
    };
    rows.iter().map(|row| format!("{} {}", text(row, 0), text(row, 1))).collect()
}
