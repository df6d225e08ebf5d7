//! `config check` and `config show` of both daemons, on the configuration of a grid in a box.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::Path;
use std::process::Output;

use serde_json::Value;
use testbed::binaries::Binaries;
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
    // By hand there is no such folder, and the configuration's own serves.
    for (credentials, fine) in [(Some(credentials), true), (Some(Path::new("/no/such")), false), (None, true)]
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

/// Files of Rucio and FTS hold beneath ours, and it is told what came from them; without their secrets.
#[tokio::test(flavor = "multi_thread")]
async fn what_rucios_and_ftss_own_files_give_is_told_as_theirs() {
    let folder = tempfile::Builder::new().prefix("beneath").tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    file(
        "idpsecrets.json",
        r#"{"wlcg": {"issuer": "https://iam.example/", "client_id": "rucio", "client_secret": "canary-1"}}"#,
    );
    let rucio = file(
        "rucio.cfg",
        "[database]\ndefault = postgresql://rucio:canary-2@db/rucio\n[conveyor]\nscheme = davs\nsubmit_timeout = 7\n\
         [oidc]\nidpsecrets = idpsecrets.json\nadmin_issuer = wlcg\n[transfers]\nretry_hops = 5\n",
    );
    let fts3 = file(
        "fts3config",
        "Alias = fts\nDbConnectString = db/fts\nDbUserName = fts\nDbPassword = canary-3\nTokenExchangeBulkSize = 9\n",
    );
    let ours = file("ours.toml", "[fts]\ntimeout_s = 11\n");
    let other = file("other.toml", "[worker]\ninterval_ms = 700\n");
    let binaries = Binaries::find(false).await.unwrap();
    let conveyor = |with: &[&str]| {
        let mut command = Command::new(&binaries.conveyor);
        command.args(["--rucio-cfg", &rucio]).args(with);
        command
    };
    let exchange = |with: &[&str]| {
        let mut command = Command::new(&binaries.token_exchange);
        command.args(["--fts3config", &fts3]).args(with);
        command
    };
    let shown = async |command: Command| {
        let output = done(command).await;
        let (data, said) = (text(&output.stdout), text(&output.stderr));
        assert!(
            output.status.success() && !data.contains("canary") && !said.contains("canary"),
            "{data}{said}"
        );
        (serde_json::from_str::<Vec<Value>>(&data).unwrap(), said)
    };
    let expect = |entries: &[Value], key: &str, value: &str, origin: Value| {
        let entry = entries.iter().find(|entry| entry["key"] == key).unwrap();
        assert_eq!((&entry["value"], &entry["origin"]), (&value.into(), &origin), "{key}");
    };

    let mut show = conveyor(&["--config", &ours, "config", "show", "--json"]);
    show.env("CONVEYOR__SUBMIT__SCHEMES", "davs,root");
    let (entries, said) = shown(show).await;
    let theirs = |place: &str| serde_json::json!({ "beneath": place });
    expect(&entries, "rucio.database", "\"postgresql://rucio:***@db/rucio\"", theirs(&rucio));
    let secrets = rucio.replace("rucio.cfg", "idpsecrets.json");
    let by_entry = theirs(&format!("{secrets}, entry `wlcg`"));
    expect(&entries, "issuer.client_id", "\"rucio\"", by_entry.clone());
    expect(&entries, "issuer.client_secret_file", &format!("{secrets:?}"), by_entry);
    expect(&entries, "fts.timeout_s", "11", "file".into());
    expect(&entries, "submit.batch", "1000", "default".into());
    let origin = serde_json::json!({ "environment": "CONVEYOR__SUBMIT__SCHEMES" });
    expect(&entries, "submit.schemes", "[\"davs\", \"root\"]", origin);
    assert!(said.contains("not taken over: [transfers] retry_hops"), "{said}");
    // A database of ours in a file of its own stands before Rucio's, which then is not shown as if it counted.
    let place = file_beside(&rucio, "sqlite:////nowhere");
    let mut show = conveyor(&["--config", &ours, "config", "show", "--json"]);
    show.env("CONVEYOR__RUCIO__DATABASE_FILE", &place);
    let (entries, _) = shown(show).await;
    let origin = |key: &str| &entries.iter().find(|entry| entry["key"] == key).unwrap()["origin"];
    assert_eq!(
        (origin("rucio.database"), origin("rucio.database_file").is_object()),
        (&"unset".into(), true)
    );

    let (entries, said) = shown(exchange(&["--config", &other, "config", "show", "--json"])).await;
    expect(
        &entries,
        "fts.database",
        "\"mysql://fts@db:3306/fts\"",
        theirs(&format!("{fts3}, DbConnectString")),
    );
    expect(&entries, "worker.batch", "9", theirs(&fts3));
    expect(&entries, "worker.interval_ms", "700", "file".into());
    assert!(said.contains("not taken over: Alias"), "{said}");

    // One of ours that was named must be there.
    for command in [
        conveyor(&["--config", "/no/such.toml", "config", "check"]),
        exchange(&["--config", "/no/such.toml", "config", "check"]),
    ] {
        let output = done(command).await;
        assert!(
            output.status.code() == Some(2) && text(&output.stderr).contains("/no/such.toml"),
            "{output:?}"
        );
    }

    // They are enough, and a slip in them is found.
    for (command, named) in
        [(conveyor(&["config", "check"]), &rucio), (exchange(&["config", "check"]), &fts3)]
    {
        let output = done(command).await;
        assert!(output.status.success() && text(&output.stdout).starts_with(named.as_str()), "{output:?}");
    }
    std::fs::write(&rucio, "[conveyor]\nsubmit_timeout = canary\n").unwrap();
    std::fs::write(&fts3, "TokenExchangeBulkSize = canary\n").unwrap();
    for (command, named) in [
        (conveyor(&["config", "check"]), "submit_timeout"),
        (exchange(&["config", "show"]), "TokenExchangeBulkSize"),
    ] {
        let output = done(command).await;
        let said = text(&output.stderr);
        assert!(
            output.status.code() == Some(2) && said.contains(named) && !said.contains("canary"),
            "{said}"
        );
    }
}

