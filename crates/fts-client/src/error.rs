//! What can go wrong between us and an FTS, and what to do about it.

use token_core::TokenError;

/// Why a call had no good end. The texts name the FTS and hold no token.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FtsError {
    /// No connection: nothing was sent.
    #[error("FTS {fts}: {reason}")]
    Unreachable {
        /// The FTS.
        fts: String,
        /// What happened.
        reason: &'static str,
    },
    /// Nothing was changed, and a later try may go better: its page for an exhausted database pool, which is FTS's only
    /// back-pressure, a 429, or any fault of the server while something was only read.
    #[error("FTS {fts}: try later: {reason}")]
    Busy {
        /// The FTS.
        fts: String,
        /// What happened.
        reason: String,
    },
    /// The call was sent, and no answer tells what became of it. A job may exist: look its id up.
    #[error("FTS {fts}: outcome unknown: {reason}")]
    OutcomeUnknown {
        /// The FTS.
        fts: String,
        /// What happened.
        reason: String,
    },
    /// FTS takes us for nobody. It never says why: it ignores a token that it can't believe.
    #[error(
        "FTS {fts}: it takes us for anonymous: the token has expired, its audience is not among its AuthorizedAudiences, \
         its issuer is not among its providers, or the clocks differ"
    )]
    Anonymous {
        /// The FTS.
        fts: String,
    },
    /// A storage of this job is banned for now; other jobs may go.
    #[error("FTS {fts}: {message}")]
    Banned {
        /// The FTS.
        fts: String,
        /// FTS's words.
        message: String,
    },
    /// We may not: a missing scope, a VO that is not authorised, a banned user, a proxy to be delegated. All 401, 403, 407 and
    /// 419, and a 400 of the layers around the application. No fault of the job.
    #[error("FTS {fts}: forbidden: {message}")]
    Forbidden {
        /// The FTS.
        fts: String,
        /// FTS's words.
        message: String,
    },
    /// There is nothing at this URL: no such job, file or field, or no FTS.
    #[error("FTS {fts}: not there: {message}")]
    NotThere {
        /// The FTS.
        fts: String,
        /// FTS's words.
        message: String,
    },
    /// FTS refused the call for what is in it; the same call will be refused again.
    #[error("FTS {fts}: refused with {status}: {message}{}", about(*.field))]
    Refused {
        /// The FTS.
        fts: String,
        /// The HTTP status.
        status: u16,
        /// FTS's words.
        message: String,
        /// The member of the submission that they are about, where they tell.
        field: Option<&'static str>,
    },
    /// An answer that can't be read.
    #[error("FTS {fts}: the answer to {call} can't be used: {reason}")]
    BadAnswer {
        /// The FTS.
        fts: String,
        /// The call.
        call: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// There is no token to send.
    #[error("no token for FTS: {0}")]
    Token(#[from] TokenError),
}

fn about(field: Option<&str>) -> String {
    field.map(|field| format!(" (see {field})")).unwrap_or_default()
}

/// What to do about a call that had no good end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Refused for good: the same call will be refused again.
    Refused,
    /// Nothing was changed; the same call may go well later.
    TryLater,
    /// It may have been done: look before anything else.
    OutcomeUnknown,
    /// Nothing was changed, and nothing will be until a token, a right or a configuration is mended. The job is not at fault.
    Mend,
}

impl FtsError {
    /// What to do about it.
    pub fn verdict(&self) -> Verdict {
        match self {
            Self::Unreachable { .. } | Self::Busy { .. } | Self::Banned { .. } => Verdict::TryLater,
            Self::OutcomeUnknown { .. } | Self::BadAnswer { .. } => Verdict::OutcomeUnknown,
            Self::Refused { .. } => Verdict::Refused,
            Self::Anonymous { .. } | Self::Forbidden { .. } | Self::NotThere { .. } => Verdict::Mend,
            Self::Token(error) if error.is_definite() || error.is_our_configuration() => Verdict::Mend,
            Self::Token(_) => Verdict::TryLater,
        }
    }

    /// Whether the job may be there all the same.
    pub fn job_may_exist(&self) -> bool {
        self.verdict() == Verdict::OutcomeUnknown
    }

    /// Whether FTS refused the job itself.
    pub fn is_refusal(&self) -> bool {
        self.verdict() == Verdict::Refused
    }

    /// Whether FTS had no room for the call.
    pub fn is_busy(&self) -> bool {
        matches!(self, Self::Busy { .. })
    }
}
