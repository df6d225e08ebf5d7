//! Reading jobs and files.

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::{Extension, Path, Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Map, Value};
use sqlx::Row as _;

use super::Inner;
use super::answer::{Refusal, json_answer};
use super::caller::Caller;
use super::view;

type Answer = Result<Response, Refusal>;
type Parameters = Query<HashMap<String, String>>;

/// `GET /jobs/{ids}[?files=...]`: one object for one id, a list for several; 207 when one of several is unknown.
pub(super) async fn get(
    State(fts): State<Arc<Inner>>,
    Extension(caller): Extension<Caller>,
    Path(ids): Path<String>,
    Query(query): Parameters,
) -> Answer {
    caller.user_or_crash()?;
    let asked: Vec<&str> = ids.split(',').collect();
    let ids: Vec<&str> = asked.iter().copied().filter(|id| !id.is_empty()).collect();
    let fields: Option<Vec<&str>> = query.get("files").map(|fields| fields.split(',').collect());
    let mut jobs = view::jobs(&fts.database.reader, &ids).await?;
    let mut files = match &fields {
        Some(fields) => view::files(&fts.database.reader, &ids, Some(fields)).await?,
        None => HashMap::new(),
    };
    let entries = ids.iter().map(|id| match jobs.remove(*id) {
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
    let lost = |entry: &Value| entry["http_status"] == "404 Not Found";
    if many {
        let status = if entries.iter().any(lost) { StatusCode::MULTI_STATUS } else { StatusCode::OK };
        return json_answer(status, &entries.into());
    }
    let entry = entries.into_iter().next().unwrap_or_default();
    let status = if lost(&entry) { StatusCode::NOT_FOUND } else { StatusCode::OK };
    json_answer(status, &entry)
}

/// The job with this id.
pub(super) async fn job(fts: &Inner, id: &str) -> Result<Map<String, Value>, Refusal> {
    view::jobs(&fts.database.reader, &[id]).await?.remove(id).ok_or_else(|| Refusal::no_job(id))
}

/// `GET /jobs/{id}/files`.
pub(super) async fn files(
    State(fts): State<Arc<Inner>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Answer {
    caller.user_or_crash()?;
    job(&fts, &id).await?;
    let files = view::files(&fts.database.reader, &[&id], None).await?.remove(&id).unwrap_or_default();
    Ok(json_answer(StatusCode::OK, &files.into()))
}

/// `GET /jobs/{id}/{field}`: the bare value.
pub(super) async fn field(
    State(fts): State<Arc<Inner>>,
    Extension(caller): Extension<Caller>,
    Path((id, field)): Path<(String, String)>,
) -> Answer {
    caller.user_or_crash()?;
    match job(&fts, &id).await?.get(&field) {
        Some(value) => Ok(json_answer(StatusCode::OK, value)),
        None => Err(Refusal::Json(StatusCode::NOT_FOUND, "No such field".into())),
    }
}

/// `GET /jobs/{id}/files/{file}/retries`.
pub(super) async fn retries(
    State(fts): State<Arc<Inner>>,
    Extension(caller): Extension<Caller>,
    Path((id, file)): Path<(String, i64)>,
) -> Answer {
    caller.user_or_crash()?;
    job(&fts, &id).await?;
    let files = view::files(&fts.database.reader, &[&id], None).await?.remove(&id).unwrap_or_default();
    let shown = files.into_iter().find(|entry| entry["file_id"] == file).unwrap_or_default();
    let rows = sqlx::query(
        "SELECT attempt, datetime, reason, transfer_host, log_file FROM t_file_retry_errors WHERE file_id = ? \
         ORDER BY attempt",
    )
    .bind(file)
    .fetch_all(&fts.database.reader)
    .await?;
    let entries = rows.iter().map(|row| {
        let time = row.get::<Option<String>, _>(1).map(|time| time.replacen(' ', "T", 1));
        serde_json::json!({
            "attempt": row.get::<i64, _>(0),
            "datetime": time,
            "reason": row.get::<Option<String>, _>(2),
            "transfer_host": row.get::<Option<String>, _>(3),
            "log_file": row.get::<Option<String>, _>(4),
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
    let limit = get("limit").and_then(|text| text.parse::<i64>().ok());
    if limit.is_some_and(|limit| !(0..=500).contains(&limit)) {
        return Err(Refusal::bad("The limit must be positive and less or equal than 500"));
    }
    let columns =
        [("vo_name", "vo_name"), ("user_dn", "user_dn"), ("cred_id", "dlg_id"), ("source_se", "source_se")];
    let equal: Vec<(&str, &str)> = columns
        .into_iter()
        .chain([("dest_se", "dest_se")])
        .filter_map(|(column, name)| get(name).map(|value| (column, value)))
        .collect();
    let states: Option<Vec<&str>> = get("state_in").map(|states| states.split(',').collect());
    // With states and no limit, the real one still leaves finished jobs out.
    let unfinished = states.is_none() || limit.is_none();
    let limit = limit.filter(|limit| *limit > 0);
    let jobs = view::list_jobs(&fts.database.reader, &equal, states.as_deref(), unfinished, limit).await?;
    let fields: Option<Vec<&str>> = get("fields").map(|fields| fields.split(',').collect());
    let jobs = jobs.into_iter().map(|job| Value::from(view::subset(job, fields.as_deref())));
    Ok(json_answer(StatusCode::OK, &jobs.collect()))
}

/// `GET /files`: files that are not at their end.
pub(super) async fn list_files(
    State(fts): State<Arc<Inner>>,
    Extension(caller): Extension<Caller>,
    Query(query): Parameters,
) -> Answer {
    caller.user()?;
    let columns = ["vo_name", "source_se", "dest_se", "source_surl", "dest_surl"];
    let equal: Vec<(&str, &str)> = columns
        .into_iter()
        .filter_map(|column| query.get(column).map(|value| (column, value.as_str())))
        .collect();
    Ok(json_answer(StatusCode::OK, &view::list_files(&fts.database.reader, &equal).await?.into()))
}
