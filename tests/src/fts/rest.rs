//! The REST server: routes, authentication of every call, and submission.

use std::convert::Infallible;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, Extension, Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, Method, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{Html, IntoResponse as _, Response};
use axum::routing::{delete, get};
use futures_util::{StreamExt as _, stream};
use serde_json::{Map, Value, json};

use super::answer::{Refusal, container_error, html, json_answer};
use super::caller::{Caller, User, deterministic_id};
use super::fault::{DatabaseFault, SubmitFault, Trouble};
use super::submission::Submission;
use super::{Inner, authenticate, bans, change, jobs, store, trust};
use crate::pki::subject;
use crate::server::{Connection, PeerCertificate};

/// Longest request line, the default of the Apache in front (`LimitRequestLine`).
const REQUEST_LINE: usize = 8190;

pub(super) fn router(fts: Arc<Inner>) -> Router {
    Router::new()
        .route("/", get(root))
        .route("/whoami", get(whoami))
        .route("/jobs", get(jobs::list).post(submit).put(submit))
        .route("/jobs/", get(jobs::list))
        .route("/jobs/all", delete(only_root))
        .route("/jobs/vo/{vo}", delete(only_root))
        .route("/jobs/{ids}", get(jobs::get).post(change::modify).delete(change::cancel))
        .route("/jobs/{id}/files", get(jobs::files))
        .route("/jobs/{id}/files/{files}", delete(change::cancel_files))
        .route("/jobs/{id}/files/{file}/retries", get(jobs::retries))
        .route("/jobs/{id}/dm", get(jobs::deletions))
        .route("/jobs/{id}/{field}", get(jobs::field))
        .route("/files", get(jobs::list_files))
        .route("/files/", get(jobs::list_files))
        .route("/ban/se", get(bans::storages).post(bans::ban_storage).delete(bans::unban_storage))
        .route("/ban/dn", get(bans::users).post(bans::ban_user).delete(bans::unban_user))
        .route("/api-docs/schema/submit", get(schema))
        .fallback(nothing_there)
        .method_not_allowed_fallback(not_allowed)
        .layer(middleware::from_fn_with_state(Arc::clone(&fts), authenticate))
        // The application has no limit (2000 files in 3.2 MB were taken).
        .layer(DefaultBodyLimit::disable())
        .with_state(fts)
}

/// What stands before every handler: the container's limit, then the authentication layer.
async fn authenticate(State(fts): State<Arc<Inner>>, mut request: Request, next: Next) -> Response {
    let path = request.uri().path_and_query().map_or(0, |path| path.as_str().len());
    if request.method().as_str().len() + path + " HTTP/1.1".len() + 1 > REQUEST_LINE {
        let page = "<html>\n<head><title>414 Request-URI Too Large</title></head>\n<body>\n\
                    <h1>414 Request-URI Too Large</h1>\n</body>\n</html>\n";
        return (StatusCode::URI_TOO_LONG, Html(page)).into_response();
    }
    match fts.database_fault() {
        DatabaseFault::None => (),
        DatabaseFault::Unreachable => return container_error(),
        DatabaseFault::PoolExhausted => return html(StatusCode::SERVICE_UNAVAILABLE, TRY_LATER),
    }
    let certificate = request.extensions().get::<PeerCertificate>().and_then(|shown| subject(&shown.0));
    match authenticate::caller(&fts, request.headers(), certificate).await {
        // What the database did not answer here is caught by nobody.
        Err(Refusal::Json(StatusCode::INTERNAL_SERVER_ERROR, _)) => container_error(),
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(refusal) => refusal.into_response(),
    }
}

