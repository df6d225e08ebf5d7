//! The command `wlcg-token`, against the grid's issuer.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::process::{Output, Stdio};

use serde_json::{Value, json};
use testbed::grid::{Grid, GridSettings};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_got_shown_verified_and_exchanged() {
    let folder =
        tempfile::Builder::new().prefix("wlcg-token").tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let grid = Grid::start(GridSettings::new(folder.path().join("grid"))).await.unwrap();
    let ca = grid.pki.ca_file().display().to_string();
    let issuer = grid.issuer.name().to_owned();
    let client = |id: &str, secret: &str, audience: &str, scope: &str| {
        [
            "--issuer",
            &issuer,
            "--client-id",
            id,
            "--client-secret-file",
            secret,
            "--audience",
            audience,
            "--scope",
            scope,
            "--ca-file",
            &ca,
        ]
        .map(str::to_owned)
        .to_vec()
    };
    let secret = |name: &str| grid.folder.join(name).display().to_string();

    let asked = client("rucio-conveyor", &secret("rucio-conveyor.secret"), "fts", "fts storage.read:/");
    let got = run(&grid, &[vec!["get".into()], asked].concat(), "").await;
    let token = text(&got, 0);

    let shown = text(&run(&grid, &args(&["show", "--token-file", "-"]), &token).await, 0);
    assert!(
        shown.contains("audience   fts\n") && shown.contains("allows     read: / and below\n"),
        "{shown}"
    );
    let signature = token.trim().rsplit('.').next().unwrap();
    assert!(!shown.contains(signature), "the token itself is not shown");
    for format in [
        &["show", "--signature", "--token-file", "-"][..],
        &["show", "--signature", "--json", "--token-file", "-"],
    ] {
        assert!(text(&run(&grid, &args(format), &token).await, 0).contains(signature), "unless asked");
    }

    let wanted = client("fts-exchange", &secret("fts-exchange.secret"), "https://se", "storage.read:/rucio");
    let exchange = [args(&["exchange", "--json", "--token-file", "-"]), wanted].concat();
    let exchanged: Value = serde_json::from_str(&text(&run(&grid, &exchange, &token).await, 0)).unwrap();
    let narrow = exchanged["access_token"].as_str().unwrap();

    let verify = |audience: &str| {
        args(&["verify", "--token-file", "-", "--issuer", &issuer, "--audience", audience, "--ca-file", &ca])
    };
    assert!(text(&run(&grid, &verify("https://se"), narrow).await, 0).starts_with("valid: expires in "));
    assert!(text(&run(&grid, &verify("https://other"), narrow).await, 1).contains("audience"));
    let forged = format!("{}x", &narrow[..narrow.len() - 1]);
    assert!(text(&run(&grid, &verify("https://se"), &forged).await, 1).contains("signature"));

    let can = |operation, path| args(&["can", operation, path, "--base-path", "/vo", "--token-file", "-"]);
    assert_eq!(text(&run(&grid, &can("read", "/vo/rucio/x"), narrow).await, 0), "yes\n");
    assert!(text(&run(&grid, &can("read", "/vo/rucio2/x"), narrow).await, 1).contains("elsewhere"));
    assert!(text(&run(&grid, &can("delete", "/vo/rucio/x"), narrow).await, 1).contains("storage.modify"));

    let wider = client("fts-exchange", &secret("fts-exchange.secret"), "https://se", "storage.modify:/rucio");
    let refused = run(&grid, &[args(&["exchange", "--token-file", "-"]), wider].concat(), &token).await;
    assert!(text(&refused, 1).contains("beyond the subject token"));
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_get_one_line_and_exit_code_2() {
    let folder =
        tempfile::Builder::new().prefix("wlcg-token").tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let grid = Grid::start(GridSettings::new(folder.path().join("grid"))).await.unwrap();
    let token = grid.issuer.mint(json!({"aud": "a"})).unwrap();
    let secret = [
        "--issuer",
        "https://i.example/",
        "--client-id",
        "c",
        "--client-secret-file",
        "/no/such",
        "--audience",
        "a",
    ];
    for (arguments, input, named) in [
        (args(&["show", "--token-file", "/no/such"]), "", "/no/such"),
        (args(&["show", "--token-file", "-"]), "not a token", "bearer token"),
        (args(&["show", "--token-file", "-"]), "canary", "JWT"),
        (args(&["can", "read", "relative", "--token-file", "-"]), token.expose(), "absolute"),
        (args(&["can", "read", "/../..", "--token-file", "-"]), token.expose(), "normal"),
        ([args(&["get"]), args(&secret), args(&["--scope", "storage.read"])].concat(), "", "/no/such"),
    ] {
        let said = text(&run(&grid, &arguments, input).await, 2);
        assert!(
            said.starts_with("wlcg-token: ") && said.contains(named) && said.lines().count() == 1,
            "{said}"
        );
        assert!(!said.contains("canary"), "{said}");
    }
}

fn args(list: &[&str]) -> Vec<String> {
    list.iter().map(|&argument| argument.to_owned()).collect()
}

async fn run(grid: &Grid, arguments: &[String], input: &str) -> Output {
    let mut child = Command::new(&grid.binaries.wlcg_token)
        .args(arguments)
        .env_remove("BEARER_TOKEN")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that does not read its input may be gone already.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes()).await;
    child.wait_with_output().await.unwrap()
}

/// What it printed: the answer, or the line on standard error.
fn text(output: &Output, code: i32) -> String {
    let [answer, line] =
        [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    assert_eq!(output.status.code(), Some(code), "{answer}{line}");
    if code == 0 { answer } else { line }
}
