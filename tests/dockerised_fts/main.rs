//! Transfers through an FTS that somebody else runs, with its database, an issuer and two storages that check tokens; `token-exchange` is
//! started by the tests.
//!
//! Every address and credential is taken from the environment ([`environment`] lists them); the defaults are those of
//! tests/docker/compose.yaml, which has the names of Rucio's own development compose. It runs against that, or another FTS, when `FTS_URL`
//! is set or `DEV_PROFILES` has `iam` and `storage`. `token-exchange` then works on **every** job that waits in that FTS.
//!
//! With neither, the same environment is given by a grid in a box with parts that nobody here wrote: MariaDB, npm's `oidc-provider` and two
//! XRootD servers with SciTokens. `./tests/run` sees to them.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod environment;
mod grid;
mod refusals;
#[path = "../it/live_fts/report.rs"]
mod report;
mod rig;
mod storage;
mod transfers;
mod trouble;

use std::process::ExitCode;

use anyhow::{Context as _, Result};

use environment::Environment;
use report::Report;
use rig::Rig;

#[tokio::main]
#[expect(clippy::print_stdout, reason = "a test target with its own report")]
async fn main() -> ExitCode {
    let done = match Environment::is_given() {
        true => suite().await,
        false => in_a_box().await,
    };
    done.unwrap_or_else(|error| {
        println!("dockerised_fts: {error:#}");
        ExitCode::from(2)
    })
}

/// This program again, in the environment of a grid of its own.
async fn in_a_box() -> Result<ExitCode> {
    let Some(grid) = grid::Box::start().await? else { return Ok(ExitCode::SUCCESS) };
    let this = std::env::current_exe()?;
    let status = tokio::process::Command::new(this).envs(grid.environment()).status().await?;
    grid.stop().await?;
    let code = status.code().context("the tests were killed")?;
    Ok(ExitCode::from(u8::try_from(code)?))
}

#[expect(clippy::print_stdout, reason = "a test target with its own report")]
async fn suite() -> Result<ExitCode> {
    let rig = Rig::start(Environment::read()?).await?;
    println!("FTS {}, {} to {}", rig.environment.fts_url, rig.source.url, rig.destination.url);
    let mut report = Report::default();
    refusals::by_storages(&rig, &mut report).await;
    refusals::by_fts(&rig, &mut report).await;
    if transfers::from_submission_to_bytes(&rig, &mut report).await.is_some() {
        refusals::of_transfers(&rig, &mut report).await;
        trouble::cancelled_while_it_waits(&rig, &mut report).await;
        trouble::killed_in_the_middle(&rig, &mut report).await;
        match rig.environment.messaging_directory {
            Some(_) => trouble::longer_than_its_tokens(&rig, &mut report).await,
            None => println!("  not run: a refresh during a transfer (FTS_MESSAGING_DIRECTORY is empty)"),
        }
    }
    rig.clean_up().await;
    Ok(report.end("dockerised_fts"))
}
