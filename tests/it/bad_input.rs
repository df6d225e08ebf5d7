//! Bad input gets one clear line that names the thing, exit code 2, and changes nothing in any database.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::{Path, PathBuf};
use std::process::Output;

use testbed::grid::{Grid, GridSettings};
use testbed::issuer::Fault;
use tokio::process::Command;

/// A change of the configuration, and what the line must name.
type Case = (&'static str, fn(&str) -> String, &'static str);

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_configuration_of_conveyor_is_named() {
    let (_folder, grid) = grid().await;
    let program = grid.binaries.conveyor.clone();
    let before = snapshot(&grid);
    let cases: [Case; 13] = [
        ("an unknown section", |text| format!("{text}\n[nonsense]\nx = 1\n"), "nonsense"),
        ("an unknown key", |text| text.replace("[fts]", "[fts]\nca_fiel = \"x\""), "ca_fiel"),
        ("a missing key", |text| text.replacen("database", "databse", 1), "databse"),
        ("no TOML", |text| format!("{text}\nclient_secret = \"canary"), "line"),
        ("an issuer without TLS", |text| text.replace("url = \"https", "url = \"ftp"), "issuer"),
        ("an issuer in the clear", |text| text.replace("url = \"https", "url = \"http"), "issuer.url"),
        ("no secret file", |text| text.replace("conveyor.secret", "no.secret"), "no.secret"),
        (
            "a key file where a secret is wanted",
            |text| text.replace("client_secret_file", "private_key_file"),
            "client_secret_file",
        ),
        ("no seal key", |text| text.replace("key_file", "# key_file"), "key_credential"),
        (
            "no such credential",
            |text| text.replace("key_file = \"/", "key_credential = \""),
            "LoadCredential",
        ),
        ("no CA file", |text| text.replace("ca.pem", "no.pem"), "no.pem"),
        ("no database", |text| text.replace("rucio.sqlite", "no.sqlite"), "no.sqlite"),
        ("a scope without a path", |text| text.replace("storage.read:/ ", "storage.read "), "storage.read"),
    ];
    for (what, change, named) in cases {
        let output = run(&program, &changed(&grid.conveyor_config(), change)).await;
        expect_refusal(what, &output, "conveyor: ", named);
    }
    let output = run(&program, Path::new("/no/such/conveyor.toml")).await;
    expect_refusal("no configuration", &output, "conveyor: ", "/no/such/conveyor.toml");
    assert!(before == snapshot(&grid), "a database was changed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_configuration_of_token_exchange_is_named() {
    let (_folder, grid) = grid().await;
    let program = grid.binaries.token_exchange.clone();
    let before = snapshot(&grid);
    let cases: [Case; 6] = [
        ("an unknown key", |text| text.replace("[worker]", "[worker]\nbach = 1"), "bach"),
        (
            "an endpoint twice",
            |text| {
                let entry = text.find("[[endpoint]]").unwrap();
                format!("{text}\n{}", &text[entry..])
            },
            "twice",
        ),
        ("an area that climbs", |text| text.replace("area = \"/rucio\"", "area = \"/rucio/..\""), "area"),
        (
            "an unknown granularity",
            |text| text.replacen("area =", "granularity = \"planet\"\narea =", 1),
            "planet",
        ),
        ("no database", |text| text.replace("fts.sqlite", "no.sqlite"), "no.sqlite"),
        ("another database", |text| text.replace("fts.sqlite", "rucio.sqlite"), "t_schema_vers"),
    ];
    for (what, change, named) in cases {
        let output = run(&program, &changed(&grid.exchange_config(), change)).await;
        expect_refusal(what, &output, "token-exchange: ", named);
    }
    assert!(before == snapshot(&grid), "a database was changed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_without_a_needed_table_or_column_is_named() {
    for (statement, named) in [
        ("ALTER TABLE requests RENAME COLUMN dest_url TO destination_url", "requests.dest_url"),
        ("ALTER TABLE distances RENAME TO distances_old", "distances"),
    ] {
        let (_folder, grid) = grid().await;
        sqlx::query(statement).execute(grid.rucio.pool()).await.unwrap();
        let before = snapshot(&grid);
        let output = grid.conveyor(&["--run-once"]).output().await.unwrap();
        expect_refusal(statement, &output, "conveyor: ", named);
        assert!(before == snapshot(&grid), "a database was changed");
        assert_eq!(grid.issuer.token_calls().total(), 0, "nothing was asked of the issuer");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_client_secret_is_named_and_claims_nothing() {
    let (_folder, grid) = grid().await;
    std::fs::write(grid.conveyor_secret(), "not-the-secret-canary\n").unwrap();
    let before = snapshot(&grid);
    let output = grid.conveyor(&["--run-once"]).output().await.unwrap();
    expect_refusal("a wrong secret", &output, "conveyor: ", "invalid_client");
    assert!(before == snapshot(&grid), "a database was changed");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issuer_in_trouble_is_named_is_not_a_configuration_error_and_claims_nothing() {
    let (_folder, grid) = grid().await;
    let config = std::fs::read_to_string(grid.conveyor_config()).unwrap();
    std::fs::write(grid.conveyor_config(), config.replace("[issuer]", "[issuer]\nretry_total_s = 1"))
        .unwrap();
    let before = snapshot(&grid);
    for fault in
        [Fault::Status(503), Fault::Html, Fault::TooManyRequests { retry_after_s: 3600 }, Fault::Down]
    {
        grid.issuer.set_fault(fault);
        let output = grid.conveyor(&["--run-once"]).output().await.unwrap();
        let line = last_line(&output);
        assert_eq!(output.status.code(), Some(1), "{line}");
        assert!(line.starts_with("conveyor: ") && line.contains(grid.issuer.name()), "{line}");
        assert!(before == snapshot(&grid), "a database was changed");
    }
    grid.issuer.set_fault(Fault::None);
    assert!(grid.conveyor(&["--run-once"]).output().await.unwrap().status.success());
}

async fn grid() -> (tempfile::TempDir, Grid) {
    let folder = tempfile::Builder::new().prefix("bad").tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let grid = Grid::start(GridSettings::new(folder.path().join("grid"))).await.unwrap();
    grid.fts.set_scheduler(false);
    (folder, grid)
}

/// A copy of a configuration file with a mistake in it.
fn changed(config: &Path, change: fn(&str) -> String) -> PathBuf {
    let text = std::fs::read_to_string(config).unwrap();
    let mistaken = change(&text);
    assert_ne!(text, mistaken, "the mistake is in the file");
    let path = config.with_extension("bad.toml");
    std::fs::write(&path, mistaken).unwrap();
    path
}

async fn run(program: &Path, config: &Path) -> Output {
    Command::new(program).arg("--config").arg(config).arg("--run-once").output().await.unwrap()
}

fn last_line(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).lines().last().unwrap_or_default().to_owned()
}

fn expect_refusal(what: &str, output: &Output, program: &str, named: &str) {
    let (line, all) = (last_line(output), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(2), "{what}: {all}");
    assert!(line.starts_with(program) && line.contains(named), "{what}: `{named}` is not named: {line}");
    assert!(!all.contains("canary") && !all.contains("panicked"), "{what}: {all}");
    assert!(output.stdout.is_empty(), "{what}: logs are not data");
}

/// The bytes of both databases.
fn snapshot(grid: &Grid) -> [Vec<u8>; 2] {
    [grid.rucio.path(), grid.fts.database()].map(|path| std::fs::read(path).unwrap())
}
