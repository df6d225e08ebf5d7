//! The `token-exchange` daemon.

use std::process::ExitCode;

use clap::Parser as _;
use token_exchange::{Arguments, run};

#[tokio::main]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report("token-exchange"),
    }
}
