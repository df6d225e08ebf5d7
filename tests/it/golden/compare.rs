//! The comparison, request by request.
//!
//! Differences by design, in this one place, each with its reason:
//! - `params.id_generator` and `params.sid` are ours: a job whose id is known before the POST can be found after a crash.
//! - No `source_tokens` and `destination_tokens`: the endpoint tokens are got behind FTS, one per endpoint.
//! - Extra sources of a multi-source file may come in another order where ranking and distance are equal: Rucio's is random.
//! - How files are cut into jobs: any job holds only files with equal parameters, which are compared here file by file.
//! - A file that may not go by token (a side that is not `davs`, or an RSE without `oidc_support`) is left in `Q` for Rucio's
//!   own submitter, where Rucio's submits it with a certificate: never a silent change of authentication.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;
use serde_json::Value;
use testbed::grid::{Grid, GridSettings};

#[derive(Deserialize)]
struct Golden {
    jobs: Vec<GoldenJob>,
    requests: Vec<GoldenRequest>,
}

#[derive(Deserialize)]
struct GoldenJob {
    params: Value,
}

#[derive(Deserialize)]
struct GoldenRequest {
    request_id: String,
    name: String,
    state: String,
    source_rse: Option<String>,
    dest_url: Option<String>,
    job: Option<usize>,
    file: Option<Value>,
}

/// What we made of one request.
struct Ours {
    state: String,
    source_rse: Option<String>,
    dest_url: Option<String>,
}

/// The SQLite database that the golden file was made of.
pub(crate) fn database() -> PathBuf {
    input("RUCIO_DATABASE", "rucio-41.5.1.sqlite")
}

fn input(name: &str, default: &str) -> PathBuf {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("data");
    std::env::var_os(name).map_or_else(|| data.join(default), PathBuf::from)
}

/// One pass of `conveyor` over the database of `settings`; how many requests were compared, and those that differ.
pub(crate) async fn compare(settings: GridSettings) -> Result<(usize, Vec<String>)> {
    let golden_file = input("RUCIO_GOLDEN", "rucio-41.5.1.golden.json");
    let golden: Golden =
        serde_json::from_slice(&std::fs::read(&golden_file).context("reading the golden file")?)?;

    let grid = Grid::start(settings).await?;
    grid.fts.set_scheduler(false);
    grid.fts.record();
    let done = grid.conveyor(&["--run-once", "--json"]).output().await?;
    ensure!(done.status.success(), "conveyor: {}", String::from_utf8_lossy(&done.stderr));

    let ours = ours(&grid).await?;
    let posted = posted(&grid);
    let without_tokens = without_tokens(&grid).await?;
    let mut failures = Vec::new();
    for theirs in &golden.requests {
        let by_design = left_by_design(theirs, &ours, &without_tokens);
        let differences =
            if by_design { Vec::new() } else { differences(theirs, &golden, &ours, &posted, &grid) };
        if !differences.is_empty() {
            failures.push(format!("{} ({}): {}", theirs.name, theirs.request_id, differences.join("; ")));
        }
    }
    Ok((golden.requests.len(), failures))
}

/// The database after our pass.
async fn ours(grid: &Grid) -> Result<HashMap<String, Ours>> {
    let rows = grid.rucio.texts(
        "SELECT r.id, r.state, s.rse, r.dest_url FROM requests r LEFT JOIN rses s ON s.id = r.source_rse_id",
    );
    let ours = |row: Vec<Option<String>>| {
        let [Some(id), Some(state), source_rse, dest_url] =
            <[_; 4]>::try_from(row).ok().context("a row of requests")?
        else {
            bail!("a request without id or state");
        };
        // PostgreSQL shows ids with dashes.
        Ok((id.replace('-', ""), Ours { state, source_rse, dest_url }))
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

fn left_by_design(
    theirs: &GoldenRequest,
    ours: &HashMap<String, Ours>,
    without_tokens: &BTreeSet<String>,
) -> bool {
    let Some(file) = theirs.file.as_ref().filter(|_| theirs.state == "S") else { return false };
    let urls = ["sources", "destinations"].into_iter().filter_map(|key| file[key].as_array()).flatten();
    let certificate = urls.filter_map(Value::as_str).any(|url| !url.starts_with("davs://"))
        || ["src_rse", "dst_rse"]
            .iter()
            .any(|key| file["metadata"][key].as_str().is_some_and(|rse| without_tokens.contains(rse)));
    certificate && ours.get(&theirs.request_id).is_some_and(|ours| ours.state == "Q")
}

fn differences(
    theirs: &GoldenRequest,
    golden: &Golden,
    ours: &HashMap<String, Ours>,
    posted: &HashMap<String, (Value, Value)>,
    grid: &Grid,
) -> Vec<String> {
    let Some(mine) = ours.get(&theirs.request_id) else {
        return vec!["it is not in the database any more".into()];
    };
    let mut found = Vec::new();
    let mut compare = |what: &str, theirs: Value, ours: Value| {
        if theirs != ours {
            found.push(format!("{what}: Rucio {theirs}, ours {ours}"));
        }
    };
    compare("state", theirs.state.clone().into(), mine.state.clone().into());
    compare("source RSE", theirs.source_rse.clone().into(), mine.source_rse.clone().into());
    let original = mine.dest_url.as_deref().map(|url| unmoved(url, grid));
    compare("destination URL", theirs.dest_url.clone().into(), original.into());
    match (&theirs.file, posted.get(&theirs.request_id)) {
        (None, None) => (),
        (Some(_), None) => found.push("not posted".into()),
        (None, Some(_)) => found.push("posted, which Rucio did not".into()),
        (Some(file), Some((our_file, our_params))) => {
            for (key, value) in comparable(file, |url| url.to_owned()) {
                let ours = comparable(our_file, |url| unmoved(url, grid)).remove(&key).unwrap_or_default();
                compare(&key, value, ours);
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
fn comparable(file: &Value, url: impl Fn(&str) -> String) -> BTreeMap<String, Value> {
    let mut entry: BTreeMap<String, Value> =
        file.as_object().into_iter().flatten().map(|(k, v)| (k.clone(), v.clone())).collect();
    for key in ["sources", "destinations"] {
        if let Some(list) = entry.get_mut(key).and_then(Value::as_array_mut) {
            let mut urls: Vec<String> = list.iter().filter_map(Value::as_str).map(&url).collect();
            if let Some(rest) = urls.get_mut(1..) {
                rest.sort();
            }
            *list = urls.into_iter().map(Value::from).collect();
        }
    }
    entry
}

/// The URL as it was before the storage moved to loopback.
fn unmoved(url: &str, grid: &Grid) -> String {
    for (site, now) in &grid.sites {
        let now = now.replacen("https://", "davs://", 1);
        if let Some(path) = url.strip_prefix(&now).filter(|path| path.starts_with('/')) {
            let port = if site.port == 0 { String::new() } else { format!(":{}", site.port) };
            return format!("davs://{}{port}{path}", site.host);
        }
    }
    url.to_owned()
}
