//! The grid's FTS against recordings of a real REST server (fts-rest 3.13.4).
//!
//! `FTS_CONTRACT` names another folder of recordings; those without a request and a response are passed over. Each case gets an
//! FTS of its own, set up as the recorded one was, its clock at the time of the recording, and the rows that have to be there
//! before, as far as the request, the answer and the rows afterwards tell. Compared are status, kind of body, every value of
//! the body, and the rows afterwards; ids that are made up stand for each other, and times may differ by seconds. Prints
//! `contract_fts: passed/total` and the name and difference of every case that did not pass.

use std::process::ExitCode;

use anyhow::Result;
use contract::folder;
use contract::report::Report;

#[path = "contract_fts/before.rs"]
mod before;
#[path = "contract_fts/compare.rs"]
mod compare;
#[path = "contract/mod.rs"]
mod contract;
#[path = "contract_fts/names.rs"]
mod names;
#[path = "contract_fts/recording.rs"]
mod recording;
#[path = "contract_fts/replay.rs"]
mod replay;
#[path = "contract_fts/rig.rs"]
mod rig;
#[path = "contract_fts/rows.rs"]
mod rows;
#[path = "contract_fts/submission.rs"]
mod submission;

#[tokio::main]
#[expect(clippy::print_stderr, reason = "a test target with its own report")]
async fn main() -> ExitCode {
    match run().await {
        Ok(report) => report.print("contract_fts"),
        Err(error) => {
            eprintln!("contract_fts: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<Report> {
    let rig = rig::Rig::start().await?;
    let mut report = Report::default();
    for (name, recording) in folder::recordings("FTS_CONTRACT", "fts")? {
        if recording.get("request").is_none() || recording.get("response").is_none() {
            continue;
        }
        let recording: recording::Recording = match serde_json::from_value(recording) {
            Ok(recording) => recording,
            Err(error) => {
                report.replayed(&name, vec![format!("it can't be read: {error}")]);
                continue;
            }
        };
        match recording.not_replayable() {
            Some(why) => report.left_out(&name, why),
            None => {
                let differences =
                    replay::replay(&rig, &recording).await.unwrap_or_else(|error| vec![format!("{error:#}")]);
                report.replayed(&name, differences);
            }
        }
    }
    Ok(report)
}
