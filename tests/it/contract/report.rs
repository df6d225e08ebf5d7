//! The report of a suite: one line a case that did not pass, what could not be replayed and why, and the count.

use std::process::ExitCode;

/// How the cases went.
#[derive(Default)]
pub(crate) struct Report {
    total: usize,
    failed: Vec<(String, Vec<String>)>,
    left_out: Vec<(String, String)>,
}

impl Report {
    /// Notes a case that was replayed, with its differences.
    pub(crate) fn replayed(&mut self, case: &str, differences: Vec<String>) {
        self.total += 1;
        if !differences.is_empty() {
            self.failed.push((case.to_owned(), differences));
        }
    }

    /// Notes a case that can't be replayed.
    pub(crate) fn left_out(&mut self, case: &str, why: String) {
        self.left_out.push((case.to_owned(), why));
    }

    /// Prints it all. A suite that replayed nothing has failed.
    #[expect(clippy::print_stdout, reason = "a test target with its own report")]
    pub(crate) fn print(&self, name: &str) -> ExitCode {
        for (case, why) in &self.left_out {
            println!("  not replayable: {case}: {why}");
        }
        for (case, differences) in &self.failed {
            println!("  {case}: {}", differences.join("; "));
        }
        println!("{name}: {}/{}", self.total - self.failed.len(), self.total);
        if self.failed.is_empty() && self.total > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}
