//! A submission, from its JSON to the rows it will become: the rules of `JobBuilder` of fts-rest 3.13.4, with its words.

use std::collections::HashMap;

use serde_json::{Map, Value};
use token_core::{AccessToken, UnixSeconds, random_hex};
use uuid::{Builder, Uuid};

use super::answer::Refusal;
use super::caller::{User, deterministic_id};
use super::params::{JobId, JobParams, given, metadata};
use super::python_json::dumps;
use super::surl::Surl;
use super::tokens::{self, NewToken, list};

/// Largest file metadata of the shipped configuration, and of staging and archive metadata.
const FILE_METADATA: usize = 4096;
const OTHER_METADATA: usize = 1024;

/// Strategies that FTS knows.
const STRATEGIES: [&str; 10] = [
    "auto",
    "duration",
    "file-throughput",
    "orderly",
    "pending-data",
    "queue",
    "success",
    "throughput",
    "waiting-time",
    "waiting-time-with-error",
];

/// A row of `t_file` to be.
#[derive(Clone, Debug)]
pub(super) struct NewFile {
    /// Rows of one entry share it.
    pub(super) index: i64,
    pub(super) source: Surl,
    pub(super) destination: Surl,
    /// What the state would be without tokens.
    pub(super) state: &'static str,
    pub(super) source_token: Option<String>,
    pub(super) destination_token: Option<String>,
    pub(super) filesize: i64,
    pub(super) strategy: String,
    pub(super) checksum: Option<String>,
    pub(super) metadata: Option<String>,
    pub(super) staging_metadata: Option<String>,
    pub(super) archive_metadata: Option<String>,
    pub(super) activity: String,
    pub(super) scitag: Option<i64>,
    pub(super) hashed_id: i64,
}

/// The rows of one submission.
#[derive(Clone, Debug)]
pub(super) struct Submission {
    pub(super) job_id: String,
    pub(super) params: JobParams,
    /// N, R, H or Y.
    pub(super) job_type: &'static str,
    pub(super) files: Vec<NewFile>,
    pub(super) tokens: Vec<NewToken>,
    /// Whether the body had `params` at all.
    had_params: bool,
}

impl Submission {
    /// Reads the body of `POST /jobs`.
    pub(super) fn read(body: &[u8], user: &User, now: UnixSeconds) -> Result<Self, Refusal> {
        let body: Value =
            serde_json::from_slice(body).map_err(|_| Refusal::bad("Badly formatted JSON request"))?;
        let Value::Object(mut body) = body else { return Err(Refusal::bad("Expecting a dictionary")) };
        let had_params = body.contains_key("params");
        let params = match body.remove("params").unwrap_or_else(|| Map::new().into()) {
            Value::Object(params) => params,
            Value::Null => return Err(Refusal::malformed("'NoneType' object is not iterable")),
            _ => {
                return Err(Refusal::malformed(
                    "cannot convert dictionary update sequence element #0 to a sequence",
                ));
            }
        };
        let mut files = entries(body.remove("files"))?;
        tokens::fill_with_bearer(&mut files, &user.bearer)?;
        if body.get("delete").is_some_and(|delete| !delete.is_null()) {
            let message = "Deletion jobs are no longer supported by FTS".into();
            return Err(Refusal::Json(axum::http::StatusCode::METHOD_NOT_ALLOWED, message));
        }
        let params = JobParams::read(&params, now)?;
        let job_id = match &params.job_id {
            JobId::Standard => fresh_id(),
            JobId::Deterministic(sid) => deterministic_id(&user.vos[0], sid),
        };
        files.iter().try_for_each(tokens::check_lists)?;
        let tokens = tokens::distinct(&files)?;

        let mut rows = Vec::new();
        let shared = (params.multihop || params.reuse || params.staging()).then(hashed_id);
        for (index, file) in (0_i64..).zip(&files) {
            rows.extend(file_rows(file, index, &params, shared)?);
        }
        if rows.is_empty() {
            return Err(Refusal::bad("No valid pairs available"));
        }
        let job_type = job_type(&params, &rows)?;
        let mut submission = Self { job_id, params, job_type, files: rows, tokens, had_params };
        if submission.params.multihop {
            submission.files[0].state = submission.entry_state();
        }
        Ok(submission)
    }

