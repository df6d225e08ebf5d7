//! `params` of a submission: defaults, rules and stored forms, as `JobBuilder` of fts-rest 3.13.4 has them.

use serde_json::{Map, Value, json};
use token_core::UnixSeconds;

use super::answer::Refusal;
use super::python_json::dumps;
use super::tokens::list;

/// Largest `job_metadata`, of the shipped configuration.
const JOB_METADATA: usize = 2048;

/// What `params` make of a job's row.
#[derive(Clone, Debug)]
pub(super) struct JobParams {
    pub(super) priority: i64,
    pub(super) retry: i64,
    pub(super) retry_delay: i64,
    pub(super) copy_pin_lifetime: i64,
    pub(super) bring_online: i64,
    pub(super) archive_timeout: i64,
    /// Absolute, in epoch seconds.
    pub(super) max_time_in_queue: Option<i64>,
    pub(super) overwrite_flag: Option<&'static str>,
    pub(super) internal: Option<String>,
    pub(super) metadata: String,
    pub(super) dst_file_report: bool,
    pub(super) multihop: bool,
    pub(super) reuse: bool,
    /// As given: a flag or a word; settled once the files' checksums are known.
    pub(super) verify_checksum: Value,
}

/// How the job gets its id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum JobId {
    /// A fresh one.
    Standard,
    /// From this `sid` and the VO.
    Deterministic(String),
}

impl JobId {
    /// Reads it from `params`.
    pub(super) fn read(params: &Map<String, Value>) -> Result<Self, Refusal> {
        if params.get("id_generator").and_then(Value::as_str) != Some("deterministic") {
            return Ok(Self::Standard);
        }
        match given(params, "sid") {
            None => Err(Refusal::bad("Need sid for deterministic job id generation")),
            Some(Value::String(sid)) => Ok(Self::Deterministic(sid.clone())),
            // The log line before it joins texts.
            Some(_) => Err(Refusal::malformed("can only concatenate str (not \"int\") to str")),
        }
    }
}

/// Looks up a member, null counting as absent.
pub(super) fn given<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    object.get(name).filter(|value| !value.is_null())
}

/// Python's truth.
pub(super) fn truthy(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null) => false,
        Some(Value::Bool(flag)) => *flag,
        Some(Value::Number(number)) => number.as_f64() != Some(0.0),
        Some(Value::String(text)) => !text.is_empty(),
        Some(Value::Array(list)) => !list.is_empty(),
        Some(Value::Object(object)) => !object.is_empty(),
    }
}

/// `safe_flag`: a text counts when it begins with Y.
pub(super) fn flag(value: Option<&Value>) -> bool {
    match value {
        Some(Value::String(text)) => text.starts_with(['Y', 'y']),
        other => truthy(other),
    }
}

/// Python's `int()`, or -1 for what is no number: `safe_int`.
fn safe_int(value: Option<&Value>) -> i64 {
    int(value, -1).unwrap_or(-1)
}

/// Python's `int()`.
fn int(value: Option<&Value>, default: i64) -> Result<i64, Refusal> {
    match value {
        None => Ok(default),
        Some(Value::Bool(flag)) => Ok(i64::from(*flag)),
        #[expect(clippy::cast_possible_truncation, reason = "Python cuts too")]
        Some(Value::Number(number)) => {
            Ok(number.as_i64().or(number.as_f64().map(|n| n as i64)).unwrap_or(default))
        }
        Some(Value::String(text)) => text
            .trim()
            .parse()
            .map_err(|_| Refusal::value(format!("invalid literal for int() with base 10: '{text}'"))),
        Some(_) => {
            Err(Refusal::malformed("int() argument must be a string, a bytes-like object or a real number"))
        }
    }
}

