//! RSE expressions mean to `conveyor` what they mean to Rucio's own parser: many random ones, evaluated by both on one database.
//!
//! Needs `RUCIO_BIN`, a folder with Rucio's programs and its Python; `./tests/run` makes one.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::Path;
use std::process::Stdio;

use conveyor::expression::Expression;
use conveyor::rucio::{DatabaseUrl, Rucio};
use conveyor::topology::Topology;
use proptest::strategy::{Strategy, ValueTree as _};
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

#[path = "interop/needed.rs"]
mod needed;

/// What RSEs are given, so that there is something to compare.
const ATTRIBUTES: [(&str, [&str; 6]); 4] = [
    ("tier", ["0", "1", "2", "10", "x", "1.5"]),
    ("cloud", ["DE", "CH", "1", "true", "TRUE", "-3"]),
    ("spare", ["true", "false", "true", "", "1_0", "nan"]),
    ("site.name", ["A", "B-1", "inf", "0", " 7 ", "1e3"]),
];

#[tokio::test]
async fn expressions_mean_what_rucios_own_parser_makes_of_them() {
    let Some(programs) = needed::needed("RUCIO_BIN", "Rucio") else { return };
    let folder = tempfile::Builder::new().prefix("rse").tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let database = folder.path().join("rucio.sqlite");
    std::fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("data/rucio-41.5.1.sqlite"), &database).unwrap();
    let url = format!("sqlite:///{}", database.display());
    dress(&database).await;
    let rucio = Rucio::open(&DatabaseUrl::new(&url), None, "def").await.unwrap();
    let topology = rucio.topology(token_core::UnixSeconds(0)).await.unwrap();

    let expressions = expressions(&topology);
    let theirs = ask(&programs, folder.path(), &url, &expressions).await;
    let mut differing = Vec::new();
    let (mut refused, mut empty, mut failed) = (0, 0, 0);
    for (text, theirs) in expressions.iter().zip(&theirs) {
        if theirs.is_string() {
            failed += 1;
            continue;
        }
        let ours = text.parse::<Expression>().ok().map(|expression| {
            let mut names: Vec<_> =
                topology.rses().filter(|rse| expression.allows(rse)).map(|rse| rse.name.clone()).collect();
            names.sort();
            names
        });
        refused += usize::from(theirs.is_null());
        empty += usize::from(theirs.as_array().is_some_and(Vec::is_empty));
        if json!(ours) != *theirs {
            differing.push(format!("{text}: ours {ours:?}, Rucio's {theirs}"));
        }
    }
    let total = expressions.len() - failed;
    needed::say(&format!(
        "rse_expressions: {}/{total} ({refused} refused, {empty} empty)",
        total - differing.len()
    ));
    assert!(failed < 20 && theirs.len() == expressions.len());
    assert!(refused > 100 && empty + refused < total - 300, "the expressions are of every kind");
    assert!(differing.is_empty(), "{differing:#?}");
}

/// Gives the RSEs attributes and columns of many kinds.
async fn dress(database: &Path) {
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(database);
    let pool = sqlx::SqlitePool::connect_with(options).await.unwrap();
    let ids: Vec<(String,)> =
        sqlx::query_as("SELECT id FROM rses WHERE NOT deleted ORDER BY rse").fetch_all(&pool).await.unwrap();
    for (at, (id,)) in ids.iter().enumerate() {
        for (key, values) in &ATTRIBUTES {
            if at % 5 == 4 && *key != "tier" {
                continue;
            }
            let insert = "INSERT INTO rse_attr_map (rse_id, key, value, created_at, updated_at) \
                          VALUES ($1, $2, $3, '2026-01-01 00:00:00.000000', '2026-01-01 00:00:00.000000')";
            let value = values[(at + key.len()) % values.len()];
            sqlx::query(insert).bind(id).bind(*key).bind(value).execute(&pool).await.unwrap();
        }
        let country = ["Chile", "DE"][at % 2];
        sqlx::query("UPDATE rses SET country_name = $1, volatile = $2, \"ISP\" = 'isp' WHERE id = $3")
            .bind(country)
            .bind(at % 3 == 0)
            .bind(id)
            .execute(&pool)
            .await
            .unwrap();
    }
}

/// Well-formed ones of random shape, and the same with a character changed, which mostly are not.
fn expressions(topology: &Topology) -> Vec<String> {
    let mut names: Vec<String> = topology.rses().map(|rse| rse.name.clone()).collect();
    names.sort();
    names.extend(["*", "NOWHERE", "volatile", "deterministic", "tier", "spare", "cloud"].map(str::to_owned));
    let keys = ["tier", "cloud", "spare", "site.name", "country_name", "ISP", "rse_type", "none"];
    let values = ["0", "1", "2", "10", "-3", "true", "FALSE", "DE", "x", "Chile", "isp", "1_0", "1e3", "inf"];
    // `rse_type` takes its own names only: with others Rucio's parser ends by another exception than that for an expression.
    let values = move |key: &str| if key == "rse_type" { vec!["DISK", "TAPE"] } else { values.to_vec() };
    let compared = (proptest::sample::select(keys.to_vec()), "[=<>]", proptest::num::usize::ANY).prop_map(
        move |(key, operator, at)| {
            let values = values(key);
            format!("{key}{operator}{}", values[at % values.len()])
        },
    );
    let leaf = proptest::prop_oneof![proptest::sample::select(names), compared];
    let tree = leaf.prop_recursive(5, 24, 2, |inner| {
        (inner.clone(), r"[|&\\]", inner, proptest::bool::ANY).prop_map(|(left, operator, right, bracket)| {
            if bracket { format!("({left}{operator}{right})") } else { format!("{left}{operator}{right}") }
        })
    });
    let spoiled = (tree.clone(), proptest::num::usize::ANY, r"[()|&\\*=<>._ Aé-]").prop_map(
        |(text, at, other): (String, usize, String)| {
            let mut characters: Vec<char> = text.chars().collect();
            let at = at % characters.len();
            characters.splice(at..=at, other.chars());
            characters.into_iter().collect()
        },
    );
    // The same on every run: what was found once is found again.
    let mut runner = TestRunner::deterministic();
    let mut draw = |from: &dyn Fn(&mut TestRunner) -> String, count| -> Vec<String> {
        (0..count).map(|_| from(&mut runner)).collect()
    };
    let mut all = draw(&|runner| tree.new_tree(runner).unwrap().current(), 1500);
    all.extend(draw(&|runner| spoiled.new_tree(runner).unwrap().current(), 1500));
    all
}

async fn ask(programs: &Path, folder: &Path, url: &str, expressions: &[String]) -> Vec<Value> {
    let config = folder.join("rucio.cfg");
    let text = format!(
        "[common]\nloglevel = ERROR\n[database]\ndefault = {url}\n[cache]\nenabled = false\n\
         [policy]\npermission = generic\nschema = generic\n"
    );
    std::fs::write(&config, text).unwrap();
    let mut child = Command::new(programs.join("python"))
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("rucio/expressions.py"))
        .env("RUCIO_CONFIG", &config)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = serde_json::to_vec(expressions).unwrap();
    let written = async move {
        stdin.write_all(&input).await.unwrap();
    };
    let (output, ()) = tokio::join!(child.wait_with_output(), written);
    let output = output.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}
