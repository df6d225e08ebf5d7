//! The rate budget's decisions: a token bucket, kept as the one time at which it will be full again.

use std::time::Duration;

use tokio::time::Instant;

/// So many calls at once, and then one every interval.
#[derive(Clone, Copy, Debug)]
pub(super) struct Budget {
    interval: Duration,
    burst: u32,
    full_at: Instant,
}

impl Budget {
    pub(super) fn new(calls_per_s: u32, burst: u32, now: Instant) -> Self {
        Self { interval: Duration::from_secs(1) / calls_per_s.max(1), burst: burst.max(1), full_at: now }
    }

    /// From now on another rate. What is used up stays so.
    pub(super) fn set(&mut self, calls_per_s: u32, burst: u32) {
        self.interval = Duration::from_secs(1) / calls_per_s.max(1);
        self.burst = burst.max(1);
    }

    /// Which share of the burst is used up; more than all when turns further ahead are taken.
    pub(super) fn used(&self, now: Instant) -> f64 {
        let whole = self.interval.saturating_mul(self.burst).as_secs_f64();
        self.full_at.saturating_duration_since(now).as_secs_f64() / whole
    }

    /// Takes the next call's turn and tells how long to wait for it; when that is longer than `patience`, nothing is
    /// taken. A turn that was taken and not used is lost, which slows nobody by more than `patience`.
    pub(super) fn take(&mut self, now: Instant, patience: Duration) -> Result<Duration, Duration> {
        let full_at = self.full_at.max(now);
        let wait = (full_at - now).saturating_sub(self.interval.saturating_mul(self.burst - 1));
        if wait > patience {
            return Err(wait);
        }
        self.full_at = full_at + self.interval;
        Ok(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    #[test]
    fn a_burst_at_once_then_an_even_pace() {
        let now = Instant::now();
        let mut budget = Budget::new(10, 3, now);
        let waits: Vec<_> = (0..6).map(|_| budget.take(now, LONG).unwrap().as_millis()).collect();
        assert_eq!(waits, [0, 0, 0, 100, 200, 300]);
        let later = now + Duration::from_secs(60);
        let waits: Vec<_> = (0..4).map(|_| budget.take(later, LONG).unwrap().as_millis()).collect();
        assert!((budget.used(later) - 4.0 / 3.0).abs() < 1e-9, "{}", budget.used(later));
        assert_eq!(waits, [0, 0, 0, 100], "no more than a burst is saved up");
    }

    #[test]
    fn another_rate_holds_from_the_next_turn_on() {
        let now = Instant::now();
        let mut budget = Budget::new(10, 1, now);
        assert_eq!([0, 0].map(|_| budget.take(now, LONG).unwrap().as_millis()), [0, 100]);
        budget.set(1, 1);
        assert_eq!([0, 0].map(|_| budget.take(now, LONG).unwrap().as_millis()), [200, 1200]);
    }

    #[test]
    fn who_has_no_time_to_wait_takes_no_turn() {
        let now = Instant::now();
        let mut budget = Budget::new(1, 1, now);
        assert_eq!(budget.take(now, Duration::ZERO), Ok(Duration::ZERO));
        for _ in 0..3 {
            assert_eq!(budget.take(now, Duration::ZERO), Err(Duration::from_secs(1)));
        }
        assert_eq!(budget.take(now, Duration::from_secs(1)), Ok(Duration::from_secs(1)));
    }
}
