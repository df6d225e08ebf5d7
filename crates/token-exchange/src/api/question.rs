//! A question and what becomes of it.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use serde::Deserialize;
use token_core::http::printable;
use token_core::{AccessToken, Clock, Operation, TokenError};
use tokio::sync::Semaphore;
use tracing::{info, warn};

use super::answer::{Refusal, Who, given};
use super::gate::Gate;
use crate::endpoint::Endpoints;
use crate::fts::waiting::Subject;
use crate::plan::{self, Unplanned};
use crate::seen::Seen;
use crate::worker::{Lack, Tokens};

/// Longest body, in bytes.
const BODY: usize = 16 * 1024;
/// When to come again if nothing says so: the issuer is in trouble, or we have as much to do as we may.
const ISSUER_AGAIN: Duration = Duration::from_secs(10);
const ROOM_AGAIN: Duration = Duration::from_secs(1);

/// What answers are made of.
pub(super) struct Service {
    pub(super) gate: Gate,
    pub(super) endpoints: Endpoints,
    pub(super) tokens: Arc<Tokens>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) seen: Arc<Seen>,
    /// How long a body may take, and an answer.
    pub(super) within: Duration,
    /// How many at a time.
    pub(super) room: Semaphore,
}

/// The body of a question.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Question {
    /// `https://host[:port]` of the storage.
    endpoint: String,
    /// What is to be done there.
    operations: Vec<Operations>,
    /// The path there, as in a transfer's URL.
    #[serde(default)]
    path: Option<String>,
}

/// As scopes name them, without `storage.`.
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Operations {
    Read,
    Create,
    Modify,
    Stage,
    Poll,
}

impl From<Operations> for Operation {
    fn from(named: Operations) -> Self {
        match named {
            Operations::Read => Self::Read,
            Operations::Create => Self::Create,
            Operations::Modify => Self::Modify,
            Operations::Stage => Self::Stage,
            Operations::Poll => Self::Poll,
        }
    }
}

/// All that is answered.
pub(super) fn router(service: Arc<Service>) -> Router {
    let nothing = async || {
        Refusal::caller(
            StatusCode::NOT_FOUND,
            "invalid_request",
            "there is POST /v1/tokens, and nothing else",
        )
        .into_response()
    };
    let method = async || {
        let why = "tokens are asked for by POST";
        Refusal::caller(StatusCode::METHOD_NOT_ALLOWED, "invalid_request", why).into_response()
    };
    Router::new().route("/v1/tokens", post(answer).fallback(method)).fallback(nothing).with_state(service)
}

async fn answer(State(service): State<Arc<Service>>, headers: HeaderMap, body: Body) -> Response {
    let answered = match service.room.try_acquire() {
        Ok(_place) => service.answer(&headers, body).await,
        Err(_) => {
            let why = "token-exchange answers as many questions as it may (`api.max_in_flight`)";
            Err(Refusal::later(Who::TokenExchange, why, ROOM_AGAIN))
        }
    };
    service.seen.http_answer(answered.as_ref().map_or_else(|refusal| refusal.who.name(), |_| "nobody"));
    answered.unwrap_or_else(Refusal::into_response)
}

impl Service {
    async fn answer(&self, headers: &HeaderMap, body: Body) -> Result<Response, Refusal> {
        let token = bearer(headers)?;
        let body = self.body(body).await?;
        let answered = tokio::time::timeout(self.within, self.token(token, &body)).await;
        answered.unwrap_or_else(|_| {
            let why = "the issuer did not answer within `api.timeout_s`";
            Err(Refusal::later(Who::Issuer, why, ISSUER_AGAIN))
        })
    }

    async fn body(&self, body: Body) -> Result<Bytes, Refusal> {
        let read = tokio::time::timeout(self.within, axum::body::to_bytes(body, BODY)).await;
        let (status, why) = match read {
            Ok(Ok(body)) => return Ok(body),
            Ok(Err(_)) => {
                (StatusCode::PAYLOAD_TOO_LARGE, format!("the body is longer than {BODY} bytes, or broke off"))
            }
            Err(_) => (StatusCode::REQUEST_TIMEOUT, "the body came too slowly".to_owned()),
        };
        Err(Refusal::caller(status, "invalid_request", why))
    }

