//! The issuer over HTTP.

use std::sync::PoisonError;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use serde_json::{Value, json};
use token_core::{AccessToken, Claims, Policy, random_hex, verify};

use super::Issuer;
use super::client::{Client, GrantType};
use super::encoding::decode;
use super::fault::{Due, Fault, TokenCalls};
use super::grant::{self, Granted, Subject};
use super::request::{Form, Refusal, authenticate};

const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";

/// How long an answer that was given may take to leave before the server goes down behind it.
const ANSWER_LEAVES: Duration = Duration::from_millis(20);

pub(super) fn router(issuer: Issuer) -> Router {
    Router::new()
        .route("/.well-known/openid-configuration", get(metadata))
        .route("/.well-known/oauth-authorization-server", get(metadata))
        .route("/jwk", get(keys))
        .route("/token", post(token))
        .route("/devicecode", post(device_code))
        .with_state(issuer)
}

async fn metadata(State(issuer): State<Issuer>) -> Response {
    let name = issuer.name();
    let body = json!({
        "issuer": name,
        "token_endpoint": format!("{name}token"),
        "jwks_uri": format!("{name}jwk"),
        "device_authorization_endpoint": format!("{name}devicecode"),
        "response_types_supported": ["code", "token"],
        "subject_types_supported": ["public", "pairwise"],
        "id_token_signing_alg_values_supported": ["RS256", "ES256"],
        "grant_types_supported": GrantType::ALL.map(GrantType::name),
        "token_endpoint_auth_methods_supported":
            ["client_secret_basic", "client_secret_post", "private_key_jwt"],
        "token_endpoint_auth_signing_alg_values_supported": ["RS256", "ES256"],
    });
    axum::Json(body).into_response()
}

async fn keys(State(issuer): State<Issuer>) -> Response {
    // INDIGO IAM 1.12 sends this header with its keys.
    let headers =
        [(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "max-age=21600, must-revalidate, no-transform")];
    (headers, issuer.0.jwks.clone()).into_response()
}

/// A request that has come in is carried out, whether its caller still waits for the answer or not.
async fn token(State(issuer): State<Issuer>, headers: HeaderMap, body: Bytes) -> Response {
    let answer = tokio::spawn(token_answer(issuer, headers, body)).await;
    answer.unwrap_or_else(|_| StatusCode::INTERNAL_SERVER_ERROR.into_response())
}

