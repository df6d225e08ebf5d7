//! `--group-policy` and `--archive-timeout-override`, against what Rucio's own submitter makes of the same requests with each of them.
//!
//! Needs `RUCIO_BIN`, a folder with Rucio's programs; `./tests/run` makes one.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value;
use testbed::fts::SubmitFault;
use testbed::grid::{Grid, GridSettings};

#[path = "interop/needed.rs"]
mod needed;
#[path = "rucio/submitted.rs"]
mod submitted;

const CHOICES: &str = "rucio-41.5.1-choices.sqlite";

#[tokio::test(flavor = "multi_thread")]
async fn jobs_hold_what_rucios_own_would_hold() {
    let Some(programs) = needed::needed("RUCIO_BIN", "Rucio") else { return };
    let folder = tempfile::Builder::new().prefix("group").tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let (_, rucio) = submitted::by_rucio(&programs, folder.path(), CHOICES, 100).await;
    let original = Path::new(env!("CARGO_MANIFEST_DIR")).join("data").join(CHOICES);
    let settings =
        GridSettings { rucio: original, storages: false, ..GridSettings::new(folder.path().join("grid")) };
    let grid = Grid::start(settings).await.unwrap();
    grid.fts.set_submit_fault(SubmitFault::TakeAll);

    let mut counts = BTreeMap::new();
    for (policy, theirs) in rucio["groups"].as_object().unwrap() {
        let jobs = submit(&grid, policy, &["--group-policy", policy]).await;
        let mut params = BTreeMap::new();
        let mut ours = BTreeSet::new();
        for job in &jobs {
            let ids = ids(job);
            params.extend(ids.iter().map(|id| (id.clone(), plain(&job["params"]))));
            ours.insert(ids);
        }
        // What is left to a certificate is not ours, and requests for hops have other ids. Rucio gives a job some parameters, such as
        // the account, of its first file; ours holds only files for which all are the same.
        let mut expected: BTreeSet<BTreeSet<String>> = BTreeSet::new();
        for group in theirs.as_array().unwrap() {
            let mut alike: BTreeMap<&String, BTreeSet<String>> = BTreeMap::new();
            let ids = group.as_array().unwrap().iter().map(|id| id.as_str().unwrap().to_owned());
            for id in known(&ids.collect(), &rucio) {
                if let Some(params) = params.get(&id) {
                    alike.entry(params).or_default().insert(id);
                }
            }
            expected.extend(alike.into_values());
        }
        let ours: BTreeSet<_> =
            ours.iter().map(|ids| known(ids, &rucio)).filter(|ids| !ids.is_empty()).collect();
        assert_eq!(ours, expected, "policy {policy}");
        counts.insert(policy.as_str(), jobs.len());
    }
    assert!(counts["dest"] < counts["src_dest"] && counts["src_dest"] < counts["rule"], "{counts:?}");
    assert_eq!(counts.len(), 6);

    for (time, theirs) in rucio["archive"].as_object().unwrap() {
        let mut to_archive = 0;
        for job in submit(&grid, time, &["--archive-timeout-override", time]).await {
            for id in known(&ids(&job), &rucio) {
                let ours =
                    serde_json::json!([job["params"]["archive_timeout"], job["params"]["dst_file_report"]]);
                assert_eq!(ours, theirs[&id], "{job}");
                to_archive += usize::from(ours[1] == true);
            }
        }
        assert!(to_archive > 0, "none goes to an RSE with `archive_timeout`");
    }
}

/// What is posted for the whole queue, on a copy of the grid's database.
async fn submit(grid: &Grid, name: &str, flags: &[&str]) -> Vec<Value> {
    let copy = grid.folder.join(format!("{name}.sqlite"));
    std::fs::copy(grid.rucio.path(), &copy).unwrap();
    grid.fts.record();
    let before = grid.fts.recorded().len();
    let mut conveyor = grid.conveyor(&["--run-once", "--vos", "*", "--group-bulk", "1000"]);
    conveyor.args(flags).env("CONVEYOR__RUCIO__DATABASE", format!("sqlite:///{}", copy.display()));
    conveyor.env("CONVEYOR__SUBMIT__RETRY_SAME_SOURCE", "true");
    let done = conveyor.output().await.unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    grid.fts.recorded().split_off(before)
}

fn ids(job: &Value) -> BTreeSet<String> {
    let files = job["files"].as_array().unwrap().iter();
    files.map(|file| file["metadata"]["request_id"].as_str().unwrap().to_owned()).collect()
}

/// Without the requests that we made for hops, and those that went to another FTS: the grid has one.
fn known(ids: &BTreeSet<String>, rucio: &Value) -> BTreeSet<String> {
    let most = |request: &&Value| {
        let job = request["job"].as_u64().and_then(|at| rucio["jobs"].get(usize::try_from(at).unwrap()));
        job.is_some_and(|job| job["fts"] == "https://fts.example:8446")
    };
    let of_rucio: BTreeSet<&str> = rucio["requests"]
        .as_array()
        .unwrap()
        .iter()
        .filter(most)
        .map(|request| request["request_id"].as_str().unwrap())
        .collect();
    ids.iter().filter(|id| of_rucio.contains(id.as_str())).cloned().collect()
}

fn plain(params: &Value) -> String {
    let mut params = params.clone();
    params.as_object_mut().unwrap().retain(|key, _| !["sid", "id_generator"].contains(&key.as_str()));
    params.to_string()
}
