//! What the dashboards and alerts in `config` ask for is what running daemons tell; and Prometheus' own tool takes all of it.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use testbed::grid::{Grid, GridSettings, terminate};
use testbed::told::Told;

#[path = "interop/needed.rs"]
mod needed;

use needed::needed;

/// Labels that Prometheus itself gives.
const ITS_OWN: [&str; 3] = ["instance", "job", "le"];

#[tokio::test(flavor = "multi_thread")]
async fn every_metric_and_label_of_dashboards_and_alerts_is_told() {
    let told = scrapes().await;
    let metrics: BTreeSet<&str> = told
        .iter()
        .flat_map(|text| text.lines())
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
        .collect();
    let labels = documented_labels();
    let mut seen = BTreeSet::new();
    for (at, expression) in expressions() {
        for word in words(&expression) {
            let family = ["_bucket", "_count", "_sum"]
                .iter()
                .find_map(|end| word.strip_suffix(end))
                .filter(|name| metrics.contains(name));
            let name = family.unwrap_or(&word);
            if name.starts_with("token_") || name.starts_with("conveyor_") {
                assert!(metrics.contains(name), "{at}: no daemon tells {name}: {expression}");
                seen.insert(name.to_owned());
            }
        }
        let known = |label: &String| ITS_OWN.contains(&label.as_str()) || labels.contains(label);
        for label in labels_of(&expression) {
            assert!(known(&label), "{at}: no metric has the label {label}: {expression}");
        }
    }
    // And nothing that is told is looked at nowhere, but for what only a process's restart changes.
    let unseen: Vec<_> = metrics.iter().filter(|name| !seen.contains(**name)).collect();
    assert!(unseen.len() <= 5, "on no dashboard and in no alert: {unseen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn promtool_takes_rules_expressions_and_metrics() {
    let Some(promtool) = needed("PROMTOOL", "Prometheus' promtool") else { return };
    let config = config();
    run(&promtool, &["check", "rules", &config.join("prometheus/alerts.yml").display().to_string()], "");
    run(&promtool, &["test", "rules", &config.join("prometheus/alerts_test.yml").display().to_string()], "");
    // The dashboards' expressions, as rules: an expression that can't be read is no rule.
    let mut rules = String::from("groups:\n- name: dashboards\n  rules:\n");
    for (at, expression) in expressions() {
        let expression = expression.replace("$__rate_interval", "5m").replace("$instance", ".*");
        rules += &format!(
            "  - record: dashboard\n    labels: {{at: {at:?}, n: {:?}}}\n    expr: {expression:?}\n",
            rules.len()
        );
    }
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let file = folder.path().join("dashboards.yml");
    std::fs::write(&file, rules).unwrap();
    run(&promtool, &["check", "rules", &file.display().to_string()], "");
    for metrics in scrapes().await {
        run(&promtool, &["check", "metrics"], &metrics);
    }
}

/// What both daemons tell when they have just started.
async fn scrapes() -> [String; 2] {
    let folder =
        tempfile::Builder::new().prefix("dashboards").tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let grid = Grid::start(GridSettings::new(folder.path().join("grid"))).await.unwrap();
    let conveyor = grid.spawn(grid.conveyor(&[]), "conveyor.log").unwrap();
    let exchange = grid.spawn(grid.token_exchange(&[]), "exchange.log").unwrap();
    let mut told = [String::new(), String::new()];
    for (text, log) in told.iter_mut().zip(["conveyor.log", "exchange.log"]) {
        *text = Told::by_log(&grid.folder.join(log)).await.unwrap().metrics().await.unwrap();
    }
    terminate(conveyor).await.unwrap();
    terminate(exchange).await.unwrap();
    told
}

fn config() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../config")
}

/// Every expression, and where it stands.
fn expressions() -> Vec<(String, String)> {
    let mut all = Vec::new();
    for name in ["conveyor", "token-exchange"] {
        let text = std::fs::read_to_string(config().join(format!("grafana/{name}.json"))).unwrap();
        let dashboard: Value = serde_json::from_str(&text).unwrap();
        let ids: BTreeSet<u64> = dashboard["panels"]
            .as_array()
            .unwrap()
            .iter()
            .map(|panel| panel["id"].as_u64().unwrap())
            .collect();
        assert_eq!(
            ids.len(),
            dashboard["panels"].as_array().unwrap().len(),
            "{name}: panels with the same id"
        );
        for panel in dashboard["panels"].as_array().unwrap() {
            for target in panel["targets"].as_array().into_iter().flatten() {
                let at = format!("{name}: {}", panel["title"].as_str().unwrap());
                all.push((at, target["expr"].as_str().unwrap().to_owned()));
            }
        }
    }
    let alerts = std::fs::read_to_string(config().join("prometheus/alerts.yml")).unwrap();
    let mut lines = alerts.lines().peekable();
    let mut name = "";
    while let Some(line) = lines.next() {
        let line = line.trim_start();
        name = line.strip_prefix("- alert: ").unwrap_or(name);
        let Some(mut expression) = line.strip_prefix("expr: ").map(str::to_owned) else { continue };
        if expression == ">-" {
            expression.clear();
            while let Some(more) = lines.next_if(|line| line.starts_with("          ")) {
                expression += &format!(" {}", more.trim());
            }
        }
        all.push((name.to_owned(), expression));
    }
    assert!(all.len() > 80, "{} expressions", all.len());
    all
}

/// Names outside of quotes.
fn words(expression: &str) -> Vec<String> {
    let bare: String = expression.split('"').step_by(2).collect::<Vec<_>>().join(" ");
    let all = bare.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    all.filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// What is compared in braces, and grouped by.
fn labels_of(expression: &str) -> BTreeSet<String> {
    let bare: String = expression.split('"').step_by(2).collect::<Vec<_>>().join(" ");
    let mut labels = BTreeSet::new();
    for part in bare.split('{').skip(1) {
        let inside = part.split('}').next().unwrap_or_default();
        labels.extend(
            inside
                .split([',', ' '])
                .filter_map(|one| Some(one.split_once('=')?.0.trim_end_matches('!').to_owned())),
        );
    }
    for by in ["by (", "on ("] {
        for part in bare.split(by).skip(1) {
            let inside = part.split(')').next().unwrap_or_default();
            labels.extend(inside.split(',').map(|label| label.trim().to_owned()));
        }
    }
    labels.remove("");
    labels
}

/// The labels of docs/metrics.md, which another test holds against the daemons.
fn documented_labels() -> BTreeSet<String> {
    let text = std::fs::read_to_string(config().join("../docs/metrics.md")).unwrap();
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `"));
    let cells = rows.map(|row| row.split(" | ").nth(2).unwrap_or_default().to_owned());
    cells
        .flat_map(|cell| {
            cell.split(", ").map(|label| label.trim_matches('`').trim().to_owned()).collect::<Vec<_>>()
        })
        .collect()
}

fn run(program: &Path, arguments: &[&str], input: &str) {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "promtool {arguments:?}: {}", String::from_utf8_lossy(&said));
}