async fn token_answer(issuer: Issuer, headers: HeaderMap, body: Bytes) -> Response {
    let turn = issuer.0.faults.turn().await;
    let fault = issuer.0.faults.now().drawn();
    let (response, count): (Response, fn(&mut TokenCalls)) = match &fault {
        Fault::Down => {
            // The server is being cut: no answer leaves. The wait only bounds a fault that is taken back meanwhile.
            tokio::time::sleep(Duration::from_secs(1)).await;
            (StatusCode::SERVICE_UNAVAILABLE.into_response(), |calls| calls.faulted += 1)
        }
        Fault::TooManyRequests { retry_after_s } => {
            let headers = [(RETRY_AFTER, retry_after_s.to_string())];
            ((StatusCode::TOO_MANY_REQUESTS, headers).into_response(), |calls| calls.faulted += 1)
        }
        Fault::Status(status) => {
            let status = StatusCode::from_u16(*status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            (status.into_response(), |calls| calls.faulted += 1)
        }
        Fault::Reset => (cut_off(), |calls| calls.faulted += 1),
        Fault::Silent(wait) => {
            tokio::time::sleep(*wait).await;
            (cut_off(), |calls| calls.faulted += 1)
        }
        Fault::Page(status) => {
            let status = StatusCode::from_u16(*status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
            let page = "<!DOCTYPE html><html><body>Down for maintenance.</body></html>";
            ((status, [(CONTENT_TYPE, "text/html")], page).into_response(), |calls| calls.faulted += 1)
        }
        Fault::Html => {
            let page = "<!DOCTYPE html><html><body>Please sign in.</body></html>";
            (([(CONTENT_TYPE, "text/html")], page).into_response(), |calls| calls.faulted += 1)
        }
        Fault::Refuse(code) => {
            (refused(&Refusal::new(code, "the fault switch says so")), |calls| calls.faulted += 1)
        }
        Fault::None
        | Fault::Slow(_)
        | Fault::Mixed { .. }
        | Fault::NarrowScope
        | Fault::WidenScope
        | Fault::WrongAudience => {
            if let Fault::Slow(wait) = fault {
                tokio::time::sleep(wait).await;
            }
            match issuer.grant(&headers, &body, &fault) {
                Ok((grant, answer)) => (answered(&answer), counter(grant, &fault)),
                Err(refusal) => (refused(&refusal), |calls| calls.refused += 1),
            }
        }
    };
    if let Some(due) = issuer.0.faults.answered(count) {
        issuer.begin(due);
    }
    drop(turn);
    response
}

/// An answer that breaks off: the connection is closed in the middle of it.
fn cut_off() -> Response {
    let broken = futures_util::stream::iter([Err::<Bytes, _>(std::io::Error::other("cut off"))]);
    ([(CONTENT_TYPE, "application/json")], Body::from_stream(broken)).into_response()
}

/// The device authorization endpoint (RFC 8628 section 3.1). Faults don't concern it.
async fn device_code(State(issuer): State<Issuer>, headers: HeaderMap, body: Bytes) -> Response {
    match issuer.device_code(&headers, &body) {
        Ok(answer) => answered(&answer),
        Err(refusal) => refused(&refusal),
    }
}

fn counter(grant: GrantType, fault: &Fault) -> fn(&mut TokenCalls) {
    match (fault, grant) {
        (Fault::None | Fault::Slow(_), GrantType::ClientCredentials) => |calls| calls.client_credentials += 1,
        (Fault::None | Fault::Slow(_), GrantType::TokenExchange) => |calls| calls.exchange += 1,
        (Fault::None | Fault::Slow(_), GrantType::RefreshToken) => |calls| calls.refresh += 1,
        (Fault::None | Fault::Slow(_), GrantType::DeviceCode) => |calls| calls.device_code += 1,
        _ => |calls| calls.faulted += 1,
    }
}

fn answered(answer: &Value) -> Response {
    ([(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-store")], answer.to_string()).into_response()
}

fn refused(refusal: &Refusal) -> Response {
    let body = json!({"error": refusal.code, "error_description": refusal.text});
    let mut response = answered(&body);
    *response.status_mut() = refusal.status;
    if refusal.status == StatusCode::UNAUTHORIZED
        && let Ok(challenge) = "Basic realm=\"issuer\"".parse()
    {
        response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
    }
    response.map(Body::new)
}

impl Issuer {
    /// Lets a fault begin, and end in its time.
    pub(super) fn begin(&self, due: Due) {
        let issuer = self.clone();
        tokio::spawn(async move {
            let down = due.fault == Fault::Down;
            if down {
                tokio::time::sleep(ANSWER_LEAVES).await;
                if issuer.0.faults.is_current(&due) {
                    issuer.server().set_up(false);
                }
            }
            tokio::time::sleep(due.lasts).await;
            if issuer.0.faults.end(&due) && down {
                issuer.server().set_up(true);
            }
        });
    }

    /// The form, and the client that sent it.
    fn request(&self, headers: &HeaderMap, body: &[u8]) -> Result<(Form, &Client), Refusal> {
        let form = Form::read(headers, body)?;
        let endpoint = format!("{}token", self.name());
        let client = authenticate(&self.0.clients, headers, &form, |assertion| {
            self.used().client(&self.0.clients, assertion, &endpoint, self.0.clock.now())
        })?;
        Ok((form, client))
    }

    fn device_code(&self, headers: &HeaderMap, body: &[u8]) -> Result<Value, Refusal> {
        let (form, client) = self.request(headers, body)?;
        let asked = grant::device(client, &form)?;
        let mut devices = self.devices();
        let (code, user_code) = devices.give(client, asked, form.audiences()?, self.0.clock.now());
        let page = format!("{}device", self.name());
        let mut answer = json!({
            "device_code": code, "user_code": user_code, "verification_uri": page,
            "verification_uri_complete": format!("{page}?user_code={user_code}"),
            "expires_in": devices.life.as_secs(),
        });
        if let Some(interval) = devices.interval {
            answer["interval"] = json!(interval.as_secs());
        }
        Ok(answer)
    }

    fn grant(&self, headers: &HeaderMap, body: &[u8], fault: &Fault) -> Result<(GrantType, Value), Refusal> {
        let (form, client) = self.request(headers, body)?;
        let granted = match grant::grant_type(client, &form)? {
            GrantType::ClientCredentials => grant::client_credentials(client, &form)?,
            GrantType::TokenExchange => grant::exchange(client, &form, &self.subject(&form)?)?,
            GrantType::DeviceCode => self.devices().poll(client, &form, self.0.clock.now())?,
            GrantType::RefreshToken => {
                let now = self.0.clock.now();
                let token = form
                    .get("refresh_token")
                    .ok_or_else(|| Refusal::new("invalid_request", "refresh_token is missing"))?;
                let mut tokens = self.refresh_tokens();
                let held = tokens.find(token, &client.id, now);
                let held = held.ok_or_else(|| {
                    Refusal::new("invalid_grant", "the refresh token is not known or has ended")
                })?;
                let granted = grant::refresh(&form, held)?;
                tokens.end(token);
                granted
            }
        };
        let granted = grant::falsify(granted, fault);
        let answer = self.issue(client, &granted).map_err(|_| Refusal {
            status: StatusCode::INTERNAL_SERVER_ERROR,
            ..Refusal::new("server_error", "")
        })?;
        Ok((granted.grant, answer))
    }

    /// Verifies the subject token: one of ours, alive. Its audience does not matter (RFC 8693 leaves it open).
    fn subject(&self, form: &Form) -> Result<Subject, Refusal> {
        if form.get("actor_token").is_some() || form.get("want_composite").is_some() {
            return Err(Refusal::new("invalid_request", "Delegation not supported"));
        }
        let missing =
            || Refusal::new("invalid_request", "subject_token or a subject_token_type for it is missing");
        let text = form.get("subject_token").ok_or_else(missing)?;
        if !form.get("subject_token_type").is_some_and(|kind| [ACCESS_TOKEN, JWT].contains(&kind)) {
            return Err(missing());
        }
        let dead =
            |error: &dyn std::fmt::Display| Refusal::new("invalid_grant", format!("subject token: {error}"));
        let token = AccessToken::new(text).map_err(|error| dead(&error))?;
        let audiences = Claims::peek(&token).map_err(|error| dead(&error))?.aud;
        let policy = Policy { any_audience: true, ..Policy::new(self.name(), audiences) };
        let claims =
            verify(text, &self.0.key_set, &policy, self.0.clock.now()).map_err(|error| dead(&error))?;
        let scope = claims.scopes().map_err(|error| dead(&error))?;
        // Two claims of IAM's that the profile has not. The signature over them was checked above.
        let payload = text.split('.').nth(1).and_then(decode);
        let more: Value = payload.and_then(|json| serde_json::from_slice(&json).ok()).unwrap_or_default();
        Ok(Subject {
            subject: claims.sub.unwrap_or_default(),
            client: more.get("client_id").and_then(Value::as_str).map(str::to_owned),
            scope,
            act: more.get("act").cloned(),
        })
    }

    /// Signs the token and writes the answer (RFC 6749 section 5.1, RFC 8693 section 2.2.1).
    fn issue(&self, client: &Client, granted: &Granted) -> anyhow::Result<Value> {
        let now = self.0.clock.now();
        let claims = grant::claims(self.name(), client, granted, &random_hex(), now);
        let mut answer = json!({
            "access_token": self.sign(&claims)?.expose(),
            "token_type": "Bearer",
            "expires_in": client.token_life.as_secs(),
            "scope": granted.scope.to_string(),
        });
        if granted.grant == GrantType::TokenExchange {
            if let Some(given) = &mut *self.0.given.lock().unwrap_or_else(PoisonError::into_inner) {
                let aud = granted.audience.join(" ");
                *given.entry(format!("{} {aud} {}", client.id, granted.scope)).or_default() += 1;
            }
            answer["issued_token_type"] = json!(ACCESS_TOKEN);
        }
        if let Some(what) = &granted.refresh {
            answer["refresh_token"] = json!(self.refresh_tokens().give(what.clone(), now));
        }
        Ok(answer)
    }
}
