//! Trying again: backoff with full jitter inside a total budget. The only user of the `backoff` crate.
//!
//! The crate's own loop lets a `Retry-After` override its budget and reads a clock that does not stand still in tests;
//! so the loop is ours and only the sequence of intervals is the crate's. Its jitter leaves at least half of each interval,
//! from a generator of its own; ours is of the whole interval.

use std::future::Future;
use std::time::Duration;

use backoff::backoff::Backoff as _;
use backoff::exponential::{ExponentialBackoff, ExponentialBackoffBuilder};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::hash::random;

/// What an error asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// Try again, not before `after` if it is given.
    Retry {
        /// What the other side asked to wait.
        after: Option<Duration>,
    },
    /// Trying again changes nothing.
    Fail,
}

/// Errors that know whether they are worth another try.
pub trait Classify {
    /// What this error asks for.
    fn disposition(&self) -> Disposition;
}

/// How often and how long to try.
///
/// ```
/// use std::time::Duration;
/// use token_core::retry::{RetryPolicy, Waits};
///
/// let policy = RetryPolicy { initial: Duration::from_secs(1), max: Duration::from_secs(8), ..RetryPolicy::default() };
/// let mut waits = Waits::new(&policy);
/// assert!(waits.pause() <= Duration::from_secs(1), "anything from nothing to the whole interval");
/// assert!((0..9).all(|_| waits.pause() <= policy.max));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct RetryPolicy {
    /// The first wait, before jitter.
    pub initial: Duration,
    /// The longest wait, before jitter; a `Retry-After` is cut to it.
    pub max: Duration,
    /// All tries and waits together; no new try starts after it.
    pub total: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            initial: Duration::from_millis(250),
            max: Duration::from_secs(10),
            total: Duration::from_secs(30),
        }
    }
}

#[derive(Default)]
struct TokioClock;

impl backoff::Clock for TokioClock {
    fn now(&self) -> std::time::Instant {
        Instant::now().into_std()
    }
}

/// The waits between tries that no single call spans: a worker's next look at a job, for example.
#[derive(Debug)]
pub struct Waits(ExponentialBackoff<TokioClock>);

impl std::fmt::Debug for TokioClock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TokioClock")
    }
}

impl Waits {
    /// The waits of a policy; they never end by themselves.
    pub fn new(policy: &RetryPolicy) -> Self {
        Self(
            ExponentialBackoffBuilder::<TokioClock>::new()
                .with_initial_interval(policy.initial)
                .with_max_interval(policy.max)
                .with_randomization_factor(0.0)
                .with_multiplier(2.0)
                .with_max_elapsed_time(None)
                .build(),
        )
    }

    /// The next wait, longer than the one before on average: anything between nothing and the interval, so that those who
    /// failed together don't come back together.
    pub fn pause(&mut self) -> Duration {
        below(self.0.next_backoff().unwrap_or(self.0.max_interval), u64::from_ne_bytes(random()))
    }

    /// Begins again after a success.
    pub fn reset(&mut self) {
        self.0.reset();
    }
}

/// The part of `interval` that `random` is of all it can be.
fn below(interval: Duration, random: u64) -> Duration {
    let nanos = interval.as_nanos().min(u128::from(u64::MAX));
    // Below 2^64, since both factors are.
    Duration::from_nanos(u64::try_from((nanos * u128::from(random)) >> 64).unwrap_or(u64::MAX))
}

/// Runs `operation` until it succeeds, fails for good, the budget is spent or `cancel` fires. The last error is returned.
///
/// # Errors
/// The last error of `operation`.
pub async fn retry<T, E, F>(
    policy: &RetryPolicy,
    cancel: &CancellationToken,
    mut operation: impl FnMut() -> F,
) -> Result<T, E>
where
    E: Classify,
    F: Future<Output = Result<T, E>>,
{
    let deadline = Instant::now() + policy.total;
    let mut waits = Waits::new(policy);
    loop {
        let error = match operation().await {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        let Disposition::Retry { after } = error.disposition() else { return Err(error) };
        let wait = waits.pause().max(after.unwrap_or_default().min(policy.max));
        if Instant::now() + wait >= deadline {
            return Err(error);
        }
        tokio::select! {
            () = tokio::time::sleep(wait) => (),
            () = cancel.cancelled() => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Trouble(Disposition);
    impl Classify for Trouble {
        fn disposition(&self) -> Disposition {
            self.0
        }
    }

    async fn tries(disposition: Disposition) -> (u32, Duration) {
        let (start, mut count) = (Instant::now(), 0);
        let policy = RetryPolicy::default();
        let _: Trouble = retry(&policy, &CancellationToken::new(), || {
            count += 1;
            async move { Err::<(), _>(Trouble(disposition)) }
        })
        .await
        .unwrap_err();
        (count, start.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn the_budget_holds_whatever_retry_after_says() {
        let (count, took) = tries(Disposition::Retry { after: Some(Duration::from_secs(3600)) }).await;
        assert!(count <= 4 && took <= Duration::from_secs(30), "{count} tries in {took:?}");
        let (count, took) = tries(Disposition::Retry { after: None }).await;
        assert!(count > 4 && took <= Duration::from_secs(30), "{count} tries in {took:?}");
    }

    #[test]
    fn jitter_is_of_the_whole_interval_and_intervals_double_up_to_a_bound() {
        let second = Duration::from_secs(1);
        assert_eq!(below(second, 0), Duration::ZERO);
        assert_eq!(below(second, 1 << 63), second / 2);
        assert!(below(second, u64::MAX) < second && below(second, u64::MAX) > second * 99 / 100);
        assert!(below(Duration::MAX, u64::MAX) > second);
        let policy = RetryPolicy { initial: second, max: second * 4, total: second };
        let (mut least, mut most) = ([second * 4; 4], [Duration::ZERO; 4]);
        for _ in 0..500 {
            let mut waits = Waits::new(&policy);
            for at in 0..4 {
                let wait = waits.pause();
                (least[at], most[at]) = (least[at].min(wait), most[at].max(wait));
            }
        }
        for (at, bound) in [1, 2, 4, 4].into_iter().enumerate() {
            let bound = second * bound;
            assert!(least[at] < bound / 10 && most[at] > bound * 9 / 10 && most[at] <= bound, "wait {at}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_is_not_tried_again() {
        assert_eq!(tries(Disposition::Fail).await.0, 1);
    }
}
