//! What our submitter makes of a Rucio database, against what Rucio's own submitter made of the same one.
//!
//! `RUCIO_DATABASE` and `RUCIO_GOLDEN` name another database and its golden file. Prints `golden: passed/total` and the name
//! of every request that did not pass. The same on PostgreSQL is in `rucio_postgres`.

use std::process::ExitCode;

use testbed::grid::GridSettings;

#[path = "golden/compare.rs"]
mod compare;

#[tokio::main]
#[expect(clippy::print_stdout, clippy::print_stderr, reason = "a test target with its own report")]
async fn main() -> ExitCode {
    match run().await {
        Ok((total, failures)) => {
            for failure in &failures {
                println!("  {failure}");
            }
            println!("golden: {}/{total}", total - failures.len());
            println!("{} passed, {} failed", total - failures.len(), failures.len());
            if failures.is_empty() && total > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("golden: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> anyhow::Result<(usize, Vec<String>)> {
    let folder = tempfile::Builder::new().prefix("golden").tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let settings =
        GridSettings { rucio: compare::database(), ..GridSettings::new(folder.path().join("grid")) };
    compare::compare(settings).await
}
