//! What can go wrong between us and an issuer, and whether it is worth trying again.

use std::fmt;
use std::time::Duration;

use crate::retry::{Classify, Disposition};
use crate::scope::ScopeSet;

/// An OAuth error code (RFC 6749 section 5.2, RFC 8693 section 2.2.2, RFC 8707 section 2, RFC 8628 section 3.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OAuthCode {
    /// The request lacks something or has it twice.
    InvalidRequest,
    /// The client is unknown or its secret is wrong.
    InvalidClient,
    /// The subject or refresh token is expired, revoked, used before or not the issuer's.
    InvalidGrant,
    /// The subject token is expired, revoked or not the issuer's, as INDIGO IAM says it.
    InvalidToken,
    /// The client may not use this grant.
    UnauthorizedClient,
    /// The issuer does not know this grant.
    UnsupportedGrantType,
    /// A scope that this client may not have.
    InvalidScope,
    /// An audience or resource that the issuer does not serve.
    InvalidTarget,
    /// A policy forbids it, or the user said no.
    AccessDenied,
    /// The user has not yet approved the device code.
    AuthorizationPending,
    /// As `AuthorizationPending`, and we asked too often.
    SlowDown,
    /// The device code has ended.
    ExpiredToken,
    /// Some other code.
    Other,
}

impl OAuthCode {
    /// Reads the `error` member of an error body.
    pub fn parse(code: &str) -> Self {
        match code {
            "invalid_request" => Self::InvalidRequest,
            "invalid_client" => Self::InvalidClient,
            "invalid_grant" => Self::InvalidGrant,
            "invalid_token" => Self::InvalidToken,
            "unauthorized_client" => Self::UnauthorizedClient,
            "unsupported_grant_type" => Self::UnsupportedGrantType,
            "invalid_scope" => Self::InvalidScope,
            "invalid_target" => Self::InvalidTarget,
            "access_denied" => Self::AccessDenied,
            "authorization_pending" => Self::AuthorizationPending,
            "slow_down" => Self::SlowDown,
            "expired_token" => Self::ExpiredToken,
            _ => Self::Other,
        }
    }

    /// What to look at.
    fn hint(self) -> &'static str {
        match self {
            Self::InvalidClient => "check the client id, its secret or key file and how it authenticates",
            Self::InvalidScope => "the client may not have one of the scopes: register them at the issuer",
            Self::InvalidTarget => "the issuer does not serve this audience",
            Self::InvalidGrant | Self::InvalidToken => {
                "the subject or refresh token is expired, revoked or not this issuer's"
            }
            Self::UnauthorizedClient | Self::UnsupportedGrantType => {
                "the client may not use this grant: enable it"
            }
            Self::AccessDenied => "a policy of the issuer or the user forbids it",
            Self::AuthorizationPending | Self::SlowDown => "the user has not approved yet",
            Self::ExpiredToken => "nobody approved in time: ask for a new code",
            Self::InvalidRequest => "see the issuer's log, and whether the client may use this grant",
            Self::Other => "see the issuer's log",
        }
    }
}

impl fmt::Display for OAuthCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::InvalidRequest => "invalid_request",
            Self::InvalidClient => "invalid_client",
            Self::InvalidGrant => "invalid_grant",
            Self::InvalidToken => "invalid_token",
            Self::UnauthorizedClient => "unauthorized_client",
            Self::UnsupportedGrantType => "unsupported_grant_type",
            Self::InvalidScope => "invalid_scope",
            Self::InvalidTarget => "invalid_target",
            Self::AccessDenied => "access_denied",
            Self::AuthorizationPending => "authorization_pending",
            Self::SlowDown => "slow_down",
            Self::ExpiredToken => "expired_token",
            Self::Other => "an unknown error code",
        })
    }
}

