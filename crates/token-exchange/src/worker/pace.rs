//! When FTS's database is looked at, and from which file on. Pure.

use std::time::Duration;

use tokio::time::Instant;

/// So many statements a batch of new jobs costs, from the look to the end of its leases.
const STATEMENTS: f64 = 9.0;
/// So many statements a file may cost while files keep coming.
const A_FILE: f64 = 0.08;
/// The longest rest while files come: they are gathered for a hand-over, and none waits for long.
const GATHER: Duration = Duration::from_millis(600);
/// Ids are given out before their rows can be seen: files whose ids are older than the newest of so long ago are looked for by a
/// sweep only.
const OVERLAP: Duration = Duration::from_secs(5);
/// The rest between sweeps over all that waits, or so many times as long as the last one took.
const SWEEP: Duration = Duration::from_secs(2);
const SWEEP_SHARE: u32 = 20;

/// Where the next look begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum From {
    /// At all that waits.
    Start,
    /// After this file.
    File(i64),
}

/// The pace of the looks.
#[derive(Debug)]
pub(super) struct Pace {
    /// The rest when nothing waits.
    pub(super) interval: Duration,
    /// The newest file that was seen, and the newest one some seconds ago.
    newest: i64,
    older: i64,
    turned: Instant,
    sweep_at: Instant,
    last: Instant,
    /// When the next look is due.
    pub(super) next: Instant,
}

impl Pace {
    /// Rests for `interval` when nothing waits.
    pub(super) fn new(interval: Duration, now: Instant) -> Self {
        Self { interval, newest: 0, older: 0, turned: now, sweep_at: now, last: now, next: now }
    }

    /// Where a look that begins now begins.
    pub(super) fn from(&self, now: Instant) -> From {
        if now >= self.sweep_at { From::Start } else { From::File(self.older) }
    }

    /// A look that began at `began` has seen files up to `newest`, and so many are ours now; `more` may be had at once.
    pub(super) fn looked(
        &mut self,
        from: From,
        (began, now): (Instant, Instant),
        newest: i64,
        files: usize,
        more: bool,
    ) {
        self.newest = self.newest.max(newest);
        if now - self.turned >= OVERLAP {
            (self.older, self.turned) = (self.newest, now);
        }
        if from == From::Start && !more {
            self.sweep_at = now + SWEEP.max((now - began) * SWEEP_SHARE);
        }
        self.next = now + if more { Duration::ZERO } else { rest(self.interval, began - self.last, files) };
        self.last = began;
    }

    /// The database could not be looked at.
    pub(super) fn failed(&mut self, now: Instant, rest: Duration) {
        self.next = now + rest;
    }
}

/// As long as it takes until so many files have come that a batch is worth its statements.
fn rest(interval: Duration, since: Duration, files: usize) -> Duration {
    let Ok(files @ 1..) = u32::try_from(files) else { return interval };
    let wanted = STATEMENTS / A_FILE;
    since.mul_f64(wanted / f64::from(files)).clamp(interval.min(GATHER), GATHER)
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_millis(200);

    #[test]
    fn the_rest_goes_by_how_fast_files_come() {
        let second = Duration::from_secs(1);
        assert_eq!(rest(INTERVAL, second, 0), INTERVAL);
        assert_eq!(rest(INTERVAL, second, 1), GATHER, "one file waits no longer than this either");
        assert_eq!(rest(INTERVAL, second, 180), GATHER);
        let at_400 = rest(INTERVAL, second, 400);
        assert!(at_400 > Duration::from_millis(250) && at_400 < Duration::from_millis(300), "{at_400:?}");
        assert_eq!(rest(INTERVAL, second, 10_000), INTERVAL);
        assert_eq!(rest(second, second, 10_000), GATHER);
    }

    #[test]
    fn what_is_old_is_passed_over_between_sweeps_and_what_came_late_is_not() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let mut pace = Pace::new(INTERVAL, start);
        assert_eq!(pace.from(start), From::Start);
        pace.looked(From::Start, (at(0), at(10)), 500, 500, true);
        assert_eq!((pace.next, pace.from(at(10))), (at(10), From::Start), "it goes on at once");
        pace.looked(From::Start, (at(10), at(20)), 900, 400, false);
        assert_eq!(pace.from(at(500)), From::File(0), "files with lower ids may still show");
        pace.looked(From::File(0), (at(500), at(501)), 901, 1, false);
        assert_eq!(pace.from(at(2020)), From::Start);
        pace.looked(From::Start, (at(5020), at(5320)), 0, 0, false);
        assert_eq!(pace.from(at(5400)), From::File(901));
        assert_eq!(pace.from(at(11_000)), From::File(901), "a sweep that took long is not made often");
        assert_eq!(pace.from(at(11_321)), From::Start);
    }
}
