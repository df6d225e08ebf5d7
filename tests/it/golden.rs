//! What our submitter makes of a Rucio database, against what Rucio's own submitter made of the same one: the one that comes from the
//! reference, and one in which every rule of choice matters (`rucio/make_choices.py`).
//!
//! `RUCIO_DATABASE` and `RUCIO_GOLDEN` name another database and its golden file instead. Prints `golden: passed/total` and the name
//! of every request that did not pass, and the same of the second; and each difference by design with its reason and the number of cases. The same on PostgreSQL is in `rucio_postgres`.

use std::process::ExitCode;

#[path = "golden/compare.rs"]
mod compare;

#[tokio::main]
#[expect(clippy::print_stdout, clippy::print_stderr, reason = "a test target with its own report")]
async fn main() -> ExitCode {
    let (mut passed, mut failed) = (0, 0);
    for case in compare::cases() {
        let name = case.name;
        match run(&case).await {
            Ok(compared) => {
                for failure in compared.failures.iter().chain(&compared.row_failures) {
                    println!("  {failure}");
                }
                let good = compared.requests - compared.failures.len();
                println!("{name}: {good}/{}", compared.requests);
                if compared.rows > 0 {
                    println!(
                        "{name}, rows: {} compared, {} differ",
                        compared.rows,
                        compared.row_failures.len()
                    );
                }
                for line in compared.by_design() {
                    println!("{name}, {line}");
                }
                passed += good;
                failed += compared.failures.len() + compared.row_failures.len();
            }
            Err(error) => {
                eprintln!("{name}: {error:#}");
                failed += 1;
            }
        }
    }
    println!("{passed} passed, {failed} failed");
    if failed == 0 && passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn run(case: &compare::Case) -> anyhow::Result<compare::Compared> {
    let folder = tempfile::Builder::new().prefix(case.name).tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    case.compare(folder.path(), None).await
}
