//! The circuit breaker's decisions: state, time and event in, state out.

use std::time::Duration;

use tokio::time::Instant;

/// What others are told while a probe is under way: how long it takes is not known.
const PROBING: Duration = Duration::from_secs(1);

/// When it opens, and for how long.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) failures: u32,
    pub(super) initial: Duration,
    pub(super) max: Duration,
    pub(super) retry_after_max: Duration,
}

/// Where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// All pass; so many calls have failed one after the other.
    Closed { failures: u32 },
    /// None passes until then. `round` counts how often it has opened since it was closed.
    Open { until: Instant, round: u32 },
    /// One probe is under way.
    HalfOpen { round: u32 },
}

/// What a call that passed is: only the probe's end decides while the breaker is half open, and calls that were sent
/// before it opened don't count any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ticket {
    Ordinary,
    Probe,
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The issuer answered.
    Good,
    /// No connection, a time-out, 5xx or 429; with what `Retry-After` asked for.
    Bad { retry_after: Option<Duration> },
    /// Nothing was learnt: the call was given up by ourselves.
    Unknown,
}

impl State {
    /// Whether a call would pass; if not, in what time it is worth asking again.
    pub(super) fn would_pass(self, now: Instant) -> Result<(), Duration> {
        match self {
            Self::Open { until, .. } if now < until => Err(until - now),
            Self::HalfOpen { .. } => Err(PROBING),
            Self::Closed { .. } | Self::Open { .. } => Ok(()),
        }
    }

    /// A call wants to pass.
    pub(super) fn ask(self, now: Instant) -> (Self, Result<Ticket, Duration>) {
        match (self, self.would_pass(now)) {
            (_, Err(wait)) => (self, Err(wait)),
            (Self::Open { round, .. }, Ok(())) => (Self::HalfOpen { round }, Ok(Ticket::Probe)),
            (_, Ok(())) => (self, Ok(Ticket::Ordinary)),
        }
    }

    /// A call that passed has ended.
    pub(super) fn heard(self, limits: &Limits, now: Instant, ticket: Ticket, verdict: Verdict) -> Self {
        match (self, ticket, verdict) {
            (Self::Closed { .. }, _, Verdict::Good)
            | (Self::HalfOpen { .. }, Ticket::Probe, Verdict::Good) => Self::Closed { failures: 0 },
            (Self::Closed { failures }, _, Verdict::Bad { retry_after }) => {
                let failures = failures.saturating_add(1);
                if failures < limits.failures.max(1) {
                    return Self::Closed { failures };
                }
                Self::Open { until: now + limits.open_for(1, retry_after), round: 1 }
            }
            (Self::HalfOpen { round }, Ticket::Probe, Verdict::Bad { retry_after }) => {
                let round = round.saturating_add(1);
                Self::Open { until: now + limits.open_for(round, retry_after), round }
            }
            // The next who asks is the probe.
            (Self::HalfOpen { round }, Ticket::Probe, Verdict::Unknown) => Self::Open { until: now, round },
            _ => self,
        }
    }
}

impl Limits {
    /// Twice as long each time, or what the issuer asked for within bounds.
    fn open_for(&self, round: u32, retry_after: Option<Duration>) -> Duration {
        match retry_after {
            Some(asked) => asked.min(self.retry_after_max).max(self.initial),
            None => self.initial.saturating_mul(2_u32.saturating_pow(round.saturating_sub(1))).min(self.max),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        failures: 3,
        initial: Duration::from_secs(5),
        max: Duration::from_secs(60),
        retry_after_max: Duration::from_secs(300),
    };
    const BAD: Verdict = Verdict::Bad { retry_after: None };
    const CLOSED: State = State::Closed { failures: 0 };

    fn told(state: State, now: Instant, ticket: Ticket, verdict: Verdict) -> State {
        state.heard(&LIMITS, now, ticket, verdict)
    }

    fn opened(now: Instant) -> State {
        (0..3).fold(CLOSED, |state, _| told(state, now, Ticket::Ordinary, BAD))
    }

    #[test]
    fn failures_in_a_row_open_it_and_a_success_between_them_does_not() {
        let now = Instant::now();
        let two = (0..2).fold(CLOSED, |state, _| told(state, now, Ticket::Ordinary, BAD));
        assert_eq!(two, State::Closed { failures: 2 });
        assert_eq!(told(two, now, Ticket::Ordinary, Verdict::Unknown), two);
        assert_eq!(told(two, now, Ticket::Ordinary, Verdict::Good), CLOSED);
        let open = told(two, now, Ticket::Ordinary, BAD);
        assert_eq!(open, State::Open { until: now + Duration::from_secs(5), round: 1 });
        assert_eq!(open.ask(now + Duration::from_secs(2)), (open, Err(Duration::from_secs(3))));
        // Those sent before it opened don't count.
        for late in [Verdict::Good, BAD] {
            assert_eq!(told(open, now, Ticket::Ordinary, late), open);
        }
    }

    #[test]
    fn half_open_lets_one_probe_through_and_its_end_decides() {
        let now = Instant::now() + Duration::from_secs(5);
        let open = opened(now - Duration::from_secs(5));
        let (half, probe) = open.ask(now);
        assert_eq!((half, probe), (State::HalfOpen { round: 1 }, Ok(Ticket::Probe)));
        assert_eq!(half.ask(now), (half, Err(PROBING)));
        assert_eq!(told(half, now, Ticket::Ordinary, Verdict::Good), half);
        assert_eq!(told(half, now, Ticket::Probe, Verdict::Good), CLOSED);
        let given_up = told(half, now, Ticket::Probe, Verdict::Unknown);
        assert_eq!(given_up.ask(now).1, Ok(Ticket::Probe));
        let again = told(half, now, Ticket::Probe, BAD);
        assert_eq!(again, State::Open { until: now + Duration::from_secs(10), round: 2 });
    }

    #[test]
    fn it_stays_open_longer_each_time_up_to_a_bound_or_as_long_as_was_asked() {
        let seconds =
            |round, asked: Option<u64>| LIMITS.open_for(round, asked.map(Duration::from_secs)).as_secs();
        assert_eq!([1, 2, 3, 4, 5, u32::MAX].map(|round| seconds(round, None)), [5, 10, 20, 40, 60, 60]);
        assert_eq!([0, 30, 90, 86_400].map(|asked| seconds(1, Some(asked))), [5, 30, 90, 300]);
    }
}
