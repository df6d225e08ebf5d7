//! What both daemons tell of themselves over HTTP, on a grid in a box: metrics, liveness and readiness.
#![expect(clippy::unwrap_used, reason = "tests")]

#[path = "watched_grid.rs"]
mod watched_grid;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value;
use testbed::grid::{Grid, terminate};
use testbed::told::{Told, sample};
use watched_grid::{grid, until};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_done_is_counted_and_every_metric_is_documented() {
    let (_folder, grid) = grid("watch").await;
    let conveyor = grid.spawn(grid.conveyor(&[]), "conveyor.log").unwrap();
    let exchange = grid.spawn(grid.token_exchange(&[]), "exchange.log").unwrap();
    let [of_conveyor, of_exchange] = [told(&grid, "conveyor.log").await, told(&grid, "exchange.log").await];
    let fts = grid.fts.url().trim_start_matches("https://").trim_end_matches('/').to_owned();
    // A request with several sources is several files.
    until("all files are released", async || {
        sample(&of_exchange.metrics().await.unwrap(), "token_exchange_files_total{outcome=\"released\"}")
            >= Some(560.0)
    })
    .await;
    let submitted = format!("conveyor_submissions_total{{fts=\"{fts}\",outcome=\"submitted\"}}");
    until("a walk has told what is left", async || {
        let metrics = of_conveyor.metrics().await.unwrap();
        sample(&metrics, &submitted) == Some(460.0)
            && sample(&metrics, "conveyor_queue_left{vo=\"def\",reason=\"no `fts` attribute\"}").is_some()
    })
    .await;

    let issuer = grid.issuer.name().trim_end_matches('/');
    let metrics = of_conveyor.metrics().await.unwrap();
    let (jobs, call) = (
        format!("conveyor_jobs_total{{fts=\"{fts}\"}}"),
        format!(
            "token_issuer_calls_total{{issuer=\"{issuer}\",grant=\"client_credentials\",outcome=\"ok\"}}"
        ),
    );
    for (written, value) in [
        (jobs.as_str(), 104.0),
        (&call, 1.0),
        ("conveyor_authorised_total{mode=\"token for FTS\"}", 460.0),
        ("conveyor_requests_ended_total{reason=\"no distance\"}", 5.0),
        ("conveyor_claims_open{vo=\"def\"}", 0.0),
        (&format!("conveyor_fts_up{{fts=\"{fts}\"}}"), 1.0),
        ("token_cache_requests_total{result=\"miss\"}", 1.0),
        ("token_daemon_database_up{database=\"rucio\"}", 1.0),
        ("token_daemon_ready", 1.0),
        ("token_daemon_live", 1.0),
    ] {
        assert_eq!(sample(&metrics, written), Some(value), "{written}: {metrics}");
    }
    let took = format!(
        "token_issuer_call_duration_seconds_count{{issuer=\"{issuer}\",grant=\"client_credentials\"}}"
    );
    assert_eq!(sample(&metrics, &took), Some(1.0), "{metrics}");
    let left = format!("token_expires_in_seconds{{issuer=\"{issuer}\",audience=\"127.0.0.1\"}}");
    assert!((3000.0..=3600.0).contains(&sample(&metrics, &left).unwrap()), "{metrics}");
    let waits = sample(&metrics, "conveyor_queue_oldest_age_seconds{vo=\"def\"}");
    assert_eq!(waits, Some(0.0), "what is left for its data waits for nothing");

    let calls = grid.issuer.token_calls().exchange as f64;
    let exchanged = of_exchange.metrics().await.unwrap();
    let call =
        format!("token_issuer_calls_total{{issuer=\"{issuer}\",grant=\"token_exchange\",outcome=\"ok\"}}");
    assert_eq!(sample(&exchanged, &call), Some(calls), "{exchanged}");
    let one = |written: &str| sample(&exchanged, written).unwrap();
    assert_eq!(one("token_exchange_files_total{outcome=\"failed\"}"), 0.0);
    assert!(one("token_exchange_jobs_leased_total") >= 104.0);
    assert_eq!(one("token_daemon_database_up{database=\"fts\"}"), 1.0);

    let documented = documented();
    for (daemon, metrics) in [("conveyor", &metrics), ("token-exchange", &exchanged)] {
        let expected: BTreeMap<_, _> = documented
            .iter()
            .filter(|(_, row)| row.daemons.contains(daemon))
            .map(|(name, row)| (name.clone(), (row.kind.clone(), row.help.clone())))
            .collect();
        let (described, labels) = described(metrics);
        assert_eq!(described, expected, "docs/metrics.md and what {daemon} tells");
        for (name, labels) in labels {
            assert_eq!(labels, documented[&name].labels, "docs/metrics.md: labels of {name}");
        }
    }
    terminate(conveyor).await.unwrap();
    terminate(exchange).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn readiness_says_what_is_missing_and_comes_back() {
    let (_folder, grid) = grid("ready").await;
    grid.issuer.server().set_up(false);
    let mut command = grid.conveyor(&[]);
    command.env("CONVEYOR__ISSUER__RETRY_TOTAL_S", "1").env("CONVEYOR__SUBMIT__SLEEP_S", "1");
    let daemon = grid.spawn(command, "conveyor.log").unwrap();
    let told = told(&grid, "conveyor.log").await;
    // From the first call on that gave nothing, and not only when it is left alone.
    until("no token is there", async || told.get("/readyz", "*/*").await.unwrap().0 == 503).await;
    let open =
        format!("token_issuer_breaker_open{{issuer=\"{}\"}}", grid.issuer.name().trim_end_matches('/'));
    until("the breaker is open", async || sample(&told.metrics().await.unwrap(), &open) == Some(1.0)).await;
    // While it is; between two of its tries another reason is told.
    until("that is the reason", async || {
        let (status, body) = told.get("/readyz", "application/json").await.unwrap();
        let ready: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(
            (status, &ready["ok"], &ready["checks"][0]["ok"]),
            (503, &false.into(), &true.into()),
            "{body}"
        );
        ready["checks"][1]["why"].as_str().unwrap().contains("no token of it is kept")
    })
    .await;
    assert_eq!(told.get("/livez", "*/*").await.unwrap().0, 200, "it lives all the same");
    grid.issuer.server().set_up(true);
    until("it is ready", async || told.get("/readyz", "*/*").await.unwrap().0 == 200).await;
    terminate(daemon).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_is_taken_is_a_warning_and_nonsense_is_answered_shortly() {
    let (_folder, grid) = grid("port").await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut command = grid.token_exchange(&[]);
    command.env("TOKEN_EXCHANGE__HTTP__LISTEN", taken.local_addr().unwrap().to_string());
    let daemon = grid.spawn(command, "taken.log").unwrap();
    let log = || std::fs::read_to_string(grid.folder.join("taken.log")).unwrap();
    until("it warns", async || log().contains("set `http.listen`")).await;
    terminate(daemon).await.unwrap();

    let daemon = grid.spawn(grid.token_exchange(&[]), "exchange.log").unwrap();
    let told = told(&grid, "exchange.log").await;
    assert_eq!(told.get("/", "*/*").await.unwrap().0, 200);
    assert_eq!(told.get("/none", "*/*").await.unwrap().0, 404);
    let line = |answer: String| answer.lines().next().unwrap_or_default().to_owned();
    assert!(
        line(told.send(b"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n").await.unwrap())
            .contains("405")
    );
    assert!(line(told.send(b"nonsense\r\n\r\n").await.unwrap()).contains("400"));
    // Who says nothing is not waited for, and holds up nobody.
    let silent = std::net::TcpStream::connect(told.0).unwrap();
    assert_eq!(told.get("/livez", "*/*").await.unwrap().0, 200);
    drop(silent);
    terminate(daemon).await.unwrap();
}

/// A row of docs/metrics.md.
struct Row {
    kind: String,
    labels: BTreeSet<String>,
    help: String,
    daemons: BTreeSet<String>,
}

/// What docs/metrics.md says, by name.
fn documented() -> BTreeMap<String, Row> {
    let text =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/metrics.md")).unwrap();
    let (mut daemons, mut rows) = (BTreeSet::new(), BTreeMap::new());
    for line in text.lines() {
        if let Some(title) = line.strip_prefix("## ") {
            let named = |name: &&str| title.contains("Both") || title.contains(*name);
            daemons = ["conveyor", "token-exchange"]
                .iter()
                .filter(|name| named(name))
                .map(|name| (*name).to_owned())
                .collect();
        }
        let Some(row) = line.strip_prefix("| `") else { continue };
        let cells: Vec<&str> = row.trim_end_matches(" |").splitn(4, " | ").collect();
        let [name, kind, labels, help] = cells.try_into().unwrap();
        let labels = labels
            .split(", ")
            .map(|label| label.trim_matches('`').trim().to_owned())
            .filter(|label| !label.is_empty());
        let row =
            Row { kind: kind.into(), labels: labels.collect(), help: help.into(), daemons: daemons.clone() };
        assert!(rows.insert(name.trim_end_matches('`').to_owned(), row).is_none(), "{name} stands twice");
    }
    rows
}

/// What metrics tell of themselves: kind and meaning by name, and the labels of those that have samples.
type Described = (BTreeMap<String, (String, String)>, BTreeMap<String, BTreeSet<String>>);

fn described(metrics: &str) -> Described {
    let (mut all, mut labels) = (BTreeMap::<String, (String, String)>::new(), BTreeMap::new());
    for line in metrics.lines() {
        if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            all.entry(name.to_owned()).or_default().0 = kind.to_owned();
        } else if let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' '))
        {
            all.entry(name.to_owned()).or_default().1 = help.to_owned();
        } else {
            let (written, _) = line.rsplit_once(' ').unwrap();
            let (name, rest) = written.split_once('{').unwrap_or((written, ""));
            let name = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|end| name.strip_suffix(end).filter(|name| all.contains_key(*name)))
                .unwrap_or(name);
            let names = rest.split("\",").filter_map(|label| Some(label.split_once("=\"")?.0));
            let names = names.map(|name| name.trim_start_matches('{').to_owned()).filter(|name| name != "le");
            labels.insert(name.to_owned(), names.collect());
        }
    }
    (all, labels)
}

async fn told(grid: &Grid, log: &str) -> Told {
    Told::by_log(&grid.folder.join(log)).await.unwrap()
}
