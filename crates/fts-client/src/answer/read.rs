//! How an answer is read: one job or a list of them, and what a status means.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::value::RawValue;
use token_core::http::printable;

use super::{Answer, Answered};
use crate::error::FtsError;
use crate::id::JobId;
use crate::status::{Change, Lookup};
use crate::words::{self, Words};

/// What FTS writes for one job of a list.
pub(super) struct Entry {
    code: u16,
    words: String,
}

#[derive(Deserialize)]
struct Head {
    job_id: Option<JobId>,
    http_status: Option<String>,
    http_message: Option<String>,
}

impl Answer {
    pub(super) fn lookup(&self, entry: Entry, raw: &[u8]) -> Result<Lookup, FtsError> {
        match entry.code {
            200 | 304 => self.decode(raw).map(|job| Lookup::Known(Box::new(job))),
            404 => Ok(Lookup::Unknown),
            _ => Err(self.failure(entry.code, entry.words, true)),
        }
    }

    pub(super) fn changed(&self, entry: Entry, raw: &[u8]) -> Result<Change, FtsError> {
        match entry.code {
            200 => self.decode(raw).map(|job| Change::Done(Box::new(job))),
            304 => self.decode(raw).map(|job| Change::AtItsEnd(Box::new(job))),
            404 => Ok(Change::Unknown),
            _ => Err(self.failure(entry.code, entry.words, true)),
        }
    }

    pub(super) fn one<T>(
        &self,
        id: &JobId,
        read: fn(&Self, Entry, &[u8]) -> Result<T, FtsError>,
    ) -> Result<T, FtsError> {
        // One id with a comma behind it is answered as many are.
        if self.is_list() {
            let mut entries = self.list(std::slice::from_ref(id), read)?;
            return entries
                .pop()
                .map_or_else(|| Err(self.bad("an empty list".into())), |entry| entry.outcome);
        }
        if self.status != 404 {
            self.success()?;
        }
        match serde_json::from_slice::<Head>(&self.body) {
            Ok(Head { job_id: Some(of), http_status, http_message }) if of == *id => {
                let code = http_status.as_deref().map_or(Some(self.status), code);
                let code = code.ok_or_else(|| self.bad("its http_status is no status".into()))?;
                let words = printable(&http_message.unwrap_or_default());
                read(self, Entry { code, words }, &self.body)
            }
            Ok(Head { job_id: Some(_), .. }) => Err(self.bad("it is for another job".into())),
            // Whatever answers 404 here may be no FTS at all: it does not say that this job is unknown.
            _ if self.status == 404 => {
                Err(self.success().map_or_else(|error| error, |_| self.bad(String::new())))
            }
            Ok(Head { job_id: None, .. }) => Err(self.bad("it names no job".into())),
            Err(error) => Err(self.unreadable(&error)),
        }
    }

    /// One id is answered by one object, several by a list.
    pub(super) fn many<T>(
        &self,
        ids: &[JobId],
        read: fn(&Self, Entry, &[u8]) -> Result<T, FtsError>,
    ) -> Result<Vec<Answered<T>>, FtsError> {
        match ids {
            [id] => self.one(id, read).map(|known| vec![Answered { id: id.clone(), outcome: Ok(known) }]),
            ids => self.list(ids, read),
        }
    }

    fn is_list(&self) -> bool {
        self.body.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[')
    }

    fn list<T>(
        &self,
        ids: &[JobId],
        read: fn(&Self, Entry, &[u8]) -> Result<T, FtsError>,
    ) -> Result<Vec<Answered<T>>, FtsError> {
        let list: Vec<&RawValue> = self.decode(self.success()?)?;
        let mut read_entries = HashMap::with_capacity(list.len());
        for raw in list {
            let raw = raw.get().as_bytes();
            if let Ok(Head { job_id: Some(id), http_status, http_message }) = serde_json::from_slice(raw) {
                let words = printable(&http_message.unwrap_or_default());
                let entry = match http_status.as_deref().map_or(Some(200), code) {
                    Some(code) => read(self, Entry { code, words }, raw),
                    None => Err(self.bad("its http_status is no status".into())),
                };
                read_entries.insert(id, entry);
            }
        }
        let missing = || Err(self.bad("it says nothing of this job".into()));
        let answered = |id: &JobId| {
            let outcome = read_entries.remove(id).unwrap_or_else(missing);
            Answered { id: id.clone(), outcome }
        };
        Ok(ids.iter().map(answered).collect())
    }

    /// The body of a 200, 204 or 207, or what the status means.
    pub(super) fn success(&self) -> Result<&[u8], FtsError> {
        match self.status {
            200 | 204 | 207 => Ok(&self.body),
            status => {
                let Words { text, of_application } = Words::of(&self.body);
                Err(self.failure(status, text, of_application))
            }
        }
    }

    /// What a status other than success means.
    fn failure(&self, status: u16, message: String, of_application: bool) -> FtsError {
        let fts = self.fts.to_string();
        let call = self.call;
        match status {
            403 if message == "Not enough permissions" => FtsError::Anonymous { fts },
            403 if message.ends_with(" is banned") => FtsError::Banned { fts, message },
            401 | 403 | 407 | 419 => FtsError::Forbidden { fts, message },
            400 if !of_application => FtsError::Forbidden { fts, message },
            404 => FtsError::NotThere { fts, message },
            429 => FtsError::Busy { fts, reason: format!("it answered 429 to {call}") },
            503 if message.contains("maintenance downtime or capacity problems") => {
                FtsError::Busy { fts, reason: format!("it answered 503 to {call}: {message}") }
            }
            408 | 500..=599 => {
                let reason = format!("it answered {status} to {call}: {message}");
                match self.changes {
                    true => FtsError::OutcomeUnknown { fts, reason },
                    false => FtsError::Busy { fts, reason },
                }
            }
            400..=499 => FtsError::Refused { fts, status, field: words::field(&message), message },
            _ => self.bad(format!("status {status}")),
        }
    }

    pub(super) fn decode<'a, T: Deserialize<'a>>(&self, body: &'a [u8]) -> Result<T, FtsError> {
        serde_json::from_slice(body).map_err(|error| self.unreadable(&error))
    }

    fn unreadable(&self, error: &serde_json::Error) -> FtsError {
        self.bad(format!("not the JSON expected, at line {} column {}", error.line(), error.column()))
    }

    pub(super) fn bad(&self, reason: String) -> FtsError {
        FtsError::BadAnswer { fts: self.fts.to_string(), call: self.call, reason }
    }
}

/// The number in `404 Not Found`.
fn code(status: &str) -> Option<u16> {
    status.split_ascii_whitespace().next()?.parse().ok()
}
