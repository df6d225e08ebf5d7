//! Replays one recording against an FTS of its own.

use anyhow::{Context as _, Result};
use axum::body::Bytes;
use axum::http::Response;
use serde_json::Value;
use token_core::AccessToken;

use super::before::before;
use super::compare::{Comparison, page};
use super::contract::issuer::Forgery;
use super::names::Names;
use super::recording::{Recording, Row};
use super::rig::{Rig, Server};
use super::rows::{self, Rows};

/// Sends the request and tells every difference.
pub(crate) async fn replay(rig: &Rig, recording: &Recording) -> Result<Vec<String>> {
    let server = rig.server(recording).await?;
    let mut names = names(rig, recording)?;
    let rows: Rows = before(recording)
        .into_iter()
        .map(|(table, row)| {
            (table, row.iter().map(|(column, value)| (column.clone(), names.here_in(value))).collect())
        })
        .collect();
    rows::insert(&server.pool, &rows).await?;
    if recording.response.status == 409 && is_repeated(recording) {
        let first = send(&server, recording, &names).await?;
        anyhow::ensure!(first.status() == 200, "what is to be repeated got {}", first.status());
    }
    let answer = send(&server, recording, &names).await?;
    let submits = recording.submits();
    let made_up: &[&str] = match (submits, recording.request.body["params"]["id_generator"].as_str()) {
        (true, Some("deterministic")) => &["hashed_id", "file_id"],
        (true, _) => &["job_id", "hashed_id", "file_id"],
        (false, _) => &[],
    };
    let mut comparison = Comparison { names: &mut names, made_up, differences: Vec::new() };
    compare_answer(&mut comparison, recording, &answer);
    compare_rows(&mut comparison, recording, &server).await?;
    Ok(comparison.differences)
}

/// Whether the first of two equal requests went well, and this is the second.
fn is_repeated(recording: &Recording) -> bool {
    ["sid provided", "Duplicate entry"].iter().any(|words| recording.message().contains(words))
}

fn names(rig: &Rig, recording: &Recording) -> Result<Names> {
    let mut names = Names::default();
    let forgery = Forgery::read(&recording.what);
    for (name, token) in &recording.tokens {
        let issuer = rig.issuer(token.claims["iss"].as_str())?;
        let kid = token.header["kid"].as_str().unwrap_or_default();
        let forgery = match (recording.forged() == Some(name), rig.foreign_key(kid)) {
            (_, true) => Forgery::ForeignKey,
            (true, false) => forgery,
            (false, false) => Forgery::None,
        };
        let text = match token.claims.is_object() {
            true => issuer.mint(&token.header, &token.claims, forgery)?,
            false => "garbage".to_owned(),
        };
        if let Ok(token_here) = AccessToken::new(text.as_str())
            && !token.token_id.is_empty()
        {
            names.token_ids.push((token.token_id.clone(), token_here.fingerprint().to_string()));
        }
        names.tokens.push((format!("<token:{name}>"), text));
    }
    Ok(names)
}

async fn send(server: &Server, recording: &Recording, names: &Names) -> Result<Response<Bytes>> {
    let request = &recording.request;
    let headers: Vec<(String, String)> =
        request.headers.iter().map(|(name, value)| (name.clone(), names.here(value))).collect();
    let body = match &request.body {
        Value::Null => Bytes::new(),
        Value::String(text) => Bytes::from(names.here(text)),
        json => Bytes::from(names.here_in(json).to_string()),
    };
    let to = server.fts.server().address();
    server.wire.send(to, &request.method, &request.path, &headers, body).await
}

