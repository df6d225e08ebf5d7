//! What protects an issuer from us, and us from an issuer that is away: a bound on calls in flight, a rate budget and a
//! circuit breaker. One [`Guard`] an issuer; clients at the same issuer share it.

mod breaker;
mod budget;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

pub(crate) use breaker::Verdict;
use breaker::{Limits, State, Ticket};
use budget::Budget;

/// How much one issuer is asked to bear, and when it is left alone.
#[derive(Clone, Copy, Debug)]
pub struct GuardSettings {
    /// Most calls at a time; at least one.
    pub max_in_flight: usize,
    /// Most calls a second in the long run; at least one.
    pub calls_per_s: u32,
    /// Most calls at once after a quiet time; at least one.
    pub burst: u32,
    /// After so many transient failures in a row (no connection, time-out, 5xx, 429) no call is sent for a while.
    pub open_after_failures: u32,
    /// For how long the first time; twice as long after each probe that fails.
    pub open_initial: Duration,
    /// For how long at most, unless the issuer asked for more.
    pub open_max: Duration,
    /// The longest `Retry-After` that is heeded.
    pub retry_after_max: Duration,
}

impl Default for GuardSettings {
    fn default() -> Self {
        Self {
            max_in_flight: 8,
            calls_per_s: 100,
            burst: 200,
            open_after_failures: 5,
            open_initial: Duration::from_secs(5),
            open_max: Duration::from_secs(60),
            retry_after_max: Duration::from_secs(300),
        }
    }
}

/// The guard of one issuer.
///
/// ```
/// use std::sync::Arc;
/// use token_core::{Guard, GuardSettings, Issuer, OAuthSettings, ClientSecret};
///
/// let issuer = Issuer::new("https://iam.example/")?;
/// // Two clients, and together no more than ten calls a second.
/// let guard = Arc::new(Guard::new(GuardSettings { calls_per_s: 10, ..GuardSettings::default() }));
/// let client = |id: &str| OAuthSettings {
///     guard: Arc::clone(&guard),
///     ..OAuthSettings::new(issuer.clone(), id, ClientSecret::new("..."))
/// };
/// let (_submitter, _exchanger) = (client("submitter"), client("exchanger"));
/// assert_eq!(guard.open_for(), None, "calls are sent");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Guard {
    limits: Limits,
    max_in_flight: usize,
    permits: Semaphore,
    budget: Mutex<Budget>,
    breaker: Mutex<State>,
    opened: AtomicU64,
    held_by_breaker: AtomicU64,
    held_by_budget: AtomicU64,
}

/// How a guard is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct GuardStatus {
    /// For how long no call is sent; `None` when calls are.
    pub open_for: Option<Duration>,
    /// How often the breaker has opened.
    pub opened: u64,
    /// Calls on their way.
    pub in_flight: usize,
    /// Most calls at a time.
    pub max_in_flight: usize,
    /// Which share of the burst is used up: 0 after a quiet time, 1 when the next call has to wait for its turn, more when others wait
    /// already.
    pub budget_used: f64,
    /// Calls that were not sent since the breaker was open.
    pub held_by_breaker: u64,
    /// Calls that were not sent since the budget had no turn in time.
    pub held_by_budget: u64,
}

impl Default for Guard {
    fn default() -> Self {
        Self::new(GuardSettings::default())
    }
}

/// Why a call may not be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Barred {
    /// The breaker is open, or a probe is under way.
    Open(Duration),
    /// The rate budget has no turn in time.
    Spent(Duration),
    /// Whoever wanted to call is to end.
    Cancelled,
}

/// What a call's end changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    None,
    Opened(Duration),
    /// A probe has failed.
    StaysOpen(Duration),
    Closed,
}

impl Guard {
    /// A guard; its breaker is closed and its budget full.
    pub fn new(settings: GuardSettings) -> Self {
        let max_in_flight = settings.max_in_flight.clamp(1, Semaphore::MAX_PERMITS);
        Self {
            limits: Limits {
                failures: settings.open_after_failures,
                initial: settings.open_initial,
                max: settings.open_max,
                retry_after_max: settings.retry_after_max,
            },
            max_in_flight,
            permits: Semaphore::new(max_in_flight),
            budget: Mutex::new(Budget::new(settings.calls_per_s, settings.burst, Instant::now())),
            breaker: Mutex::new(State::Closed { failures: 0 }),
            opened: AtomicU64::new(0),
            held_by_breaker: AtomicU64::new(0),
            held_by_budget: AtomicU64::new(0),
        }
    }

    /// From now on another rate.
    pub fn set_rate(&self, calls_per_s: u32, burst: u32) {
        lock(&self.budget).set(calls_per_s, burst);
    }

    /// How it is now, and what it has done since it was made.
    pub fn status(&self) -> GuardStatus {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        GuardStatus {
            open_for: self.open_for(),
            opened: read(&self.opened),
            in_flight: self.max_in_flight.saturating_sub(self.permits.available_permits()),
            max_in_flight: self.max_in_flight,
            budget_used: lock(&self.budget).used(Instant::now()),
            held_by_breaker: read(&self.held_by_breaker),
            held_by_budget: read(&self.held_by_budget),
        }
    }

    /// For how long no call is sent; `None` when calls are.
    pub fn open_for(&self) -> Option<Duration> {
        lock(&self.breaker).would_pass(Instant::now()).err()
    }

