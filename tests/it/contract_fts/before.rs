//! The rows that were there before a request, as far as the request, its answer and the rows afterwards tell.
//!
//! Rows afterwards are taken back to what they were; jobs and files that only the answer shows are made from it; what nobody
//! shows is as it usually is.

use serde_json::{Map, Value, json};

use super::recording::{Recording, Row};
use super::rows::{Rows, row_of, usual_file, usual_job};
use super::submission;

const CANCELED: &str = "Job canceled by the user";

/// Reads what was there.
pub(crate) fn before(recording: &Recording) -> Rows {
    let mut before = Before { recording, now: time(recording.recorded_at), rows: Vec::new() };
    before.read();
    before.rows
}

/// A time as a table has it.
pub(crate) fn time(at: i64) -> String {
    let at = time::OffsetDateTime::from_unix_timestamp(at).unwrap_or(time::OffsetDateTime::UNIX_EPOCH);
    let (date, clock) = (at.date(), at.time());
    format!("{date} {:02}:{:02}:{:02}", clock.hour(), clock.minute(), clock.second())
}

struct Before<'a> {
    recording: &'a Recording,
    now: String,
    rows: Rows,
}

impl Before<'_> {
    fn read(&mut self) {
        self.rows.extend(submission::delegation(self.recording));
        let request = &self.recording.request;
        let body = &self.recording.response.body;
        match (request.method.as_str(), request.elements().as_slice()) {
            ("POST" | "PUT", ["jobs"]) => self.rows.extend(submission::before(self.recording, &self.now)),
            (_, ["jobs", "vo", _] | ["jobs", "all"]) => (),
            ("GET", ["jobs"]) => {
                self.listed_jobs();
                self.strangers();
            }
            ("GET", ["files"]) => {
                self.shown_files(None, body);
                self.strangers();
            }
            ("GET", ["ban", kind]) => {
                let table = if *kind == "se" { "t_bad_ses" } else { "t_bad_dns" };
                for entry in body.as_array().into_iter().flatten().filter_map(Value::as_object) {
                    let usual = json!({"status": "CANCEL"}).as_object().cloned().unwrap_or_default();
                    self.rows.push((table, row_of(entry, usual)));
                }
            }
            (_, ["jobs", ids]) => self.jobs(ids),
            (_, ["jobs", id, "files", ..]) => self.files(id, request.elements().get(3).copied()),
            ("GET", ["jobs", id, field]) => self.field(id, field),
            _ => (),
        }
    }

    /// The jobs of a list. What it does not show of them is what was asked for.
    fn listed_jobs(&mut self) {
        let request = &self.recording.request;
        for shown in
            self.recording.response.body.as_array().into_iter().flatten().filter_map(Value::as_object)
        {
            let mut usual = usual_job("", &self.now);
            for (parameter, column) in [
                ("dest_se", "dest_se"),
                ("source_se", "source_se"),
                ("vo_name", "vo_name"),
                ("user_dn", "user_dn"),
                ("dlg_id", "cred_id"),
            ] {
                if let Some(asked) = request.parameter(parameter) {
                    usual.insert(column.to_owned(), asked.into());
                }
            }
            if let Some(state) = request.parameter("state_in").and_then(|states| states.split(',').next()) {
                usual.insert("job_state".to_owned(), state.into());
            }
            self.rows.push(("t_job", row_of(shown, usual)));
        }
    }

    /// Jobs and files that a list must not show: of another link and VO, long ended, and older than the others.
    fn strangers(&mut self) {
        let id = "00000000-0000-0000-0000-00000000feed";
        let long_ago = time(self.recording.recorded_at - 40 * 86400);
        let job = json!({
            "job_state": "FINISHED", "job_finished": long_ago, "submit_time": long_ago, "source_se": "davs://x.rig.test",
            "dest_se": "davs://y.rig.test", "vo_name": "strangers", "cred_id": "0",
        });
        // Asked for without a limit to how old, it would be shown with right.
        let asked = self.recording.request.parameter("state_in").unwrap_or_default();
        if asked.split(',').any(|state| state == "FINISHED") {
            return;
        }
        let over = |row: &Value, usual: Row| row_of(row.as_object().unwrap_or(&Map::new()), usual);
        self.rows.push(("t_job", over(&job, usual_job(id, &self.now))));
        let file = json!({
            "file_state": "FINISHED", "finish_time": long_ago, "source_se": "davs://x.rig.test",
            "dest_se": "davs://y.rig.test", "vo_name": "strangers", "dest_surl": "davs://y.rig.test/z",
        });
        self.rows.push(("t_file", over(&file, usual_file(id))));
    }

    /// The jobs of a request that names them.
    fn jobs(&mut self, ids: &str) {
        let response = &self.recording.response;
        let entries: Vec<&Map<String, Value>> = match &response.body {
            Value::Array(list) => list.iter().filter_map(Value::as_object).collect(),
            Value::Object(object) => vec![object],
            _ => Vec::new(),
        };
        for id in ids.split(',').filter(|id| !id.is_empty()) {
            let entry =
                entries.iter().copied().find(|entry| entry.get("job_id").is_some_and(|known| known == id));
            match entry {
                Some(entry) if entry.contains_key("job_state") => self.job(id, entry),
                Some(entry) if entry["http_status"] == "403 Forbidden" => self.strange_job(id),
                Some(_) => (),
                // An error for all of them: they were there all the same.
                None => {
                    if !self.written(id) {
                        self.rows.push(("t_job", usual_job(id, &self.now)));
                    }
                }
            }
        }
    }

    fn strange_job(&mut self, id: &str) {
        let mut job = usual_job(id, &self.now);
        job.insert("vo_name".into(), "strangers".into());
        job.insert("user_dn".into(), "a stranger".into());
        self.rows.push(("t_job", job));
    }

    /// Puts the rows afterwards there as they are; false when there are none of this job.
    fn written(&mut self, id: &str) -> bool {
        let of_job = |row: &Row| row.get("job_id").is_some_and(|job| job == id);
        let jobs: Vec<Row> = self.recording.rows_after("t_job").into_iter().filter(of_job).collect();
        let files = self.recording.rows_after("t_file").into_iter().filter(of_job);
        self.rows.extend(files.map(|file| ("t_file", file)));
        let found = !jobs.is_empty();
        self.rows.extend(jobs.into_iter().map(|job| ("t_job", job)));
        let tokens = self.recording.rows_after("t_token");
        self.rows.extend(tokens.into_iter().map(|token| ("t_token", token)));
        found
    }

    /// A job that the answer shows, taken back to before the request.
    fn job(&mut self, id: &str, entry: &Map<String, Value>) {
        let first = self.rows.len();
        if !self.written(id) {
            self.rows.push(("t_job", row_of(entry, usual_job(id, &self.now))));
            self.shown_files(Some(id), entry.get("files").unwrap_or(&Value::Null));
        }
        if entry.get("http_status").is_some_and(|status| status == "304 Not Modified") {
            return;
        }
        let running =
            self.rows[first..].iter().any(|(_, row)| row.get("pid").is_some_and(|pid| !pid.is_null()));
        let request = &self.recording.request;
        let asked = request.body["params"]["priority"].as_i64();
        for (table, row) in &mut self.rows[first..] {
            match (request.method.as_str(), *table) {
                ("DELETE", "t_job") => reopen(row, running),
                ("DELETE", "t_file") if row.get("reason").is_some_and(|reason| reason == CANCELED) => {
                    reopen_file(row);
                }
                ("POST", "t_job" | "t_file") if asked.is_some() => {
                    row.insert("priority".into(), json!(if asked == Some(3) { 2 } else { 3 }));
                }
                _ => (),
            }
        }
    }

    /// The files of a request on files of a job.
    fn files(&mut self, id: &str, file_ids: Option<&str>) {
        let (request, response) = (&self.recording.request, &self.recording.response);
        let message = self.recording.message();
        if message.starts_with("No job with") {
            return;
        }
        if message.starts_with("Not enough permissions to check") {
            return self.strange_job(id);
        }
        let first = self.rows.len();
        if !self.written(id) {
            let mut job = usual_job(id, &self.now);
            // Multihop or reuse jobs must be cancelled at once (H)
            if let Some((_, kind)) = message.split_once('(') {
                job.insert("job_type".into(), kind.trim_end_matches(')').into());
            }
            self.rows.push(("t_job", job));
            match (request.method.as_str(), request.elements().get(4)) {
                ("GET", Some(&"retries")) => self.retries(id, file_ids.unwrap_or_default()),
                ("GET", _) => self.shown_files(Some(id), &response.body),
                _ => self.states(id, file_ids.unwrap_or_default(), &response.body),
            }
        }
        if request.method == "DELETE" && response.status == 200 {
            let asked: Vec<&str> = file_ids.unwrap_or_default().split(',').collect();
            for (table, row) in &mut self.rows[first..] {
                let canceled = row.get("file_state").is_some_and(|state| state == "CANCELED");
                let named = row.get("file_id").is_some_and(|id| asked.contains(&id.to_string().as_str()));
                match *table {
                    "t_job" if row.get("job_state").is_some_and(|state| state == "CANCELED") => {
                        reopen(row, false);
                    }
                    "t_file" if canceled && named => reopen_file(row),
                    _ => (),
                }
            }
        }
    }

    /// Files by the states that a cancellation answers with.
    fn states(&mut self, id: &str, file_ids: &str, body: &Value) {
        let single = std::slice::from_ref(body);
        let states = body.as_array().map_or(single, Vec::as_slice);
        for (file, state) in file_ids.split(',').zip(states) {
            let (Ok(file), Some(state)) = (file.parse::<i64>(), state.as_str()) else { continue };
            if state != "File does not belong to the job" {
                let mut row = usual_file(id);
                row.insert("file_id".into(), json!(file));
                row.insert("file_state".into(), state.into());
                self.rows.push(("t_file", row));
            }
        }
    }

    fn retries(&mut self, id: &str, file: &str) {
        let mut row = usual_file(id);
        row.insert("file_id".into(), json!(file.parse::<i64>().unwrap_or(0)));
        for entry in
            self.recording.response.body.as_array().into_iter().flatten().filter_map(Value::as_object)
        {
            if let Some(shown) = entry.get("file").and_then(Value::as_object) {
                row = row_of(shown, row);
            }
            let mut retry = entry.clone();
            retry.remove("file");
            self.rows.push(("t_file_retry_errors", retry));
        }
        self.rows.push(("t_file", row));
    }

    /// Files that the answer shows, of this job or of those they name.
    fn shown_files(&mut self, job: Option<&str>, list: &Value) {
        for shown in list.as_array().into_iter().flatten().filter_map(Value::as_object) {
            let id = job.or(shown.get("job_id").and_then(Value::as_str)).unwrap_or_default().to_owned();
            if job.is_none() {
                self.rows.push(("t_job", usual_job(&id, &self.now)));
            }
            self.rows.push(("t_file", row_of(shown, usual_file(&id))));
        }
    }

    /// A job of which one member is asked for.
    fn field(&mut self, id: &str, field: &str) {
        let message = self.recording.message();
        if message.starts_with("No job with") {
            return;
        }
        if message.starts_with("Not enough permissions to check") {
            return self.strange_job(id);
        }
        let usual = usual_job(id, &self.now);
        let shown = match self.recording.response.status {
            200 if field != "dm" => {
                Map::from_iter([(field.to_owned(), self.recording.response.body.clone())])
            }
            _ => Map::new(),
        };
        self.rows.push(("t_job", row_of(&shown, usual)));
    }
}

fn reopen(job: &mut Row, running: bool) {
    job.insert("job_state".into(), if running { "ACTIVE" } else { "SUBMITTED" }.into());
    for column in ["cancel_job", "reason", "job_finished"] {
        job.insert(column.into(), Value::Null);
    }
}

fn reopen_file(file: &mut Row) {
    let running = file.get("pid").is_some_and(|pid| !pid.is_null());
    file.insert("file_state".into(), if running { "ACTIVE" } else { "SUBMITTED" }.into());
    for column in ["reason", "finish_time"] {
        file.insert(column.into(), Value::Null);
    }
}
