//! Reading answers: from a status and bytes to what they mean. Nothing here sends anything.

use std::collections::HashMap;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use crate::ban::{BannedStorage, BannedUser};
use crate::error::FtsError;
use crate::id::{FileId, JobId};
use crate::state::FileState;
use crate::status::{Attempt, Change, FileStatus, JobStatus, Lookup};
use crate::who::{ServerInfo, WhoAmI};
use crate::words::{self, Words};

/// One answer of an FTS, not yet read. Each method reads it as the answer to one call; any bytes will do, and what can't be
/// read is an [`FtsError`]. The client's methods read all answers through this.
#[derive(Clone, Debug)]
pub struct Answer {
    fts: Arc<str>,
    call: &'static str,
    changes: bool,
    status: u16,
    body: Vec<u8>,
}

/// How a submission ended well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Submitted {
    /// FTS took the job.
    Accepted(JobId),
    /// FTS has a job of this `sid` already (409): ours, from a try whose answer was lost.
    AlreadyThere,
}

/// What became of a file that was to be cancelled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileCancel {
    /// Its state now: CANCELED, or the one that it ended in before. A file in TOKEN_PREP stays there, while the job around it
    /// is cancelled (observed).
    Now(FileState),
    /// FTS's words when it is not a file of this job.
    Refused(String),
}

/// What FTS said of one job of many.
#[derive(Clone, Debug)]
pub struct Answered<T> {
    /// The job.
    pub id: JobId,
    /// What is known of it, or why nothing is.
    pub outcome: Result<T, FtsError>,
}

/// What FTS writes for one job of a list.
struct Entry {
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
    /// The answer of `fts` to `call` (a word for error texts). `changes`: whether the call was to change something, so that
    /// its outcome is unknown where nothing tells.
    pub fn new(
        fts: impl Into<Arc<str>>,
        call: &'static str,
        changes: bool,
        status: u16,
        body: Vec<u8>,
    ) -> Self {
        Self { fts: fts.into(), call, changes, status, body }
    }

    /// The HTTP status.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// Whether this is what an unbelieved token gets where FTS looks at rights first.
    pub fn is_anonymous(&self) -> bool {
        self.status == 403 && Words::of(&self.body).text == "Not enough permissions"
    }

    /// `GET /whoami`. Anonymous is an answer too: see [`WhoAmI::identity`].
    ///
    /// # Errors
    /// See [`FtsError`]; so for all that follow.
    pub fn whoami(&self) -> Result<WhoAmI, FtsError> {
        self.json()
    }

    /// `GET /`.
    ///
    /// # Errors
    /// See [`FtsError`].
    pub fn server(&self) -> Result<ServerInfo, FtsError> {
        self.json()
    }

    /// `POST /jobs`.
    ///
    /// # Errors
    /// See [`FtsError`]; after [`FtsError::job_may_exist`] the job's id must be looked up.
    pub fn submitted(&self) -> Result<Submitted, FtsError> {
        #[derive(Deserialize)]
        struct Accepted {
            job_id: JobId,
        }
        // A destination that another job writes to is a 409 as well, with the database's words.
        if self.status == 409
            && Words::of(&self.body).text.starts_with("The sid provided by the user is duplicated")
        {
            return Ok(Submitted::AlreadyThere);
        }
        self.json().map(|Accepted { job_id }| Submitted::Accepted(job_id))
    }

    /// `GET /jobs/{id}`: one object; 404 with the id in it for an unknown one.
    ///
    /// # Errors
    /// See [`FtsError`].
    pub fn job(&self, id: &JobId) -> Result<Lookup, FtsError> {
        self.one(id, Self::lookup)
    }

    /// `GET /jobs/{id},{id}`: what is known of each job, in the order asked. 207 is a list in which some are unknown.
    ///
    /// # Errors
    /// See [`FtsError`]; an entry that can't be read is the error of that job alone.
    pub fn jobs(&self, ids: &[JobId]) -> Result<Vec<Answered<Lookup>>, FtsError> {
        self.many(ids, Self::lookup)
    }

    /// `DELETE /jobs/{id}` and `POST /jobs/{id}`.
    ///
    /// # Errors
    /// See [`FtsError`].
    pub fn change(&self, id: &JobId) -> Result<Change, FtsError> {
        self.one(id, Self::changed)
    }

