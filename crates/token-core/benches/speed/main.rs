//! How fast token-core is, by ratios taken in one run: `cargo bench -p token-core`, with `-- --json` for scripts.
//!
//! Exit code 0: every goal met; 1: one missed, or something went wrong; 2: wrong usage.

mod cache;
mod contest;
mod issuer;
mod others;
mod ours;
mod report;

use std::error::Error;
use std::io::Write as _;
use std::process::ExitCode;

use report::Report;

fn main() -> ExitCode {
    let mut json = false;
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            "--bench" => (), // cargo says so
            "--json" => json = true,
            other => {
                let _ =
                    writeln!(std::io::stderr(), "speed: unknown argument `{other}`; there is only --json");
                return ExitCode::from(2);
            }
        }
    }
    match measure() {
        Ok(report) => {
            let text = if json { report.json() + "\n" } else { report.table() };
            let written = std::io::stdout().write_all(text.as_bytes());
            if written.is_ok() && report.all_met() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "speed: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure() -> Result<Report, Box<dyn Error>> {
    let mut report = Report::default();
    contest::run(&mut report)?;
    cache::run(&mut report)?;
    Ok(report)
}

/// Says on standard error what is being measured; it takes a minute.
fn progress(what: &str) {
    let _ = writeln!(std::io::stderr(), "measuring: {what}");
}
