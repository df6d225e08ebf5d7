//! Rucio's source ranking strategies: each drops sources, or gives those that stay a cost.

use super::Case;
use super::route::Route;
use crate::request::Replica;
use crate::topology::Rse;

/// One way to sift or rank sources, by Rucio's name of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// `EnforceSourceRSEExpression`.
    Named,
    /// `SkipBlocklistedRSEs`.
    Open,
    /// `SkipRestrictedRSEs`.
    Unrestricted,
    /// `EnforceStagingBuffer`: of stage-in requests only, which we leave alone.
    StagingBuffer,
    /// `RestrictTapeSources`.
    TapeAllowed,
    /// `SkipSchemeMissmatch`.
    SchemeMatch,
    /// `SkipIntermediateTape`.
    NoTapeOnTheWay,
    /// `HighestAdjustedRankingFirst`.
    Ranking,
    /// `PreferDiskOverTape`.
    DiskFirst,
    /// `PathDistance`.
    Distance,
    /// `PreferSingleHop`.
    SingleHop,
    /// `FailureRate`, which is not among Rucio's defaults: of what was tried from there in the last hour, how much failed.
    FailureRate,
}

/// What a strategy says of a source.
pub(super) enum Say {
    Keep,
    Drop,
    Cost(i64),
}

/// A source in hand.
pub(super) struct Candidate<'a> {
    pub(super) replica: &'a Replica,
    pub(super) rse: &'a Rse,
    pub(super) costs: Vec<i64>,
}

impl Strategy {
    /// Rucio's default (`[transfers] source_ranking_strategies`).
    pub const DEFAULT: [Self; 11] = [
        Self::Named,
        Self::Open,
        Self::Unrestricted,
        Self::StagingBuffer,
        Self::TapeAllowed,
        Self::SchemeMatch,
        Self::NoTapeOnTheWay,
        Self::Ranking,
        Self::DiskFirst,
        Self::Distance,
        Self::SingleHop,
    ];

    /// Reads a list of names.
    ///
    /// # Errors
    /// The first name that is none of Rucio's.
    pub fn list(names: &str) -> Result<Vec<Self>, String> {
        names.split(',').map(str::trim).map(|name| Self::of(name).ok_or_else(|| name.to_owned())).collect()
    }

    fn of(name: &str) -> Option<Self> {
        Some(match name {
            "EnforceSourceRSEExpression" => Self::Named,
            "SkipBlocklistedRSEs" => Self::Open,
            "SkipRestrictedRSEs" => Self::Unrestricted,
            "EnforceStagingBuffer" => Self::StagingBuffer,
            "RestrictTapeSources" => Self::TapeAllowed,
            "SkipSchemeMissmatch" => Self::SchemeMatch,
            "SkipIntermediateTape" => Self::NoTapeOnTheWay,
            "HighestAdjustedRankingFirst" => Self::Ranking,
            "PreferDiskOverTape" => Self::DiskFirst,
            "PathDistance" => Self::Distance,
            "PreferSingleHop" => Self::SingleHop,
            "FailureRate" => Self::FailureRate,
            _ => return None,
        })
    }

    /// Whether it looks at the ways from the sources to the destination.
    pub(super) fn looks_at_routes(self) -> bool {
        matches!(self, Self::SchemeMatch | Self::NoTapeOnTheWay | Self::Distance | Self::SingleHop)
    }

    /// Why a request has no source left, in words.
    pub(super) fn reason(self) -> &'static str {
        match self {
            Self::Named => "no replica at the named source",
            Self::Open => "blocked source",
            Self::Unrestricted => "restricted source",
            Self::StagingBuffer => "not a staging buffer",
            Self::TapeAllowed => "only tape sources",
            Self::SchemeMatch => "scheme mismatch",
            Self::NoTapeOnTheWay => "only by way of tape",
            Self::Ranking | Self::DiskFirst | Self::FailureRate => "no source",
            Self::Distance | Self::SingleHop => "no distance",
        }
    }

    /// What it says of one source.
    pub(super) fn say(self, candidate: &Candidate<'_>, case: &Case<'_>, route: Option<&Route<'_>>) -> Say {
        let (request, topology) = (case.request, case.topology);
        let rse = candidate.rse;
        let tape = i64::from(rse.is_tape());
        let drop_if = |dropped| if dropped { Say::Drop } else { Say::Keep };
        match (self, route) {
            (Self::Named, _) => drop_if(!case.named.allows(rse)),
            (Self::Open, _) => drop_if(!rse.availability_read && !case.rules.ignore_availability),
            (Self::Unrestricted, _) => {
                drop_if(rse.is("restricted_read") && !topology.is_admin(request.account.as_deref()))
            }
            (Self::StagingBuffer, _) => Say::Keep,
            (Self::TapeAllowed, _) => {
                drop_if(rse.is_tape() && !request.attributes.truth("allow_tape_source").unwrap_or(true))
            }
            (Self::SchemeMatch, route) => drop_if(matches!(route, Some(Route::Mismatch))),
            (Self::NoTapeOnTheWay, Some(Route::Hops(hops))) => {
                drop_if(hops.iter().skip(1).any(|hop| hop.source.is_tape()))
            }
            (Self::NoTapeOnTheWay, _) => Say::Keep,
            (Self::Ranking, _) => Say::Cost(tape - candidate.replica.ranking),
            (Self::DiskFirst, _) => Say::Cost(tape),
            (Self::FailureRate, _) => Say::Cost(topology.failure_rate(&rse.id)),
            (Self::Distance, Some(Route::Hops(hops))) => {
                Say::Cost(hops.first().map_or(0, |hop| hop.distance))
            }
            (Self::SingleHop, Some(Route::Hops(hops))) => Say::Cost(i64::from(hops.len() > 1)),
            (Self::Distance | Self::SingleHop, _) => Say::Drop,
        }
    }
}