    /// `DELETE /jobs/{id},{id}` and `POST /jobs/{id},{id}`, in the order asked.
    ///
    /// # Errors
    /// See [`FtsError`]; an entry that can't be read is the error of that job alone.
    pub fn changes(&self, ids: &[JobId]) -> Result<Vec<Answered<Change>>, FtsError> {
        self.many(ids, Self::changed)
    }

    /// `DELETE /jobs/{id}/files/{files}`: a word for one file, a list of them for several.
    ///
    /// # Errors
    /// See [`FtsError`].
    pub fn cancelled_files(&self, files: &[FileId]) -> Result<Vec<(FileId, FileCancel)>, FtsError> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Words {
            One(String),
            Many(Vec<String>),
        }
        let words = match self.json()? {
            Words::One(word) => vec![word],
            Words::Many(words) => words,
        };
        if words.len() != files.len() {
            return Err(self.bad(format!("{} states for {} files", words.len(), files.len())));
        }
        let state =
            |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_uppercase() || b == b'_');
        let read = |word: String| match state(&word) {
            true => FileCancel::Now(word.into()),
            false => FileCancel::Refused(token_core::http::printable(&word)),
        };
        Ok(files.iter().copied().zip(words.into_iter().map(read)).collect())
    }

    /// `GET /jobs/{id}/files` and `GET /files`.
    ///
    /// # Errors
    /// See [`FtsError`].
    pub fn files(&self) -> Result<Vec<FileStatus>, FtsError> {
        self.json()
    }

    /// `GET /jobs/{id}/files/{file}/retries`.
    ///
    /// # Errors
    /// See [`FtsError`].
    pub fn attempts(&self) -> Result<Vec<Attempt>, FtsError> {
        self.json()
    }

    /// `GET /jobs`.
    ///
    /// # Errors
    /// See [`FtsError`].
    pub fn job_list(&self) -> Result<Vec<JobStatus>, FtsError> {
        self.json()
    }

    /// `GET /ban/se`.
    ///
    /// # Errors
    /// See [`FtsError`].
    pub fn banned_storages(&self) -> Result<Vec<BannedStorage>, FtsError> {
        self.json()
    }

    /// `GET /ban/dn`.
    ///
    /// # Errors
    /// See [`FtsError`].
    pub fn banned_users(&self) -> Result<Vec<BannedUser>, FtsError> {
        self.json()
    }

    /// `POST /ban/se` and `POST /ban/dn`: the jobs that the ban touched.
    ///
    /// # Errors
    /// See [`FtsError`].
    pub fn touched(&self) -> Result<Vec<JobId>, FtsError> {
        self.json()
    }

    /// `DELETE /ban/se` and `DELETE /ban/dn`: 204 without a body.
    ///
    /// # Errors
    /// See [`FtsError`].
    pub fn done(&self) -> Result<(), FtsError> {
        self.success().map(|_| ())
    }

    /// The body of a good answer as the JSON of any type.
    ///
    /// # Errors
    /// See [`FtsError`].
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, FtsError> {
        self.decode(self.success()?)
    }

    fn lookup(&self, entry: Entry, raw: &[u8]) -> Result<Lookup, FtsError> {
        match entry.code {
            200 | 304 => self.decode(raw).map(|job| Lookup::Known(Box::new(job))),
            404 => Ok(Lookup::Unknown),
            _ => Err(self.failure(entry.code, entry.words, true)),
        }
    }

    fn changed(&self, entry: Entry, raw: &[u8]) -> Result<Change, FtsError> {
        match entry.code {
            200 => self.decode(raw).map(|job| Change::Done(Box::new(job))),
            304 => self.decode(raw).map(|job| Change::AtItsEnd(Box::new(job))),
            404 => Ok(Change::Unknown),
            _ => Err(self.failure(entry.code, entry.words, true)),
        }
    }

    fn one<T>(
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
                let words = token_core::http::printable(&http_message.unwrap_or_default());
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
    fn many<T>(
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
                let words = token_core::http::printable(&http_message.unwrap_or_default());
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
    fn success(&self) -> Result<&[u8], FtsError> {
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

    fn decode<'a, T: Deserialize<'a>>(&self, body: &'a [u8]) -> Result<T, FtsError> {
        serde_json::from_slice(body).map_err(|error| self.unreadable(&error))
    }

    fn unreadable(&self, error: &serde_json::Error) -> FtsError {
        self.bad(format!("not the JSON expected, at line {} column {}", error.line(), error.column()))
    }

    pub(crate) fn bad(&self, reason: String) -> FtsError {
        FtsError::BadAnswer { fts: self.fts.to_string(), call: self.call, reason }
    }
}

/// The number in `404 Not Found`.
fn code(status: &str) -> Option<u16> {
    status.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Verdict;

    const A: &str = "8e531ad2-e76a-11f1-b890-02fc00000001";
    const B: &str = "8e5809ca-e76a-11f1-aa94-02fc00000001";

    fn answer(changes: bool, status: u16, body: &str) -> Answer {
        Answer::new("https://fts.example", "the call", changes, status, body.as_bytes().to_vec())
    }

    fn ids() -> [JobId; 2] {
        [A, B].map(|id| JobId::parse(id).unwrap())
    }

    #[test]
    fn one_bad_entry_does_not_hide_the_others() {
        let body = format!(
            r#"[{{"job_id":"{B}","job_state":"ACTIVE","http_status":"200 Ok"}},{{"job_id":"{A}","job_state":7,"http_status":"200 Ok"}},17]"#
        );
        let jobs = answer(false, 207, &body).jobs(&ids()).unwrap();
        assert!(jobs[0].outcome.is_err() && matches!(jobs[1].outcome, Ok(Lookup::Known(_))));
    }

    #[test]
    fn one_of_many_is_no_list() {
        let [id, _] = ids();
        let gone = format!(r#"{{"job_id":"{A}","http_status":"404 Not Found","http_message":"x"}}"#);
        for (status, body) in [(404, gone.clone()), (207, format!("[{gone}]"))] {
            let jobs = answer(false, status, &body).jobs(std::slice::from_ref(&id)).unwrap();
            assert!(matches!(&jobs[..], [Answered { outcome: Ok(Lookup::Unknown), .. }]), "{body}");
        }
    }

    #[test]
    fn a_job_is_unknown_only_where_fts_says_so() {
        let [id, _] = ids();
        let gone = format!(r#"{{"job_id":"{A}","http_status":"404 Not Found","http_message":"x"}}"#);
        assert_eq!(answer(false, 404, &gone).job(&id).unwrap(), Lookup::Unknown);
        let other = gone.replace(A, B);
        assert!(matches!(answer(false, 404, &other).job(&id), Err(FtsError::BadAnswer { .. })));
        for page in ["<h1>Not Found</h1>", "", r#"{"message":"No such field"}"#] {
            assert!(matches!(answer(false, 404, page).job(&id), Err(FtsError::NotThere { .. })), "{page}");
        }
    }

    #[test]
    fn the_verdict_depends_on_who_speaks_and_on_what_was_asked() {
        let page = "<h1>Bad Request</h1><p>Unsupported authentication method: method=OAuth2</p>";
        let busy = "<p>The server is temporarily unable to service your request due to maintenance downtime or capacity problems.</p>";
        for (changes, status, body, verdict) in [
            (true, 400, r#"{"message":"Need sid for deterministic"}"#, Verdict::Refused),
            (true, 400, page, Verdict::Mend),
            (true, 404, "", Verdict::Mend),
            (true, 409, r#"{"message":"The submission is duplicated"}"#, Verdict::Refused),
            (true, 419, "{}", Verdict::Mend),
            (true, 500, "{}", Verdict::OutcomeUnknown),
            (false, 500, "{}", Verdict::TryLater),
            (true, 503, busy, Verdict::TryLater),
            (true, 503, "<p>Service Unavailable</p>", Verdict::OutcomeUnknown),
            (true, 502, "", Verdict::OutcomeUnknown),
            (true, 429, "", Verdict::TryLater),
            (true, 302, "", Verdict::OutcomeUnknown),
            (true, 200, "<html>", Verdict::OutcomeUnknown),
            (true, 200, r#"{"job_id":"../all"}"#, Verdict::OutcomeUnknown),
        ] {
            let error = answer(changes, status, body).submitted().unwrap_err();
            assert_eq!(error.verdict(), verdict, "{status} {body}: {error}");
        }
    }

    #[test]
    fn states_of_cancelled_files_are_told_from_refusals() {
        let files = [FileId(1), FileId(2)];
        let read =
            answer(true, 200, r#"["CANCELED","File does not belong to the job"]"#).cancelled_files(&files);
        let read = read.unwrap();
        assert_eq!(read[0].1, FileCancel::Now(FileState::Canceled));
        assert!(matches!(&read[1].1, FileCancel::Refused(words) if words.starts_with("File")));
        assert!(answer(true, 200, r#""CANCELED""#).cancelled_files(&files).is_err());
    }
}
