//! How a daemon ends when it can't go on.

use std::fmt::Display;
use std::process::ExitCode;

/// Why the process ends, in one line for a person.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The command line, the configuration, or a database that is not what it should be: exit code 2. Nothing was changed.
    #[error("{0}")]
    Configuration(String),
    /// Everything else: exit code 1.
    #[error("{0}")]
    Runtime(String),
}

impl Failure {
    /// A configuration failure about a named thing.
    pub fn configuration(what: impl Display) -> Self {
        Self::Configuration(what.to_string())
    }

    /// A runtime failure about a named thing.
    pub fn runtime(what: impl Display) -> Self {
        Self::Runtime(what.to_string())
    }

    /// The same failure, with the place it is about in front.
    #[must_use]
    pub fn at(self, place: &str) -> Self {
        match self {
            Self::Configuration(line) => Self::Configuration(format!("{place}: {line}")),
            Self::Runtime(line) => Self::Runtime(format!("{place}: {line}")),
        }
    }

    /// Prints the line to stderr and gives the exit code.
    #[expect(clippy::print_stderr, reason = "the last word of the process; logs may not be set up yet")]
    pub fn report(&self, program: &str) -> ExitCode {
        let line = self.to_string().replace('\n', " ");
        eprintln!("{program}: {line}");
        match self {
            Self::Configuration(_) => ExitCode::from(2),
            Self::Runtime(_) => ExitCode::FAILURE,
        }
    }
}
