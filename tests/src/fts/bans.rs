//! Banned storage elements. Every token user may ban (observed).

use std::collections::HashMap;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Extension, Query, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};
use sqlx::Row as _;

use super::Inner;
use super::answer::{Refusal, json_answer};
use super::caller::Caller;
use super::rest::dictionary;
use super::schema::timestamp;

/// `POST /ban/se`: CANCEL, or WAIT, in which new files are held if submissions are allowed.
pub(super) async fn add(
    State(fts): State<Arc<Inner>>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refusal> {
    let user = caller.user()?;
    let input = dictionary(&headers, &body)?;
    let storage = input["storage"].as_str().ok_or_else(|| Refusal::bad("Missing storage parameter"))?;
    let status = match (
        input["status"].as_str().unwrap_or("cancel").to_lowercase().as_str(),
        &input["allow_submit"],
    ) {
        ("cancel", _) => "CANCEL",
        ("wait", Value::Bool(true)) => "WAIT_AS",
        ("wait", _) => "WAIT",
        _ => return Err(Refusal::bad("status can only be cancel or wait")),
    };
    let mut write = fts.database.write().await?;
    sqlx::query(
        "INSERT OR REPLACE INTO t_bad_ses (se, message, addition_time, admin_dn, vo, status) VALUES (?, ?, ?, ?, ?, ?)",
    )
    .bind(storage)
    .bind(input["message"].as_str().unwrap_or_default())
    .bind(timestamp(fts.clock.now()))
    .bind(&user.dn)
    .bind(input["vo_name"].as_str().unwrap_or(&user.vos[0]))
    .bind(status)
    .execute(&mut *write)
    .await?;
    write.commit().await?;
    // The real one lists the jobs it cancelled; here none are.
    Ok(json_answer(StatusCode::OK, &json!([])))
}

/// `GET /ban/se`.
pub(super) async fn list(
    State(fts): State<Arc<Inner>>,
    Extension(caller): Extension<Caller>,
) -> Result<Response, Refusal> {
    caller.user()?;
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

/// `DELETE /ban/se?storage=`.
pub(super) async fn remove(
    State(fts): State<Arc<Inner>>,
    Extension(caller): Extension<Caller>,
    Query(query): Query<HashMap<String, String>>,
) -> Result<Response, Refusal> {
    caller.user()?;
    let storage = query.get("storage").ok_or_else(|| Refusal::bad("Missing storage parameter"))?;
    let mut write = fts.database.write().await?;
    sqlx::query("DELETE FROM t_bad_ses WHERE se = ?").bind(storage).execute(&mut *write).await?;
    write.commit().await?;
    Ok((StatusCode::NO_CONTENT, [(CONTENT_TYPE, "application/json")]).into_response())
}
