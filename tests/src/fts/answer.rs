//! The three kinds of error answer that FTS's REST server was observed to give, and its JSON.

use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

/// An error answer.
#[derive(Debug)]
pub(super) enum Refusal {
    /// Of the application: JSON.
    Json(StatusCode, String),
    /// Of the authentication layer: HTML.
    Html(StatusCode, &'static str),
}

impl Refusal {
    /// 400 with this message.
    pub(super) fn bad(message: impl Into<String>) -> Self {
        Self::Json(StatusCode::BAD_REQUEST, message.into())
    }

    /// 400 as a Python `ValueError` in the job builder comes out.
    pub(super) fn value(message: impl AsRef<str>) -> Self {
        Self::bad(format!("Invalid value within the request: {}", message.as_ref()))
    }

    /// 400 as a Python `TypeError` in the job builder comes out.
    pub(super) fn malformed(message: &str) -> Self {
        Self::bad(format!("Malformed request: {message}"))
    }

    /// 403 for an anonymous caller: there is no hint why.
    pub(super) fn forbidden() -> Self {
        Self::Json(StatusCode::FORBIDDEN, "Not enough permissions".into())
    }

    /// 404 for a job that is not there.
    pub(super) fn no_job(id: &str) -> Self {
        Self::Json(StatusCode::NOT_FOUND, format!("No job with the id \"{id}\" has been found"))
    }

    /// 403 for the job of another VO.
    pub(super) fn not_yours(id: &str) -> Self {
        Self::Json(StatusCode::FORBIDDEN, format!("Not enough permissions to check the job \"{id}\""))
    }

    /// 419 where an X.509 user has delegated nothing that lives long enough.
    pub(super) fn delegation(message: String) -> Self {
        Self::Json(StatusCode::from_u16(419).unwrap_or(StatusCode::FORBIDDEN), message)
    }

    /// 500, which FTS gives for every exception it did not foresee.
    pub(super) fn internal() -> Self {
        Self::Json(
            StatusCode::INTERNAL_SERVER_ERROR,
            "The server encountered an internal error and was unable to complete your request. Either the server is \
             overloaded or there is an error in the application."
                .into(),
        )
    }

    /// The entry of a list for a job with this error.
    pub(super) fn entry(&self, job_id: &str) -> Value {
        let (status, message) = match self {
            Self::Json(status, message) => (status, message.as_str()),
            Self::Html(status, message) => (status, *message),
        };
        json!({"job_id": job_id, "http_status": named(*status), "http_message": message})
    }
}

impl From<sqlx::Error> for Refusal {
    fn from(error: sqlx::Error) -> Self {
        tracing::warn!(%error, "FTS's database refused a statement");
        Self::internal()
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        match self {
            Self::Json(status, message) => {
                json_answer(status, &json!({"status": named(status), "message": message}))
            }
            Self::Html(status, message) => html(status, message),
        }
    }
}

/// A JSON answer.
pub(super) fn json_answer(status: StatusCode, body: &Value) -> Response {
    (status, [(CONTENT_TYPE, "application/json")], body.to_string()).into_response()
}

/// An HTML error page of the web framework.
pub(super) fn html(status: StatusCode, message: &str) -> Response {
    let body = format!(
        "<!DOCTYPE HTML PUBLIC \"-//W3C//DTD HTML 3.2 Final//EN\">\n<title>{}</title>\n<h1>{}</h1>\n<p>{message}</p>\n",
        named(status),
        status.canonical_reason().unwrap_or_default(),
    );
    (status, [(CONTENT_TYPE, "text/html; charset=utf-8")], body).into_response()
}

/// The page of the container in front, for what the application did not catch.
pub(super) fn container_error() -> Response {
    let page = "<html>\n  <head>\n    <title>Internal Server Error</title>\n  </head>\n  <body>\n    \
                <h1><p>Internal Server Error</p></h1>\n    \n  </body>\n</html>\n";
    (StatusCode::INTERNAL_SERVER_ERROR, [(CONTENT_TYPE, "text/html")], page).into_response()
}

fn named(status: StatusCode) -> String {
    // 419 is nobody's but FTS's.
    let reason = match status.as_u16() {
        419 => "Authentication Timeout",
        _ => status.canonical_reason().unwrap_or_default(),
    };
    format!("{} {reason}", status.as_u16())
}
