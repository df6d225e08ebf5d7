//! Banned storage elements and users. Every token user may ban (observed), and no X.509 user.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Extension, Query, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use serde_json::{Map, Value, json};
use sqlx::{Row as _, Sqlite, Transaction};

use super::Inner;
use super::answer::{Refusal, json_answer};
use super::caller::Caller;
use super::change::ACTIVE;
use super::params::truthy;
use super::schema::timestamp;

type Parameters = Query<HashMap<String, String>>;

/// `POST /ban/se`: CANCEL, which cancels what goes there, or WAIT, in which files are held, and new ones too if submissions are
/// allowed. Answers the ids of the jobs this meets.
pub(super) async fn ban_storage(
    State(fts): State<Arc<Inner>>,
    Extension(caller): Extension<Caller>,
    Query(query): Parameters,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refusal> {
    let user = caller.administrator()?;
    let (vo, input) = (user.vo()?, input(&headers, &body, query)?);
    let storage = text(&input, "storage").ok_or_else(|| Refusal::bad("Missing storage parameter"))?;
    let status = text(&input, "status").unwrap_or("cancel").to_uppercase();
    let status = match (status.as_str(), truthy(input.get("allow_submit"))) {
        ("CANCEL", true) => {
            return Err(Refusal::bad("allow_submit and status = CANCEL can not be combined"));
        }
        ("CANCEL", false) => "CANCEL",
        ("WAIT", true) => "WAIT_AS",
        ("WAIT", false) => "WAIT",
        _ => return Err(Refusal::bad("status can only be cancel or wait")),
    };
    let now = timestamp(fts.clock.now());
    let mut write = fts.database.write().await?;
    sqlx::query(
        "INSERT OR REPLACE INTO t_bad_ses (se, message, addition_time, admin_dn, vo, status) VALUES (?, ?, ?, ?, ?, ?)",
    )
    .bind(storage)
    .bind(text(&input, "message").unwrap_or_default())
    .bind(&now)
    .bind(&user.dn)
    .bind(vo)
    .bind(status)
    .execute(&mut *write)
    .await?;
    let met = match status {
        "CANCEL" => cancel_transfers(&mut write, storage, vo, &now).await?,
        _ => hold(&mut write, storage, vo).await?,
    };
    write.commit().await?;
    Ok(json_answer(StatusCode::OK, &json!(met)))
}

/// Cancels what goes from or to the storage. Another replica takes over; a job with nothing left is cancelled.
async fn cancel_transfers(
    write: &mut Transaction<'static, Sqlite>,
    storage: &str,
    vo: &str,
    now: &str,
) -> Result<BTreeSet<String>, sqlx::Error> {
    let rows = sqlx::query(
        "UPDATE t_file SET file_state = 'CANCELED', reason = 'Storage banned', finish_time = ?1, dest_surl_uuid = NULL \
         WHERE (source_se = ?2 OR dest_se = ?2) AND vo_name = ?3 \
         AND (file_state = 'NOT_USED' OR file_state IN (SELECT value FROM json_each(?4))) RETURNING job_id, file_index",
    )
    .bind(now)
    .bind(storage)
    .bind(vo)
    .bind(ACTIVE)
    .fetch_all(&mut **write)
    .await?;
    let mut met = BTreeSet::new();
    for row in rows {
        let job: String = row.get(0);
        sqlx::query(
            "UPDATE t_file SET file_state = 'SUBMITTED' WHERE file_id = (SELECT min(file_id) FROM t_file \
             WHERE job_id = ? AND file_index = ? AND file_state = 'NOT_USED')",
        )
        .bind(&job)
        .bind(row.get::<i64, _>(1))
        .execute(&mut **write)
        .await?;
        sqlx::query(
            "UPDATE t_job SET job_state = 'CANCELED', job_finished = ?1, reason = NULL WHERE job_id = ?2 AND NOT EXISTS \
             (SELECT 1 FROM t_file WHERE job_id = ?2 AND file_state NOT IN ('CANCELED', 'FINISHED', 'FAILED'))",
        )
        .bind(now)
        .bind(&job)
        .execute(&mut **write)
        .await?;
        met.insert(job);
    }
    Ok(met)
}

/// Holds what has not begun.
async fn hold(
    write: &mut Transaction<'static, Sqlite>,
    storage: &str,
    vo: &str,
) -> Result<BTreeSet<String>, sqlx::Error> {
    let rows = sqlx::query(
        "UPDATE t_file SET file_state = CASE file_state WHEN 'STAGING' THEN 'ON_HOLD_STAGING' ELSE 'ON_HOLD' END \
         WHERE (source_se = ?1 OR dest_se = ?1) AND vo_name = ?2 AND file_state IN ('SUBMITTED', 'STAGING') \
         RETURNING job_id",
    )
    .bind(storage)
    .bind(vo)
    .fetch_all(&mut **write)
    .await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// `GET /ban/se`.
pub(super) async fn storages(
    State(fts): State<Arc<Inner>>,
    Extension(caller): Extension<Caller>,
) -> Result<Response, Refusal> {
    caller.administrator()?;
    let rows =
        sqlx::query("SELECT se, message, addition_time, admin_dn, vo, status FROM t_bad_ses ORDER BY se")
            .fetch_all(&fts.database.reader)
            .await?;
    let entries = rows.iter().map(|row| {
        json!({
            "se": row.get::<&str, _>(0),
            "message": row.get::<Option<&str>, _>(1),
            "addition_time": row.get::<&str, _>(2).replacen(' ', "T", 1),
            "admin_dn": row.get::<Option<&str>, _>(3),
            "vo": row.get::<&str, _>(4),
            "status": row.get::<&str, _>(5),
        })
    });
    Ok(json_answer(StatusCode::OK, &entries.collect()))
}

/// `DELETE /ban/se?storage=`. What was held goes on.
pub(super) async fn unban_storage(
    State(fts): State<Arc<Inner>>,
    Extension(caller): Extension<Caller>,
    Query(query): Parameters,
) -> Result<Response, Refusal> {
    let user = caller.administrator()?;
    let missing = || Refusal::bad("Missing storage parameter");
    let storage = query.get("storage").filter(|storage| !storage.is_empty()).ok_or_else(missing)?;
    let vo = user.vo()?;
    let mut write = fts.database.write().await?;
    for sql in [
        "DELETE FROM t_bad_ses WHERE se = ?1 AND vo = ?2",
        "UPDATE t_file SET file_state = CASE file_state WHEN 'ON_HOLD_STAGING' THEN 'STAGING' ELSE 'SUBMITTED' END \
         WHERE file_state IN ('ON_HOLD', 'ON_HOLD_STAGING') AND job_id IN (SELECT job_id FROM t_file \
         WHERE (source_se = ?1 OR dest_se = ?1) AND vo_name = ?2 AND file_state IN ('ON_HOLD', 'ON_HOLD_STAGING'))",
    ] {
        sqlx::query(sql).bind(storage).bind(vo).execute(&mut *write).await?;
    }
    write.commit().await?;
    Ok(nothing())
}

/// `POST /ban/dn`: the jobs of a user are cancelled, and nothing more is taken. Answers the ids of the jobs.
pub(super) async fn ban_user(
    State(fts): State<Arc<Inner>>,
    Extension(caller): Extension<Caller>,
    Query(query): Parameters,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refusal> {
    let user = caller.administrator()?;
    let input = input(&headers, &body, query)?;
    let dn = text(&input, "user_dn").ok_or_else(|| Refusal::bad("Missing dn parameter"))?;
    if dn == user.dn {
        let message = "The user tried to ban (her|his)self".into();
        return Err(Refusal::Json(StatusCode::CONFLICT, message));
    }
    let now = timestamp(fts.clock.now());
    let mut write = fts.database.write().await?;
    sqlx::query(
        "INSERT OR REPLACE INTO t_bad_dns (dn, message, addition_time, admin_dn, status) VALUES (?, ?, ?, ?, 'CANCEL')",
    )
    .bind(dn)
    .bind(text(&input, "message").unwrap_or_default())
    .bind(&now)
    .bind(&user.dn)
    .execute(&mut *write)
    .await?;
    let rows = sqlx::query(
        "UPDATE t_job SET job_state = 'CANCELED', reason = 'User banned', job_finished = ? WHERE user_dn = ? \
         AND job_finished IS NULL RETURNING job_id",
    )
    .bind(&now)
    .bind(dn)
    .fetch_all(&mut *write)
    .await?;
    let met: BTreeSet<String> = rows.iter().map(|row| row.get(0)).collect();
    sqlx::query(
        "UPDATE t_file SET file_state = 'CANCELED', reason = 'User banned', finish_time = ? \
         WHERE job_id IN (SELECT value FROM json_each(?)) AND file_state IN (SELECT value FROM json_each(?))",
    )
    .bind(&now)
    .bind(json!(met).to_string())
    .bind(ACTIVE)
    .execute(&mut *write)
    .await?;
    write.commit().await?;
    Ok(json_answer(StatusCode::OK, &json!(met)))
}

/// `GET /ban/dn`.
pub(super) async fn users(
    State(fts): State<Arc<Inner>>,
    Extension(caller): Extension<Caller>,
) -> Result<Response, Refusal> {
    caller.administrator()?;
    let rows = sqlx::query("SELECT dn, message, addition_time, admin_dn FROM t_bad_dns ORDER BY dn")
        .fetch_all(&fts.database.reader)
        .await?;
    let entries = rows.iter().map(|row| {
        json!({
            "dn": row.get::<&str, _>(0),
            "message": row.get::<Option<&str>, _>(1),
            "addition_time": row.get::<Option<String>, _>(2).map(|time| time.replacen(' ', "T", 1)),
            "admin_dn": row.get::<Option<&str>, _>(3),
        })
    });
    Ok(json_answer(StatusCode::OK, &entries.collect()))
}

/// `DELETE /ban/dn?user_dn=`, of somebody who is not banned too.
pub(super) async fn unban_user(
    State(fts): State<Arc<Inner>>,
    Extension(caller): Extension<Caller>,
    Query(query): Parameters,
) -> Result<Response, Refusal> {
    caller.administrator()?;
    let missing = || Refusal::bad("Missing user_dn parameter");
    let dn = query.get("user_dn").filter(|dn| !dn.is_empty()).ok_or_else(missing)?;
    let mut write = fts.database.write().await?;
    sqlx::query("DELETE FROM t_bad_dns WHERE dn = ?").bind(dn).execute(&mut *write).await?;
    write.commit().await?;
    Ok(nothing())
}

fn nothing() -> Response {
    (StatusCode::NO_CONTENT, [(CONTENT_TYPE, "application/json")]).into_response()
}

/// The members of a JSON body, or the fields of a query and a form.
fn input(
    headers: &HeaderMap,
    body: &[u8],
    query: HashMap<String, String>,
) -> Result<Map<String, Value>, Refusal> {
    if headers.get(CONTENT_TYPE).is_some_and(|kind| kind == "application/json") {
        return serde_json::from_slice(body).map_err(|_| Refusal::bad("Malformed input"));
    }
    let form = url::form_urlencoded::parse(body).into_owned();
    Ok(query.into_iter().chain(form).map(|(name, value)| (name, value.into())).collect())
}

fn text<'a>(input: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    input.get(name).and_then(Value::as_str).filter(|text| !text.is_empty())
}
