//! The comparison, request by request and table by table.
//!
//! Differences by design, in this one place, each with its reason:
//! - `params.id_generator` and `params.sid` are ours: a job whose id is known before the POST can be found after a crash.
//! - No `source_tokens` and `destination_tokens`: the endpoint tokens are got behind FTS, one per endpoint.
//! - Extra sources of a multi-source file may come in another order where ranking and distance are equal: Rucio's is random.
//! - How files are cut into jobs: any job holds only files with equal parameters, which are compared here file by file.
//! - A file that may not go by token (a side that is not `davs`, or an RSE without `oidc_support`) is left in `Q` for Rucio's
//!   own submitter, where Rucio's submits it with a certificate: never a silent change of authentication. Nor is anything made for
//!   its hops.
//! - `sources.url` and `sources.dest_rse_id` of a request that was tried before are those that are posted now; Rucio keeps those of the
//!   first try, by whose URL its poller does not find the source.
//! - Sources that are equal in every way are taken by age; Rucio takes them as its database happens to give them, which is the same
//!   order on a SQLite database that was filled once.
//! - `requests.err_msg` says why a request was ended; Rucio leaves it empty.
//!
//! A request that was tried before takes the source that failed again only with `retry_same_source`, which is set here.

mod golden;
mod tables;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use testbed::fts::SubmitFault;
use testbed::grid::{Grid, GridSettings};

use golden::{Golden, GoldenRequest};

/// A Rucio database, and what Rucio's own submitter made of it.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    /// On SQLite.
    pub(crate) database: PathBuf,
    golden: PathBuf,
}

/// What was compared.
pub(crate) struct Compared {
    pub(crate) requests: usize,
    /// The requests that differ.
    pub(crate) failures: Vec<String>,
    pub(crate) rows: usize,
    /// The rows that differ, of the tables that the golden file has.
    pub(crate) row_failures: Vec<String>,
}

/// What we made of one request.
struct Ours {
    id: String,
    name: String,
    destination: String,
    state: String,
    source_rse: Option<String>,
    dest_url: Option<String>,
}

/// The pairs that come with the testbed, or the one that `RUCIO_DATABASE` and `RUCIO_GOLDEN` name.
pub(crate) fn cases() -> Vec<Case> {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("data");
    let named = |name| std::env::var_os(name).map(PathBuf::from);
    let case = |name, file: &str| Case {
        name,
        database: named("RUCIO_DATABASE").unwrap_or_else(|| data.join(format!("{file}.sqlite"))),
        golden: named("RUCIO_GOLDEN").unwrap_or_else(|| data.join(format!("{file}.golden.json"))),
    };
    let first = case("golden", "rucio-41.5.1");
    let own = named("RUCIO_DATABASE").is_some() || named("RUCIO_GOLDEN").is_some();
    if own { vec![first] } else { vec![first, case("choices", "rucio-41.5.1-choices")] }
}

