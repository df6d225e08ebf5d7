//! Which FTS instances cannot be used, since when, and when each is tried again. What an operator sees of it is one line when it begins and
//! one when it ends.

use std::collections::HashMap;
use std::time::Duration;

use fts_client::FtsError;
use token_core::UnixSeconds;
use token_core::retry::{RetryPolicy, Waits};
use tracing::{info, warn};

/// The conditions of all FTS instances; those that can be used are not in it.
#[derive(Default)]
pub(super) struct Conditions(HashMap<String, Away>);

/// An FTS that cannot be used.
struct Away {
    since: UnixSeconds,
    next_try: UnixSeconds,
    waits: Waits,
    error: FtsError,
    /// Claims of ours are open there: their jobs' fate comes before any new claim, so that an outage never leaves more behind than was in
    /// hand when it began.
    claims: bool,
}

impl Conditions {
    /// Whether an FTS may be tried now.
    ///
    /// # Errors
    /// Why it could not be used last time, when it is too early for the next.
    pub(super) fn may_try(&self, fts: &str, now: UnixSeconds) -> Result<(), FtsError> {
        match self.0.get(fts) {
            Some(away) if now < away.next_try => Err(away.error.clone()),
            _ => Ok(()),
        }
    }

    /// Whether new claims may be made for an FTS that answers.
    ///
    /// # Errors
    /// Why not: claims are open there.
    pub(super) fn may_claim(&self, fts: &str) -> Result<(), FtsError> {
        match self.0.get(fts) {
            Some(away) if away.claims => Err(away.error.clone()),
            _ => Ok(()),
        }
    }

    /// An FTS cannot be used; or, with `claims`, it does not say what became of jobs.
    pub(super) fn away(&mut self, fts: &str, error: &FtsError, claims: bool, now: UnixSeconds) {
        let away = self.0.entry(fts.to_owned()).or_insert_with(|| {
            warn!(fts, reason = %error, "FTS cannot be used; its requests wait");
            let policy = RetryPolicy {
                initial: Duration::from_secs(2),
                max: Duration::from_secs(60),
                ..RetryPolicy::default()
            };
            Away { since: now, next_try: now, waits: Waits::new(&policy), error: error.clone(), claims }
        });
        // Many posts may fail of one cause.
        if away.next_try <= now {
            away.next_try = now.plus(away.waits.pause().max(Duration::from_secs(1)));
        }
        away.error = error.clone();
        away.claims |= claims;
    }

    /// An FTS has answered, and no claim is open there. Says so if it was away; `waited` tells how many requests waited for it.
    pub(super) fn back(&mut self, fts: &str, now: UnixSeconds, waited: impl FnOnce() -> usize) {
        if let Some(away) = self.0.remove(fts) {
            let (after_s, requests) = (away.since.until(now).as_secs(), waited());
            info!(fts, after_s, requests, "FTS can be used again; its requests go on");
        }
    }

    /// The open claims of an FTS are resolved.
    pub(super) fn resolved(&mut self, fts: &str) {
        if let Some(away) = self.0.get_mut(fts) {
            away.claims = false;
        }
    }

    /// Whether an FTS cannot be used.
    pub(super) fn is_away(&self, fts: &str) -> bool {
        self.0.contains_key(fts)
    }

    /// Those that are to be tried again now.
    pub(super) fn due(&self, now: UnixSeconds) -> Vec<String> {
        self.0.iter().filter(|(_, away)| away.next_try <= now).map(|(fts, _)| fts.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_fts_that_is_away_is_tried_again_later_and_claims_nothing_while_a_fate_is_open() {
        let (mut conditions, fts) = (Conditions::default(), "https://f");
        let error = FtsError::Unreachable { fts: fts.into(), reason: "refused" };
        let at = UnixSeconds;
        assert!(conditions.may_try(fts, at(0)).is_ok() && conditions.may_claim(fts).is_ok());
        conditions.away(fts, &error, true, at(0));
        assert!(conditions.may_try(fts, at(0)).is_err() && conditions.may_try(fts, at(120)).is_ok());
        assert!(conditions.may_claim(fts).is_err());
        conditions.resolved(fts);
        assert!(conditions.may_claim(fts).is_ok());
        assert!(conditions.is_away(fts) && conditions.due(at(0)).is_empty());
        assert_eq!(conditions.due(at(120)), [fts]);
        let mut waited = 0;
        conditions.back(fts, at(130), || {
            waited += 1;
            waited
        });
        conditions.back(fts, at(131), || unreachable!("it was back already"));
        assert_eq!(waited, 1);
        assert!(conditions.may_try(fts, at(0)).is_ok());
    }
}
