//! What was there before a submission.

use aws_lc_rs::digest;
use serde_json::{Value, json};
use token_core::hex;

use super::before::time;
use super::recording::{Recording, Row};
use super::rows::{Rows, usual_file, usual_job};

/// Storage that is banned, files that wait, and tokens that were exchanged already: a submission does not do that.
pub(crate) fn before(recording: &Recording, now: &str) -> Rows {
    let mut rows = queue(recording, now);
    if let Some(storage) = recording.message().strip_suffix(" is banned") {
        rows.extend(row("t_bad_ses", json!({"se": storage, "vo": "*", "status": "CANCEL"})));
    }
    for file in recording.rows_after("t_file") {
        let held = ["file_state", "file_state_initial"].iter().any(|name| {
            file.get(*name).and_then(Value::as_str).is_some_and(|state| state.starts_with("ON_HOLD"))
        });
        if held {
            rows.extend(row("t_bad_ses", json!({"se": file["dest_se"], "vo": "*", "status": "WAIT_AS"})));
        }
    }
    let exchanged = |token: &Row| token.get("refresh_token").is_some_and(|token| !token.is_null());
    let tokens = recording.rows_after("t_token").into_iter().filter(exchanged);
    rows.extend(tokens.map(|token| ("t_token", token)));
    rows
}

/// A certificate is of no use without a delegated proxy; how long that lives is told where it matters.
pub(crate) fn delegation(recording: &Recording) -> Rows {
    let message = recording.message();
    if !recording.by_certificate() || message.starts_with("No delegation") {
        return Rows::new();
    }
    let expired =
        message.split_once("expired ").and_then(|(_, rest)| rest.split(' ').next()?.parse::<i64>().ok());
    let left = match expired {
        Some(ago) => -ago,
        None if message.contains("less than one hour") => 1800,
        None => 12 * 3600,
    };
    let dn = recording.user_dn();
    let id = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, dn.as_bytes());
    let end = time(recording.recorded_at + left);
    row("t_credential", json!({"dlg_id": hex(&id.as_ref()[..8]), "dn": dn, "termination_time": end}))
}

/// A replica that is not the first begins where fewer files wait: one waits on the links of those before it.
fn queue(recording: &Recording, now: &str) -> Rows {
    let files = recording.rows_after("t_file");
    let spare = |row: &Row| {
        ["file_state", "file_state_initial"].iter().any(|name| row.get(*name) == Some(&json!("NOT_USED")))
    };
    let several =
        files.len() > 1 && files.iter().all(|row| row.get("file_index") == files[0].get("file_index"));
    let first = files.iter().position(|row| !spare(row)).filter(|_| several).unwrap_or(0);
    let mut rows = Rows::new();
    for row in &files[..first] {
        let id = "00000000-0000-0000-0000-00000000beef";
        let mut file = usual_file(id);
        for column in ["source_se", "dest_se", "vo_name"] {
            file.insert(column.into(), row[column].clone());
        }
        rows.push(("t_job", usual_job(id, now)));
        rows.push(("t_file", file));
    }
    rows
}

fn row(table: &'static str, row: Value) -> Rows {
    match row {
        Value::Object(row) => vec![(table, row)],
        _ => Rows::new(),
    }
}
