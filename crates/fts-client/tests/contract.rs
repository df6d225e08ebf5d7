//! Recordings of a real FTS: the client's own methods are called, a server on loopback answers with what was recorded, and
//! what the client makes of it is compared with a table of what each status and body means.
//!
//! `FTS_CONTRACT` names another folder of recordings. Prints `contract_decoding: passed/total` and every case that did not
//! pass. Files without one request and its answer (whole job lives, what a daemon does) are not counted.
#![expect(clippy::unwrap_used, reason = "tests")]

#[path = "contract/drive.rs"]
mod drive;
#[path = "contract/expected.rs"]
mod expected;
#[path = "support/mod.rs"]
#[expect(dead_code, reason = "the other tests use more of it")]
mod support;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::Value;

/// One request and its answer.
pub(crate) struct Recording {
    name: String,
    pub(crate) auth: String,
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) request: Value,
    pub(crate) status: u16,
    pub(crate) content_type: String,
    pub(crate) chunked: bool,
    pub(crate) body: Value,
}

/// Who FTS says we are while the recorded call is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Believed {
    Yes,
    No,
}

#[tokio::main(flavor = "current_thread")]
#[expect(clippy::print_stdout, reason = "a test target with its own report")]
async fn main() -> ExitCode {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/contract/fts");
    let folder = std::env::var_os("FTS_CONTRACT").map_or(own, PathBuf::from);
    let (mut total, mut failed) = (0, 0);
    for recording in recordings(&folder) {
        total += 1;
        let mut wrong = Vec::new();
        for believed in [Believed::Yes, Believed::No] {
            let expected = expected::of(&recording, believed);
            let got = drive::call(&recording, believed).await;
            if got.outcome != expected {
                wrong.push(format!("expected `{expected}`, got `{}`", got.outcome));
            }
            wrong.extend(got.differences);
        }
        if !wrong.is_empty() {
            failed += 1;
            wrong.dedup();
            println!("  {}: {}", recording.name, wrong.join("; "));
        }
    }
    println!("contract_decoding: {}/{total}", total - failed);
    println!("{} passed, {failed} failed", total - failed);
    if failed == 0 && total > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// All files of the folder that hold one REST call.
#[expect(clippy::panic, reason = "without recordings there is no test")]
fn recordings(folder: &Path) -> Vec<Recording> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|ending| ending == "json"));
    paths.sort();
    paths.iter().filter_map(|path| recording(path)).collect()
}

fn recording(path: &Path) -> Option<Recording> {
    let bytes = std::fs::read(path).unwrap();
    let file: Value = serde_json::from_slice(&bytes).unwrap();
    let (request, response) = (file.get("request")?, file.get("response")?);
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let header = |name: &str| text(&response["headers"][name]).unwrap_or_default();
    let body = response["body"].clone();
    // A body that was cut for the file can't be served again.
    if body.get("_abbreviated").is_some() {
        return None;
    }
    Some(Recording {
        name: path.file_stem()?.to_string_lossy().into_owned(),
        auth: text(&file["auth"]).unwrap_or_default(),
        method: text(&request["method"])?,
        path: text(&request["path"])?,
        request: request["body"].clone(),
        status: u16::try_from(response["status"].as_u64()?).ok()?,
        content_type: header("Content-Type"),
        chunked: header("Transfer-Encoding") == "chunked",
        body,
    })
}
