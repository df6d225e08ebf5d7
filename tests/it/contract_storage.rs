//! The grid's storage endpoints against recordings of a real XRootD 5.5.3 with SciTokens.
//!
//! `STORAGE_CONTRACT` names another folder of recordings. Each case gets endpoints of its own, with the flaws of that version
//! switched on, and what has to be there before its first request, as far as its requests and answers tell. Compared are
//! status, reason phrase, body, and the headers that were recorded; ports, times and contents that were not recorded stand
//! for each other. Prints `contract_storage: passed/total` and the name and difference of every case that did not pass.

use std::process::ExitCode;

use anyhow::Result;
use contract::folder;
use contract::report::Report;

#[path = "contract_storage/compare.rs"]
mod compare;
#[path = "contract/mod.rs"]
mod contract;
#[path = "contract_storage/recording.rs"]
mod recording;
#[path = "contract_storage/replay.rs"]
mod replay;
#[path = "contract_storage/state.rs"]
mod state;

#[tokio::main]
#[expect(clippy::print_stderr, reason = "a test target with its own report")]
async fn main() -> ExitCode {
    match run().await {
        Ok(report) => report.print("contract_storage"),
        Err(error) => {
            eprintln!("contract_storage: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<Report> {
    let rig = replay::Rig::start().await?;
    let mut report = Report::default();
    for (name, recording) in folder::recordings("STORAGE_CONTRACT", "storage")? {
        match serde_json::from_value(recording) {
            Ok(recording) => {
                let differences =
                    rig.replay(&recording).await.unwrap_or_else(|error| vec![format!("{error:#}")]);
                report.replayed(&name, differences);
            }
            Err(error) => report.left_out(&name, format!("no recording of steps: {error}")),
        }
    }
    Ok(report)
}
