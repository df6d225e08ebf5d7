//! Changing jobs: cancellation and priority.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Extension, Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use serde_json::{Map, Value};

use super::Inner;
use super::answer::{Refusal, json_answer};
use super::caller::{Caller, User};
use super::jobs::{job, one_or_many, reached};
use super::rest::dictionary;
use super::schema::timestamp;
use super::sql::statement;
use super::view;

/// States of a file that a cancellation touches. TOKEN_PREP, NOT_USED and ON_HOLD are not among them: such a file is left
/// behind, and runs if it is released afterwards (observed).
pub(super) const ACTIVE: [&str; 8] = [
    "STAGING",
    "STARTED",
    "SUBMITTED",
    "READY",
    "ACTIVE",
    "ARCHIVING",
    "QOS_TRANSITION",
    "QOS_REQUEST_SUBMITTED",
];

/// `t_job.job_state` at its end.
pub(super) const TERMINAL: [&str; 4] = ["FINISHED", "FAILED", "FINISHEDDIRTY", "CANCELED"];

/// The jobs asked for, in three heaps, as the real handlers sort them.
struct Asked {
    /// Unknown ones and those at their end, in the order asked.
    answered: Vec<Value>,
    open: Vec<String>,
    many: bool,
}

async fn sort(fts: &Inner, user: &User, ids: &str) -> Result<Asked, Refusal> {
    let asked: Vec<&str> = ids.split(',').collect();
    let mut jobs = view::jobs(&fts.database.reader, &asked).await?;
    let mut sorted = Asked { answered: Vec::new(), open: Vec::new(), many: asked.len() > 1 };
    for id in asked.into_iter().filter(|id| !id.is_empty()) {
        match jobs.remove(id) {
            None => sorted.answered.push(Refusal::no_job(id).entry(id)),
            Some(job) if !reached(user, &job) => sorted.answered.push(Refusal::not_yours(id).entry(id)),
            Some(job) if TERMINAL.contains(&job["job_state"].as_str().unwrap_or_default()) => {
                sorted.answered.push(outcome(
                    job,
                    "304 Not Modified",
                    "The job is in a terminal state".into(),
                ));
            }
            Some(_) => sorted.open.push(id.to_owned()),
        }
    }
    Ok(sorted)
}

fn outcome(mut job: Map<String, Value>, status: &str, message: Value) -> Value {
    job.insert("http_status".into(), status.into());
    job.insert("http_message".into(), message);
    job.into()
}

/// `DELETE /jobs/{ids}`.
pub(super) async fn cancel(
    State(fts): State<Arc<Inner>>,
    Extension(caller): Extension<Caller>,
    Path(ids): Path<String>,
) -> Result<Response, Refusal> {
    let user = caller.user_or_crash()?;
    let Asked { answered: mut entries, open, many } = sort(&fts, user, &ids).await?;
    let now = timestamp(fts.clock.now());
    let mut write = fts.database.write().await?;
    for id in &open {
        statement(
            "UPDATE t_job SET job_state = 'CANCELED', cancel_job = 'Y', job_finished = ?, \
             reason = 'Job canceled by the user' WHERE job_id = ?",
        )
        .bind(&now)
        .bind(id)
        .execute(&mut write)
        .await?;
        // A running one (`pid`) gets no finish time, which is how the server knows that it is to be signalled.
        statement("UPDATE t_file SET file_state = 'CANCELED', reason = 'Job canceled by the user', dest_surl_uuid = NULL, \
             finish_time = CASE WHEN pid IS NULL THEN ? END \
             WHERE job_id = ? AND file_state IN (??)",
        )
        .bind(&now)
        .bind(id)
        .bind_all(ACTIVE)
        .execute(&mut write)
        .await?;
    }
    write.commit().await?;
    for id in &open {
        entries.push(outcome(job(&fts, user, id).await?, "200 Ok", Value::Null));
    }
    Ok(one_or_many(entries, many))
}