    /// What a token user may not do, looked at after the tokens were found to be valid.
    pub(super) fn check_tape(&self) -> Result<(), Refusal> {
        if !self.had_params {
            // The handler reads `params` from the body as it came (observed).
            return Err(Refusal::internal());
        }
        let what = [
            (self.params.archive_timeout, "archive to tape"),
            (self.params.bring_online, "retrieve from tape"),
        ];
        match what.into_iter().find(|(seconds, _)| *seconds > 0) {
            Some((_, what)) => {
                Err(Refusal::bad(format!("Requests to {what} using token authentication are not supported")))
            }
            None => Ok(()),
        }
    }

    /// On a job of several replicas: lets the best one begin. `queued` tells how many files of this VO wait between a
    /// source and the destination; the strategies that need statistics of past transfers have none here, and take the
    /// first source.
    pub(super) fn choose_replica(&mut self, queued: &HashMap<String, i64>) -> Result<(), Refusal> {
        if self.job_type != "R" {
            return Ok(());
        }
        let strategy = self.files[0].strategy.as_str();
        let best = match strategy {
            "auto" | "queue" => (0..self.files.len())
                .min_by_key(|index| queued.get(&self.files[*index].source.storage).copied().unwrap_or(0))
                .unwrap_or(0),
            known if STRATEGIES.contains(&known) => 0,
            unknown => {
                return Err(Refusal::bad(format!("{unknown} algorithm is not supported by Scheduler")));
            }
        };
        self.files[best].state = self.entry_state();
        Ok(())
    }

    /// Refuses banned storage, or holds the file where submissions are still taken. `banned`: storage, and whether it
    /// waits.
    pub(super) fn apply_bans(&mut self, banned: &HashMap<String, bool>) -> Result<(), Refusal> {
        for file in &mut self.files {
            for storage in [&file.source.storage, &file.destination.storage] {
                match banned.get(storage) {
                    None => (),
                    Some(false) => {
                        let message = format!("{storage} is banned");
                        return Err(Refusal::Json(axum::http::StatusCode::FORBIDDEN, message));
                    }
                    Some(true) if file.state == "SUBMITTED" => file.state = "ON_HOLD",
                    Some(true) if file.state == "STAGING" => file.state = "ON_HOLD_STAGING",
                    Some(true) => (),
                }
            }
        }
        Ok(())
    }

    /// The job's source and destination, where all files agree; of a multihop job, both ends.
    pub(super) fn ends(&self) -> (Option<&str>, Option<&str>) {
        let (first, last) = (&self.files[0], &self.files[self.files.len() - 1]);
        if self.job_type == "H" {
            return (Some(&first.source.storage), Some(&last.destination.storage));
        }
        (
            common(&self.files, |file| &file.source.storage),
            common(&self.files, |file| &file.destination.storage),
        )
    }

    /// The state of the job, and of the file that begins.
    pub(super) fn entry_state(&self) -> &'static str {
        if self.params.staging() { "STAGING" } else { "SUBMITTED" }
    }

    /// The letter in `t_job.checksum_method`. The last file with a checksum decides, as in the original.
    pub(super) fn checksum_method(&self) -> String {
        let last = self.files.iter().rev().find_map(|file| file.checksum.as_ref());
        self.params.checksum_method(last.is_some_and(|checksum| !checksum.is_empty()))
    }
}

fn common(files: &[NewFile], storage: fn(&NewFile) -> &String) -> Option<&str> {
    let first = storage(&files[0]);
    files.iter().all(|file| storage(file) == first).then_some(first)
}

fn entries(files: Option<Value>) -> Result<Vec<Map<String, Value>>, Refusal> {
    let Some(Value::Array(files)) = files else {
        return Err(Refusal::malformed("'NoneType' object is not iterable"));
    };
    let object = |file| match file {
        Value::Object(file) => Ok(file),
        _ => Err(Refusal::malformed("argument of this type is not iterable")),
    };
    files.into_iter().map(object).collect()
}

fn urls(file: &Map<String, Value>, name: &str) -> Result<Vec<Surl>, Refusal> {
    if !file.contains_key(name) {
        return Err(Refusal::bad(format!("Missing parameter: '{name}'")));
    }
    list(file, name).iter().map(|url| Surl::parse(url.as_str().ok_or_else(Refusal::internal)?)).collect()
}

