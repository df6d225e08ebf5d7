//! The worker on every recorded starting state of `fts_token`: what it makes of FTS's database, on MariaDB and on SQLite.
//!
//! `FTS_CONTRACT` names another folder of recordings; what in it is no `worker-*.json` is passed over. `FTS_MYSQL` is a server
//! where databases may be made; without it only SQLite is used, and with `CI=true` that is a failure. Prints
//! `contract_worker: passed/total` and each case that did not pass, with the reason; and how many were not run.

#[path = "contract_worker/case.rs"]
mod case;
#[path = "contract_worker/database.rs"]
mod database;
#[path = "contract_worker/expected.rs"]
mod expected;
#[path = "contract_worker/issuer.rs"]
mod issuer;
#[path = "contract_worker/recording.rs"]
mod recording;
#[path = "contract_worker/refresh.rs"]
mod refresh;
#[path = "contract_worker/script.rs"]
mod script;
#[path = "contract_worker/seen.rs"]
mod seen;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use database::{Database, SERVER};
use futures_util::{StreamExt as _, stream};
use recording::Recording;
use testbed::binaries::Binaries;

/// Cases at a time.
const AT_A_TIME: usize = 4;

#[derive(Default)]
struct Outcome {
    passed: usize,
    failed: BTreeMap<String, String>,
    not_run: BTreeMap<&'static str, Vec<String>>,
    /// How many cases each rule was needed for.
    rules: BTreeMap<&'static str, usize>,
}

#[tokio::main]
#[expect(clippy::print_stdout, clippy::print_stderr, reason = "a test target with its own report")]
async fn main() -> ExitCode {
    let outcome = match all().await {
        Ok(outcome) => outcome,
        Err(error) => {
            eprintln!("contract_worker: {error:#}");
            return ExitCode::FAILURE;
        }
    };
    for (rule, cases) in &outcome.rules {
        println!("  rule, {cases} cases: {rule}");
    }
    for (reason, names) in &outcome.not_run {
        println!("  not run, {}: {reason}: {}", names.len(), names.join(", "));
    }
    for (name, reason) in &outcome.failed {
        println!("  {name}: {reason}");
    }
    let total = outcome.passed + outcome.failed.len();
    let not_run: usize = outcome.not_run.values().map(Vec::len).sum();
    println!("  not run: {not_run}");
    println!("contract_worker: {}/{total}", outcome.passed);
    if outcome.failed.is_empty() && total > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[expect(clippy::print_stderr, reason = "a test target with its own report")]
async fn all() -> Result<Outcome> {
    let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/contract/fts");
    let folder = std::env::var_os("FTS_CONTRACT").map_or(default, PathBuf::from);
    let server = std::env::var(SERVER).ok();
    if server.is_none() {
        let why = format!("{SERVER} is not set; ./tests/run starts a MariaDB and sets it");
        ensure!(std::env::var("CI").as_deref() != Ok("true"), "not run on MariaDB: {why}");
        eprintln!("NOT RUN on MariaDB: {why}");
    }
    let program = Binaries::find(false).await?.token_exchange;
    let mut outcome = Outcome::default();
    let mut cases = Vec::new();
    for path in recordings(&folder)? {
        let recording = match Recording::read(&path) {
            Ok(recording) => Arc::new(recording),
            Err(error) => {
                outcome.failed.insert(path.display().to_string(), format!("{error:#}"));
                continue;
            }
        };
        match recording.not_run() {
            Some(reason) => outcome.not_run.entry(reason).or_default().push(recording.name.clone()),
            None => cases.extend(
                std::iter::once(None).chain(server.iter().map(Some)).map(|s| (Arc::clone(&recording), s)),
            ),
        }
    }
    let temporary =
        tempfile::Builder::new().prefix("contract-worker").tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let runs = stream::iter(cases.into_iter().enumerate()).map(|(number, (recording, server))| {
        let (folder, program) = (temporary.path().join(number.to_string()), &program);
        async move {
            let kind = if server.is_some() { "MariaDB/MySQL" } else { "SQLite" };
            (format!("{} on {kind}", recording.name), one(recording, server, program, &folder).await)
        }
    });
    let mut runs = runs.buffer_unordered(AT_A_TIME);
    while let Some((name, ran)) = runs.next().await {
        match ran {
            Ok(rules) => {
                outcome.passed += 1;
                rules.into_iter().for_each(|rule| *outcome.rules.entry(rule).or_default() += 1);
            }
            Err(error) => drop(outcome.failed.insert(name, format!("{error:#}"))),
        }
    }
    Ok(outcome)
}

/// One recording on one database.
async fn one(
    recording: Arc<Recording>,
    server: Option<&String>,
    program: &Path,
    folder: &Path,
) -> Result<std::collections::BTreeSet<&'static str>> {
    std::fs::create_dir_all(folder)?;
    let database = match server {
        Some(server) => Database::mysql(server).await?,
        None => Database::sqlite(folder).await?,
    };
    let ran = case::run(recording, &database, program, folder).await;
    database.remove().await?;
    ran
}

fn recordings(folder: &Path) -> Result<Vec<PathBuf>> {
    let files = std::fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))?;
    let mut paths = files.map(|file| Ok(file?.path())).collect::<Result<Vec<_>>>()?;
    paths.retain(|path| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.starts_with("worker-") && name.ends_with(".json")
    });
    paths.sort();
    ensure!(!paths.is_empty(), "{} has no worker-*.json", folder.display());
    Ok(paths)
}
