//! The versions of the WLCG Common JWT Profile, and where they differ.

use std::fmt;
use std::time::Duration;

/// A version of the text that a resource implements. What a token says in `wlcg.ver` is another thing: issuers go on writing
/// "1.0" until all readers know newer ones.
///
/// ```
/// use token_core::{Action, Profile, ScopeSet, StoragePath};
///
/// let (held, file) = (ScopeSet::parse("storage.poll:/data")?, StoragePath::parse("/data/f")?);
/// assert!(held.permit(Action::Poll(&file), Profile::V1_3).is_ok());
/// assert_eq!(Profile::parse("1.2"), Some(Profile::V1_2));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Profile {
    /// 1.0, 25 September 2019: only `wlcg.ver` 1.0; 60 s of grace after `exp`; tokens of more than six hours refused; staging
    /// includes reading.
    V1_0,
    /// 1.1, 23 September 2025: newer minor versions accepted; no grace; lifetimes are a recommendation; capabilities win over
    /// groups.
    V1_1,
    /// 1.2, 15 December 2025: staging no longer reads; `storage.poll`.
    V1_2,
    /// 1.3, 17 June 2026: `host.auth`.
    #[default]
    V1_3,
}

impl Profile {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::V1_0, Self::V1_1, Self::V1_2, Self::V1_3];

    /// Reads `1.0` to `1.3`.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|profile| profile.to_string() == text)
    }

    /// How long after `exp` a token is still taken (1.0: section on token expiry; later texts have none).
    pub(crate) fn grace(self) -> Duration {
        Duration::from_secs(if self == Self::V1_0 { 60 } else { 0 })
    }

    /// The longest life that a resource takes (1.0 only).
    pub(crate) fn ceiling(self) -> Option<Duration> {
        (self == Self::V1_0).then_some(Duration::from_secs(6 * 3600))
    }

    /// Whether a resource takes a token of this `wlcg.ver`: digits, a dot, digits; the major version must be 1, and for 1.0 the
    /// minor must be 0 (section 2.1.1, `wlcg.ver`).
    pub(crate) fn takes(self, version: &str) -> bool {
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let Some((major, minor)) = version.split_once('.') else { return false };
        major == "1" && digits(minor) && (self > Self::V1_0 || minor == "0")
    }

    /// Whether the right to stage holds the right to read (until 1.1).
    pub(crate) fn staging_reads(self) -> bool {
        self <= Self::V1_1
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V1_0 => "1.0",
            Self::V1_1 => "1.1",
            Self::V1_2 => "1.2",
            Self::V1_3 => "1.3",
        })
    }
}