    /// Waits for a permit and a turn; the turn must come before `deadline`. An open breaker is told at once.
    pub(crate) async fn admit(
        &self,
        deadline: Instant,
        cancel: &CancellationToken,
    ) -> Result<Pass<'_>, Barred> {
        let wait = async {
            lock(&self.breaker).would_pass(Instant::now()).map_err(Barred::Open)?;
            let permit = self.permits.acquire().await.map_err(|_| Barred::Cancelled)?;
            let now = Instant::now();
            let turn = lock(&self.budget).take(now, deadline.saturating_duration_since(now));
            let turn = turn.map_err(Barred::Spent)?;
            // Sleeping for nothing takes a tick of the timer.
            if !turn.is_zero() {
                sleep(turn).await;
            }
            // Asked last, since a probe that has its ticket must be sent.
            let mut breaker = lock(&self.breaker);
            let (state, ticket) = breaker.ask(Instant::now());
            *breaker = state;
            Ok(Pass { guard: self, ticket: ticket.map_err(Barred::Open)?, ended: false, _permit: permit })
        };
        let pass = tokio::select! {
            pass = wait => pass,
            () = cancel.cancelled() => Err(Barred::Cancelled),
        };
        match &pass {
            Err(Barred::Open(_)) => _ = self.held_by_breaker.fetch_add(1, Ordering::Relaxed),
            Err(Barred::Spent(_)) => _ = self.held_by_budget.fetch_add(1, Ordering::Relaxed),
            Ok(_) | Err(Barred::Cancelled) => (),
        }
        pass
    }

    fn heard(&self, ticket: Ticket, verdict: Verdict) -> Change {
        let now = Instant::now();
        let mut breaker = lock(&self.breaker);
        let before = *breaker;
        *breaker = before.heard(&self.limits, now, ticket, verdict);
        match (before, *breaker) {
            (State::HalfOpen { .. }, State::Closed { .. }) => Change::Closed,
            (State::Closed { .. } | State::HalfOpen { .. }, State::Open { until, .. }) if until > now => {
                self.opened.fetch_add(1, Ordering::Relaxed);
                match before {
                    State::HalfOpen { .. } => Change::StaysOpen(until - now),
                    _ => Change::Opened(until - now),
                }
            }
            _ => Change::None,
        }
    }
}

/// The right to send one call. Dropped without a verdict, it has taught nothing.
#[derive(Debug)]
pub(crate) struct Pass<'a> {
    guard: &'a Guard,
    ticket: Ticket,
    ended: bool,
    _permit: SemaphorePermit<'a>,
}

impl Pass<'_> {
    /// The call has ended.
    pub(crate) fn end(mut self, verdict: Verdict) -> Change {
        self.ended = true;
        self.guard.heard(self.ticket, verdict)
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.guard.heard(self.ticket, Verdict::Unknown);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BAD: Verdict = Verdict::Bad { retry_after: None };

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(30)
    }

    #[tokio::test(start_paused = true)]
    async fn an_open_breaker_is_told_at_once_and_then_one_probe_passes() {
        let (guard, never) = (Guard::default(), CancellationToken::new());
        let mut change = Change::None;
        for _ in 0..5 {
            assert_eq!(change, Change::None);
            change = guard.admit(soon(), &never).await.unwrap().end(BAD);
        }
        assert_eq!(change, Change::Opened(Duration::from_secs(5)));
        assert_eq!(guard.admit(soon(), &never).await.unwrap_err(), Barred::Open(Duration::from_secs(5)));
        tokio::time::advance(Duration::from_secs(5)).await;
        let probe = guard.admit(soon(), &never).await.unwrap();
        assert!(matches!(guard.admit(soon(), &never).await.unwrap_err(), Barred::Open(_)));
        drop(probe);
        let probe = guard.admit(soon(), &never).await.unwrap();
        assert_eq!(probe.end(BAD), Change::StaysOpen(Duration::from_secs(10)));
        tokio::time::advance(Duration::from_secs(10)).await;
        let probe = guard.admit(soon(), &never).await.unwrap();
        assert_eq!(probe.end(Verdict::Good), Change::Closed);
        assert_eq!(guard.open_for(), None);
        let status = guard.status();
        assert_eq!((status.opened, status.held_by_breaker, status.held_by_budget), (2, 2, 0));
        assert_eq!((status.in_flight, status.max_in_flight), (0, 8));
        assert_eq!(guard.admit(soon(), &never).await.unwrap().end(Verdict::Good), Change::None);
    }

    #[tokio::test(start_paused = true)]
    async fn the_budget_is_waited_for_within_the_deadline_and_until_cancelled() {
        let guard = Guard::new(GuardSettings { calls_per_s: 1, burst: 2, ..GuardSettings::default() });
        let (start, cancel) = (Instant::now(), CancellationToken::new());
        for _ in 0..4 {
            guard.admit(soon(), &cancel).await.unwrap().end(Verdict::Good);
        }
        assert_eq!(start.elapsed().as_secs(), 2);
        let none_left = guard.admit(Instant::now(), &cancel).await.unwrap_err();
        assert_eq!(none_left, Barred::Spent(Duration::from_secs(1)));
        let status = guard.status();
        assert_eq!((status.held_by_budget, status.budget_used), (1, 1.0));
        let waiting = guard.admit(soon(), &cancel);
        let (waited, ()) = tokio::join!(waiting, async { cancel.cancel() });
        assert_eq!(waited.unwrap_err(), Barred::Cancelled);
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_than_so_many_at_a_time() {
        let guard = Guard::new(GuardSettings { max_in_flight: 1, ..GuardSettings::default() });
        let never = CancellationToken::new();
        let first = guard.admit(soon(), &never).await.unwrap();
        let second = guard.admit(soon(), &never);
        tokio::pin!(second);
        assert!(tokio::time::timeout(Duration::from_secs(60), &mut second).await.is_err());
        drop(first);
        second.await.unwrap();
    }
}