async fn root() -> Response {
    let link = |href: &str, title: &str| json!({"href": href, "title": title});
    let templated = |href: &str, title: &str| json!({"href": href, "title": title, "templated": true});
    let mut job = templated("/jobs/{id}", "Job information");
    job["hints"] = json!({"allow": ["GET", "DELETE"]});
    json_answer(
        StatusCode::OK,
        &json!({
            "delegation": {"major": 1, "minor": 0, "patch": 0},
            "api": {"major": 3, "minor": 13, "patch": 4},
            "core": null,
            "schema": {"major": 10, "minor": 0, "patch": 0},
            "_links": {
                "curies": [{"name": "fts", "href": "https://gitlab.cern.ch/fts/fts3"}],
                "fts:whoami": link("/whoami", "Check user certificate"),
                "fts:joblist": templated("/jobs{?vo_name,user_dn,dlg_id,state_in}", "List of active jobs"),
                "fts:job": job,
                "fts:configaudit": link("/config/audit", "Configuration"),
                "fts:submitschema": link("/api-docs/schema/submit", "JSON schema of messages"),
                "fts:apidocs": link("/api-docs/", "API Documentation"),
                "fts:jobsubmit": {
                    "href": "/jobs",
                    "hints": {"allow": ["POST"], "representations": ["fts:submitschema"]},
                },
                "fts:optimizer": link("/optimizer/", "Optimizer"),
                "fts:archive": link("/archive/", "Archive"),
            },
        }),
    )
}

async fn whoami(Extension(caller): Extension<Caller>) -> Response {
    json_answer(StatusCode::OK, &caller.whoami())
}

/// The published schema of a submission. Nothing is checked against it.
async fn schema() -> Response {
    let schema = serde_json::from_str(include_str!("submit_schema.json")).unwrap_or_default();
    json_answer(StatusCode::OK, &schema)
}

async fn only_root(Extension(caller): Extension<Caller>) -> Refusal {
    match caller.user_or_crash() {
        Err(refusal) => refusal,
        Ok(_) => Refusal::Json(StatusCode::FORBIDDEN, "User does not have root privileges".into()),
    }
}

async fn nothing_there() -> Refusal {
    Refusal::Json(
        StatusCode::NOT_FOUND,
        "The requested URL was not found on the server. If you entered the URL manually please check your spelling and \
         try again."
            .into(),
    )
}

async fn not_allowed() -> Refusal {
    Refusal::Json(StatusCode::METHOD_NOT_ALLOWED, "The method is not allowed for the requested URL.".into())
}

async fn submit(
    State(fts): State<Arc<Inner>>,
    Extension(caller): Extension<Caller>,
    Extension(connection): Extension<Connection>,
    method: Method,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    fts.submissions.fetch_add(1, Ordering::Relaxed);
    if let Some(recorded) = fts.recorded.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
        recorded.extend(serde_json::from_slice(&body));
    }
    let fault = fts.next_fault();
    match fault {
        SubmitFault::Refuse503(_) => return html(StatusCode::SERVICE_UNAVAILABLE, TRY_LATER),
        SubmitFault::TakeAll => {
            return take(&caller, &body).unwrap_or_else(|refusal| refusal.into_response());
        }
        SubmitFault::Meet(Trouble::Error500, _) => return Refusal::internal().into_response(),
        SubmitFault::Meet(Trouble::NoServer, _) => return no_server(),
        SubmitFault::Meet(Trouble::SentTwice, _) => {
            let _ = accept(&fts, &caller, &method, &headers, &body).await;
        }
        _ => (),
    }
    let answer = match accept(&fts, &caller, &method, &headers, &body).await {
        Ok(job_id) => json_answer(StatusCode::OK, &json!({ "job_id": job_id })),
        Err(refusal) => refusal.into_response(),
    };
    match fault {
        SubmitFault::LoseAnswer(_) => {
            html(StatusCode::BAD_GATEWAY, "The proxy server received an invalid response.")
        }
        SubmitFault::Slow(wait) => {
            tokio::time::sleep(wait).await;
            answer
        }
        // What is refused is refused.
        SubmitFault::Meet(trouble, _) if answer.status() == StatusCode::OK => {
            troubled(trouble, answer, &connection).await
        }
        _ => answer,
    }
}

/// What becomes of the answer to a submission that was taken.
async fn troubled(trouble: Trouble, answer: Response, connection: &Connection) -> Response {
    let page = "<!DOCTYPE html><html><body>Please sign in.</body></html>";
    match trouble {
        Trouble::Error500 | Trouble::NoServer | Trouble::SentTwice => answer,
        Trouble::ResetBeforeAnswer => connection.reset().await,
        Trouble::ResetInAnswer => {
            let connection = connection.clone();
            let cut = async move {
                tokio::time::sleep(Duration::from_millis(50)).await;
                connection.reset().await;
                Ok(Bytes::new())
            };
            let half = stream::once(async { Ok::<_, Infallible>(Bytes::from_static(HALF)) });
            Response::new(Body::from_stream(half.chain(stream::once(cut))))
        }
        Trouble::Portal => Html(page).into_response(),
        Trouble::HalfJson => ([(CONTENT_TYPE, "application/json")], HALF).into_response(),
        Trouble::NoJobId => json_answer(StatusCode::OK, &json!({})),
    }
}

