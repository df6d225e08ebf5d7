//! Why a transfer failed, in `fts_url_copy`'s words. The storage never says what is wrong with a token; the reason says
//! only which side refused.

use std::fmt;

/// Where it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// A request to the source.
    Source,
    /// A request to the destination, but the copy.
    Destination,
    /// The copy itself.
    Transfer,
}

/// A failed attempt. `Display` is `t_file.reason`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    side: Side,
    /// An `errno`.
    code: i32,
    text: String,
    /// Whether FTS tries again, as long as the job's `retry` lasts.
    pub(super) recoverable: bool,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = match self.side {
            Side::Source => "SOURCE",
            Side::Destination => "DESTINATION",
            Side::Transfer => "TRANSFER",
        };
        write!(f, "{side} [{}] {}", self.code, self.text)
    }
}

/// What went wrong with one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// No connection, or it broke off.
    Unreachable,
    /// No answer in time.
    Silent,
    /// An answer that is no success.
    Status(u16),
}

impl Trouble {
    /// The `errno` that gfal2 makes of it, whether that is worth another attempt, and the words without what stands around
    /// them.
    fn words(&self) -> (i32, bool, String) {
        match self {
            Self::Unreachable => (112, true, "Could not connect to server".into()),
            Self::Silent => (110, true, "Operation timed out".into()),
            Self::Status(401) => (13, false, "HTTP 401 : Authentication Error ".into()),
            Self::Status(403) => (1, false, "HTTP 403 : Permission refused ".into()),
            Self::Status(404) => (2, false, "HTTP 404 : File not found ".into()),
            Self::Status(400) => (112, true, "HTTP 400 : Server Error ".into()),
            Self::Status(status) => {
                (112, true, format!("HTTP {status} : Unexpected server error: {status} "))
            }
        }
    }
}

impl Failure {
    /// A failure with a text of its own, which is not tried again.
    pub(super) fn definite(side: Side, code: i32, text: impl Into<String>) -> Self {
        Self { side, code, text: text.into(), recoverable: false }
    }

    /// A plain request to one side that failed. Refusals are told as they are; everything else as a result after attempts.
    pub(super) fn request(side: Side, trouble: &Trouble) -> Self {
        let (code, recoverable, words) = trouble.words();
        let refused = matches!(trouble, Trouble::Status(401 | 403));
        let text = if refused { words } else { format!("Result {words} after 1 attempts") };
        Self { side, code, text, recoverable }
    }

    /// A DELETE that failed.
    pub(super) fn unlink(trouble: &Trouble) -> Self {
        let (code, recoverable, words) = trouble.words();
        Self { side: Side::Destination, code, text: format!("DavPosix::unlink  {words}"), recoverable }
    }

    /// A COPY that the server refused to begin.
    pub(super) fn copy(trouble: &Trouble) -> Self {
        let (code, recoverable, words) = trouble.words();
        Self { side: Side::Transfer, code, text: last_attempt(&format!("copy {words}")), recoverable }
    }

    /// A COPY that began and then failed, with what the last line says.
    pub(super) fn during_copy(line: &str) -> Self {
        let text = last_attempt(&format!("Transfer failure: {line}"));
        Self { side: Side::Transfer, code: 5, text, recoverable: true }
    }
}

fn last_attempt(words: &str) -> String {
    format!("TRANSFER ERROR: Copy failed (3rd pull). Last attempt: {words}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_the_recorded_ones() {
        let forbidden = Trouble::Status(403);
        for (failure, reason, recoverable) in [
            (Failure::request(Side::Source, &forbidden), "SOURCE [1] HTTP 403 : Permission refused ", false),
            (
                Failure::request(Side::Source, &Trouble::Status(404)),
                "SOURCE [2] Result HTTP 404 : File not found  after 1 attempts",
                false,
            ),
            (
                Failure::request(Side::Destination, &Trouble::Unreachable),
                "DESTINATION [112] Result Could not connect to server after 1 attempts",
                true,
            ),
            (
                Failure::unlink(&forbidden),
                "DESTINATION [1] DavPosix::unlink  HTTP 403 : Permission refused ",
                false,
            ),
            (
                Failure::copy(&Trouble::Status(401)),
                "TRANSFER [13] TRANSFER ERROR: Copy failed (3rd pull). Last attempt: copy HTTP 401 : Authentication Error ",
                false,
            ),
            (
                Failure::during_copy("Remote side failed with status code 404"),
                "TRANSFER [5] TRANSFER ERROR: Copy failed (3rd pull). Last attempt: Transfer failure: Remote side failed \
                 with status code 404",
                true,
            ),
        ] {
            assert_eq!(failure.to_string(), reason);
            assert_eq!(failure.recoverable, recoverable, "{reason}");
        }
    }
}
