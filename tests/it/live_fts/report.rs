//! What a test target that is one long story tells of it, step by step.

use std::process::ExitCode;

use anyhow::Result;

/// How many steps there were, and how many did not go as they must.
#[derive(Default)]
pub(crate) struct Report {
    total: usize,
    failed: usize,
}

impl Report {
    /// Tells of a step; what came of it, if it went well.
    #[expect(clippy::print_stdout, reason = "a test target with its own report")]
    pub(crate) fn call<T>(&mut self, name: &str, outcome: Result<T>) -> Option<T> {
        self.total += 1;
        match outcome {
            Ok(value) => {
                println!("  ok      {name}");
                Some(value)
            }
            Err(error) => {
                self.failed += 1;
                println!("  FAILED  {name}: {error:#}");
                None
            }
        }
    }

    /// Sums up.
    #[expect(clippy::print_stdout, reason = "a test target with its own report")]
    pub(crate) fn end(self, name: &str) -> ExitCode {
        let passed = self.total - self.failed;
        println!("{name}: {passed}/{}", self.total);
        println!("{passed} passed, {} failed", self.failed);
        if self.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}
