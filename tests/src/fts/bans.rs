//! Banned storage elements and users. Every token user may ban (observed), and no X.509 user.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Extension, Query, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use serde_json::{Map, Value, json};

use super::Inner;
use super::answer::{Refusal, json_answer};
use super::caller::Caller;
use super::change::ACTIVE;
use super::params::truthy;
use super::schema::timestamp;
use super::sql::{Writing, statement};

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
    statement(
        "REPLACE INTO t_bad_ses (se, message, addition_time, admin_dn, vo, status) VALUES (?, ?, ?, ?, ?, ?)",
    )
    .bind(storage)
    .bind(text(&input, "message").unwrap_or_default())
    .bind(&now)
    .bind(&user.dn)
    .bind(vo)
    .bind(status)
    .execute(&mut write)
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
    write: &mut Writing,
    storage: &str,
    vo: &str,
    now: &str,
) -> Result<BTreeSet<String>, sqlx::Error> {
    let find = format!(
        "SELECT file_id, job_id, file_index FROM t_file WHERE (source_se = ? OR dest_se = ?) AND vo_name = ? \
         AND (file_state = 'NOT_USED' OR file_state IN (??)){}",
        write.lock()
    );
    let rows =
        statement(find).bind(storage).bind(storage).bind(vo).bind_all(ACTIVE).fetch_all(&mut *write).await?;
    statement(
        "UPDATE t_file SET file_state = 'CANCELED', reason = 'Storage banned', finish_time = ?, dest_surl_uuid = NULL \
         WHERE file_id IN (??)",
    )
    .bind(now)
    .bind_all(rows.iter().map(|row| row.get::<i64>(0)))
    .execute(&mut *write)
    .await?;
    let mut met = BTreeSet::new();
    for row in rows {
        let job: String = row.get(1);
        statement(
            "UPDATE t_file SET file_state = 'SUBMITTED' WHERE file_id = (SELECT min(file_id) FROM t_file \
             WHERE job_id = ? AND file_index = ? AND file_state = 'NOT_USED')",
        )
        .bind(&job)
        .bind(row.get::<i64>(2))
        .execute(&mut *write)
        .await?;
        statement("UPDATE t_job SET job_state = 'CANCELED', job_finished = ?, reason = NULL WHERE job_id = ? AND NOT EXISTS \
             (SELECT 1 FROM t_file WHERE job_id = ? AND file_state NOT IN ('CANCELED', 'FINISHED', 'FAILED'))",
        )
        .bind(now)
        .bind(&job)
        .bind(&job)
        .execute(&mut *write)
        .await?;
        met.insert(job);
    }
    Ok(met)
}

/// Holds what has not begun.
async fn hold(write: &mut Writing, storage: &str, vo: &str) -> Result<BTreeSet<String>, sqlx::Error> {
    let find = format!(
        "SELECT file_id, job_id FROM t_file WHERE (source_se = ? OR dest_se = ?) AND vo_name = ? \
         AND file_state IN ('SUBMITTED', 'STAGING'){}",
        write.lock()
    );
    let rows = statement(find).bind(storage).bind(storage).bind(vo).fetch_all(&mut *write).await?;
    statement(
        "UPDATE t_file SET file_state = CASE file_state WHEN 'STAGING' THEN 'ON_HOLD_STAGING' ELSE 'ON_HOLD' END \
         WHERE file_id IN (??)",
    )
    .bind_all(rows.iter().map(|row| row.get::<i64>(0)))
    .execute(write)
    .await?;
    Ok(rows.iter().map(|row| row.get(1)).collect())
}

/// `GET /ban/se`.
pub(super) async fn storages(
    State(fts): State<Arc<Inner>>,
    Extension(caller): Extension<Caller>,
) -> Result<Response, Refusal> {
    caller.administrator()?;
    let rows = statement(
        "SELECT se, message, CAST(addition_time AS CHAR), admin_dn, vo, status FROM t_bad_ses ORDER BY se",
    )
    .fetch_all(&fts.database.reader)
    .await?;
    let entries = rows.iter().map(|row| {
        json!({
            "se": row.get::<&str>(0),
            "message": row.get::<Option<&str>>(1),
            "addition_time": row.get::<&str>(2).replacen(' ', "T", 1),
            "admin_dn": row.get::<Option<&str>>(3),
            "vo": row.get::<&str>(4),
            "status": row.get::<&str>(5),
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
    statement("DELETE FROM t_bad_ses WHERE se = ? AND vo = ?")
        .bind(storage)
        .bind(vo)
        .execute(&mut write)
        .await?;
    let find = format!(
        "SELECT DISTINCT job_id FROM t_file WHERE (source_se = ? OR dest_se = ?) AND vo_name = ? \
         AND file_state IN ('ON_HOLD', 'ON_HOLD_STAGING'){}",
        write.lock()
    );
    let rows = statement(find).bind(storage).bind(storage).bind(vo).fetch_all(&mut write).await?;
    statement(
        "UPDATE t_file SET file_state = CASE file_state WHEN 'ON_HOLD_STAGING' THEN 'STAGING' ELSE 'SUBMITTED' END \
         WHERE file_state IN ('ON_HOLD', 'ON_HOLD_STAGING') AND job_id IN (??)",
    )
    .bind_all(rows.iter().map(|row| row.get::<String>(0)))
    .execute(&mut write)
    .await?;
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
    statement(
        "REPLACE INTO t_bad_dns (dn, message, addition_time, admin_dn, status) VALUES (?, ?, ?, ?, 'CANCEL')",
    )
    .bind(dn)
    .bind(text(&input, "message").unwrap_or_default())
    .bind(&now)
    .bind(&user.dn)
    .execute(&mut write)
    .await?;
    let find = format!("SELECT job_id FROM t_job WHERE user_dn = ? AND job_finished IS NULL{}", write.lock());
    let rows = statement(find).bind(dn).fetch_all(&mut write).await?;
    let met: BTreeSet<String> = rows.iter().map(|row| row.get(0)).collect();
    statement("UPDATE t_job SET job_state = 'CANCELED', reason = 'User banned', job_finished = ? WHERE job_id IN (??)")
        .bind(&now)
        .bind_all(&met)
        .execute(&mut write)
        .await?;
    statement(
        "UPDATE t_file SET file_state = 'CANCELED', reason = 'User banned', finish_time = ? \
         WHERE job_id IN (??) AND file_state IN (??)",
    )
    .bind(&now)
    .bind_all(&met)
    .bind_all(ACTIVE)
    .execute(&mut write)
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
    let rows =
        statement("SELECT dn, message, CAST(addition_time AS CHAR), admin_dn FROM t_bad_dns ORDER BY dn")
            .fetch_all(&fts.database.reader)
            .await?;
    let entries = rows.iter().map(|row| {
        json!({
            "dn": row.get::<&str>(0),
            "message": row.get::<Option<&str>>(1),
            "addition_time": row.get::<Option<String>>(2).map(|time| time.replacen(' ', "T", 1)),
            "admin_dn": row.get::<Option<&str>>(3),
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
    statement("DELETE FROM t_bad_dns WHERE dn = ?").bind(dn).execute(&mut write).await?;
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
