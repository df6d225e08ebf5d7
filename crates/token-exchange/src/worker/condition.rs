//! What an operator is told: one line when an issuer stops giving tokens, one when it gives them again. Pure.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

/// Trouble that comes back sooner is not told again.
const QUIET: Duration = Duration::from_secs(60);

/// What is to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Tokens can't be had.
    Began,
    /// They can be had again.
    Ended {
        /// How long they could not.
        lasted: Duration,
        /// How many files were put off meanwhile.
        files: usize,
    },
}

/// How each issuer is.
#[derive(Debug, Default)]
pub(super) struct Conditions(HashMap<String, State>);

#[derive(Debug)]
enum State {
    Trouble { since: Instant, files: usize, told: bool },
    Well { since: Instant },
}

impl Conditions {
    /// An issuer gave no token, and so many files wait for it.
    pub(super) fn bad(&mut self, issuer: &str, waiting: usize, now: Instant) -> Option<Change> {
        match self.0.get_mut(issuer) {
            Some(State::Trouble { files, .. }) => {
                *files += waiting;
                None
            }
            before => {
                let told = !matches!(before, Some(State::Well { since }) if now - *since < QUIET);
                self.0.insert(issuer.to_owned(), State::Trouble { since: now, files: waiting, told });
                told.then_some(Change::Began)
            }
        }
    }

    /// An issuer was asked and gave a token.
    pub(super) fn good(&mut self, issuer: &str, now: Instant) -> Option<Change> {
        let state = self.0.get_mut(issuer)?;
        let State::Trouble { since, files, told } = *state else { return None };
        *state = State::Well { since: now };
        told.then_some(Change::Ended { lasted: now - since, files })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_told_once_and_not_when_it_goes_to_and_fro() {
        let start = Instant::now();
        let at = |s: u64| start + Duration::from_secs(s);
        let mut conditions = Conditions::default();
        assert_eq!(conditions.good("i", at(0)), None);
        assert_eq!(conditions.bad("i", 10, at(1)), Some(Change::Began));
        assert_eq!(conditions.bad("i", 5, at(2)), None);
        assert_eq!(conditions.bad("other", 1, at(2)), Some(Change::Began));
        let ended = Change::Ended { lasted: Duration::from_secs(9), files: 15 };
        assert_eq!(conditions.good("i", at(10)), Some(ended));
        assert_eq!(conditions.good("i", at(11)), None);
        assert_eq!((conditions.bad("i", 1, at(20)), conditions.good("i", at(21))), (None, None));
        assert_eq!(conditions.bad("i", 1, at(90)), Some(Change::Began));
    }
}
