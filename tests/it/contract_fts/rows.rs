//! Rows for FTS's tables, from what its REST interface shows of them.

use anyhow::{Context as _, Result};
use serde_json::{Map, Value, json};
use sqlx::{AssertSqlSafe, Column as _, Row as _, SqlitePool, TypeInfo as _, ValueRef as _};

use super::recording::Row;

/// Rows to be: table and columns.
pub(crate) type Rows = Vec<(&'static str, Row)>;

/// Members of a job or file whose column has another name.
const RENAMED: [(&str, &str); 5] = [
    ("source_spacetoken", "source_space_token"),
    ("destination_spacetoken", "space_token"),
    ("verify_checksum", "checksum_method"),
    ("recoverable", "current_failures"),
    ("log_debug", "log_file_debug"),
];
/// Members that are no columns.
const SHOWN_ONLY: [&str; 3] = ["files", "http_status", "http_message"];

/// A job as it is when nothing is said of it.
pub(crate) fn usual_job(id: &str, now: &str) -> Row {
    row(json!({
        "job_id": id, "job_state": "SUBMITTED", "job_type": "N", "source_se": "davs://src.rig.test",
        "dest_se": "davs://dst.rig.test", "user_dn": "rucio-client", "cred_id": "63cc5e9ff48f9e6a", "vo_name": "rigvo",
        "submit_time": now, "priority": 3, "submit_host": "fts-rig.test", "copy_pin_lifetime": -1, "checksum_method": "n",
        "bring_online": -1, "retry": 0, "retry_delay": 0, "job_metadata": "{\"auth_method\": \"oauth2\"}",
        "archive_timeout": -1, "dst_file_report": "",
    }))
}

/// A file as it is when nothing is said of it.
pub(crate) fn usual_file(job: &str) -> Row {
    row(json!({
        "file_index": 0, "job_id": job, "file_state": "SUBMITTED", "source_surl": "davs://src.rig.test:1094/data/f",
        "dest_surl": "davs://dst.rig.test:1094/data/f", "source_se": "davs://src.rig.test",
        "dest_se": "davs://dst.rig.test", "checksum": "ADLER32", "retry": 0, "user_filesize": 0,
        "selection_strategy": "auto", "hashed_id": 1, "vo_name": "rigvo", "activity": "default", "transferred": 0,
        "priority": 3, "file_state_initial": "",
    }))
}

fn row(value: Value) -> Row {
    match value {
        Value::Object(row) => row,
        _ => Map::new(),
    }
}

/// What an object of the REST interface is in its table, over what is usual there.
pub(crate) fn row_of(shown: &Map<String, Value>, usual: Row) -> Row {
    let mut row = usual;
    for (name, value) in shown.iter().filter(|(name, _)| !SHOWN_ONLY.contains(&name.as_str())) {
        let column =
            RENAMED.iter().find(|(member, _)| member == name).map_or(name.as_str(), |(_, column)| column);
        row.insert(column.to_owned(), stored(column, value));
    }
    row
}

/// A value as its column has it.
pub(crate) fn stored(column: &str, value: &Value) -> Value {
    match value {
        Value::Bool(true) if column == "cancel_job" || column == "dst_file_report" => "Y".into(),
        Value::Bool(false) if column == "cancel_job" => Value::Null,
        Value::Bool(false) if column == "dst_file_report" => "".into(),
        Value::Bool(flag) => json!(i64::from(*flag)),
        Value::Object(_) | Value::Array(_) => value.to_string().into(),
        Value::String(text) if is_time(text) => text.replacen('T', " ", 1).into(),
        other => other.clone(),
    }
}

/// Whether it is a time as FTS shows it, or as its database does.
pub(crate) fn is_time(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() == 19
        && bytes.iter().enumerate().all(|(at, byte)| match at {
            4 | 7 => *byte == b'-',
            10 => matches!(byte, b'T' | b' '),
            13 | 16 => *byte == b':',
            _ => byte.is_ascii_digit(),
        })
}

/// Writes rows down, as far as the tables have their columns.
pub(crate) async fn insert(pool: &SqlitePool, rows: &Rows) -> Result<()> {
    for (table, row) in rows {
        let known = sqlx::query(AssertSqlSafe(format!("SELECT name FROM pragma_table_info('{table}')")));
        let known: Vec<String> = known.fetch_all(pool).await?.iter().map(|row| row.get(0)).collect();
        let columns: Vec<&String> = row.keys().filter(|column| known.contains(column)).collect();
        let names: Vec<&str> = columns.iter().map(|column| column.as_str()).collect();
        let places = vec!["?"; names.len()].join(", ");
        let sql = format!("INSERT OR IGNORE INTO {table} ({}) VALUES ({places})", names.join(", "));
        let mut query = sqlx::query(AssertSqlSafe(sql));
        for column in &columns {
            query = match stored(column, &row[column.as_str()]) {
                Value::Null => query.bind(None::<String>),
                Value::Number(number) if number.is_i64() => query.bind(number.as_i64()),
                Value::Number(number) => query.bind(number.as_f64()),
                Value::String(text) => query.bind(text),
                other => query.bind(other.to_string()),
            };
        }
        query.execute(pool).await.with_context(|| format!("putting a row into {table}"))?;
    }
    Ok(())
}

/// The rows of a query, column by column.
pub(crate) async fn select(pool: &SqlitePool, sql: String, values: &[String]) -> Result<Vec<Row>> {
    let query = values.iter().fold(sqlx::query(AssertSqlSafe(sql)), |query, value| query.bind(value.clone()));
    let rows = query.fetch_all(pool).await?;
    let value = |row: &sqlx::sqlite::SqliteRow, at: usize| -> Result<Value> {
        let raw = row.try_get_raw(at)?;
        Ok(match (raw.is_null(), raw.type_info().name()) {
            (true, _) => Value::Null,
            (_, "INTEGER" | "BOOLEAN") => row.try_get::<i64, _>(at)?.into(),
            (_, "REAL") => row.try_get::<f64, _>(at)?.into(),
            _ => row.try_get::<String, _>(at)?.into(),
        })
    };
    rows.iter()
        .map(|row| {
            let columns = row.columns().iter().enumerate();
            columns.map(|(at, column)| Ok((column.name().to_owned(), value(row, at)?))).collect()
        })
        .collect()
}
