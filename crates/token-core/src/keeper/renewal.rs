//! When a kept token is good enough, and when another is got ahead of its end.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

use super::{Freshness, TokenWish};
use crate::cache::CachedToken;
use crate::clock::UnixSeconds;

/// How long a token counts as freshly fetched.
pub(super) const FRESH: Duration = Duration::from_secs(30);
/// A renewal begins when this share of the time in which the token will do has passed: for each token another one between
/// the two, so that tokens that were got together are not renewed together.
const RENEW_FROM: f64 = 0.6;
const RENEW_TO: f64 = 0.9;
/// The rest after a renewal that failed, for each token another one between the two. The token that is kept still does.
const REST_FROM: f64 = 20.0;
const REST_TO: f64 = 60.0;

/// What is to be done about a wish for which this token is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It will do.
    Good,
    /// It will do, and it is time to get the next.
    Renew,
    /// It won't do.
    Unfit,
}

/// Long enough to live: `min_life`, or half of its whole life where that is less.
pub(super) fn verdict(token: &CachedToken, wish: &TokenWish, now: UnixSeconds) -> Verdict {
    let age = token.obtained_at.until(now);
    if wish.freshness == Freshness::Fresh && age >= FRESH {
        return Verdict::Unfit;
    }
    let life = token.obtained_at.until(token.expires_at);
    let left = now.until(token.expires_at);
    let floor = wish.min_life.min(life / 2);
    if left.is_zero() || left < floor {
        return Verdict::Unfit;
    }
    let usable = life - floor;
    match age >= usable.mul_f64(between(RENEW_FROM, RENEW_TO, spread(wish, token.obtained_at))) {
        true => Verdict::Renew,
        false => Verdict::Good,
    }
}

/// How long a renewal is not tried again after one that failed at `now`.
pub(super) fn rest(wish: &TokenWish, now: UnixSeconds) -> Duration {
    Duration::from_secs_f64(between(REST_FROM, REST_TO, spread(wish, now)))
}

fn between(low: f64, high: f64, share: f64) -> f64 {
    low + (high - low) * share
}

/// From 0 to 1, evenly over keys and times, and the same each time it is asked for.
fn spread(wish: &TokenWish, at: UnixSeconds) -> f64 {
    let mut hasher = DefaultHasher::new();
    (&wish.key, at).hash(&mut hasher);
    #[expect(clippy::as_conversions, reason = "some bits are lost, and none is missed")]
    let share = hasher.finish() as f64 / u64::MAX as f64;
    share
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::CacheKey;
    use crate::scope::ScopeSet;
    use crate::secret::AccessToken;

    fn wish(n: usize, min_life: u64) -> TokenWish {
        let key = CacheKey {
            issuer: "https://i".into(),
            client_id: "c".into(),
            subject: "c".into(),
            audience: n.to_string(),
            scope: ScopeSet::default(),
        };
        TokenWish { key, min_life: Duration::from_secs(min_life), freshness: Freshness::Kept }
    }

    fn living(life: i64) -> CachedToken {
        let token = AccessToken::new("t").unwrap();
        CachedToken { token, obtained_at: UnixSeconds(0), expires_at: UnixSeconds(life) }
    }

    #[test]
    fn a_thousand_tokens_of_one_moment_are_renewed_over_a_quarter_of_their_life() {
        let (token, min_life) = (living(3600), 300);
        let mut due = [0_usize; 3600];
        for n in 0..1000 {
            let wish = wish(n, min_life);
            let at = |now: usize| verdict(&token, &wish, UnixSeconds(i64::try_from(now).unwrap()));
            let first = (0..3600).find(|now| at(*now) == Verdict::Renew).unwrap();
            assert_eq!((at(0), at(first - 1), at(3300)), (Verdict::Good, Verdict::Good, Verdict::Renew));
            assert_eq!(at(3301), Verdict::Unfit, "less than was asked for is left");
            due[first] += 1;
        }
        let (first, last) = (due.iter().position(|n| *n > 0), due.iter().rposition(|n| *n > 0));
        assert!(first.unwrap() >= 1980 && last.unwrap() <= 2970, "{first:?} {last:?}");
        let busiest = due.chunks(60).map(|minute| minute.iter().sum::<usize>()).max().unwrap();
        assert!(busiest < 100, "a minute has a sixteenth of them, not all: {busiest}");
    }

    #[test]
    fn a_token_that_lives_shorter_than_asked_is_used_for_half_its_life() {
        let token = living(60);
        let at = |now| verdict(&token, &wish(1, 300), UnixSeconds(now));
        assert_eq!(
            (at(0), at(28), at(30), at(31)),
            (Verdict::Good, Verdict::Renew, Verdict::Renew, Verdict::Unfit)
        );
        let fresh = TokenWish { freshness: Freshness::Fresh, ..wish(1, 0) };
        let at = |now| verdict(&living(3600), &fresh, UnixSeconds(now));
        assert_eq!((at(29), at(30)), (Verdict::Good, Verdict::Unfit));
    }

    #[test]
    fn a_token_is_never_good_at_its_end() {
        for life in [0, 1, 2, 3600] {
            assert_eq!(verdict(&living(life), &wish(1, 0), UnixSeconds(life)), Verdict::Unfit);
        }
        assert!((20..=60).contains(&rest(&wish(1, 0), UnixSeconds(5)).as_secs()));
    }
}
