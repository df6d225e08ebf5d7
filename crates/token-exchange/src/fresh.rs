//! Staying fresh: when a token that was handed over is replaced by the next, and whether it will do for a transfer that asks.
//! Pure but for [`renewer`] and [`lane`].

pub mod lane;
pub mod renewer;

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

use token_core::UnixSeconds;

/// A token is renewed when this share of its life has passed: for each another one between the two, so that tokens that were got
/// together are not renewed together. More than half, so that what is kept of the same token is not given out again.
const RENEW_FROM: f64 = 0.55;
const RENEW_TO: f64 = 0.75;
/// So long a token counts as just got, for one that lives no longer than the margin.
const JUST_GOT: Duration = Duration::from_secs(30);

/// When the token `id` is to be renewed: ahead of its end, whole seconds after it was got.
pub fn renew_at(id: &str, obtained_at: UnixSeconds, expires_at: UnixSeconds) -> UnixSeconds {
    let mut hasher = DefaultHasher::new();
    (id, obtained_at).hash(&mut hasher);
    #[expect(clippy::as_conversions, reason = "some bits are lost, and none is missed")]
    let share = hasher.finish() as f64 / u64::MAX as f64;
    let life = obtained_at.until(expires_at).as_secs_f64();
    let age = (life * (RENEW_FROM + (RENEW_TO - RENEW_FROM) * share)).ceil().max(1.0);
    obtained_at.plus(Duration::from_secs_f64(age))
}

/// Whether a token that stands in the database will do for a transfer that asks for a better one than it has.
///
/// `fts_url_copy` asks when its own has less than `margin` to live. So what lives longer is better than what it has. Of tokens
/// that live no longer than that by nature, one that was just got is as good as they come; any other may be the asker's own.
pub fn will_do(
    obtained_at: Option<UnixSeconds>,
    expires_at: UnixSeconds,
    margin: Duration,
    now: UnixSeconds,
) -> bool {
    if now.until(expires_at) > margin {
        return true;
    }
    obtained_at.is_some_and(|at| {
        let life = at.until(expires_at);
        now < expires_at && at.until(now) <= JUST_GOT.min(life / 2)
    })
}

/// How long a renewal that did not succeed is not tried again: 2, 4, 8, ... seconds, at most 5 minutes.
pub fn pause(attempts: i64) -> Duration {
    let doubled = u32::try_from(attempts.clamp(0, 8)).unwrap_or(8);
    Duration::from_secs((2_u64 << doubled).min(300))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARGIN: Duration = Duration::from_secs(300);

    #[test]
    fn tokens_of_one_moment_are_renewed_apart_and_ahead_of_their_end() {
        let due: Vec<i64> = (0..1000)
            .map(|n: u32| renew_at(&format!("{n:016x}"), UnixSeconds(1000), UnixSeconds(4600)).0 - 1000)
            .collect();
        assert!(due.iter().all(|age| (1980..=2700).contains(age)));
        let busiest = (1980..2700).map(|at| due.iter().filter(|age| (at..at + 60).contains(*age)).count());
        assert!(busiest.max().unwrap() < 150, "a minute has a twelfth of them, not all");
        for life in [1, 2, 6, 20] {
            let age = renew_at("x", UnixSeconds(0), UnixSeconds(life)).0;
            assert!(age * 2 > life && age <= life.max(1), "life {life}: {age}");
        }
    }

    #[test]
    fn what_lives_longer_than_the_margin_will_do() {
        let at = |left| will_do(None, UnixSeconds(left), MARGIN, UnixSeconds(0));
        assert_eq!((at(301), at(300), at(60), at(-1)), (true, false, false, false));
    }

    #[test]
    fn an_asker_never_gets_its_own_old_token_and_a_short_lived_one_is_delivered() {
        // Got at 0; the asker has had it for a while.
        let at = |life, now| will_do(Some(UnixSeconds(0)), UnixSeconds(life), MARGIN, UnixSeconds(now));
        assert!(!at(3600, 3540), "60 s left of an hour");
        assert!(at(200, 0) && at(200, 30) && !at(200, 31), "200 s is all that this issuer gives");
        assert!(at(20, 10) && !at(20, 11) && !at(20, 20));
    }

    #[test]
    fn failures_are_tried_again_later_and_later() {
        let pauses: Vec<u64> = (0..9).map(|attempts| pause(attempts).as_secs()).collect();
        assert_eq!(pauses, [2, 4, 8, 16, 32, 64, 128, 256, 300]);
    }
}
