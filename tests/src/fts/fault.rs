//! Faults, for tests of what clients make of them.

use std::time::Duration;

/// What happens to the next submissions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SubmitFault {
    /// Nothing special.
    #[default]
    None,
    /// The next so many are taken, but the answer is a proxy's 502 page: the submitter can't know.
    LoseAnswer(u32),
    /// The next so many are answered with FTS's own 503 page, and nothing is stored.
    Refuse503(u32),
    /// The next so many meet this.
    Meet(Trouble, u32),
    /// All are taken and answered this much later.
    Slow(Duration),
    /// All are answered as if they were taken, unread and kept nowhere: for comparing submissions that this version refuses, such as
    /// of tape by token.
    TakeAll,
}

/// What one submission meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// FTS's JSON for an exception that it did not foresee, a 500; nothing is stored.
    Error500,
    /// The 503 page of a load balancer without a server behind it; nothing is stored.
    NoServer,
    /// A proxy in front sends it twice, and passes the second answer on: that there is such a job already.
    SentTwice,
    /// It is taken, and the connection is reset before a word is said.
    ResetBeforeAnswer,
    /// It is taken, and the connection is reset in the middle of the answer.
    ResetInAnswer,
    /// It is taken, and answered 200 with the page of a portal.
    Portal,
    /// It is taken, and answered 200 with the first half of the JSON.
    HalfJson,
    /// It is taken, and answered 200 with JSON that names no job.
    NoJobId,
}

impl SubmitFault {
    /// The fault of this submission; counts it off.
    pub(super) fn take(&mut self) -> Self {
        let now = *self;
        match self {
            Self::LoseAnswer(left) | Self::Refuse503(left) | Self::Meet(_, left) => match *left {
                0 | 1 => *self = Self::None,
                _ => *left -= 1,
            },
            Self::None | Self::Slow(_) | Self::TakeAll => (),
        }
        match now {
            Self::LoseAnswer(0) | Self::Refuse503(0) | Self::Meet(_, 0) => Self::None,
            now => now,
        }
    }
}

/// What is wrong between the REST server and its database, for every request: each needs it to see who calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DatabaseFault {
    /// Nothing.
    #[default]
    None,
    /// It can't be reached: the container in front answers, with a 500 page of its own.
    Unreachable,
    /// No connection was free for `pool_timeout`: 503, the only back-pressure there is.
    PoolExhausted,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counted_fault_ends() {
        let mut fault = SubmitFault::LoseAnswer(2);
        let seen = [fault.take(), fault.take(), fault.take()];
        assert_eq!(seen, [SubmitFault::LoseAnswer(2), SubmitFault::LoseAnswer(1), SubmitFault::None]);
        assert_eq!(SubmitFault::Refuse503(0).take(), SubmitFault::None);
    }
}
