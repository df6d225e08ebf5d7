//! Makes the recorded call with the client, and says what came of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use fts_client::{
    Answer, Answered, Change, FileCancel, FileEntry, FileFields, FileId, FileQuery, FtsClient, FtsError,
    FtsSettings, JobId, JobQuery, JobStatus, Lookup, Params, Priority, StorageBan, Submission, Submitted,
};
use serde_json::{Value, json};
use token_core::http::{ClientCertificate, HttpSettings};
use token_core::{AccessToken, BearerFuture, BearerSource, Freshness};

use crate::support::{Reaction, Request, Server, answer};
use crate::{Believed, Recording};

/// What the client made of a recording.
pub(crate) struct Got {
    pub(crate) outcome: String,
    pub(crate) differences: Vec<String>,
}

/// An outcome in words, and what was read, as JSON.
type Read = Result<(String, Value), FtsError>;

const ANON: &str = r#"{"user_dn":"anon","base_id":"01874efb-4735-4595-bc9c-591aef8240c9","vos":[],"method":"unauthenticated"}"#;
const KNOWN: &str =
    r#"{"user_dn":"me","base_id":"01874efb-4735-4595-bc9c-591aef8240c9","vos":["vo"],"method":"oauth2"}"#;

/// A token, and how often a fresh one was wanted.
#[derive(Default)]
struct Source(AtomicU64);

impl BearerSource for Source {
    fn bearer(&self, freshness: Freshness) -> BearerFuture<'_> {
        Box::pin(async move {
            self.0.fetch_add(u64::from(freshness == Freshness::Fresh), Ordering::Relaxed);
            Ok(AccessToken::new("token").unwrap())
        })
    }
}

pub(crate) async fn call(recording: &Recording, believed: Believed) -> Got {
    let whoami = if believed == Believed::Yes { KNOWN } else { ANON };
    let recorded = bytes(recording);
    let about_us = recording.path == "/whoami";
    let server = Server::start(move |request: &Request| match request.target.as_str() {
        "/whoami" if !about_us => Reaction::Answer(answer(200, "application/json", whoami.as_bytes())),
        _ => Reaction::Answer(recorded.clone()),
    })
    .await;
    let http = HttpSettings { ca_file: Some(server.ca_file()), ..HttpSettings::default() };
    let settings = FtsSettings { http, ..FtsSettings::new(server.url.clone()) };
    let source = Arc::new(Source::default());
    let with_token = recording.auth == "bearer";
    let client = if with_token {
        FtsClient::new(&settings, Arc::<Source>::clone(&source)).unwrap()
    } else {
        let file = |name: &str| server.folder.path().join(name);
        let shown = ClientCertificate { certificate: file("client.pem"), key: Some(file("client.key")) };
        let certificate = recording.auth.starts_with("x509").then_some(shown);
        FtsClient::without_token(&FtsSettings { certificate, ..settings }).unwrap()
    };
    let (outcome, read) = match make(&client, recording).await {
        Ok((outcome, read)) => (outcome, read),
        Err(error) => (in_words(&error), Value::Null),
    };
    let mut differences = Vec::new();
    let recorded = match &recording.body {
        // Asked for alone: it comes as a list of one.
        Value::Array(list) if list.len() == 1 && read.is_object() => &list[0],
        body => body,
    };
    lost(recorded, &read, "", &mut differences);
    // A sound token that lacks the scope that FTS wants is replaced too: the client may have got it since.
    let lacks = recording.status == 401
        || (recording.status == 403 && recording.body.to_string().contains("Invalid OAuth2 credentials"));
    let wanted = u64::from(with_token && (outcome == "anonymous" || lacks));
    let fresh = source.0.load(Ordering::Relaxed);
    if fresh != wanted {
        differences.push(format!("{fresh} fresh tokens were asked for, not {wanted}"));
    }
    Got { outcome, differences }
}

fn in_words(error: &FtsError) -> String {
    match error {
        FtsError::Anonymous { .. } => "anonymous".into(),
        FtsError::Banned { .. } => "banned".into(),
        FtsError::Forbidden { .. } => "forbidden".into(),
        FtsError::NotThere { .. } => "not there".into(),
        FtsError::Refused { status, .. } => format!("refused {status}"),
        FtsError::Busy { .. } => "try later".into(),
        FtsError::OutcomeUnknown { .. } => "outcome unknown".into(),
        other => format!("error: {other}"),
    }
}

