//! The rows of `t_file` that one entry of a submission becomes: the rules of `JobBuilder` of fts-rest 3.13.4.

use serde_json::{Map, Value};
use token_core::{AccessToken, random_hex};

use super::answer::Refusal;
use super::caller::destination_id;
use super::params::{JobParams, given, metadata};
use super::python_json::dumps;
use super::surl::Surl;
use super::tokens::list;

/// Largest file metadata of the shipped configuration, and of staging and archive metadata.
const FILE_METADATA: usize = 4096;
const OTHER_METADATA: usize = 1024;

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
    /// There at most once in the table.
    pub(super) destination_id: Option<String>,
}

/// Whether a destination may be written by one file at a time only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Duplicates {
    /// It does not matter.
    Allowed,
    /// It is looked at.
    Checked,
    /// It would be, but that breaks the submission.
    Broken,
}

impl NewFile {
    /// Gives the row the id that can be there only once.
    pub(super) fn claim_destination(&mut self) {
        self.destination_id = Some(destination_id(&self.destination.text));
    }
}

fn urls(file: &Map<String, Value>, name: &str) -> Result<Vec<Surl>, Refusal> {
    if !file.contains_key(name) {
        return Err(Refusal::bad(format!("Missing parameter: '{name}'")));
    }
    // A text is taken apart into characters, none of which is a URL.
    if let Some(first) = file.get(name).and_then(Value::as_str).and_then(|text| text.get(..1)) {
        Surl::parse(first)?;
    }
    list(file, name).iter().map(|url| Surl::parse(url.as_str().ok_or_else(Refusal::internal)?)).collect()
}

/// The rows of one entry: every source with every destination.
pub(super) fn file_rows(
    file: &Map<String, Value>,
    index: i64,
    params: &JobParams,
    shared: Option<i64>,
    duplicates: Duplicates,
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
            if duplicates == Duplicates::Broken && !several {
                return Err(Refusal::malformed("encoding without a string argument"));
            }
            let mut row = NewFile {
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
                destination_id: None,
            };
            // Of several sources, the one that begins claims it later.
            if duplicates == Duplicates::Checked && !several {
                row.claim_destination();
            }
            rows.push(row);
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

/// A number of 16 bits by which FTS spreads files over its nodes.
pub(super) fn hashed_id() -> i64 {
    random_hex().get(..4).and_then(|digits| i64::from_str_radix(digits, 16).ok()).unwrap_or(0)
}