impl Case {
    /// One pass of `conveyor` over the database, or the same on PostgreSQL.
    pub(crate) async fn compare(&self, folder: &Path, postgres: Option<String>) -> Result<Compared> {
        let golden: Golden =
            serde_json::from_slice(&std::fs::read(&self.golden).context("reading the golden file")?)?;
        let settings = GridSettings {
            rucio: self.database.clone(),
            postgres,
            storages: false,
            ..GridSettings::new(folder.join("grid"))
        };
        let grid = Grid::start(settings).await?;
        grid.fts.set_scheduler(false);
        grid.fts.set_submit_fault(SubmitFault::TakeAll);
        grid.fts.record();
        let before = tables::source_urls(&grid).await?;
        let config = std::fs::read_to_string(grid.conveyor_config())?;
        std::fs::write(grid.conveyor_config(), config.replacen("[rucio]\n", "[rucio]\nvos = [\"*\"]\n", 1))?;
        let mut conveyor = grid.conveyor(&["--run-once", "--json"]);
        conveyor.env("CONVEYOR__SUBMIT__RETRY_SAME_SOURCE", "true");
        let done = conveyor.output().await?;
        ensure!(done.status.success(), "conveyor: {}", String::from_utf8_lossy(&done.stderr));

        let ours = ours(&grid).await?;
        let posted = posted(&grid);
        let without_tokens = without_tokens(&grid).await?;
        let left = left_by_design(&golden, &ours, &without_tokens);
        let mut failures = Vec::new();
        for theirs in &golden.requests {
            let by_design = theirs.job.is_some_and(|job| left.contains(&job));
            let differences =
                if by_design { Vec::new() } else { differences(theirs, &golden, &ours, &posted) };
            if !differences.is_empty() {
                let destination = theirs.destination().unwrap_or("?");
                failures.push(format!("{} > {destination}: {}", theirs.name, differences.join("; ")));
            }
        }
        let left: HashSet<String> = golden
            .requests
            .iter()
            .filter(|request| request.job.is_some_and(|job| left.contains(&job)))
            .map(|request| request.name.clone())
            .collect();
        let (rows, row_failures) =
            tables::compare(&grid, &golden.tables, &left, &without_tokens, &before).await?;
        Ok(Compared { requests: golden.requests.len(), failures, rows, row_failures })
    }
}

/// The database after our pass.
async fn ours(grid: &Grid) -> Result<Vec<Ours>> {
    let rows = grid.rucio.texts(
        "SELECT r.id, r.name, d.rse, r.state, s.rse, r.dest_url FROM requests r JOIN rses d ON d.id = r.dest_rse_id \
         LEFT JOIN rses s ON s.id = r.source_rse_id",
    );
    let ours = |row: Vec<Option<String>>| {
        let [Some(id), Some(name), Some(destination), Some(state), source_rse, dest_url] =
            <[_; 6]>::try_from(row).ok().context("a row of requests")?
        else {
            bail!("a request without id, name, destination or state");
        };
        // PostgreSQL shows ids with dashes.
        Ok(Ours { id: id.replace('-', ""), name, destination, state, source_rse, dest_url })
    };
    rows.await?.into_iter().map(ours).collect()
}

/// What was posted for each request: its file entry and the parameters of its job.
fn posted(grid: &Grid) -> HashMap<String, (Value, Value)> {
    let mut posted = HashMap::new();
    for job in grid.fts.recorded() {
        for file in job["files"].as_array().into_iter().flatten() {
            let id = file["metadata"]["request_id"].as_str().unwrap_or_default().to_owned();
            posted.insert(id, (file.clone(), job["params"].clone()));
        }
    }
    posted
}

/// RSEs that Rucio sends to with a certificate.
async fn without_tokens(grid: &Grid) -> Result<BTreeSet<String>> {
    let rows = grid.rucio.texts(
        "SELECT rse FROM rses WHERE NOT EXISTS (SELECT 1 FROM rse_attr_map a WHERE a.rse_id = rses.id \
         AND a.key = 'oidc_support' AND lower(a.value) = 'true')",
    );
    Ok(rows.await?.into_iter().flatten().flatten().collect())
}

/// The same request in our database. One for a hop has another id there.
fn same<'a>(theirs: &GoldenRequest, ours: &'a [Ours]) -> Option<&'a Ours> {
    let by_id = ours.iter().find(|ours| ours.id == theirs.request_id);
    by_id.or_else(|| {
        let destination = theirs.destination()?;
        ours.iter().find(|ours| ours.name == theirs.name && ours.destination == destination)
    })
}