/// The answer as it was recorded.
fn bytes(recording: &Recording) -> Vec<u8> {
    let body = body(recording);
    let whole = answer(recording.status, &recording.content_type, &body);
    if !recording.chunked || recording.status == 204 {
        return whole;
    }
    let head = format!(
        "HTTP/1.1 {} X\r\nContent-Type: {}\r\nTransfer-Encoding: chunked\r\n\r\n",
        recording.status, recording.content_type
    );
    let mut bytes = head.into_bytes();
    for part in body.chunks(1000) {
        bytes.extend_from_slice(format!("{:x}\r\n", part.len()).as_bytes());
        bytes.extend_from_slice(part);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"0\r\n\r\n");
    bytes
}

fn body(recording: &Recording) -> Vec<u8> {
    match &recording.body {
        Value::Null => Vec::new(),
        Value::String(page) if !recording.content_type.starts_with("application/json") => {
            page.clone().into_bytes()
        }
        json => serde_json::to_vec(json).unwrap(),
    }
}

async fn make(client: &FtsClient, recording: &Recording) -> Read {
    let path = recording.path.split('?').next().unwrap_or_default();
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let priority = Priority::new(5).unwrap();
    let id = |text: &str| JobId::parse(text);
    match (recording.method.as_str(), &parts[..]) {
        ("GET", ["whoami"]) => {
            client.whoami().await.map(|who| (format!("{} of {}", who.user_dn, who.vos[0]), Value::Null))
        }
        ("GET", [""]) => client.server().await.map(|server| (format!("version {}", server.api), Value::Null)),
        ("POST" | "PUT", ["jobs"]) => client.submit(&submission(&recording.request)).await.map(submitted),
        // Too long a request line is never sent by the client; the answer to one is read all the same.
        (method, ["jobs", ids])
            if recording.status != 414 && ids.split(',').all(|i| i.is_empty() || id(i).is_some()) =>
        {
            let ids: Vec<JobId> = ids.split(',').filter_map(id).collect();
            match (method, &ids[..]) {
                ("GET", [id]) => Ok(looked_up(id, client.job(id, FileFields::Poll).await?)),
                ("DELETE", [id]) => Ok(changed(id, client.cancel(id).await?)),
                ("POST", [id]) => Ok(changed(id, client.set_priority(id, priority).await?)),
                ("GET", ids) => all(client.poll(ids, FileFields::Poll).next().await, looked_up),
                ("DELETE", ids) => all(client.cancel_many(ids).next().await, changed),
                ("POST", ids) => all(client.set_priority_many(ids, priority).next().await, changed),
                _ => raw(recording),
            }
        }
        ("GET", ["jobs"]) => client.list(&JobQuery::default()).await.map(entries),
        ("GET", ["files"]) => client.list_files(&FileQuery::default()).await.map(entries),
        ("GET", ["jobs", job, "files"]) => client.files(&id(job).unwrap()).await.map(entries),
        ("GET", ["jobs", job, "files", file, "retries"]) => {
            client.attempts(&id(job).unwrap(), FileId(file.parse().unwrap())).await.map(entries)
        }
        ("DELETE", ["jobs", job, "files", files]) => {
            let files: Vec<FileId> = files.split(',').map(|file| FileId(file.parse().unwrap())).collect();
            client.cancel_files(&id(job).unwrap(), &files).await.map(states)
        }
        ("GET", ["ban", "se"]) => client.banned_storages().await.map(entries),
        ("GET", ["ban", "dn"]) => client.banned_users().await.map(entries),
        ("POST", ["ban", "se"]) => client.ban_storage("davs://a", StorageBan::Cancel, "").await.map(entries),
        ("POST", ["ban", "dn"]) => client.ban_user("somebody", "").await.map(entries),
        ("DELETE", ["ban", "se"]) => {
            client.unban_storage("davs://a").await.map(|()| ("done".into(), Value::Null))
        }
        ("DELETE", ["ban", "dn"]) => {
            client.unban_user("somebody").await.map(|()| ("done".into(), Value::Null))
        }
        _ => raw(recording),
    }
}

