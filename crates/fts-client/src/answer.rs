//! Reading answers: from a status and bytes to what they mean. Nothing here sends anything.

mod read;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::ban::{BannedStorage, BannedUser};
use crate::error::FtsError;
use crate::id::{FileId, JobId};
use crate::state::FileState;
use crate::status::{Attempt, Change, FileStatus, JobStatus, Lookup};
use crate::who::{ServerInfo, WhoAmI};
use crate::words::Words;

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

    /// Whether it may be for the token that FTS refuses: it takes us for nobody, or finds a sound token without the scope that it
    /// wants. A newer one may do.
    pub(crate) fn blames_the_token(&self) -> bool {
        let words = || Words::of(&self.body).text;
        self.is_anonymous()
            || self.status == 401
            || (self.status == 403 && words().contains("Invalid OAuth2 credentials"))
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
}
