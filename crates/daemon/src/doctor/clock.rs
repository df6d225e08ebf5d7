//! Clocks, by the `Date` of answers. Tokens begin and end by them: FTS and storages take a token at its `nbf` and not a second
//! before (observed), and a daemon renews by its own.

use token_core::UnixSeconds;

use super::finding::Finding;

/// `Date` has whole seconds, and an answer is on its way for a while.
const EXACT_S: i64 = 3;
/// Beyond this, tokens are refused or renewed too late.
const WRONG_S: i64 = 30;
const CHECK: &str = "clock";
const CURE: &str = "compare both hosts with their time servers (`chronyc tracking`)";

/// By how many seconds another clock is ahead of ours; negative: behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offset(pub i64);

impl Offset {
    /// Of a time that was told while ours was `now`.
    pub fn of(theirs: UnixSeconds, now: UnixSeconds) -> Self {
        Self(theirs.0 - now.0)
    }
}

fn told(offset: i64) -> String {
    let way = if offset > 0 { "ahead of" } else { "behind" };
    format!("{} s {way}", offset.abs())
}

/// Another clock beside ours.
pub fn own(of: &str, offset: Offset) -> Finding {
    let said = told(offset.0);
    match offset.0.abs() {
        0..=EXACT_S => Finding::good(of, CHECK, "as ours"),
        off if off <= WRONG_S => Finding::doubt(of, CHECK, format!("{said} ours"), CURE),
        _ => Finding::bad(of, CHECK, format!("{said} ours: tokens are not valid yet or ended already"), CURE),
    }
}

/// An issuer's clock beside that of the party that takes its tokens.
pub fn between(issuer: &str, issuers: Offset, taker: &str, takers: Offset) -> Option<Finding> {
    let behind = issuers.0 - takers.0;
    if behind.abs() <= EXACT_S {
        return None;
    }
    let said = format!("{} that of {issuer}", told(-behind));
    Some(match behind {
        EXACT_S.. => Finding::bad(
            taker,
            CHECK,
            format!("{said}: a fresh token is not valid there before that time has passed"),
            CURE,
        ),
        _ => Finding::doubt(taker, CHECK, format!("{said}: tokens end there that much earlier"), CURE),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Level;

    #[test]
    fn five_minutes_are_wrong_and_a_second_is_not() {
        let level = |seconds| own("i", Offset(seconds)).level;
        assert_eq!([level(0), level(-2), level(10), level(-31), level(300)], {
            use Level::{Green, Red, Yellow};
            [Green, Green, Yellow, Red, Red]
        });
        assert!(own("i", Offset(-300)).found.starts_with("300 s behind ours"));
        assert_eq!(Offset::of(UnixSeconds(10), UnixSeconds(310)), Offset(-300));
    }

    #[test]
    fn who_takes_tokens_must_not_be_behind_who_makes_them() {
        let fts = |seconds| between("issuer i", Offset(0), "FTS f", Offset(seconds));
        assert_eq!(fts(2), None);
        let behind = fts(-300).unwrap();
        assert!(behind.level == Level::Red && behind.found.starts_with("300 s behind that of issuer i"));
        let ahead = fts(300).unwrap();
        assert!(ahead.level == Level::Yellow && ahead.found.starts_with("300 s ahead of that"), "{ahead:?}");
    }
}