    async fn token(&self, token: AccessToken, body: &Bytes) -> Result<Response, Refusal> {
        let subject = self.gate.pass(token).await?;
        let question = question(body)?;
        let issuer =
            subject.token.as_ref().map_or(subject.issuer.as_str(), |(_, claims)| claims.iss.as_str());
        let operations: Vec<Operation> = question.operations.into_iter().map(Into::into).collect();
        let place = (question.endpoint.as_str(), question.path.as_deref());
        let request = plan::asked(place, &operations, issuer, &self.endpoints).map_err(unplanned)?;
        let whose = whose(&subject);
        match self.tokens.narrowed(&subject, &request).await {
            Ok(token) => {
                info!(
                    subject = subject.id,
                    whose,
                    audience = token.audience,
                    scope = token.scope,
                    token = %token.token.fingerprint(),
                    "token given over HTTP"
                );
                Ok(given(&token, self.clock.now()))
            }
            Err(lack) => {
                let refusal = lacking(lack);
                warn!(
                    subject = subject.id,
                    whose,
                    audience = request.audience,
                    why = refusal.message,
                    "no token given over HTTP"
                );
                Err(refusal)
            }
        }
    }
}

fn whose(subject: &Subject) -> String {
    let sub = subject.token.as_ref().and_then(|(_, claims)| claims.sub.as_deref());
    printable(sub.unwrap_or_default())
}

/// The token in `Authorization` (RFC 6750 section 2.1); the scheme's case does not count (RFC 9110 section 11.1).
fn bearer(headers: &HeaderMap) -> Result<AccessToken, Refusal> {
    let none = |why: &str| Refusal::caller(StatusCode::UNAUTHORIZED, "invalid_request", why);
    let mut all = headers.get_all(AUTHORIZATION).iter();
    let (Some(value), None) = (all.next(), all.next()) else {
        return Err(none("one header `Authorization: Bearer TOKEN` is needed"));
    };
    let (scheme, token) = value.to_str().ok().and_then(|text| text.split_once(' ')).unwrap_or_default();
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(none("`Authorization: Bearer TOKEN` is needed, and another scheme came"));
    }
    AccessToken::new(token.trim()).map_err(|_| {
        Refusal::caller(StatusCode::UNAUTHORIZED, "invalid_token", "what came in Authorization is no token")
    })
}

fn question(body: &Bytes) -> Result<Question, Refusal> {
    let bad = |why: String| Refusal::caller(StatusCode::BAD_REQUEST, "invalid_request", why);
    let question: Question = serde_json::from_slice(body).map_err(|error| {
        let why = printable(&error.to_string());
        bad(format!(
            "the body must be {{\"endpoint\": \"https://HOST[:PORT]\", \"operations\": [\"read\", …], \"path\": \"/…\"}}: {why}"
        ))
    })?;
    if question.operations.is_empty() {
        return Err(bad("`operations` is empty: read, create, modify, stage or poll".into()));
    }
    Ok(question)
}

fn unplanned(why: Unplanned) -> Refusal {
    let error = match why {
        Unplanned::Url | Unplanned::Base | Unplanned::Area => "invalid_target",
        _ => "invalid_request",
    };
    Refusal::caller(StatusCode::BAD_REQUEST, error, why.to_string())
}

/// Who erred when no token was got.
fn lacking(lack: Lack) -> Refusal {
    let (status, who, error) = match &lack {
        Lack::Error(TokenError::BeyondSubject { .. }) => {
            (StatusCode::FORBIDDEN, Who::Caller, "insufficient_scope")
        }
        Lack::Refused(_) => (StatusCode::FORBIDDEN, Who::Caller, "invalid_scope"),
        Lack::Error(error) if error.is_definite() => (StatusCode::FORBIDDEN, Who::Issuer, "access_denied"),
        Lack::Error(error) if error.is_our_configuration() => {
            return Refusal::later(Who::TokenExchange, lack.to_string(), ISSUER_AGAIN);
        }
        Lack::Error(_) => {
            let again = lack.again().unwrap_or(ISSUER_AGAIN);
            return Refusal::later(Who::Issuer, lack.to_string(), again);
        }
        Lack::NoClient(_) | Lack::Closed => {
            return Refusal::later(Who::TokenExchange, lack.to_string(), ISSUER_AGAIN);
        }
    };
    Refusal { status, error, who, message: lack.to_string(), again: None }
}
