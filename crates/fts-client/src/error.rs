//! What can go wrong between us and an FTS.

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
        "FTS {fts}: it takes us for anonymous: the token's audience is not among its AuthorizedAudiences, its issuer is \
         not among its providers, or the clocks differ"
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
    /// 403 for another reason: a missing scope, a VO that is not authorised, a banned user.
    #[error("FTS {fts}: forbidden: {message}")]
    Forbidden {
        /// The FTS.
        fts: String,
        /// FTS's words.
        message: String,
    },
    /// FTS refused the job for what is in it; the same job will be refused again.
    #[error("FTS {fts}: refused with {status}: {message}")]
    Refused {
        /// The FTS.
        fts: String,
        /// The HTTP status.
        status: u16,
        /// FTS's words.
        message: String,
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

impl FtsError {
    /// Whether the job may be there all the same.
    pub fn job_may_exist(&self) -> bool {
        matches!(self, Self::OutcomeUnknown { .. } | Self::BadAnswer { .. })
    }

    /// Whether FTS refused the job itself.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused { .. })
    }
}