/// A file with `text` beside `path`.
fn file_beside(path: &str, text: &str) -> String {
    let path = Path::new(path).with_file_name("beside");
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

async fn done(mut command: Command) -> Output {
    command.output().await.unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn check_finds_what_a_start_would_and_a_command_behind_a_list_is_one() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    std::fs::write(at("secret"), "canary").unwrap();
    let binaries = Binaries::find(false).await.unwrap();
    let conveyor = format!(
        "[rucio]\ndatabase = \"postgresql://u@h/d\"\n[issuer]\nurl = \"https://i.example/\"\nclient_id = \"c\"\nclient_secret_file = {:?}\n",
        at("secret")
    );
    let exchange = "[fts]\ndatabase = \"mysql://u@h/d\"\n".to_owned();
    let check = async |program: &Path, config: String, with: &[&str], variable: (&str, &str)| {
        std::fs::write(at("c.toml"), config).unwrap();
        let mut command = Command::new(program);
        command
            .args(["--config", &at("c.toml")])
            .args(with)
            .args(["config", "check"])
            .env(variable.0, variable.1);
        let output = done(command).await;
        let said = text(&output.stderr) + &text(&output.stdout);
        assert!(!said.contains("canary"), "{said}");
        (output.status.code(), said)
    };
    let none = ("NO_VARIABLE", "");
    let (code, said) = check(&binaries.conveyor, conveyor.clone(), &["--activities", "A B", "C"], none).await;
    assert!(code == Some(0) && said.contains("can be used"), "{said}");
    let (code, said) = check(&binaries.token_exchange, exchange.clone(), &[], none).await;
    assert!(code == Some(0) && said.contains("can be used"), "{said}");
    for (program, whole, named) in [
        (&binaries.conveyor, format!("{conveyor}[share]\ninclude_rses = \"((\"\n"), "share.include_rses"),
        (&binaries.conveyor, format!("{conveyor}[log]\nlevel = \"WARNING\"\n"), "log.level"),
        (
            &binaries.conveyor,
            format!("{conveyor}timeout_s = 0\n"),
            "`issuer.timeout_s`: it must be at least 1",
        ),
        (&binaries.conveyor, conveyor.replace("@h/d", "@h:x/d"), "rucio.database"),
        (&binaries.conveyor, conveyor.replace("/d", "/d?sslmode=verify-full&sslrootcert=/no.pem"), "/no.pem"),
        (
            &binaries.conveyor,
            format!("{conveyor}[cache]\npath = \"/c\"\nkey_file = \"/c.key\"\nkey_credential = \"k\"\n"),
            "key_credential",
        ),
        (
            &binaries.conveyor,
            format!(
                "{conveyor}[[fts.instance]]\nurl = \"https://f:1\"\n[[fts.instance]]\nurl = \"https://f:1/\"\n"
            ),
            "is there twice",
        ),
        (
            &binaries.conveyor,
            format!("{conveyor}[[fts.instance]]\nurl = \"f.example:8446\"\n"),
            "fts.instance.url",
        ),
        (&binaries.token_exchange, format!("{exchange}ca_file = \"/no.pem\"\n"), "fts.ca_file"),
        (
            &binaries.token_exchange,
            format!("{exchange}[api]\nlisten = \"127.0.0.1:1\"\nplain_http_on_loopback = true\n"),
            "api.audience",
        ),
        (&binaries.token_exchange, format!("{exchange}[[issuer]]\nurl = \"nonsense\"\n"), "issuer.url"),
        (
            &binaries.token_exchange,
            format!("{exchange}[[issuer]]\nurl = \"https://i/\"\ntimeout_s = 0.2\n"),
            "`issuer[0].timeout_s`: a whole number",
        ),
        (
            &binaries.token_exchange,
            format!("{exchange}[[issuer]]\nurl = \"https://i/\"\n[[issuer]]\nurl = \"https://i\"\n"),
            "is there twice",
        ),
    ] {
        let (code, said) = check(program, whole.clone(), &[], none).await;
        assert!(code == Some(2) && said.contains(named), "{named}: {whole}: {said}");
    }
    // A variable is named with what came by it; one that is set to nothing sets nothing.
    let by = ("CONVEYOR__HTTP__LISTEN", "9770");
    let (code, said) = check(&binaries.conveyor, conveyor.clone(), &[], by).await;
    assert!(code == Some(2) && said.contains("environment variable CONVEYOR__HTTP__LISTEN"), "{said}");
    let by = ("TOKEN_EXCHANGE__ISSUER__TIMEOUT_S", "1");
    let (code, said) = check(&binaries.token_exchange, exchange.clone(), &[], by).await;
    assert!(code == Some(2) && said.contains("TOKEN_EXCHANGE__ISSUER__TIMEOUT_S: `[[issuer]]`"), "{said}");
    let by = ("CONVEYOR__FTS__CA_FILE", "");
    let (code, said) = check(&binaries.conveyor, conveyor, &[], by).await;
    assert_eq!(code, Some(0), "{said}");
    // What Docker makes of a file that is not there.
    let mut command = Command::new(&binaries.conveyor);
    command.arg("--config").arg(folder.path()).args(["config", "check"]);
    let said = text(&done(command).await.stderr);
    assert!(said.contains("it is a folder"), "{said}");
}
