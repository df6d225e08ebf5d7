//! Rucio's own daemons on a grid's database, and what they must make of it.

use std::path::{Path, PathBuf};

use testbed::grid::Grid;
use tokio::process::Command;

/// Runs Rucio's poller and finisher once each after the whole job, and expects every rule and replica to be as after a
/// submission of Rucio's own.
pub(crate) async fn expect_closed(grid: &Grid, programs: &Path) {
    let config = configure(grid);
    let poller = programs.join("rucio-conveyor-poller");
    run(grid, &poller, &config, &["--run-once", "--db-bulk", "1000", "--older-than", "0"]).await;
    let states = grid.rucio.states().await.unwrap();
    assert_eq!(states.get("D"), Some(&460), "the poller saw every file finished: {states:?}");

    let finisher = programs.join("rucio-conveyor-finisher");
    run(grid, &finisher, &config, &["--run-once", "--db-bulk", "1000"]).await;
    let states: Vec<_> = grid.rucio.states().await.unwrap().into_iter().collect();
    assert_eq!(states, [("Q".to_owned(), 5)], "the finisher archived all but those that nobody can submit");
    assert_eq!(
        lines(grid, "SELECT state, count(*) FROM locks GROUP BY state ORDER BY 2 DESC").await,
        ["O 460", "S 15", "R 5"]
    );
    let rules = "SELECT name, state FROM rules WHERE name NOT LIKE 'bad.%' ORDER BY name";
    assert_eq!(
        lines(grid, rules).await,
        ["data26.named_source O", "data26.production O", "mc26.simple O", "mc26.two_sources O"]
    );
    let replicas = "SELECT rep.state, count(*) FROM replicas rep JOIN locks l ON l.scope = rep.scope AND l.name = rep.name \
                    AND l.rse_id = rep.rse_id WHERE rep.name NOT LIKE 'bad.%' GROUP BY rep.state";
    assert_eq!(lines(grid, replicas).await, ["A 460"], "every wanted replica is available");
    assert_eq!(lines(grid, "SELECT 'left', count(*) FROM sources").await, ["left 0"]);
}

/// A `rucio.cfg` for the grid's database and issuer, as an operator's would be.
pub(crate) fn configure(grid: &Grid) -> PathBuf {
    let secret = std::fs::read_to_string(grid.submitter_secret()).unwrap();
    let client = serde_json::json!({"box": {"client_id": "rucio-submitter", "client_secret": secret.trim(),
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

/// Runs one of Rucio's programs to its end; returns its log.
pub(crate) async fn run(grid: &Grid, program: &Path, config: &Path, arguments: &[&str]) -> String {
    let done = Command::new(program)
        .args(arguments)
        .env("RUCIO_CONFIG", config)
        .env("REQUESTS_CA_BUNDLE", grid.pki.ca_file())
        .kill_on_drop(true)
        .output()
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&done.stderr).into_owned() + &String::from_utf8_lossy(&done.stdout);
    assert!(done.status.success(), "{}: {said}", program.display());
    said
}

/// The rows that a statement gives, a line each.
pub(crate) async fn lines(grid: &Grid, statement: &str) -> Vec<String> {
    let rows = grid.rucio.texts(statement).await.unwrap();
    let line = |row: Vec<Option<String>>| {
        row.into_iter().map(Option::unwrap_or_default).collect::<Vec<_>>().join(" ")
    };
    rows.into_iter().map(line).collect()
}
