//! What each recorded answer means, from its request, status and body alone. Nothing here is the client's.

use serde_json::Value;

use crate::{Believed, Recording};

/// The outcome in a few words.
pub(crate) fn of(recording: &Recording, believed: Believed) -> String {
    let Recording { method, path, status, body, .. } = recording;
    let path = path.split('?').next().unwrap_or_default();
    let says = |words: &str| body["message"].as_str().is_some_and(|message| message.contains(words));
    let application = recording.content_type.starts_with("application/json");
    let reads = method == "GET";
    let by_id = path.starts_with("/jobs/");
    match *status {
        200 | 204 | 207 => good(method, path, body),
        // Nobody has no VO, and the handlers of jobs by id look at the first of them.
        500 if by_id && believed == Believed::No => "anonymous".into(),
        404 if by_id && body["http_status"] == "404 Not Found" => unknown(body),
        403 if says("Not enough permissions") => "anonymous".into(),
        403 if body["message"].as_str().is_some_and(|message| message.ends_with("is banned")) => {
            "banned".into()
        }
        401 | 403 | 419 => "forbidden".into(),
        400 if !application => "forbidden".into(),
        404 => "not there".into(),
        409 if method != "GET" && path == "/jobs" && says("sid provided by the user is duplicated") => {
            "already there".into()
        }
        400 | 405 | 409 | 413 | 414 => format!("refused {status}"),
        503 => "try later".into(),
        500..=599 if reads => "try later".into(),
        500..=599 => "outcome unknown".into(),
        other => format!("no meaning is written down for {other}"),
    }
}

fn good(method: &str, path: &str, body: &Value) -> String {
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    match (method, &parts[..]) {
        ("GET", ["whoami"]) if body["method"] == "unauthenticated" => "anonymous".into(),
        ("GET", ["whoami"]) => format!("{} of {}", text(&body["user_dn"]), text(&body["vos"][0])),
        ("GET", [""]) => {
            format!("version {}.{}.{}", body["api"]["major"], body["api"]["minor"], body["api"]["patch"])
        }
        ("POST" | "PUT", ["jobs"]) => format!("accepted {}", text(&body["job_id"])),
        ("GET" | "DELETE" | "POST", ["jobs", ids]) => {
            let entries = body.as_array().map_or_else(|| vec![body], |list| list.iter().collect());
            let entry = |id: &str| {
                entries
                    .iter()
                    .find(|entry| entry["job_id"] == id)
                    .map_or("missing".into(), |e| job(method, e))
            };
            ids.split(',').filter(|id| !id.is_empty()).map(entry).collect::<Vec<_>>().join(", ")
        }
        ("DELETE", ["jobs", _, "files", _]) => match body {
            Value::Array(words) => words.iter().map(text).collect::<Vec<_>>().join(", "),
            word => text(word).to_owned(),
        },
        ("DELETE", ["ban", _]) => "done".into(),
        ("GET", ["jobs" | "files"] | ["jobs", _, "files"] | ["jobs", _, "files", _, "retries"])
        | (_, ["ban", _]) => {
            format!("{} entries", body.as_array().map_or(0, Vec::len))
        }
        _ => "read".into(),
    }
}

fn job(method: &str, entry: &Value) -> String {
    let id = text(&entry["job_id"]);
    let state = text(&entry["job_state"]);
    let files = entry["files"].as_array().map_or(0, Vec::len);
    match text(&entry["http_status"]).split(' ').next() {
        Some("404") => format!("{id} unknown"),
        Some("304") if method != "GET" => format!("{id} was at its end {state} {files}"),
        _ => format!("{id} {state} {files}"),
    }
}

fn unknown(body: &Value) -> String {
    format!("{} unknown", text(&body["job_id"]))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
