//! Jobs and files as the REST interface shows them: which key comes from which column.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::LazyLock;

use serde_json::{Map, Value};

use super::sql::{Pool, Row, statement};

/// How a column becomes JSON.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Text,
    Int,
    Real,
    /// `2026-11-23T18:20:26`: UTC, without a zone.
    Time,
    /// Stored as text, shown as what it says.
    Json,
    /// `Y` or anything else.
    Flag,
    /// A number that is a truth value; null stays null.
    Bool,
}
use Kind::{Bool, Flag, Int, Json, Real, Text, Time};

/// Which rows of a list are at their end.
pub(super) enum Ended {
    /// None.
    No,
    /// It does not matter.
    Any,
    /// All, since this time.
    Since(String),
}

/// Key, column of `t_job`, kind. What has no key is for us only, and is not shown.
const JOB: [(&str, &str, Kind); 30] = [
    ("job_id", "job_id", Text),
    ("job_state", "job_state", Text),
    ("job_type", "job_type", Text),
    ("cancel_job", "cancel_job", Flag),
    ("source_se", "source_se", Text),
    ("dest_se", "dest_se", Text),
    ("submit_host", "submit_host", Text),
    ("user_dn", "user_dn", Text),
    ("cred_id", "cred_id", Text),
    ("vo_name", "vo_name", Text),
    ("reason", "reason", Text),
    ("submit_time", "submit_time", Time),
    ("job_finished", "job_finished", Time),
    ("priority", "priority", Int),
    ("max_time_in_queue", "max_time_in_queue", Int),
    ("source_spacetoken", "source_space_token", Text),
    ("destination_spacetoken", "space_token", Text),
    ("internal_job_params", "internal_job_params", Text),
    ("dst_file_report", "dst_file_report", Flag),
    ("overwrite_flag", "overwrite_flag", Text),
    ("copy_pin_lifetime", "copy_pin_lifetime", Int),
    ("verify_checksum", "checksum_method", Text),
    ("bring_online", "bring_online", Int),
    ("archive_timeout", "archive_timeout", Int),
    ("target_qos", "target_qos", Text),
    ("job_metadata", "job_metadata", Json),
    ("retry", "retry", Int),
    ("retry_delay", "retry_delay", Int),
    ("os_project_id", "os_project_id", Text),
    ("", "job_id", Text),
];

/// Key, column of `t_file`, kind.
const FILE: [(&str, &str, Kind); 44] = [
    ("file_id", "file_id", Int),
    ("hashed_id", "hashed_id", Int),
    ("file_index", "file_index", Int),
    ("job_id", "job_id", Text),
    ("dest_surl_uuid", "dest_surl_uuid", Text),
    ("vo_name", "vo_name", Text),
    ("source_se", "source_se", Text),
    ("dest_se", "dest_se", Text),
    ("priority", "priority", Int),
    ("file_state", "file_state", Text),
    ("file_state_initial", "file_state_initial", Text),
    ("transfer_host", "transfer_host", Text),
    ("staging_host", "staging_host", Text),
    ("source_surl", "source_surl", Text),
    ("dest_surl", "dest_surl", Text),
    ("reason", "reason", Text),
    ("recoverable", "current_failures", Bool),
    ("filesize", "filesize", Int),
    ("user_filesize", "user_filesize", Int),
    ("checksum", "checksum", Text),
    ("start_time", "start_time", Time),
    ("finish_time", "finish_time", Time),
    ("staging_start", "staging_start", Time),
    ("staging_finished", "staging_finished", Time),
    ("archive_start_time", "archive_start_time", Time),
    ("archive_finish_time", "archive_finish_time", Time),
    ("internal_file_params", "internal_file_params", Text),
    ("pid", "pid", Int),
    ("tx_duration", "tx_duration", Real),
    ("throughput", "throughput", Real),
    ("retry", "retry", Int),
    ("file_metadata", "file_metadata", Json),
    ("staging_metadata", "staging_metadata", Json),
    ("archive_metadata", "archive_metadata", Json),
    ("selection_strategy", "selection_strategy", Text),
    ("bringonline_token", "bringonline_token", Text),
    ("log_file", "log_file", Text),
    ("log_debug", "log_file_debug", Int),
    ("activity", "activity", Text),
    ("scitag", "scitag", Int),
    ("src_token_id", "src_token_id", Text),
    ("dst_token_id", "dst_token_id", Text),
    ("", "job_id", Text),
    ("", "file_id", Int),
];

static JOBS_BY_ID: LazyLock<String> =
    LazyLock::new(|| format!("{} WHERE job_id IN (??)", select(&JOB, "t_job")));
static JOB_LIST: LazyLock<String> = LazyLock::new(|| select(&JOB, "t_job"));
static FILES_BY_JOB: LazyLock<String> =
    LazyLock::new(|| format!("{} WHERE job_id IN (??) ORDER BY file_id", select(&FILE, "t_file")));
static FILE_LIST: LazyLock<String> = LazyLock::new(|| select(&FILE, "t_file"));

fn select(columns: &[(&str, &str, Kind)], table: &str) -> String {
    let name = |(_, column, kind): &(&str, &str, Kind)| match kind {
        Time => format!("CAST({column} AS CHAR)"),
        _ => (*column).to_owned(),
    };
    let names: Vec<String> = columns.iter().map(name).collect();
    format!("SELECT {} FROM {table}", names.join(", "))
}