/// What the client has no method for is read as it reads all answers.
fn raw(recording: &Recording) -> Read {
    let changes = recording.method != "GET";
    let answer =
        Answer::new("https://fts.example", "recorded call", changes, recording.status, body(recording));
    if answer.is_anonymous() {
        return Err(FtsError::Anonymous { fts: String::new() });
    }
    answer.json::<Value>().map(|value| ("read".into(), value))
}

/// The recorded body, if it is one that we could write; its tokens are taken out of their brackets.
fn submission(body: &Value) -> Submission {
    let text = body.to_string().replace("<token:", "token-").replace('>', "");
    serde_json::from_str(&text).unwrap_or_else(|_| Submission {
        files: vec![FileEntry::new("davs://a/x", "davs://b/x")],
        params: Params::default(),
    })
}

fn submitted(submitted: Submitted) -> (String, Value) {
    match submitted {
        Submitted::Accepted(id) => (format!("accepted {id}"), Value::Null),
        Submitted::AlreadyThere => ("already there".into(), Value::Null),
    }
}

fn job(status: &JobStatus, between: &str) -> (String, Value) {
    let JobStatus { job_id, job_state, files, .. } = status;
    (format!("{job_id}{between} {job_state} {}", files.len()), json!(status))
}

fn looked_up(id: &JobId, lookup: Lookup) -> (String, Value) {
    match lookup {
        Lookup::Known(status) => job(&status, ""),
        Lookup::Unknown => (format!("{id} unknown"), json!({ "job_id": id })),
    }
}

fn changed(id: &JobId, change: Change) -> (String, Value) {
    match change {
        Change::Done(status) => job(&status, ""),
        Change::AtItsEnd(status) => job(&status, " was at its end"),
        Change::Unknown => (format!("{id} unknown"), json!({ "job_id": id })),
    }
}

type Batch<T> = Option<Result<Vec<Answered<T>>, FtsError>>;

fn all<T>(batch: Batch<T>, read: fn(&JobId, T) -> (String, Value)) -> Read {
    let mut words = Vec::new();
    let mut values = Vec::new();
    for Answered { id, outcome } in batch.unwrap()? {
        let (word, value) = read(&id, outcome?);
        words.push(word);
        values.push(value);
    }
    Ok((words.join(", "), values.into()))
}

fn states(files: Vec<(FileId, FileCancel)>) -> (String, Value) {
    let word = |(_, file): (_, FileCancel)| match file {
        FileCancel::Now(state) => state.to_string(),
        FileCancel::Refused(words) => words,
    };
    (files.into_iter().map(word).collect::<Vec<_>>().join(", "), Value::Null)
}

fn entries<T: serde::Serialize>(list: Vec<T>) -> (String, Value) {
    (format!("{} entries", list.len()), json!(list))
}

/// Members of the recorded body that are not in what was read. Lists of jobs may come in another order.
fn lost(recorded: &Value, read: &Value, at: &str, differences: &mut Vec<String>) {
    match (recorded, read) {
        (_, Value::Null) if at.is_empty() => (),
        (Value::Object(recorded), Value::Object(read)) => {
            for (key, value) in recorded.iter().filter(|(_, value)| !value.is_null()) {
                // Told by the outcome; and of a retry, the file beside it.
                if !["http_status", "http_message", "file"].contains(&key.as_str()) {
                    lost(value, read.get(key).unwrap_or(&Value::Null), &format!("{at}.{key}"), differences);
                }
            }
        }
        (Value::Array(recorded), Value::Array(read)) if recorded.len() == read.len() => {
            for (index, value) in recorded.iter().enumerate() {
                let same = |other: &&Value| value["job_id"].is_string() && other["job_id"] == value["job_id"];
                let other = read.iter().find(same).filter(|_| value.get("file_id").is_none());
                lost(value, other.unwrap_or(&read[index]), &format!("{at}[{index}]"), differences);
            }
        }
        (recorded, read) => {
            let same_number = recorded.is_number() && recorded.as_f64() == read.as_f64();
            if recorded != read && !same_number {
                differences.push(format!("{at} is not read"));
            }
        }
    }
}
