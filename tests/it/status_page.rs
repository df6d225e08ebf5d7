//! The status page of both daemons, in a real headless Chromium. CHROMIUM is its program.
#![expect(clippy::unwrap_used, reason = "tests")]

#[path = "interop/needed.rs"]
mod needed;
#[path = "watched_grid.rs"]
mod watched_grid;

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use needed::needed;
use serde_json::Value;
use testbed::grid::terminate;
use testbed::told::Told;
use tokio::process::Command;
use watched_grid::{grid, until};

#[tokio::test(flavor = "multi_thread")]
async fn the_page_is_readable_on_a_telephone_and_on_a_desk_by_day_and_by_night() {
    let Some(chromium) = needed("CHROMIUM", "Chromium") else { return };
    let (folder, grid) = grid("page").await;
    let [mut conveyor, mut exchange] = [grid.conveyor(&[]), grid.token_exchange(&[])];
    conveyor.env("CONVEYOR__HTTP__STATUS_PAGE", "true").env("CONVEYOR__SUBMIT__SLEEP_S", "1");
    exchange.env("TOKEN_EXCHANGE__HTTP__STATUS_PAGE", "true");
    let conveyor = grid.spawn(conveyor, "conveyor.log").unwrap();
    let exchange = grid.spawn(exchange, "exchange.log").unwrap();
    let told = [
        Told::by_log(&grid.folder.join("conveyor.log")).await.unwrap(),
        Told::by_log(&grid.folder.join("exchange.log")).await.unwrap(),
    ];
    until("the page tells of what was done", async || {
        let [conveyor, exchange] =
            [told[0].get("/", "*/*").await.unwrap().1, told[1].get("/", "*/*").await.unwrap().1];
        conveyor.contains("460 requests submitted") && exchange.contains("560 files released")
    })
    .await;
    // And of what goes wrong.
    grid.fts.server().set_up(false);
    grid.rucio.requeue(40).await.unwrap();
    until("FTS is seen to be away", async || {
        told[0].get("/", "*/*").await.unwrap().1.contains("can&#39;t be used")
    })
    .await;

    for (daemon, told, titles) in [
        ("conveyor", told[0], ["Health", "Issuers", "FTS", "Rucio's queue", "Left in the queue", "Tokens"]),
        (
            "token-exchange",
            told[1],
            ["Health", "Issuers", "Backlog", "Done since", "Failed by FTS", "Tokens"],
        ),
    ] {
        let shots = folder.path().join(daemon);
        std::fs::create_dir(&shots).unwrap();
        let seen = look(&chromium, told, &shots).await;
        assert_eq!(seen["troubles"], Value::Array(Vec::new()), "{daemon}");
        let looks = seen["looks"].as_array().unwrap();
        assert_eq!(looks.len(), 4);
        for look in looks {
            let number = |key: &str| look[key].as_i64().unwrap();
            assert_eq!(number("inner"), number("width"), "{look}");
            assert!(number("scroll") <= number("width"), "{daemon}: it has to be pushed sideways: {look}");
            assert_eq!(number("scripts"), 0, "{look}");
            let found: Vec<&str> =
                look["titles"].as_array().unwrap().iter().map(|title| title.as_str().unwrap()).collect();
            assert!(
                found.len() == titles.len()
                    && found.iter().zip(titles).all(|(found, title)| found.starts_with(title)),
                "{found:?}"
            );
            let [paper, ink] = ["background", "ink"].map(|key| lightness(look[key].as_str().unwrap()));
            assert_eq!(look["scheme"] == "dark", paper < ink, "{look}");
            assert!(paper.abs_diff(ink) > 400, "little contrast: {look}");
        }
        if daemon == "conveyor" {
            assert!(looks[0]["text"].as_str().unwrap().contains("can't be used"), "{}", looks[0]);
        }
        if let Some(keep) = std::env::var_os("SCREENSHOTS") {
            for entry in std::fs::read_dir(&shots).unwrap() {
                let path = entry.unwrap().path();
                let name = format!("{daemon}-{}", path.file_name().unwrap().to_string_lossy());
                std::fs::copy(&path, Path::new(&keep).join(name)).unwrap();
            }
        }
    }
    terminate(conveyor).await.unwrap();
    terminate(exchange).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn there_is_no_page_unless_it_is_asked_for() {
    let (_folder, grid) = grid("nopage").await;
    let daemon = grid.spawn(grid.token_exchange(&[]), "exchange.log").unwrap();
    let told = Told::by_log(&grid.folder.join("exchange.log")).await.unwrap();
    let (_, body) = told.get("/", "text/html").await.unwrap();
    assert!(!body.contains('<') && body.contains("/metrics"), "{body}");
    terminate(daemon).await.unwrap();
}

/// What Chromium sees.
async fn look(chromium: &Path, told: Told, shots: &Path) -> Value {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("browser/look.mjs");
    let mut command = Command::new("node");
    command
        .arg(script)
        .arg(chromium)
        .arg(format!("http://{}/", told.0))
        .arg(shots)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = tokio::time::timeout(Duration::from_secs(90), command.output()).await.unwrap().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The sum of the three parts of `rgb(1, 2, 3)`.
fn lightness(colour: &str) -> u32 {
    let digits = |sign: char| !sign.is_ascii_digit();
    colour
        .split(digits)
        .filter(|part| !part.is_empty())
        .take(3)
        .map(|part| part.parse::<u32>().unwrap())
        .sum()
}
