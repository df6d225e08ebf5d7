//! `conveyor --rucio-cfg`: an operator's `rucio.cfg` and `idpsecrets.json`, with only a certificate authority of our own beside them.
#![expect(clippy::unwrap_used, reason = "tests")]

use serde_json::Value;
use testbed::grid::{Grid, GridSettings};
use tokio::process::Command;

#[expect(dead_code, reason = "shared with other tests")]
#[path = "rucio/programs.rs"]
mod programs;

#[tokio::test(flavor = "multi_thread")]
async fn an_operators_own_files_are_enough() {
    let folder = tempfile::Builder::new().prefix("cfg").tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let grid = Grid::start(GridSettings::new(folder.path().join("grid"))).await.unwrap();
    let theirs = programs::configure(&grid);
    let ours = grid.folder.join("ours.toml");
    let ca = grid.pki.ca_file().display().to_string();
    std::fs::write(&ours, format!("[issuer]\nca_file = \"{ca}\"\n[fts]\nca_file = \"{ca}\"\n")).unwrap();
    // In the table and not in the file; and one in both.
    for (option, value) in [("max_time_in_queue", "default:7"), ("transfertool", "globus")] {
        let insert = format!(
            "INSERT INTO configs (section, opt, value, created_at, updated_at) VALUES ('conveyor', '{option}', '{value}', \
             '2026-01-01 00:00:00.000000', '2026-01-01 00:00:00.000000')"
        );
        grid.rucio.run(&insert).await.unwrap();
    }
    let run = async |more: &[&str]| {
        let mut command = Command::new(&grid.binaries.conveyor);
        command.arg("--rucio-cfg").arg(&theirs).arg("--config").arg(&ours).args(more).kill_on_drop(true);
        let output = command.env("CONVEYOR__LOG__LEVEL", "debug").output().await.unwrap();
        let log = String::from_utf8(output.stderr).unwrap();
        let secret = std::fs::read_to_string(grid.submitter_secret()).unwrap();
        assert!(!log.contains(secret.trim()), "the secret is in the log");
        (output.status.code(), String::from_utf8(output.stdout).unwrap(), log)
    };
    let id = grid.rucio.texts("SELECT min(id) FROM requests WHERE name LIKE 'mc26.simple%'").await.unwrap();
    let (code, told, log) = run(&["explain", id[0][0].as_deref().unwrap(), "--json"]).await;
    assert_eq!(code, Some(0), "{log}");
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told["job"]["params"]["max_time_in_queue"], 7, "{told}");
    assert_eq!(told["token"]["client_id"], "rucio-submitter");

    let (code, report, log) = run(&["--run-once", "--json"]).await;
    assert_eq!(code, Some(0), "{log}");
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["submitted"], 460);

    // A secret goes to the issuer of its own entry only.
    let other =
        format!("[issuer]\nurl = \"https://127.0.0.1:1/\"\nca_file = \"{ca}\"\n[fts]\nca_file = \"{ca}\"\n");
    std::fs::write(&ours, other).unwrap();
    let (code, _, log) = run(&["--run-once"]).await;
    assert!(code == Some(2) && log.contains("client_secret_file"), "{log}");
}
