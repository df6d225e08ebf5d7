//! Reading jobs and files.

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::{Extension, Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde_json::{Map, Value};
use token_core::UnixSeconds;

use super::Inner;
use super::answer::{Refusal, json_answer};
use super::caller::{Caller, User};
use super::schema::timestamp;
use super::sql::statement;
use super::view::{self, Ended};

type Answer = Result<Response, Refusal>;
type Parameters = Query<HashMap<String, String>>;

/// `GET /jobs/{ids}[?files=...]`: one object for one id, a list for several; 207 when one of several is unknown.
pub(super) async fn get(
    State(fts): State<Arc<Inner>>,
    Extension(caller): Extension<Caller>,
    Path(ids): Path<String>,
    Query(query): Parameters,
) -> Answer {
    let user = caller.user_or_crash()?;
    let asked: Vec<&str> = ids.split(',').collect();
    let ids: Vec<&str> = asked.iter().copied().filter(|id| !id.is_empty()).collect();
    let fields: Option<Vec<&str>> = query.get("files").map(|fields| fields.split(',').collect());
    let mut jobs = view::jobs(&fts.database.reader, &ids).await?;
    let mut files = match &fields {
        Some(fields) => view::files(&fts.database.reader, &ids, Some(fields)).await?,
        None => HashMap::new(),
    };
    let entries = ids.iter().map(|id| match jobs.remove(*id) {
        Some(job) if !reached(user, &job) => Refusal::not_yours(id).entry(id),
        Some(mut job) => {
            if fields.is_some() {
                job.insert("files".into(), files.remove(*id).unwrap_or_default().into());
            }
            job.insert("http_status".into(), "200 Ok".into());
            job.into()
        }
        None => Refusal::no_job(id).entry(id),
    });
    Ok(one_or_many(entries.collect(), asked.len() > 1))
}

/// Several entries with their common status, or the only one with its own.
pub(super) fn one_or_many(entries: Vec<Value>, many: bool) -> Response {
    let error = |entry: &Value| match entry["http_status"].as_str() {
        Some("404 Not Found") => Some(StatusCode::NOT_FOUND),
        Some("403 Forbidden") => Some(StatusCode::FORBIDDEN),
        _ => None,
    };
    if many {
        let lost = entries.iter().any(|entry| error(entry).is_some());
        let status = if lost { StatusCode::MULTI_STATUS } else { StatusCode::OK };
        return json_answer(status, &entries.into());
    }
    match entries.into_iter().next() {
        Some(entry) => json_answer(error(&entry).unwrap_or(StatusCode::OK), &entry),
        // The first of none is taken.
        None => Refusal::internal().into_response(),
    }
}

/// Whether the user may see this job.
pub(super) fn reached(user: &User, job: &Map<String, Value>) -> bool {
    let text = |name: &str| job[name].as_str().unwrap_or_default();
    user.reaches(text("vo_name"), text("user_dn"))
}

/// The job with this id, which the user may see.
pub(super) async fn job(fts: &Inner, user: &User, id: &str) -> Result<Map<String, Value>, Refusal> {
    let job = view::jobs(&fts.database.reader, &[id]).await?.remove(id).ok_or_else(|| Refusal::no_job(id))?;
    if reached(user, &job) { Ok(job) } else { Err(Refusal::not_yours(id)) }
}

/// `GET /jobs/{id}/files`.
pub(super) async fn files(
    State(fts): State<Arc<Inner>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Answer {
    job(&fts, caller.user_or_crash()?, &id).await?;
    let files = view::files(&fts.database.reader, &[&id], None).await?.remove(&id).unwrap_or_default();
    Ok(json_answer(StatusCode::OK, &files.into()))
}

/// `GET /jobs/{id}/{field}`: the bare value.
pub(super) async fn field(
    State(fts): State<Arc<Inner>>,
    Extension(caller): Extension<Caller>,
    Path((id, field)): Path<(String, String)>,
) -> Answer {
    match job(&fts, caller.user_or_crash()?, &id).await?.get(&field) {
        Some(value) => Ok(json_answer(StatusCode::OK, value)),
        None => Err(Refusal::Json(StatusCode::NOT_FOUND, "No such field".into())),
    }
}

/// `GET /jobs/{id}/dm`: the deletions of a job, of which there are none any more.
pub(super) async fn deletions(
    State(fts): State<Arc<Inner>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Answer {
    job(&fts, caller.user_or_crash()?, &id).await?;
    Ok(json_answer(StatusCode::OK, &Value::Array(Vec::new())))
}

/// `GET /jobs/{id}/files/{file}/retries`. Whether the file is one of the job nobody looks at.
pub(super) async fn retries(
    State(fts): State<Arc<Inner>>,
    Extension(caller): Extension<Caller>,
    Path((id, file)): Path<(String, String)>,
) -> Answer {
    job(&fts, caller.user_or_crash()?, &id).await?;
    // What is no number is no file's.
    let file: i64 = file.parse().unwrap_or(0);
    let shown = view::file(&fts.database.reader, file).await?;
    let rows = statement("SELECT attempt, CAST(datetime AS CHAR), reason, transfer_host, log_file FROM t_file_retry_errors WHERE file_id = ? \
         ORDER BY attempt",
    )
    .bind(file)
    .fetch_all(&fts.database.reader)
    .await?;
    let entries = rows.iter().map(|row| {
        let time = row.get::<Option<String>>(1).map(|time| time.replacen(' ', "T", 1));
        serde_json::json!({
            "attempt": row.get::<i64>(0),
            "datetime": time,
            "reason": row.get::<Option<String>>(2),
            "transfer_host": row.get::<Option<String>>(3),
            "log_file": row.get::<Option<String>>(4),
            "file_id": file,
            "file": shown,
        })
    });
    Ok(json_answer(StatusCode::OK, &entries.collect()))
}

/// `GET /jobs`: unfinished jobs, or those in the states asked for.
pub(super) async fn list(
    State(fts): State<Arc<Inner>>,
    Extension(caller): Extension<Caller>,
    Query(query): Parameters,
) -> Answer {
    let user = caller.user()?;
    let get = |name: &str| query.get(name).map(String::as_str).filter(|text| !text.is_empty());
    if get("dlg_id").is_some_and(|id| id != user.delegation_id) {
        let message = "The provided delegation id does not match your delegation id";
        return Err(Refusal::Json(StatusCode::FORBIDDEN, message.into()));
    }
    if get("user_dn").is_some_and(|dn| dn != user.dn) {
        return Err(Refusal::bad("The provided DN and delegation id do not correspond to the same user"));
    }
    user.vo()?;
    let limit = get("limit").and_then(|text| text.parse::<i64>().ok());
    if limit.is_some_and(|limit| !(0..=500).contains(&limit)) {
        return Err(Refusal::bad("The limit must be positive and less or equal than 500"));
    }
    let columns = [
        ("vo_name", "vo_name"),
        ("user_dn", "user_dn"),
        ("cred_id", "dlg_id"),
        ("source_se", "source_se"),
        ("dest_se", "dest_se"),
    ];
    let mut equal: Vec<(&str, &str)> =
        columns.into_iter().filter_map(|(column, name)| get(name).map(|value| (column, value))).collect();
    if user.bearer().is_none() {
        equal.retain(|(column, _)| *column != "vo_name");
        equal.push(("vo_name", user.vo()?));
    }
    let states: Option<Vec<&str>> = get("state_in").map(|states| states.split(',').collect());
    // With states and no limit, only jobs that have not ended are shown, or those that ended in the window.
    let ended = match (&states, limit, window(&query, fts.clock.now())) {
        (Some(_), Some(_), _) => Ended::Any,
        (Some(_), None, Some(since)) => Ended::Since(since),
        _ => Ended::No,
    };
    let limit = limit.filter(|limit| *limit > 0);
    let jobs = view::list_jobs(&fts.database.reader, &equal, states.as_deref(), &ended, limit).await?;
    let fields: Option<Vec<&str>> = get("fields").map(|fields| fields.split(',').collect());
    let jobs = jobs.into_iter().map(|job| Value::from(view::subset(job, fields.as_deref())));
    Ok(json_answer(StatusCode::OK, &jobs.collect()))
}

/// `time_window=H[:M]`: the time that much ago.
fn window(query: &HashMap<String, String>, now: UnixSeconds) -> Option<String> {
    let mut parts = query.get("time_window")?.split(':').map(|part| part.trim().parse::<i64>());
    let (hours, minutes) = (parts.next()?.ok()?, parts.next().unwrap_or(Ok(0)).ok()?);
    Some(timestamp(UnixSeconds(now.0.saturating_sub(hours * 3600 + minutes * 60))))
}

/// `GET /files`: files that are not at their end, or came to it in the window; 1000 at most.
pub(super) async fn list_files(
    State(fts): State<Arc<Inner>>,
    Extension(caller): Extension<Caller>,
    Query(query): Parameters,
) -> Answer {
    // This handler has no decorator that looks at rights: it has its own words (read).
    let not_allowed = |_| Refusal::Json(StatusCode::FORBIDDEN, "User not allowed to list jobs".into());
    let user = caller.user().map_err(not_allowed)?;
    let get = |name: &str| query.get(name).map(String::as_str).filter(|text| !text.is_empty());
    let columns = ["vo_name", "source_se", "dest_se", "dest_surl"];
    let mut equal: Vec<(&str, &str)> =
        columns.into_iter().filter_map(|column| get(column).map(|value| (column, value))).collect();
    if user.bearer().is_none() {
        equal.retain(|(column, _)| *column != "vo_name");
        equal.push(("vo_name", user.vo()?));
    }
    let states: Option<Vec<&str>> = get("state_in").map(|states| states.split(',').collect());
    let ended = window(&query, fts.clock.now()).map_or(Ended::No, Ended::Since);
    let files = view::list_files(&fts.database.reader, &equal, states.as_deref(), &ended).await?;
    Ok(json_answer(StatusCode::OK, &files.into()))
}
