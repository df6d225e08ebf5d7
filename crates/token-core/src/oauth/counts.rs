//! What calls to an issuer came to and how long they took: numbers only, for whoever watches.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::call::Call;
use crate::error::TokenError;

/// Upper bounds of the classes of durations, in milliseconds; what takes longer is in a last one. The longest is what a call may take
/// by default.
const BOUNDS_MS: [u32; 11] = [5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 20_000];

const CALLS: [Call; 6] = [
    Call::ClientCredentials,
    Call::Exchange,
    Call::ExchangeForRefresh,
    Call::Refresh,
    Call::DeviceAuthorization,
    Call::DeviceToken,
];

const OUTCOMES: [&str; 7] = ["ok", "refused", "busy", "unreachable", "unusable", "mismatch", "other"];

/// The calls of one kind that a client has sent.
#[derive(Clone, Debug, PartialEq)]
pub struct CallCounts {
    /// Which kind: `client_credentials`, `token_exchange`, `token_exchange_for_refresh`, `refresh_token`, `device_authorization` or
    /// `device_code`.
    pub grant: &'static str,
    /// How many came to what: `ok`; `refused` (an OAuth error); `busy` (408, 429, 5xx); `unreachable` (no connection, time-out);
    /// `unusable` (no token in the answer); `mismatch` (not the token that was asked for); `other`.
    pub outcomes: Vec<(&'static str, u64)>,
    /// How many took how long: an upper bound in seconds, and how many of those that are above the one before. The last has no bound.
    pub durations: Vec<(Option<f64>, u64)>,
    /// How long all of them took together, in seconds.
    pub seconds: f64,
}

/// Counts as it goes.
#[derive(Debug, Default)]
pub(super) struct Counts([One; CALLS.len()]);

#[derive(Debug, Default)]
struct One {
    outcomes: [AtomicU64; OUTCOMES.len()],
    durations: [AtomicU64; BOUNDS_MS.len() + 1],
    micros: AtomicU64,
}

impl Counts {
    /// A call has ended.
    pub(super) fn ended<T>(&self, call: Call, outcome: &Result<T, TokenError>, took: Duration) {
        let Some(one) = CALLS.iter().position(|known| *known == call).and_then(|at| self.0.get(at)) else {
            return;
        };
        let millis = took.as_millis();
        let class = BOUNDS_MS.iter().position(|bound| millis <= u128::from(*bound));
        let add = |counter: Option<&AtomicU64>, more| counter.map(|c| c.fetch_add(more, Ordering::Relaxed));
        add(
            OUTCOMES.iter().position(|name| *name == name_of(outcome)).and_then(|at| one.outcomes.get(at)),
            1,
        );
        add(one.durations.get(class.unwrap_or(BOUNDS_MS.len())), 1);
        add(Some(&one.micros), u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
    }

    /// The kinds of which there were any.
    pub(super) fn read(&self) -> Vec<CallCounts> {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let kinds = CALLS.iter().zip(&self.0).map(|(call, one)| CallCounts {
            grant: call.grant(),
            outcomes: OUTCOMES.into_iter().zip(one.outcomes.iter().map(read)).collect(),
            durations: BOUNDS_MS
                .iter()
                .map(|millis| Some(f64::from(*millis) / 1000.0))
                .chain([None])
                .zip(one.durations.iter().map(read))
                .collect(),
            seconds: Duration::from_micros(read(&one.micros)).as_secs_f64(),
        });
        kinds.filter(|kind| kind.durations.iter().any(|(_, count)| *count > 0)).collect()
    }
}

fn name_of<T>(outcome: &Result<T, TokenError>) -> &'static str {
    match outcome {
        Ok(_) => "ok",
        Err(TokenError::Refused { .. }) => "refused",
        Err(TokenError::Busy { .. }) => "busy",
        Err(TokenError::Unreachable { .. }) => "unreachable",
        Err(TokenError::BadAnswer { .. }) => "unusable",
        Err(TokenError::Mismatch { .. }) => "mismatch",
        Err(_) => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_is_in_one_class_of_outcomes_and_one_of_durations() {
        let counts = Counts::default();
        assert_eq!(counts.read(), []);
        let busy = TokenError::Busy { issuer: "i".into(), call: "c", status: 503, retry_after: None };
        for (outcome, millis) in [(Ok(()), 5), (Ok(()), 6), (Err(busy), 60_000)] {
            counts.ended(Call::Refresh, &outcome, Duration::from_millis(millis));
        }
        let read = counts.read();
        let [one] = read.as_slice() else { panic!("{read:?}") };
        assert_eq!((one.grant, one.seconds), ("refresh_token", 60.011));
        let named = |name| one.outcomes.iter().find(|(known, _)| *known == name).unwrap().1;
        assert_eq!((named("ok"), named("busy"), named("refused")), (2, 1, 0));
        let filled: Vec<_> = one.durations.iter().filter(|(_, count)| *count > 0).copied().collect();
        assert_eq!(filled, [(Some(0.005), 1), (Some(0.01), 1), (None, 1)]);
    }
}
