//! A submission, from its JSON to the rows it will become: the rules of `JobBuilder` of fts-rest 3.13.4, with its words.

use std::collections::HashMap;

use serde_json::{Map, Value};
use token_core::{UnixSeconds, random_hex};
use uuid::{Builder, Uuid};

use super::RestSettings;
use super::answer::Refusal;
use super::caller::{User, deterministic_id};
use super::new_file::{Duplicates, NewFile, file_rows, hashed_id};
use super::params::{JobId, JobParams, flag, given, job_metadata};
use super::tokens::{self, NewToken};

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

/// The rows of one submission.
#[derive(Clone, Debug)]
pub(super) struct Submission {
    pub(super) job_id: String,
    pub(super) params: JobParams,
    /// N, R, H or Y.
    pub(super) job_type: &'static str,
    pub(super) files: Vec<NewFile>,
    pub(super) tokens: Vec<NewToken>,
    /// n, s, t or b: what is compared.
    pub(super) checksum_method: String,
    /// Whether files wait in TOKEN_PREP for refresh tokens: those of token users.
    pub(super) prepared: bool,
    /// Ids of tokens for which nothing waits.
    pub(super) unmanaged: Vec<String>,
    /// Whether its tokens are to be left alone: `t_token.unmanaged`. Their files wait in TOKEN_PREP for one more look.
    pub(super) left_alone: bool,
    /// What `params` want of tape, if the body has any.
    tape: Option<Option<&'static str>>,
}

impl Submission {
    /// Reads the body of `POST /jobs`. What is wrong first in the order of the original is told.
    pub(super) fn read(
        mut body: Map<String, Value>,
        user: &User,
        settings: &RestSettings,
        now: UnixSeconds,
    ) -> Result<Self, Refusal> {
        let tape = body.get("params").map(tape_wanted);
        let params = params_of(&mut body)?;
        let metadata = job_metadata(given(&params, "job_metadata"), user.method_name())?;
        let files = files_of(&mut body, user)?;
        let (vo, job_id) = (user.vo()?, JobId::read(&params)?);
        let job_id = match &job_id {
            JobId::Standard => fresh_id(),
            JobId::Deterministic(sid) => deterministic_id(vo, sid),
        };
        let left_alone = flag(given(&params, "unmanaged_tokens")) && settings.unmanaged_tokens.is_some();
        if left_alone && settings.unmanaged_tokens == Some(false) {
            return Err(Refusal::bad("Unmanaged tokens are not allowed!"));
        }
        let mut tokens = Vec::new();
        if user.bearer().is_some() {
            files.iter().try_for_each(tokens::check_lists)?;
            tokens = tokens::distinct(&files)?;
        }
        let params = JobParams::read(&params, metadata, now)?;
        params.check_disk_destinations(&files)?;

        let duplicates = match (settings.checks_duplicates(vo), settings.uuid5_takes_bytes) {
            (false, _) => Duplicates::Allowed,
            (true, true) => Duplicates::Checked,
            (true, false) => Duplicates::Broken,
        };
        let mut rows = Vec::new();
        let shared = (params.multihop || params.reuse || params.staging()).then(hashed_id);
        for (index, file) in (0_i64..).zip(&files) {
            rows.extend(file_rows(file, index, &params, shared, duplicates)?);
        }
        if rows.is_empty() {
            return Err(Refusal::bad("No valid pairs available"));
        }
        let checksum_method = params.checksum_method(last_checksum(&rows))?;
        let job_type = job_type(&params, &rows)?;
        let prepared = user.bearer().is_some();
        let unmanaged = if settings.non_managed_tokens { tokens::offline_less(&tokens) } else { Vec::new() };
        let mut submission = Self {
            job_id,
            params,
            job_type,
            checksum_method,
            files: rows,
            tokens,
            prepared,
            unmanaged,
            left_alone,
            tape,
        };
        if submission.params.multihop {
            submission.files[0].state = submission.entry_state();
        }
        Ok(submission)
    }

    /// What a token user may not do, looked at after the tokens were found to be valid.
    pub(super) fn check_tape(&self) -> Result<(), Refusal> {
        match self.tape {
            // The handler reads `params` from the body as it came (observed).
            None => Err(Refusal::internal()),
            Some(None) => Ok(()),
            Some(Some(what)) => {
                Err(Refusal::bad(format!("Requests to {what} using token authentication are not supported")))
            }
        }
    }

    /// On a job of several replicas: lets the best one begin. `queued` tells how many files of this VO wait between a
    /// source and the destination; the strategies that need statistics of past transfers have none here, and take the
    /// first source.
    pub(super) fn choose_replica(
        &mut self,
        queued: &HashMap<String, i64>,
        check_duplicates: bool,
    ) -> Result<(), Refusal> {
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
        if check_duplicates {
            self.files[best].claim_destination();
        }
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
}

/// Whether the last file that has a checksum at all has more than an empty one: it decides, as in the original.
fn last_checksum(files: &[NewFile]) -> bool {
    files.iter().rev().find_map(|file| file.checksum.as_ref()).is_some_and(|checksum| !checksum.is_empty())
}

fn common(files: &[NewFile], storage: fn(&NewFile) -> &String) -> Option<&str> {
    let first = storage(&files[0]);
    files.iter().all(|file| storage(file) == first).then_some(first)
}

fn params_of(body: &mut Map<String, Value>) -> Result<Map<String, Value>, Refusal> {
    match body.remove("params") {
        None => Ok(Map::new()),
        Some(Value::Object(params)) => Ok(params),
        Some(Value::Null) => Err(Refusal::malformed("'NoneType' object is not iterable")),
        Some(_) => {
            Err(Refusal::malformed("cannot convert dictionary update sequence element #0 to a sequence"))
        }
    }
}

/// What is wanted of tape: only a whole number is looked at.
fn tape_wanted(params: &Value) -> Option<&'static str> {
    let wants = [("archive_timeout", "archive to tape"), ("bring_online", "retrieve from tape")];
    let positive =
        |value: &Value| value.as_i64().is_some_and(|seconds| seconds > 0) || *value == Value::Bool(true);
    wants.into_iter().find(|(name, _)| positive(&params[*name])).map(|(_, what)| what)
}

/// The entries of a body, with the bearer filled in where a token user gives no tokens.
fn files_of(body: &mut Map<String, Value>, user: &User) -> Result<Vec<Map<String, Value>>, Refusal> {
    let files = body.remove("files").filter(|files| !files.is_null());
    let deletes = body.get("delete").is_some_and(|delete| !delete.is_null());
    let mut files = match (files, user.bearer()) {
        // Without tokens to be filled in, nobody looks at the files before the deletions.
        (None, None) if deletes => Vec::new(),
        (None, None) => return Err(Refusal::bad("No transfers operations specified")),
        (files, _) => entries(files)?,
    };
    if let Some(bearer) = user.bearer() {
        tokens::fill_with_bearer(&mut files, bearer)?;
    }
    if deletes {
        let message = "Deletion jobs are no longer supported by FTS".into();
        return Err(Refusal::Json(axum::http::StatusCode::METHOD_NOT_ALLOWED, message));
    }
    Ok(files)
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
