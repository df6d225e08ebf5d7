//! What the reason of a failed transfer says of its tokens. Pure.
//!
//! A storage answers the same for a token that has ended, has the wrong audience, path, right or issuer, or is none at all: the
//! reason never says which. It does say which side refused (observed: FTS 3.14.4, gfal2 2.21.3, davix 0.8.10, XRootD 5.5.3).

mod cause;

use crate::plan::Side;
pub use cause::{Cause, Failure, Fault, UsedToken, fault};

/// What was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum What {
    /// A request before or after the copy: the token does not hold here, or not any more, or FTS looked at something that it does not
    /// cover.
    Refused,
    /// The removal of the old file: the destination token may not modify.
    Overwrite,
    /// The server that was told to copy refused to begin.
    Copy,
    /// The other server refused the server that copies.
    Remote,
    /// Nobody renewed the token in time.
    NotRenewed,
    /// No token could be got, as this daemon or `fts_token` says.
    NotGot,
}

impl What {
    /// In words.
    pub fn words(self) -> &'static str {
        match self {
            Self::Refused => {
                "the storage refused the token: it has ended, or its audience, scopes or issuer are not what this storage wants (`doctor` tells which)"
            }
            Self::Overwrite => {
                "the storage refused to delete the old file: the token has no storage.modify on it"
            }
            Self::Copy => {
                "the storage refused to begin the copy: the token may not write there, or may not replace a file that is there"
            }
            Self::Remote => "the storage at this side refused the token that the other one brought",
            Self::NotRenewed => "the token was managed, and nobody renewed it within five minutes",
            Self::NotGot => "no token was given for this side",
        }
    }
}

/// Whose fault a failure is, as far as tokens go: `t_file.reason`, or that of its first attempt in `t_file_retry_errors`, which is to
/// be asked first: a later attempt may fail for what the first one left behind. None when it is not about a token.
pub fn blame(reason: &str) -> Option<(Side, What)> {
    if let Some(rest) = reason.strip_prefix("[token-exchange] ") {
        return Some((named(rest)?, What::NotGot));
    }
    if reason.starts_with("[TokenExchange] ") {
        // It names the source whichever side it was.
        return Some((Side::Source, What::NotGot));
    }
    let (place, rest) = reason.split_once(" [")?;
    let (code, words) = rest.split_once("] ")?;
    match (place, code) {
        ("SOURCE" | "DESTINATION", "14") if words.starts_with("Failed to obtain refresh token") => {
            Some((named(reason)?, What::NotRenewed))
        }
        ("DESTINATION", "1") if words.starts_with("DavPosix::unlink") && is_refusal(words) => {
            Some((Side::Destination, What::Overwrite))
        }
        ("SOURCE" | "DESTINATION", "1" | "13") if is_refusal(words) => Some((named(reason)?, What::Refused)),
        ("TRANSFER", _) => transfer(words),
        _ => None,
    }
}

/// Which side a refusal of the copy was about: by who copies, and whether the other one refused it.
fn transfer(words: &str) -> Option<(Side, What)> {
    let (how, last) = words.split_once("Last attempt: ")?;
    let pull = how.contains("(3rd pull)");
    if how.contains("(streamed)") && is_refusal(last) {
        let destination = last.trim_end().ends_with("(destination)");
        return Some((if destination { Side::Destination } else { Side::Source }, What::Refused));
    }
    if !pull && !how.contains("(3rd push)") {
        return None;
    }
    let (active, passive) =
        if pull { (Side::Destination, Side::Source) } else { (Side::Source, Side::Destination) };
    if last.starts_with("copy ") && is_refusal(last) {
        return Some((active, What::Copy));
    }
    let remote = last.strip_prefix("Transfer failure: Remote side failed with status code ")?;
    remote.starts_with(['4']).then_some(())?;
    matches!(remote.get(..3)?, "401" | "403").then_some((passive, What::Remote))
}

fn is_refusal(words: &str) -> bool {
    words.contains("HTTP 403 ") || words.contains("HTTP 401 ")
}

fn named(words: &str) -> Option<Side> {
    [Side::Source, Side::Destination].into_iter().find(|side| words.starts_with(side.name()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn observed_reasons_name_the_side_whose_token_it_was() {
        use Side::{Destination, Source};
        let copy = |how: &str, last: &str| {
            format!("TRANSFER [5] TRANSFER ERROR: Copy failed ({how}). Last attempt: {last}")
        };
        let remote = "Transfer failure: Remote side failed with status code 403";
        for (reason, expected) in [
            ("SOURCE [1] HTTP 403 : Permission refused ".to_owned(), (Source, What::Refused)),
            ("DESTINATION [1] HTTP 403 : Permission refused ".into(), (Destination, What::Refused)),
            ("DESTINATION [1] DavPosix::unlink  HTTP 403 : Permission refused ".into(), (Destination, What::Overwrite)),
            (
                "TRANSFER [13] TRANSFER ERROR: Copy failed (3rd pull). Last attempt: copy HTTP 401 : Authentication Error ".into(),
                (Destination, What::Copy),
            ),
            (
                "TRANSFER [13] TRANSFER ERROR: Copy failed (3rd push). Last attempt: copy HTTP 401 : Authentication Error ".into(),
                (Source, What::Copy),
            ),
            (
                copy("3rd pull", &format!("{remote}; error message: \"Unable to open /data/f; permission denied \"")),
                (Source, What::Remote),
            ),
            (copy("3rd push", remote), (Destination, What::Remote)),
            (copy("streamed", "HTTP 403 : Permission refused "), (Source, What::Refused)),
            (copy("streamed", "HTTP 403 : Permission refused  (destination)"), (Destination, What::Refused)),
            ("SOURCE [14] Failed to obtain refresh token for source".into(), (Source, What::NotRenewed)),
            ("DESTINATION [14] Failed to obtain refresh token for destination".into(), (Destination, What::NotRenewed)),
            (
                "[token-exchange] DESTINATION token: its path is not below the endpoint's `area`".into(),
                (Destination, What::NotGot),
            ),
            (
                "[TokenExchange] Failed to get refresh token for source token: [invalid_scope]: no".into(),
                (Source, What::NotGot),
            ),
        ] {
            assert_eq!(blame(&reason), Some(expected), "{reason}");
        }
    }

    #[test]
    fn other_failures_are_no_tokens_fault() {
        let copy =
            |last: &str| format!("TRANSFER [5] TRANSFER ERROR: Copy failed (3rd pull). Last attempt: {last}");
        for reason in [
            "SOURCE [2] Result HTTP 404 : File not found  after 1 attempts".to_owned(),
            "DESTINATION [17] Destination file exists and overwrite is not enabled".into(),
            "SOURCE [112] Result Could not connect to server after 1 attempts".into(),
            "TRANSFER [5] Source and destination checksum do not match".into(),
            copy("Transfer failure: Remote side failed with status code 404"),
            copy("copy HTTP 400 : Server Error "),
            "TRANSFER [13] Permission denied".into(),
            String::new(),
            "Job canceled by the user".into(),
        ] {
            assert_eq!(blame(&reason), None, "{reason}");
        }
    }
}