/// Jobs by id.
pub(super) async fn jobs(
    pool: &Pool,
    ids: &[&str],
) -> Result<HashMap<String, Map<String, Value>>, sqlx::Error> {
    let rows = statement(JOBS_BY_ID.as_str()).bind_all(ids.iter().copied()).fetch_all(pool).await?;
    Ok(rows.iter().map(|row| (row.get(JOB.len() - 1), object(row, &JOB))).collect())
}

/// Files by job id, in the order of their ids; with `fields`, only those keys.
pub(super) async fn files(
    pool: &Pool,
    ids: &[&str],
    fields: Option<&[&str]>,
) -> Result<HashMap<String, Vec<Value>>, sqlx::Error> {
    let rows = statement(FILES_BY_JOB.as_str()).bind_all(ids.iter().copied()).fetch_all(pool).await?;
    let mut files: HashMap<String, Vec<Value>> = HashMap::new();
    for row in &rows {
        files.entry(row.get(FILE.len() - 2)).or_default().push(subset(object(row, &FILE), fields).into());
    }
    Ok(files)
}

/// The file with this id; null when there is none.
pub(super) async fn file(pool: &Pool, id: i64) -> Result<Value, sqlx::Error> {
    let sql = format!("{} WHERE file_id = ?", *FILE_LIST);
    let row = statement(sql).bind(id).fetch_optional(pool).await?;
    Ok(row.map_or(Value::Null, |row| object(&row, &FILE).into()))
}

/// Jobs where each of these columns has this value; with a limit, the newest first.
pub(super) async fn list_jobs(
    pool: &Pool,
    equal: &[(&str, &str)],
    states: Option<&[&str]>,
    ended: &Ended,
    limit: Option<i64>,
) -> Result<Vec<Map<String, Value>>, sqlx::Error> {
    let states = states.map(|states| ("job_state", states));
    let order = if limit.is_some() { "submit_time DESC" } else { "job_id" };
    let filter = Filter { equal, states, ended: ("job_finished", ended), order, limit };
    let rows = filter.fetch(pool, &JOB_LIST).await?;
    Ok(rows.iter().map(|row| object(row, &JOB)).collect())
}

/// Files where each of these columns has this value; 1000 at most.
pub(super) async fn list_files(
    pool: &Pool,
    equal: &[(&str, &str)],
    states: Option<&[&str]>,
    ended: &Ended,
) -> Result<Vec<Value>, sqlx::Error> {
    let states = states.map(|states| ("file_state", states));
    let filter = Filter { equal, states, ended: ("finish_time", ended), order: "file_id", limit: Some(1000) };
    let rows = filter.fetch(pool, &FILE_LIST).await?;
    Ok(rows.iter().map(|row| object(row, &FILE).into()).collect())
}

/// Which rows of a table, by columns whose names are ours, never the user's.
struct Filter<'a> {
    equal: &'a [(&'a str, &'a str)],
    states: Option<(&'a str, &'a [&'a str])>,
    ended: (&'a str, &'a Ended),
    order: &'a str,
    limit: Option<i64>,
}

impl Filter<'_> {
    async fn fetch(&self, pool: &Pool, select: &str) -> Result<Vec<Row>, sqlx::Error> {
        let (mut sql, mut values) = (format!("{select} WHERE 1"), Vec::new());
        if let Some((column, _)) = self.states {
            let _ = write!(sql, " AND {column} IN (??)");
        }
        match self.ended {
            (column, Ended::No) => {
                let _ = write!(sql, " AND {column} IS NULL");
            }
            (column, Ended::Since(time)) => {
                let _ = write!(sql, " AND {column} >= ?");
                values.push(time.clone());
            }
            (_, Ended::Any) => (),
        }
        for (column, value) in self.equal {
            let _ = write!(sql, " AND {column} = ?");
            values.push((*value).to_owned());
        }
        let _ = write!(sql, " ORDER BY {} LIMIT ?", self.order);
        let states = self.states.map(|(_, states)| states).unwrap_or_default();
        let query = statement(sql).bind_all(states.iter().copied());
        let query = values.into_iter().fold(query, |query, value| query.bind(value));
        query.bind(self.limit.unwrap_or(i64::MAX)).fetch_all(pool).await
    }
}

/// Only these keys, as far as they are there: unknown names are left out silently.
pub(super) fn subset(object: Map<String, Value>, fields: Option<&[&str]>) -> Map<String, Value> {
    match fields {
        None => object,
        Some(fields) => object.into_iter().filter(|(key, _)| fields.contains(&key.as_str())).collect(),
    }
}

fn object(row: &Row, columns: &[(&str, &str, Kind)]) -> Map<String, Value> {
    let shown = columns.iter().enumerate().filter(|(_, (key, ..))| !key.is_empty());
    shown.map(|(index, (key, _, kind))| ((*key).to_owned(), value(row, index, *kind))).collect()
}

fn value(row: &Row, index: usize, kind: Kind) -> Value {
    let text = || row.find::<String>(index);
    match kind {
        Text => text().into(),
        Time => text().map(|text| text.replacen(' ', "T", 1)).into(),
        Json => text().and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default(),
        Flag => (text().as_deref() == Some("Y")).into(),
        Int => row.find::<i64>(index).into(),
        Bool => row.find::<i64>(index).map(|number| number != 0).into(),
        Real => row.find::<f64>(index).into(),
    }
}
