//! How a command ends that did not do what it was asked for.

use fts_client::{FtsError, Verdict};

/// An exit code and a line for standard error.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) code: u8,
    /// None where all was said already.
    pub(super) line: Option<String>,
}

impl Failure {
    /// Nothing was changed, and a later try may go better.
    pub(super) const NOT_NOW: u8 = 1;
    /// Usage, files, tokens, rights.
    pub(super) const TO_MEND: u8 = 2;
    /// Refused for good, or not there.
    pub(super) const REFUSED: u8 = 3;
    /// A job ended without all its files.
    pub(super) const JOB: u8 = 4;
    /// It may have been done.
    pub(super) const UNKNOWN: u8 = 5;

    pub(super) fn new(code: u8, line: impl std::fmt::Display) -> Self {
        Self { code, line: Some(line.to_string()) }
    }

    pub(super) fn usage(line: impl std::fmt::Display) -> Self {
        Self::new(Self::TO_MEND, line)
    }

    /// All was said already.
    pub(super) fn silent(code: u8) -> Self {
        Self { code, line: None }
    }

    /// The same of a call that only reads: where nothing was changed, no outcome is unknown.
    pub(super) fn reading(error: FtsError) -> Self {
        match Self::from(error) {
            Self { code: Self::UNKNOWN, line } => Self { code: Self::NOT_NOW, line },
            other => other,
        }
    }
}

impl From<FtsError> for Failure {
    fn from(error: FtsError) -> Self {
        let code = match (&error, error.verdict()) {
            (FtsError::NotThere { .. }, _) | (_, Verdict::Refused) => Self::REFUSED,
            (_, Verdict::TryLater) => Self::NOT_NOW,
            (_, Verdict::Mend) => Self::TO_MEND,
            (_, Verdict::OutcomeUnknown) => Self::UNKNOWN,
        };
        Self::new(code, error)
    }
}