impl JobParams {
    /// Reads `params`; `metadata` is what [`job_metadata`] made of theirs. Space tokens are not read: the original gives them
    /// to the database under names that no column has, where they are lost.
    pub(super) fn read(
        params: &Map<String, Value>,
        metadata: String,
        now: UnixSeconds,
    ) -> Result<Self, Refusal> {
        let get = |name| given(params, name);
        let archive_timeout = safe_int(get("archive_timeout"));
        let multihop = truthy(get("multihop"));
        let overwrite_flag = overwrite_flag(params, archive_timeout, multihop)?;
        Ok(Self {
            metadata,
            max_time_in_queue: get("max_time_in_queue")
                .and_then(seconds)
                .map(|wait| now.0.saturating_add(wait)),
            overwrite_flag,
            retry: int(get("retry"), 0)?,
            retry_delay: int(get("retry_delay"), 0)?,
            priority: int(get("priority"), 3)?.clamp(1, 5),
            copy_pin_lifetime: safe_int(get("copy_pin_lifetime")),
            bring_online: safe_int(get("bring_online")),
            archive_timeout,
            internal: internal(params)?,
            dst_file_report: flag(get("dst_file_report")),
            multihop,
            reuse: flag(get("reuse")),
            verify_checksum: get("verify_checksum").cloned().unwrap_or(Value::Bool(false)),
        })
    }

    /// Whether files begin in STAGING.
    pub(super) fn staging(&self) -> bool {
        self.copy_pin_lifetime > 0 || self.bring_online > 0
    }

    /// The stored letter: n, s, t or b.
    pub(super) fn checksum_method(&self, any_checksum: bool) -> Result<String, Refusal> {
        match &self.verify_checksum {
            Value::Bool(true) => Ok("b".into()),
            Value::Bool(false) if any_checksum => Ok("t".into()),
            Value::Bool(false) => Ok("n".into()),
            Value::String(word) => word.get(..1).map(str::to_owned).ok_or_else(Refusal::internal),
            _ => Err(Refusal::malformed("'int' object is not subscriptable")),
        }
    }

    /// Overwriting what is only on disk needs destinations that can be asked about tape: of a multihop job the last one.
    pub(super) fn check_disk_destinations(&self, files: &[Map<String, Value>]) -> Result<(), Refusal> {
        if !matches!(self.overwrite_flag, Some("D" | "Q")) {
            return Ok(());
        }
        let files = if self.multihop { files.last().map_or(&[][..], std::slice::from_ref) } else { files };
        let mut destinations =
            files.iter().flat_map(|file| list(file, "destinations")).filter_map(Value::as_str);
        let schemes = ["https://", "davs://", "mock://"];
        if destinations.all(|url| schemes.iter().any(|scheme| url.starts_with(scheme))) {
            return Ok(());
        }
        Err(Refusal::bad(
            "'overwrite-when-only-on-disk' requires destination to be HTTPs endpoint (Tape REST API required)",
        ))
    }
}

/// Metadata as FTS keeps it: an object, or a text as its `label`.
pub(super) fn metadata(value: &Value, limit: usize) -> Result<Value, Refusal> {
    if dumps(value).len() > limit {
        let message = format!("Job Submission Refused, metadata exceeds size limit of {limit}");
        return Err(Refusal::value(message));
    }
    match value {
        Value::Object(_) => Ok(value.clone()),
        Value::String(text) => Ok(json!({ "label": text })),
        _ => Err(Refusal::value("Metadata neither JSON nor String")),
    }
}

/// `job_metadata` as it is stored, with how the user came in.
pub(super) fn job_metadata(value: Option<&Value>, method: &str) -> Result<String, Refusal> {
    let mut metadata = value.map_or_else(|| Ok(json!({})), |value| metadata(value, JOB_METADATA))?;
    metadata["auth_method"] = method.into();
    Ok(dumps(&metadata))
}

/// A whole number is hours; a text has its unit at the end.
fn seconds(value: &Value) -> Option<i64> {
    // A flag is a number in Python.
    if let Some(hours) = value.as_i64().or(value.as_bool().map(i64::from)) {
        return (hours != 0).then(|| hours.saturating_mul(3600));
    }
    let text = value.as_str()?;
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let unit = match unit.to_ascii_lowercase().as_str() {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86400,
        _ => return None,
    };
    number.trim().parse::<i64>().ok().map(|number| number.saturating_mul(unit))
}

