//! Software that `./tests/run` installs.

use std::io::Write as _;
use std::path::PathBuf;

/// The path in `variable`. Without it the test is not run, and says so; with `CI=true` that is a failure.
pub(crate) fn needed(variable: &str, what: &str) -> Option<PathBuf> {
    let path = std::env::var_os(variable).map(PathBuf::from);
    if path.is_none() {
        not_run(&format!("{variable} is not set; ./tests/run installs {what} and sets it"));
    }
    path
}

/// Says that a test is not run; with `CI=true` that is a failure.
pub(crate) fn not_run(why: &str) {
    assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "not run: {why}");
    say(&format!("NOT RUN: {why}"));
}

/// A line on standard error that is also seen when the test passes: the test runner keeps only what the macros print.
pub(crate) fn say(line: &str) {
    std::io::stderr().write_all(format!("{line}\n").as_bytes()).unwrap();
}