fn compare_answer(comparison: &mut Comparison<'_>, recording: &Recording, answer: &Response<Bytes>) {
    let recorded = &recording.response;
    if recorded.status != answer.status().as_u16() {
        comparison.differ("status", recorded.status, answer.status());
    }
    let text = String::from_utf8_lossy(answer.body()).into_owned();
    let header = |name: &str| recorded.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
    let kind = |value: &str| value.split(';').next().unwrap_or_default().to_owned();
    if let Some((_, theirs)) = header("content-type") {
        let ours =
            answer.headers().get("content-type").and_then(|value| value.to_str().ok()).unwrap_or_default();
        if kind(theirs) != kind(ours) {
            comparison.differ("content type", theirs, ours);
        }
        if kind(theirs) == "text/html" {
            let theirs = page(recorded.body.as_str().unwrap_or_default());
            // The page of a server in front is its own.
            if theirs != page(&text) && recorded.status != 414 {
                comparison.differ("page", theirs, page(&text));
            }
            return;
        }
    }
    let ours = match serde_json::from_str(&text) {
        Ok(ours) => ours,
        Err(_) if text.is_empty() => Value::Null,
        Err(_) => Value::String(text),
    };
    let (theirs, ours) = match recording.request.elements().as_slice() {
        // Nobody promises an order where the query has none.
        ["jobs" | "files"] | ["ban", _] => (sorted(&recorded.body), sorted(&ours)),
        _ => (recorded.body.clone(), ours),
    };
    comparison.value("body", &theirs, &ours);
}

fn sorted(list: &Value) -> Value {
    let Value::Array(list) = list else { return list.clone() };
    let key = |entry: &Value| {
        ["file_id", "job_id", "se", "dn"].iter().map(|name| entry[*name].to_string()).collect::<String>()
    };
    let mut list = list.clone();
    list.sort_by_key(key);
    list.into()
}

async fn compare_rows(comparison: &mut Comparison<'_>, recording: &Recording, server: &Server) -> Result<()> {
    if recording.database_after.is_empty() {
        return Ok(());
    }
    let recorded_jobs = recording.rows_after("t_job");
    for (table, order) in [("t_job", "job_id"), ("t_file", "file_id")] {
        let recorded = if table == "t_job" { recorded_jobs.clone() } else { recording.rows_after(table) };
        // A text among the rows says that there were more.
        let rows = recording.database_after.get(table).and_then(Value::as_array);
        let whole = rows.is_none_or(|rows| rows.iter().all(Value::is_object));
        let ids: Vec<String> = recorded_jobs.iter().filter_map(|row| job_id(comparison.names, row)).collect();
        let sql = format!(
            "SELECT * FROM {table} WHERE job_id IN (SELECT value FROM json_each(?)) ORDER BY {order}"
        );
        let ours = rows::select(&server.pool, sql, &[Value::from(ids).to_string()]).await?;
        if whole && recorded.len() != ours.len() {
            comparison.differ(&format!("rows of {table}"), recorded.len(), ours.len());
        }
        for (index, (theirs, ours)) in recorded.iter().zip(&ours).enumerate() {
            comparison.row(&format!("{table}[{index}]"), theirs, ours, recording.usual_schema());
        }
    }
    compare_tokens(comparison, recording, server).await
}

/// Rows of tokens are found by their ids.
async fn compare_tokens(
    comparison: &mut Comparison<'_>,
    recording: &Recording,
    server: &Server,
) -> Result<()> {
    for theirs in recording.rows_after("t_token") {
        let id = theirs.get("token_id").and_then(Value::as_str).context("a token without an id")?;
        let here = comparison.names.here(id);
        let sql = "SELECT * FROM t_token WHERE token_id = ?".to_owned();
        match rows::select(&server.pool, sql, &[here]).await?.first() {
            Some(ours) => comparison.row(&format!("t_token {id}"), &theirs, ours, recording.usual_schema()),
            None => comparison.differ(&format!("t_token {id}"), "a row", "none"),
        }
    }
    Ok(())
}

/// The id of a recorded job, here.
fn job_id(names: &Names, row: &Row) -> Option<String> {
    let id = row.get("job_id")?.as_str()?;
    Some(names.made_up("job_id", id).unwrap_or_else(|| id.to_owned()))
}