/// `POST /jobs/{ids}` with `params.priority`.
pub(super) async fn modify(
    State(fts): State<Arc<Inner>>,
    Extension(caller): Extension<Caller>,
    Path(ids): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refusal> {
    let user = caller.user_or_crash()?;
    let Asked { answered: mut entries, open, many } = sort(&fts, user, &ids).await?;
    let priority = priority(&dictionary(&headers, &body)?)?;
    // Zero is no priority in Python's eyes.
    if let Some(priority) = priority.filter(|priority| *priority != 0) {
        let mut write = fts.database.write().await?;
        for id in &open {
            for sql in [
                "UPDATE t_job SET priority = ? WHERE job_id = ?",
                "UPDATE t_file SET priority = ? WHERE job_id = ?",
            ] {
                statement(sql).bind(priority).bind(id).execute(&mut write).await?;
            }
        }
        write.commit().await?;
    }
    // The files are shown where they had to be looked at.
    let changed = priority.is_some_and(|priority| priority != 0);
    let ids: Vec<&str> = open.iter().map(String::as_str).collect();
    let mut files = view::files(&fts.database.reader, &ids, None).await?;
    for id in &open {
        let mut job = job(&fts, user, id).await?;
        if changed {
            job.insert("files".into(), files.remove(id).unwrap_or_default().into());
        }
        entries.push(outcome(job, "200 Ok", Value::Null));
    }
    Ok(one_or_many(entries, many))
}

/// `params.priority` of a change, as Python's `int` takes it: none where it is not there, and a crash where it is no number
/// and no text, or stands in no object.
fn priority(input: &Value) -> Result<Option<i64>, Refusal> {
    let Some(params) = input.get("params") else { return Ok(None) };
    let Value::Object(params) = params else { return Err(Refusal::internal()) };
    match params.get("priority") {
        None => Ok(None),
        Some(Value::Bool(flag)) => Ok(Some(i64::from(*flag))),
        #[expect(clippy::cast_possible_truncation, reason = "Python cuts too")]
        Some(Value::Number(number)) => Ok(number.as_i64().or(number.as_f64().map(|number| number as i64))),
        Some(Value::String(text)) => {
            text.trim().parse().map(Some).map_err(|_| Refusal::bad("Invalid priority value"))
        }
        Some(_) => Err(Refusal::internal()),
    }
}

/// `DELETE /jobs/{id}/files/{files}`: the state of each afterwards.
pub(super) async fn cancel_files(
    State(fts): State<Arc<Inner>>,
    Extension(caller): Extension<Caller>,
    Path((id, files)): Path<(String, String)>,
) -> Result<Response, Refusal> {
    let job = job(&fts, caller.user_or_crash()?, &id).await?;
    if job["job_type"] != "N" {
        let kind = job["job_type"].as_str().unwrap_or_default();
        return Err(Refusal::bad(format!("Multihop or reuse jobs must be cancelled at once ({kind})")));
    }
    let now = timestamp(fts.clock.now());
    let mut write = fts.database.write().await?;
    let rows = statement("SELECT file_id, file_state FROM t_file WHERE job_id = ?")
        .bind(&id)
        .fetch_all(&mut write)
        .await?;
    let mut states: Vec<(i64, String)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    let mut answer: Vec<Value> = Vec::new();
    for file in files.split(',') {
        let Some((file, state)) = states.iter_mut().find(|(known, _)| file.parse() == Ok(*known)) else {
            answer.push("File does not belong to the job".into());
            continue;
        };
        if ACTIVE.contains(&state.as_str()) {
            statement("UPDATE t_file SET file_state = 'CANCELED', finish_time = ?, dest_surl_uuid = NULL WHERE file_id = ?",
            )
            .bind(&now)
            .bind(*file)
            .execute(&mut write)
            .await?;
            "CANCELED".clone_into(state);
        }
        answer.push(state.clone().into());
    }
    // A file in TOKEN_PREP does not count as open, so that the job is cancelled around it (observed).
    if !states.iter().any(|(_, state)| ACTIVE.contains(&state.as_str())) {
        statement(
            "UPDATE t_job SET job_state = 'CANCELED', cancel_job = 'Y', job_finished = ? WHERE job_id = ?",
        )
        .bind(&now)
        .bind(&id)
        .execute(&mut write)
        .await?;
    }
    write.commit().await?;
    let answer = if answer.len() > 1 { answer.into() } else { answer.pop().unwrap_or_default() };
    Ok(json_answer(StatusCode::OK, &answer))
}
