//! How fast `token-exchange` is on FTS's own kind of database, beside FTS's own `fts_token`: `cargo bench -p testbed --bench exchange`.
//!
//! All runs on this machine: MariaDB (the server of `FTS_MYSQL`, or one that is started for the run), the grid in a box's issuer, a
//! plain load generator to learn what that issuer can do, and the worker as a process of its own. Figures of `fts_token` 3.14.4 were
//! measured on two cores too, with an issuer of another make; ratios say more than rates.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a benchmark's figures are its data")]

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

#[tokio::main]
async fn main() -> ExitCode {
    match all().await {
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

async fn all() -> Result<bool> {
    let server = server::Server::find().await?;
    let mut well = exchanges::rates(&server.url).await?;
    well &= exchanges::beside_a_slow_one(&server.url).await?;
    well &= latency::arriving(&server.url).await?;
    Ok(well)
}

/// Says whether a figure is what it should be.
fn verdict(well: bool) -> &'static str {
    if well { "ok" } else { "MISSED" }
}
