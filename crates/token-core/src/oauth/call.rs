//! The calls: which endpoint each goes to, what may be repeated, what an answer without a token means.

use std::time::Duration;

use reqwest::StatusCode;
use serde::Deserialize;
use url::Url;

use crate::error::{OAuthCode, TokenError};
use crate::guard::Verdict;
use crate::http;
use crate::issuer::Issuer;
use crate::metadata::IssuerMetadata;

/// A call to an issuer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    ClientCredentials,
    Exchange,
    ExchangeForRefresh,
    Refresh,
    DeviceAuthorization,
    DeviceToken,
}

impl Call {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::ClientCredentials => "client credentials",
            Self::Exchange => "token exchange",
            Self::ExchangeForRefresh => "token exchange for a refresh token",
            Self::Refresh => "refresh",
            Self::DeviceAuthorization => "device authorization",
            Self::DeviceToken => "device code",
        }
    }

    /// Its name among numbers that are watched: the grant, as OAuth writes it.
    pub(super) fn grant(self) -> &'static str {
        match self {
            Self::ClientCredentials => "client_credentials",
            Self::Exchange => "token_exchange",
            Self::ExchangeForRefresh => "token_exchange_for_refresh",
            Self::Refresh => "refresh_token",
            Self::DeviceAuthorization => "device_authorization",
            Self::DeviceToken => "device_code",
        }
    }

    /// Whether it leaves something behind at the issuer that is lost with the answer: a rotated refresh token, or a new
    /// one. A poll for a device code may be repeated (RFC 8628 section 3.5 has it so after a time-out).
    pub(super) fn once(self) -> bool {
        matches!(self, Self::ExchangeForRefresh | Self::Refresh)
    }

    /// Whether the answer may not go beyond the request. A client's own token and what a user approves may.
    pub(super) fn narrows(self) -> bool {
        matches!(self, Self::Exchange | Self::ExchangeForRefresh | Self::Refresh)
    }

    pub(super) fn endpoint(self, metadata: &IssuerMetadata) -> Option<&Url> {
        match self {
            Self::DeviceAuthorization => metadata.device_authorization_endpoint.as_ref(),
            _ => Some(&metadata.token_endpoint),
        }
    }

    pub(super) fn unreachable(self, issuer: &Issuer, reason: &'static str) -> TokenError {
        TokenError::Unreachable { issuer: issuer.to_string(), call: self.name(), reason }
    }

    pub(super) fn bad(self, issuer: &Issuer, reason: &'static str) -> TokenError {
        TokenError::BadAnswer { issuer: issuer.to_string(), call: self.name(), reason }
    }

    pub(super) fn mismatch(self, issuer: &Issuer, reason: impl Into<String>) -> TokenError {
        TokenError::Mismatch { issuer: issuer.to_string(), call: self.name(), reason: reason.into() }
    }

    /// How the outcome looks when the call may have reached the issuer: of a call that may be made once, only an error
    /// that the issuer itself spoke, and 429, say that nothing was done.
    pub(super) fn lost(self, error: TokenError) -> TokenError {
        let (issuer, call, reason) = match error {
            error if !self.once() => return error,
            TokenError::Busy { status: 429, .. } => return error,
            TokenError::Unreachable { issuer, call, reason }
            | TokenError::BadAnswer { issuer, call, reason } => (issuer, call, reason),
            TokenError::Busy { issuer, call, .. } => {
                (issuer, call, "it answered with an error of the server")
            }
            error => return error,
        };
        TokenError::OutcomeUnknown { issuer, call, reason }
    }

    /// The error of an answer that is not 200.
    pub(super) fn refusal(
        self,
        issuer: &str,
        status: StatusCode,
        retry_after: Option<Duration>,
        body: &[u8],
    ) -> TokenError {
        #[derive(Deserialize)]
        struct Refusal {
            error: String,
            #[serde(default)]
            error_description: String,
        }
        let (issuer, call, code) = (issuer.to_owned(), self.name(), status.as_u16());
        match (status, serde_json::from_slice::<Refusal>(body).ok()) {
            (StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT, _) => {
                TokenError::Busy { issuer, call, status: code, retry_after }
            }
            (status, _) if status.is_server_error() => {
                TokenError::Busy { issuer, call, status: code, retry_after }
            }
            (status, Some(refusal)) if status.is_client_error() => TokenError::Refused {
                issuer,
                call,
                code: OAuthCode::parse(&refusal.error),
                status: code,
                description: match http::printable(&refusal.error_description) {
                    text if text.is_empty() => text,
                    text => format!(" ({text})"),
                },
            },
            _ => TokenError::BadAnswer { issuer, call, reason: "neither a token nor an OAuth error" },
        }
    }
}

/// What an outcome says of the issuer's health. An answer that can't be used is an answer.
pub(super) fn verdict<T>(outcome: &Result<T, TokenError>) -> Verdict {
    match outcome {
        Err(TokenError::Unreachable { .. }) => Verdict::Bad { retry_after: None },
        Err(TokenError::Busy { retry_after, .. }) => Verdict::Bad { retry_after: *retry_after },
        _ => Verdict::Good,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(call: Call, status: u16, body: &str) -> TokenError {
        call.refusal("https://i", StatusCode::from_u16(status).unwrap(), None, body.as_bytes())
    }

    #[test]
    fn only_what_the_issuer_refused_is_known_to_have_changed_nothing() {
        let spoken = r#"{"error":"invalid_grant"}"#;
        for call in [Call::Refresh, Call::ExchangeForRefresh] {
            let lost = |status, body| call.lost(refusal(call, status, body));
            assert!(matches!(lost(400, spoken), TokenError::Refused { code: OAuthCode::InvalidGrant, .. }));
            assert!(matches!(lost(429, ""), TokenError::Busy { status: 429, .. }));
            for (status, body) in [(500, spoken), (503, ""), (408, ""), (404, "<html>"), (302, "")] {
                assert!(matches!(lost(status, body), TokenError::OutcomeUnknown { .. }), "{status}");
            }
        }
        for call in [Call::Exchange, Call::ClientCredentials, Call::DeviceToken] {
            assert!(matches!(call.lost(refusal(call, 503, "")), TokenError::Busy { .. }));
        }
    }

    #[test]
    fn a_refusal_shows_no_long_word_of_the_issuer() {
        let body = format!(r#"{{"error":"x","error_description":"no\n{}"}}"#, "canary".repeat(20));
        let text = refusal(Call::Exchange, 400, &body).to_string();
        assert!(text.contains("(no [long word])") && !text.contains("canary"), "{text}");
    }

    #[test]
    fn an_issuer_that_refuses_is_healthy_and_one_that_is_busy_is_not() {
        let of = |error| verdict::<()>(&Err(error));
        assert_eq!(of(refusal(Call::Refresh, 400, r#"{"error":"invalid_grant"}"#)), Verdict::Good);
        assert_eq!(of(refusal(Call::Refresh, 502, "")), Verdict::Bad { retry_after: None });
        assert_eq!(verdict(&Ok(())), Verdict::Good);
    }
}
