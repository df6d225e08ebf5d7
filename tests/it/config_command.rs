//! `config check` and `config show` of both daemons, on the configuration of a grid in a box.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::Path;
use std::process::Output;

use serde_json::Value;
use testbed::grid::{Grid, GridSettings};
use tokio::process::Command;

#[tokio::test(flavor = "multi_thread")]
async fn the_configuration_is_checked_and_shown_with_where_each_value_came_from() {
    let folder = tempfile::Builder::new().prefix("config").tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let grid = Grid::start(GridSettings::new(folder.path().join("grid"))).await.unwrap();
    let conveyor = |arguments: &[&str]| grid.conveyor(arguments);
    for command in [grid.conveyor(&["config", "check"]), grid.token_exchange(&["config", "check"])] {
        let output = done(command).await;
        assert!(output.status.success() && text(&output.stdout).contains("can be used"), "{output:?}");
    }

    let mut show = conveyor(&["config", "show", "--json"]);
    show.env("CONVEYOR__SUBMIT__BATCH", "77").env("CONVEYOR__RUCIO__DATABASE", "mysql://u:canary@h/d");
    let output = done(show).await;
    assert!(!text(&output.stdout).contains("canary"), "{output:?}");
    let entries: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    let entry = |key: &str| entries.iter().find(|entry| entry["key"] == key).unwrap_or(&Value::Null);
    assert_eq!(entry("submit.batch")["value"], "77");
    assert_eq!(entry("submit.batch")["origin"]["environment"], "CONVEYOR__SUBMIT__BATCH");
    assert_eq!(entry("rucio.database")["value"], "\"mysql://u:***@h/d\"");
    assert_eq!(
        (&entry("fts.timeout_s")["value"], &entry("fts.timeout_s")["origin"]),
        (&"60".into(), &"default".into())
    );
    assert_eq!(entry("issuer.client_id")["origin"], "file");
    assert_eq!(entry("issuer.key_id")["origin"], "unset");
    assert_eq!(entry("submit.max_time_in_queue_h")["value"], "{ default = 168 }");

    // What it begins with can be read back, and the reference speaks of all.
    let defaults = done(conveyor(&["config", "show", "--defaults"])).await;
    assert!(text(&defaults.stdout).starts_with("# conveyor:"), "{defaults:?}");
    let reference = done(grid.token_exchange(&["config", "show", "--reference"])).await;
    assert!(text(&reference.stdout).contains("## `[[endpoint]]`"), "{reference:?}");

    // A slip of the pen, in the file and in the environment.
    let mut slip = conveyor(&["config", "check"]);
    slip.env("CONVEYOR__SUBMIT__BACH", "77");
    let output = done(slip).await;
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(
        said.contains(
            "`submit.bach` (environment variable CONVEYOR__SUBMIT__BACH): did you mean `submit.batch`?"
        ),
        "{said}"
    );

    // A secret that is a credential of systemd's, and one that is not there.
    let secret = grid.conveyor_secret();
    let (credentials, name) = (secret.parent().unwrap(), secret.file_name().unwrap().to_str().unwrap());
    for (credentials, fine) in
        [(Some(credentials), true), (Some(Path::new("/no/such")), false), (None, false)]
    {
        let mut check = conveyor(&["config", "check"]);
        check.env("CONVEYOR__ISSUER__CLIENT_SECRET_FILE", format!("$CREDENTIALS_DIRECTORY/{name}"));
        check.env_remove("CREDENTIALS_DIRECTORY");
        check.envs(credentials.map(|folder| ("CREDENTIALS_DIRECTORY", folder)));
        let output = done(check).await;
        assert_eq!(output.status.success(), fine, "{output:?}");
        assert!(fine || text(&output.stderr).contains(name), "{output:?}");
    }
}

async fn done(mut command: Command) -> Output {
    command.output().await.unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
