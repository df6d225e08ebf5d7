//! What is answered to what.

use std::fmt::Write as _;

use hyper::{Method, StatusCode};

use crate::metrics::CONTENT_TYPE;
use crate::vitals::Check;
use crate::watch::{Watch, is_ready};

const HTML: &str = "text/html; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";

/// An answer.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) content_type: &'static str,
    pub(super) body: String,
}

/// Answers.
pub(super) async fn answer(watch: &Watch, page: bool, method: &Method, path: &str, accept: &str) -> Answer {
    let text = |status, body: &str| Answer { status, content_type: TEXT, body: body.to_owned() };
    if !matches!(*method, Method::GET | Method::HEAD) {
        return text(StatusCode::METHOD_NOT_ALLOWED, "only GET\n");
    }
    match path {
        "/metrics" => {
            Answer { status: StatusCode::OK, content_type: CONTENT_TYPE, body: watch.metrics().await }
        }
        "/livez" => {
            let checks = watch.liveness();
            health(checks.iter().all(|check| check.ok), &checks, accept)
        }
        "/readyz" => {
            let checks = watch.readiness();
            health(is_ready(&checks), &checks, accept)
        }
        "/" if page => {
            Answer { status: StatusCode::OK, content_type: HTML, body: crate::page::page(watch).await }
        }
        "/" => {
            text(StatusCode::OK, &format!("{} {}: /metrics /livez /readyz\n", watch.program, watch.version))
        }
        _ => text(StatusCode::NOT_FOUND, "/metrics, /livez or /readyz\n"),
    }
}

/// 200 or 503 with the reasons: a line each, or a JSON object if that is asked for.
fn health(well: bool, checks: &[Check], accept: &str) -> Answer {
    let status = if well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    if accept.contains("application/json") {
        let body = serde_json::json!({ "ok": well, "checks": checks }).to_string();
        return Answer { status, content_type: "application/json", body };
    }
    let mut body = String::from(if well { "ok\n" } else { "not ok\n" });
    for Check { name, ok, why } in checks {
        let _ = writeln!(body, "{} {name}: {why}", if *ok { "ok" } else { "NO" });
    }
    Answer { status, content_type: TEXT, body }
}