/// The first half of an answer.
const HALF: &[u8] = br#"{"job_id": "8e531ad2-e76a"#;

/// The page of a load balancer (HAProxy's own words).
fn no_server() -> Response {
    let page = "<html><body><h1>503 Service Unavailable</h1>\nNo server is available to handle this request.\n\
                </body></html>\n";
    (StatusCode::SERVICE_UNAVAILABLE, [(CONTENT_TYPE, "text/html")], page).into_response()
}

/// Answers with the id that a submission asks for.
fn take(caller: &Caller, body: &[u8]) -> Result<Response, Refusal> {
    let body: Value = serde_json::from_slice(body).map_err(|_| Refusal::bad("no JSON"))?;
    let sid = body["params"]["sid"].as_str().unwrap_or_default();
    let id = deterministic_id(caller.user()?.vo()?, sid);
    Ok(json_answer(StatusCode::OK, &json!({ "job_id": id })))
}

/// FTS's words when its database pool is exhausted, its only back-pressure.
const TRY_LATER: &str = "The server is temporarily unable to service your request due to maintenance downtime or capacity \
                         problems. Please try again later.";

/// Takes a submission, in the order of the real handler: rights, form, delegation, rules, tokens, tape, issuers, rows.
async fn accept(
    fts: &Inner,
    caller: &Caller,
    method: &Method,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<String, Refusal> {
    let user = caller.user()?;
    let vo = user.vo()?;
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if method == Method::POST && !content_type.starts_with("application/json") {
        return Err(Refusal::bad("Expecting application/json or application/x-www-form-urlencoded"));
    }
    let now = fts.clock.now();
    let body = object(body)?;
    if user.bearer().is_none() {
        store::check_delegation(&fts.database, user, now).await?;
    }
    let mut submission = Submission::read(body, user, &fts.config.rest, now)?;
    let queued = store::queued(&fts.database, &submission.files[0].destination.storage, vo).await?;
    submission.choose_replica(&queued, fts.config.rest.checks_duplicates(vo))?;
    submission.apply_bans(&store::banned(&fts.database, vo).await?)?;
    check_tokens(fts, user, &submission).await?;
    store::insert_tokens(&fts.database, &submission.tokens, submission.left_alone).await?;
    store::insert_job(&fts.database, &submission, user, now).await?;
    Ok(submission.job_id)
}

/// What only token users are asked.
async fn check_tokens(fts: &Inner, user: &User, submission: &Submission) -> Result<(), Refusal> {
    let Some(bearer) = user.bearer() else { return Ok(()) };
    for token in &submission.tokens {
        // No audience is asked for here: the token is another server's.
        if fts.trust.validate(&token.token, None).await.is_none() {
            return Err(Refusal::bad("Failed to validate access-token"));
        }
    }
    submission.check_tape()?;
    let bearer = trust::peek(bearer);
    let issuer = bearer["iss"].as_str().unwrap_or_default();
    store::check_issuers(&fts.database, issuer, &submission.tokens).await
}

/// Reads a JSON object from a body, as `get_input_as_dict` does.
pub(super) fn dictionary(headers: &HeaderMap, body: &[u8]) -> Result<Value, Refusal> {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !content_type.starts_with("application/json") {
        return Err(Refusal::bad("Expecting application/json or application/x-www-form-urlencoded"));
    }
    object(body).map(Value::Object)
}

/// Reads a JSON object.
pub(super) fn object(body: &[u8]) -> Result<Map<String, Value>, Refusal> {
    match serde_json::from_slice(body).map_err(|_| Refusal::bad("Badly formatted JSON request"))? {
        Value::Object(object) => Ok(object),
        _ => Err(Refusal::bad("Expecting a dictionary")),
    }
}