/// Y always, R on retries, M on hops between, D when only on disk, Q both of the last.
fn overwrite_flag(
    params: &Map<String, Value>,
    archive_timeout: i64,
    multihop: bool,
) -> Result<Option<&'static str>, Refusal> {
    let names = ["overwrite", "overwrite_on_retry", "overwrite_hop", "overwrite_when_only_on_disk"];
    let flags = names.map(|name| flag(given(params, name)));
    // Counted as flags, looked at as truths: a text "N" sets the flag.
    let [always, on_retry, hop, disk] = names.map(|name| truthy(given(params, name)));
    let count = flags.into_iter().filter(|flag| *flag).count();
    if count > 1 && !(count == 2 && hop && disk) {
        return Err(Refusal::bad("Incompatible overwrite flags used at the same time"));
    }
    if disk && archive_timeout <= 0 {
        return Err(Refusal::bad("'overwrite-when-only-on-disk' requires 'archive-timeout' to be set"));
    }
    if hop && !multihop {
        return Err(Refusal::bad("'overwrite-hop' requires multihop job submission"));
    }
    Ok(match (always, on_retry, hop, disk) {
        (true, ..) => Some("Y"),
        (_, true, ..) => Some("R"),
        (_, _, true, true) => Some("Q"),
        (_, _, true, _) => Some("M"),
        (.., true) => Some("D"),
        _ => None,
    })
}

fn internal(params: &Map<String, Value>) -> Result<Option<String>, Refusal> {
    let mut list = Vec::new();
    for (name, stored) in [("nostreams", "nostreams"), ("timeout", "timeout"), ("buffer_size", "buffersize")]
    {
        if truthy(params.get(name)) {
            list.push(format!("{stored}:{}", int(params.get(name), 0)?));
        }
    }
    for (name, stored) in [("strict_copy", "strict"), ("disable_cleanup", "disable-cleanup")] {
        if truthy(params.get(name)) {
            list.push(stored.to_owned());
        }
    }
    list.extend(["ipv4", "ipv6"].into_iter().find(|name| truthy(params.get(*name))).map(str::to_owned));
    if truthy(params.get("s3alternate")) {
        list.push("s3alternate".to_owned());
    }
    Ok((!list.is_empty()).then(|| list.join(",")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(params: Value) -> Result<JobParams, Refusal> {
        let params = params.as_object().unwrap();
        JobParams::read(params, job_metadata(given(params, "job_metadata"), "oauth2")?, UnixSeconds(1000))
    }

    #[test]
    fn stored_forms_are_the_recorded_ones() {
        let params = read(json!({
            "priority": 9, "max_time_in_queue": "6h", "job_metadata": "hello", "bring_online": null, "strict_copy": true,
            "nostreams": 4, "timeout": "3600", "ipv4": true, "ipv6": true, "s3alternate": true, "overwrite_hop": true,
            "multihop": true,
        }))
        .unwrap();
        assert_eq!((params.priority, params.bring_online, params.copy_pin_lifetime), (5, -1, -1));
        assert_eq!(params.max_time_in_queue, Some(1000 + 6 * 3600));
        assert_eq!(params.internal.as_deref(), Some("nostreams:4,timeout:3600,strict,ipv4,s3alternate"));
        assert_eq!(params.overwrite_flag, Some("M"));
        let metadata: Value = serde_json::from_str(&params.metadata).unwrap();
        assert_eq!(metadata, json!({"label": "hello", "auth_method": "oauth2"}));
        assert_eq!(read(json!({"bring_online": "soon"})).unwrap().bring_online, -1);
        assert_eq!(read(json!({"max_time_in_queue": 2})).unwrap().max_time_in_queue, Some(8200));
        assert_eq!(read(json!({"max_time_in_queue": 0})).unwrap().max_time_in_queue, None);
    }

    #[test]
    fn the_checksum_letter_depends_on_the_files_only_when_the_flag_is_off() {
        for (given, any, letter) in [
            (json!(false), false, "n"),
            (json!(false), true, "t"),
            (json!(true), false, "b"),
            (json!("source"), true, "s"),
            (json!("none"), true, "n"),
        ] {
            let params = read(json!({ "verify_checksum": given })).unwrap();
            assert_eq!(params.checksum_method(any).unwrap(), letter, "{given} {any}");
        }
    }
}
