//! The comparison, request by request and table by table.
//!
//! What may differ, and why, stands in `reason.rs`; anything else fails. Sources that are equal in every way are taken by age, and Rucio takes
//! them as its database happens to give them, which is the same order on a SQLite database that was filled once. A request that was
//! tried before takes the source that failed again only with `retry_same_source`, which is set here.

mod golden;
mod reason;
mod tables;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use testbed::fts::SubmitFault;
use testbed::grid::{Grid, GridSettings};

use golden::{Golden, GoldenRequest};
use reason::{ByDesign, Reason, reasons};

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
    /// How often each difference by design was met.
    by_design: ByDesign,
}

impl Compared {
    /// A line for each difference by design.
    pub(crate) fn by_design(&self) -> Vec<String> {
        self.by_design
            .iter()
            .map(|(reason, cases)| format!("by design: {cases} x {}", reason.words()))
            .collect()
    }
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
        let said_before = said_why(&grid).await?;
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
        let (mut failures, mut by_design) = (Vec::new(), ByDesign::new());
        for theirs in &golden.requests {
            if theirs.job.is_some_and(|job| left.contains(&job)) {
                *by_design.entry(Reason::Certificate).or_default() += 1;
                continue;
            }
            let differences = differences(theirs, &golden, &ours, &posted, &mut by_design);
            if !differences.is_empty() {
                let destination = theirs.destination().unwrap_or("?");
                failures.push(format!("{} > {destination}: {}", theirs.name, differences.join("; ")));
            }
        }
        *by_design.entry(Reason::JobCut).or_default() += cut_otherwise(&golden, &ours, &grid);
        *by_design.entry(Reason::Why).or_default() += said_why(&grid).await?.saturating_sub(said_before);
        let left: HashSet<String> = golden
            .requests
            .iter()
            .filter(|request| request.job.is_some_and(|job| left.contains(&job)))
            .map(|request| request.name.clone())
            .collect();
        let (rows, row_failures) =
            tables::compare(&grid, &golden.tables, &left, &without_tokens, &before, &mut by_design).await?;
        by_design.retain(|_, cases| *cases > 0);
        Ok(Compared { requests: golden.requests.len(), failures, rows, row_failures, by_design })
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
    by_design: &mut ByDesign,
) -> Vec<String> {
    let Some(mine) = same(theirs, ours) else {
        return vec!["it is not in our database".into()];
    };
    let mut found = Vec::new();
    let hop = mine.id != theirs.request_id;
    let mut compare = |what: &str, theirs: Value, ours: Value| match reasons(what, &theirs, &ours, hop) {
        Ok(reasons) => reasons.into_iter().for_each(|reason| *by_design.entry(reason).or_default() += 1),
        Err(()) => found.push(format!("{what}: Rucio {theirs}, ours {ours}")),
    };
    compare("state", theirs.state.clone().into(), mine.state.clone().into());
    compare("source RSE", theirs.source_rse.clone().into(), mine.source_rse.clone().into());
    compare("destination URL", theirs.dest_url.clone().into(), mine.dest_url.clone().into());
    match (&theirs.file, posted.get(&mine.id)) {
        (None, None) => (),
        (Some(_), None) => found.push("not posted".into()),
        (None, Some(_)) => found.push("posted, which Rucio did not".into()),
        (Some(file), Some((our_file, our_params))) => {
            let empty = serde_json::Map::new();
            let [theirs_by_key, ours_by_key] =
                [file, our_file].map(|file| file.as_object().unwrap_or(&empty));
            for key in theirs_by_key.keys().chain(ours_by_key.keys()).collect::<BTreeSet<_>>() {
                let [theirs, ours] =
                    [theirs_by_key, ours_by_key].map(|file| file.get(key).cloned().unwrap_or_default());
                compare(key, theirs, ours);
            }
            let params = theirs.job.and_then(|job| golden.jobs.get(job)).map(|job| job.params.clone());
            compare("params", params.unwrap_or_default(), our_params.clone());
        }
    }
    found
}

/// How many requests say why they were ended.
async fn said_why(grid: &Grid) -> Result<usize> {
    let rows = grid.rucio.texts("SELECT id FROM requests WHERE err_msg IS NOT NULL").await?;
    Ok(rows.len())
}

/// How many of Rucio's jobs have no job of ours with the same files.
fn cut_otherwise(golden: &Golden, ours: &[Ours], grid: &Grid) -> usize {
    let mut theirs: BTreeMap<usize, BTreeSet<String>> = BTreeMap::new();
    for request in &golden.requests {
        if let (Some(job), Some(mine)) = (request.job, same(request, ours).filter(|mine| mine.state != "Q")) {
            theirs.entry(job).or_default().insert(mine.id.clone());
        }
    }
    let id = |file: &Value| file["metadata"]["request_id"].as_str().unwrap_or_default().to_owned();
    let recorded = grid.fts.recorded();
    let ours: BTreeSet<BTreeSet<String>> =
        recorded.iter().map(|job| job["files"].as_array().into_iter().flatten().map(id).collect()).collect();
    theirs.values().filter(|files| !ours.contains(*files)).count()
}
