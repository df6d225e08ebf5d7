//! How fast `token-exchange` is on FTS's own kind of database, beside FTS's own `fts_token`: `cargo bench -p testbed --bench exchange`.
//!
//! All runs on this machine: MariaDB (the server of `FTS_MYSQL`, or one that is started for the run), the grid in a box's issuer, a
//! plain load generator to learn what that issuer can do, and the worker as a process of its own. Issuers have a core of their own, as
//! if they stood on another host; all else shares the others. Figures of `fts_token` 3.14.4 were measured on two cores too, with an
//! issuer of another make; ratios say more than rates.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a benchmark's figures are its data")]

mod cores;
#[path = "../../it/contract_worker/database.rs"]
#[expect(dead_code, reason = "SQLite is for a test that has this")]
mod database;
mod exchanges;
mod latency;
mod load;
#[path = "../../it/exchange_load/rig.rs"]
#[expect(dead_code, reason = "some is for the tests that have this")]
mod rig;
mod server;

use std::process::ExitCode;

use anyhow::Result;
use tokio::runtime::Handle;

fn main() -> ExitCode {
    match cores::apart().and_then(|(issuers, rest)| rest.block_on(all(issuers.handle()))) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!("exchange: a figure is not what it should be; see MISSED above");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("exchange: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn all(issuers: &Handle) -> Result<bool> {
    let server = server::Server::find().await?;
    let mut well = exchanges::rates(&server.url, issuers).await?;
    well &= exchanges::beside_a_slow_one(&server.url, issuers).await?;
    well &= latency::arriving(&server.url, issuers).await?;
    Ok(well)
}

/// A rig whose issuers run where they are to.
async fn rig(server: &str, issuers: &Handle, count: usize) -> Result<rig::Rig> {
    let server = server.to_owned();
    issuers.spawn(async move { rig::Rig::start(&server, count).await }).await?
}

/// Says whether a figure is what it should be.
fn verdict(well: bool) -> &'static str {
    if well { "ok" } else { "MISSED" }
}