/// Why a token could not be had. The texts name the issuer and never hold a token or a secret.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// No connection, a time-out, or a connection that broke off.
    #[error("issuer {issuer}: {call}: {reason}")]
    Unreachable {
        /// The issuer.
        issuer: String,
        /// The call that failed.
        call: &'static str,
        /// What happened.
        reason: &'static str,
    },
    /// 408, 429 or 5xx.
    #[error("issuer {issuer}: {call}: it answered {status}")]
    Busy {
        /// The issuer.
        issuer: String,
        /// The call that failed.
        call: &'static str,
        /// The HTTP status.
        status: u16,
        /// What `Retry-After` asked for.
        retry_after: Option<Duration>,
    },
    /// An answer that can't be used: HTML, no JSON, no access token, too long.
    #[error("issuer {issuer}: {call}: the answer can't be used: {reason}")]
    BadAnswer {
        /// The issuer.
        issuer: String,
        /// The call.
        call: &'static str,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A token came, but not the one that was asked for. Issuers narrow and widen silently.
    #[error("issuer {issuer}: {call}: the token is not what was asked for: {reason}")]
    Mismatch {
        /// The issuer.
        issuer: String,
        /// The call.
        call: &'static str,
        /// What differs.
        reason: String,
    },
    /// The issuer said no.
    #[error("issuer {issuer}: {call}: refused with {code} (HTTP {status}): {}{description}", .code.hint())]
    Refused {
        /// The issuer.
        issuer: String,
        /// The call.
        call: &'static str,
        /// The OAuth error.
        code: OAuthCode,
        /// The HTTP status.
        status: u16,
        /// What the issuer wrote, made safe to print; empty or in parentheses.
        description: String,
    },
    /// More was wanted than the subject token holds: upscoping, which issuers shut off (INDIGO IAM issue 1020).
    #[error(
        "issuer {issuer}: not asked: `{missing}` is beyond the subject token, and an exchange may only narrow; \
         let the submitter ask for these scopes"
    )]
    BeyondSubject {
        /// The issuer.
        issuer: String,
        /// What the subject token does not cover.
        missing: ScopeSet,
    },
    /// A call that may be made once was sent and its answer was lost: the issuer may have given the token, and ended the
    /// refresh token that was used. Sent again blindly, such a refresh can cost the whole chain (RFC 9700 section 4.14.2).
    #[error(
        "issuer {issuer}: {call}: the answer was lost after the call was sent ({reason}), so the outcome is not known; \
         not repeated, since the issuer may have rotated the refresh token"
    )]
    OutcomeUnknown {
        /// The issuer.
        issuer: String,
        /// The call.
        call: &'static str,
        /// What happened.
        reason: &'static str,
    },
    /// Not sent: the last calls all failed, and the issuer is left alone for a while.
    #[error("issuer {issuer}: not asked for another {until_s} s: its last calls failed: {last}")]
    Open {
        /// The issuer.
        issuer: String,
        /// When the next call may pass, from now.
        until_s: u64,
        /// How the last of them failed.
        last: String,
    },
    /// Not sent: the rate budget for this issuer has no turn in time.
    #[error("issuer {issuer}: not asked: our rate budget for it is spent for another {until_s} s")]
    Throttled {
        /// The issuer.
        issuer: String,
        /// When there would have been a turn, from now.
        until_s: u64,
    },
    /// The client assertion could not be signed (RFC 7523).
    #[error("issuer {issuer}: not asked: the client assertion could not be signed; check the key file")]
    Unsigned {
        /// The issuer.
        issuer: String,
    },
    /// The issuer has no endpoint for this call.
    #[error("issuer {issuer}: {call}: its metadata names no endpoint for it")]
    NoEndpoint {
        /// The issuer.
        issuer: String,
        /// The call.
        call: &'static str,
    },
    /// A device code ended before it was approved.
    #[error("issuer {issuer}: the device code ended before anyone approved it; ask for a new one")]
    DeviceExpired {
        /// The issuer.
        issuer: String,
    },
}

impl TokenError {
    /// Whether this is a refusal that stays one however often it is tried: the only ground for failing a transfer. A
    /// wrong client secret is not: it is ours to mend, and the transfers wait.
    pub fn is_definite(&self) -> bool {
        match self {
            Self::BeyondSubject { .. } | Self::DeviceExpired { .. } => true,
            Self::Refused { code, .. } => !matches!(
                code,
                OAuthCode::InvalidClient
                    | OAuthCode::UnauthorizedClient
                    | OAuthCode::UnsupportedGrantType
                    // oidc-provider says so to a client that may not use the grant.
                    | OAuthCode::InvalidRequest
                    | OAuthCode::AuthorizationPending
                    | OAuthCode::SlowDown
                    | OAuthCode::Other
            ),
            _ => false,
        }
    }

    /// Whether the client's own id, secret or key is refused: a configuration to mend.
    pub fn is_our_configuration(&self) -> bool {
        matches!(
            self,
            Self::Unsigned { .. }
                | Self::Refused { code: OAuthCode::InvalidClient | OAuthCode::UnauthorizedClient, .. }
        )
    }
}

impl Classify for TokenError {
    fn disposition(&self) -> Disposition {
        match self {
            Self::Unreachable { .. } | Self::BadAnswer { .. } => Disposition::Retry { after: None },
            Self::Busy { retry_after, .. } => Disposition::Retry { after: *retry_after },
            Self::Open { until_s, .. } | Self::Throttled { until_s, .. } => {
                Disposition::Retry { after: Some(Duration::from_secs(*until_s)) }
            }
            Self::Mismatch { .. }
            | Self::Refused { .. }
            | Self::BeyondSubject { .. }
            | Self::OutcomeUnknown { .. }
            | Self::Unsigned { .. }
            | Self::NoEndpoint { .. }
            | Self::DeviceExpired { .. } => Disposition::Fail,
        }
    }
}
