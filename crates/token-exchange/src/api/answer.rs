//! Answers: a token, or who erred and what is to be done.

use std::time::Duration;

use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, PRAGMA, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use token_core::UnixSeconds;

use crate::fts::hand_over::EndpointToken;

/// A token, as RFC 8693 section 2.2.1 has it, and what it is for.
#[derive(Serialize)]
pub(super) struct Given<'a> {
    access_token: &'a str,
    issued_token_type: &'static str,
    token_type: &'static str,
    expires_in: u64,
    /// Seconds since the epoch.
    expires_at: i64,
    audience: &'a str,
    scope: &'a str,
    issuer: &'a str,
}

/// Who erred.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    Caller,
    Issuer,
    TokenExchange,
}

impl Who {
    /// As an answer has it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Caller => "caller",
            Self::Issuer => "issuer",
            Self::TokenExchange => "token-exchange",
        }
    }
}

/// Why there is no token.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    /// A code of RFC 6749, 6750 or 8693 where one fits.
    pub(super) error: &'static str,
    pub(super) who: Who,
    /// In words. Holds nothing that a caller's token is made of.
    pub(super) message: String,
    /// When another try may find it better.
    pub(super) again: Option<Duration>,
}

impl Refusal {
    /// The caller erred.
    pub(super) fn caller(status: StatusCode, error: &'static str, message: impl Into<String>) -> Self {
        Self { status, error, who: Who::Caller, message: message.into(), again: None }
    }

    /// It may be better later.
    pub(super) fn later(who: Who, message: impl Into<String>, again: Duration) -> Self {
        Self {
            status: StatusCode::SERVICE_UNAVAILABLE,
            error: "temporarily_unavailable",
            who,
            message: message.into(),
            again: Some(again),
        }
    }
}

#[derive(Serialize)]
struct Told<'a> {
    error: &'static str,
    erred: &'static str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_s: Option<u64>,
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let again = self.again.map(|again| again.as_secs().max(1));
        let told =
            Told { error: self.error, erred: self.who.name(), message: &self.message, retry_after_s: again };
        let mut response = json(self.status, &told);
        let headers = response.headers_mut();
        if let Some(again) = again {
            headers.insert(RETRY_AFTER, HeaderValue::from(again));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            // RFC 6750 section 3: without a token, no error is named.
            let scheme =
                if self.error == "invalid_token" { "Bearer error=\"invalid_token\"" } else { "Bearer" };
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(scheme));
        }
        response
    }
}

/// The token in an answer.
pub(super) fn given(token: &EndpointToken, now: UnixSeconds) -> Response {
    let given = Given {
        access_token: token.token.expose(),
        issued_token_type: "urn:ietf:params:oauth:token-type:access_token",
        token_type: "Bearer",
        expires_in: now.until(token.expires_at).as_secs(),
        expires_at: token.expires_at.0,
        audience: &token.audience,
        scope: &token.scope,
        issuer: &token.issuer,
    };
    json(StatusCode::OK, &given)
}

/// Not to be kept by anybody on the way (RFC 6749 section 5.1).
fn json(status: StatusCode, body: &impl Serialize) -> Response {
    let text = serde_json::to_string(body).unwrap_or_default();
    let mut response = (status, text).into_response();
    let headers = response.headers_mut();
    for (name, value) in
        [(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-store"), (PRAGMA, "no-cache")]
    {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}