/// The jobs of Rucio's that went with a certificate, and whose requests we left in the queue.
fn left_by_design(golden: &Golden, ours: &[Ours], without_tokens: &BTreeSet<String>) -> HashSet<usize> {
    let certificate = |file: &Value| {
        let urls = ["sources", "destinations"].into_iter().filter_map(|key| file[key].as_array()).flatten();
        let plain =
            |url: &str| !["davs://", "gclouds://", "s3s://"].iter().any(|scheme| url.starts_with(scheme));
        let sides = ["src_rse", "dst_rse"].into_iter().filter_map(|key| file["metadata"][key].as_str());
        urls.filter_map(Value::as_str).any(plain) || sides.into_iter().any(|rse| without_tokens.contains(rse))
    };
    let mut of_jobs: BTreeMap<usize, Vec<&GoldenRequest>> = BTreeMap::new();
    for request in &golden.requests {
        if let Some(job) = request.job {
            of_jobs.entry(job).or_default().push(request);
        }
    }
    // Of several hops only the last is in the queue; the others are not made.
    let left = |request: &&GoldenRequest| same(request, ours).is_none_or(|ours| ours.state == "Q");
    let jobs = of_jobs.into_iter().filter(|(_, requests)| {
        // An extra source without `oidc_support` does not stand in the metadata, but what is left because of it is one file alone.
        let several = |file: &Value| file["sources"].as_array().is_some_and(|sources| sources.len() > 1);
        let file = |test: &dyn Fn(&Value) -> bool| requests.iter().filter_map(|r| r.file.as_ref()).any(test);
        (file(&certificate) || (file(&several) && golden.went_with_certificate(requests)))
            && requests.iter().all(left)
    });
    jobs.map(|(job, _)| job).collect()
}

fn differences(
    theirs: &GoldenRequest,
    golden: &Golden,
    ours: &[Ours],
    posted: &HashMap<String, (Value, Value)>,
) -> Vec<String> {
    let Some(mine) = same(theirs, ours) else {
        return vec!["it is not in our database".into()];
    };
    let mut found = Vec::new();
    let mut compare = |what: &str, theirs: Value, ours: Value| {
        let (theirs, ours) = (timeless(theirs), timeless(ours));
        if theirs != ours {
            found.push(format!("{what}: Rucio {theirs}, ours {ours}"));
        }
    };
    compare("state", theirs.state.clone().into(), mine.state.clone().into());
    compare("source RSE", theirs.source_rse.clone().into(), mine.source_rse.clone().into());
    compare("destination URL", theirs.dest_url.clone().into(), mine.dest_url.clone().into());
    match (&theirs.file, posted.get(&mine.id)) {
        (None, None) => (),
        (Some(_), None) => found.push("not posted".into()),
        (None, Some(_)) => found.push("posted, which Rucio did not".into()),
        (Some(file), Some((our_file, our_params))) => {
            let (mut theirs_by_key, mut ours_by_key) = (comparable(file), comparable(our_file));
            if mine.id != theirs.request_id {
                for entry in [&mut theirs_by_key, &mut ours_by_key] {
                    entry.entry("metadata".into()).or_default()["request_id"] = Value::Null;
                }
            }
            let keys: BTreeSet<String> = theirs_by_key.keys().chain(ours_by_key.keys()).cloned().collect();
            for key in keys {
                let [theirs, ours] =
                    [&mut theirs_by_key, &mut ours_by_key].map(|e| e.remove(&key).unwrap_or_default());
                compare(&key, theirs, ours);
            }
            let params = theirs.job.and_then(|job| golden.jobs.get(job)).map(|job| job.params.clone());
            let mut ours = our_params.clone();
            if let Some(ours) = ours.as_object_mut() {
                ours.remove("id_generator");
                ours.remove("sid");
            }
            compare("params", params.unwrap_or_default(), ours);
        }
    }
    found
}

/// A file entry with the order of the sources after the first taken out.
fn comparable(file: &Value) -> BTreeMap<String, Value> {
    let mut entry: BTreeMap<String, Value> =
        file.as_object().into_iter().flatten().map(|(k, v)| (k.clone(), v.clone())).collect();
    let sources = entry.get_mut("sources").and_then(Value::as_array_mut);
    if let Some(rest) = sources.and_then(|list| list.get_mut(1..)) {
        rest.sort_by_key(ToString::to_string);
    }
    entry
}

/// Without the time that Rucio adds to a path on tape where one was tried before.
fn timeless(value: Value) -> Value {
    match value {
        Value::String(text) => tables::timeless(&text).into(),
        Value::Array(list) => list.into_iter().map(timeless).collect(),
        value => value,
    }
}