/// The rows of one entry: every source with every destination.
fn file_rows(
    file: &Map<String, Value>,
    index: i64,
    params: &JobParams,
    shared: Option<i64>,
) -> Result<Vec<NewFile>, Refusal> {
    let (sources, destinations) = (urls(file, "sources")?, urls(file, "destinations")?);
    let several = sources.len() > 1;
    let state = match (several || params.multihop, params.staging()) {
        (true, _) => "NOT_USED",
        (_, true) => "STAGING",
        _ => "SUBMITTED",
    };
    let shared = shared.or_else(|| several.then(hashed_id));
    let token_ids = |name| list(file, name).iter().map(token_id).collect::<Vec<_>>();
    let (source_tokens, destination_tokens) = (token_ids("source_tokens"), token_ids("destination_tokens"));
    let mut rows = Vec::new();
    for (s, source) in sources.iter().enumerate() {
        for (d, destination) in destinations.iter().enumerate() {
            rows.push(NewFile {
                index,
                source: source.clone(),
                destination: destination.clone(),
                state,
                source_token: source_tokens.get(s).cloned().flatten(),
                destination_token: destination_tokens.get(d).cloned().flatten(),
                filesize: filesize(file.get("filesize"))?,
                strategy: text(file, "selection_strategy").unwrap_or("auto").to_owned(),
                checksum: text(file, "checksum").map(str::to_owned),
                scitag: scitag(given(file, "scitag"))?,
                metadata: given(file, "metadata")
                    .map(|m| metadata(m, FILE_METADATA))
                    .transpose()?
                    .map(|m| dumps(&m)),
                staging_metadata: object(file, "staging_metadata", "Staging")?,
                archive_metadata: object(file, "archive_metadata", "Archive")?,
                activity: text(file, "activity").unwrap_or("default").to_owned(),
                hashed_id: shared.unwrap_or_else(hashed_id),
            });
        }
    }
    Ok(rows)
}

fn text<'a>(file: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    file.get(name).and_then(Value::as_str)
}

fn token_id(token: &Value) -> Option<String> {
    let token = AccessToken::new(token.as_str()?).ok()?;
    Some(token.fingerprint().to_string())
}

fn object(file: &Map<String, Value>, name: &str, shown: &str) -> Result<Option<String>, Refusal> {
    match given(file, name) {
        None => Ok(None),
        Some(value @ Value::Object(_)) => Ok(Some(dumps(&metadata(value, OTHER_METADATA)?))),
        Some(_) => Err(Refusal::value(format!("{shown} metadata not in JSON format"))),
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the column is a whole number")]
fn filesize(value: Option<&Value>) -> Result<i64, Refusal> {
    match value {
        None | Some(Value::Null) => Ok(0),
        Some(Value::Number(size)) => Ok(size.as_i64().or(size.as_f64().map(|size| size as i64)).unwrap_or(0)),
        Some(Value::String(size)) => match size.trim().parse::<f64>() {
            Ok(size) => Ok(size as i64),
            Err(_) => Err(Refusal::value(format!("could not convert string to float: '{size}'"))),
        },
        Some(_) => Err(Refusal::malformed("float() argument must be a string or a real number")),
    }
}

fn scitag(value: Option<&Value>) -> Result<Option<i64>, Refusal> {
    match value {
        None => Ok(None),
        Some(value) => match value.as_i64() {
            Some(tag @ 65..=65535) => Ok(Some(tag)),
            _ => Err(Refusal::value("SciTag value out of range 65 to 65535")),
        },
    }
}

fn job_type(params: &JobParams, rows: &[NewFile]) -> Result<&'static str, Refusal> {
    let several = rows.windows(2).any(|pair| pair[0].index == pair[1].index);
    if several {
        if params.multihop || params.reuse {
            let message = "Can not request multiple replica job together with multihop or session reuse at the same time";
            return Err(Refusal::bad(message));
        }
        if rows[0].index != rows[rows.len() - 1].index {
            return Err(Refusal::bad("Multiple replica jobs must only have one unique file"));
        }
        return Ok("R");
    }
    if params.multihop {
        return Ok("H");
    }
    if params.reuse {
        let one_link =
            common(rows, |file| &file.source.storage).and(common(rows, |file| &file.destination.storage));
        return match one_link {
            Some(_) => Ok("Y"),
            None => Err(Refusal::bad(
                "Reuse jobs must only contain transfers for the same source ad destination storage",
            )),
        };
    }
    Ok("N")
}

/// FTS takes a UUID of version 1; nobody may rely on that, so this one is random.
fn fresh_id() -> String {
    let random = Uuid::parse_str(&random_hex()).unwrap_or_default();
    Builder::from_random_bytes(random.into_bytes()).into_uuid().to_string()
}

/// A number of 16 bits by which FTS spreads files over its nodes.
fn hashed_id() -> i64 {
    random_hex().get(..4).and_then(|digits| i64::from_str_radix(digits, 16).ok()).unwrap_or(0)
}
