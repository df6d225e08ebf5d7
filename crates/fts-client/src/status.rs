//! What FTS tells of jobs and of us.

use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

use crate::job::{Identity, JobId};

/// `GET /whoami`. FTS never refuses a bad token here: it takes the caller for anonymous.
#[derive(Clone, Debug, Deserialize)]
pub struct WhoAmI {
    /// The token's subject; `anon` for nobody.
    pub user_dn: String,
    /// The name space of this installation's deterministic job ids.
    pub base_id: Uuid,
    /// The VOs that the token stands for; the first counts.
    #[serde(default)]
    pub vos: Vec<String>,
    /// `oauth2`, `certificate` or `unauthenticated`.
    pub method: String,
}

impl WhoAmI {
    /// Who we are, unless FTS took us for nobody.
    pub fn identity(&self) -> Option<Identity> {
        let vo = self.vos.first().filter(|_| self.method != "unauthenticated")?;
        Some(Identity { base_id: self.base_id, vo: vo.clone() })
    }
}

/// A job as `GET /jobs/{id}?files=...` shows it.
#[derive(Clone, Debug, Deserialize)]
pub struct JobStatus {
    /// Its id.
    pub job_id: JobId,
    /// `SUBMITTED`, `ACTIVE`, `FINISHED`, `FAILED`, `FINISHEDDIRTY`, `CANCELED`, ...
    pub job_state: String,
    /// The fields asked for of each file.
    #[serde(default)]
    pub files: Vec<FileStatus>,
}

/// A file as `GET /jobs/{id}?files=...` shows it: only the fields asked for.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct FileStatus {
    /// `TOKEN_PREP`, `SUBMITTED`, `READY`, `ACTIVE`, `FINISHED`, `FAILED`, `CANCELED`, `NOT_USED`, ...
    pub file_state: Option<String>,
    /// What was given as `metadata`.
    pub file_metadata: Option<Value>,
    /// Why it failed.
    pub reason: Option<String>,
}

/// Whether FTS has a job.
#[derive(Clone, Debug)]
pub enum Lookup {
    /// It has.
    Known(JobStatus),
    /// It has not: 404 for this id.
    Unknown,
}
