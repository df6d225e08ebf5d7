//! The calls, one method each.

use reqwest::Method;
use serde::Serialize;

use crate::answer::{FileCancel, Submitted};
use crate::ban::{BanStorage, BanUser, BannedStorage, BannedUser, StorageBan};
use crate::client::{Call, FtsClient};
use crate::error::FtsError;
use crate::id::{FileId, JobId};
use crate::query::{self, FileFields, FileQuery, JobQuery};
use crate::status::{Attempt, Change, FileStatus, JobStatus, Lookup};
use crate::submission::Submission;

/// 1 to 5; 5 is served first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Priority(u8);

impl Priority {
    /// `None` outside 1 to 5: FTS takes 0 for no priority at all and changes nothing.
    pub fn new(number: u8) -> Option<Self> {
        (1..=5).contains(&number).then_some(Self(number))
    }

    pub(crate) fn body(self) -> Vec<u8> {
        format!(r#"{{"params":{{"priority":{}}}}}"#, self.0).into_bytes()
    }
}

impl FtsClient {
    /// Submits a job. A 403 that says nothing more is what an unbelieved token gets: it is replaced once.
    ///
    /// # Errors
    /// See [`FtsError`]; after [`FtsError::job_may_exist`] the job's id must be looked up.
    pub async fn submit(&self, job: &Submission) -> Result<Submitted, FtsError> {
        let body = self.body("submission", job)?;
        self.call(Call { name: "submission", method: Method::POST, path: "/jobs", body: Some(&body) })
            .await?
            .submitted()
    }

    /// Looks one job up.
    ///
    /// # Errors
    /// See [`FtsError`]. An expired token makes FTS answer 500 here: it is replaced if FTS takes us for nobody.
    pub async fn job(&self, id: &JobId, fields: FileFields) -> Result<Lookup, FtsError> {
        let path = format!("/jobs/{id}{}", fields_query(fields));
        self.get("job", &path).await?.job(id)
    }

    /// All files of a job with all that is known of them.
    ///
    /// # Errors
    /// [`FtsError::NotThere`] for an unknown job.
    pub async fn files(&self, id: &JobId) -> Result<Vec<FileStatus>, FtsError> {
        self.get("files", &format!("/jobs/{id}/files")).await?.files()
    }

    /// The failed attempts of a file that were followed by another.
    ///
    /// # Errors
    /// [`FtsError::NotThere`] for an unknown job or file.
    pub async fn attempts(&self, id: &JobId, file: FileId) -> Result<Vec<Attempt>, FtsError> {
        self.get("retries", &format!("/jobs/{id}/files/{file}/retries")).await?.attempts()
    }

    /// Lists jobs.
    ///
    /// # Errors
    /// See [`FtsError`].
    pub async fn list(&self, query: &JobQuery) -> Result<Vec<JobStatus>, FtsError> {
        self.get("list of jobs", &query.to_path()).await?.job_list()
    }

    /// Lists unfinished files, at most 1000.
    ///
    /// # Errors
    /// See [`FtsError`].
    pub async fn list_files(&self, query: &FileQuery) -> Result<Vec<FileStatus>, FtsError> {
        self.get("list of files", &query.to_path()).await?.files()
    }

    /// Cancels a job. Files in TOKEN_PREP are left as they are, and run if they are released afterwards (observed).
    ///
    /// # Errors
    /// See [`FtsError`]. Cancelling once more does no harm.
    pub async fn cancel(&self, id: &JobId) -> Result<Change, FtsError> {
        let path = format!("/jobs/{id}");
        self.call(Call { name: "cancel", method: Method::DELETE, path: &path, body: None }).await?.change(id)
    }

    /// Cancels single files of a job, which must be of type `N`. At most some 200 at a time fit in a request line.
    ///
    /// # Errors
    /// See [`FtsError`].
    pub async fn cancel_files(
        &self,
        id: &JobId,
        files: &[FileId],
    ) -> Result<Vec<(FileId, FileCancel)>, FtsError> {
        let list: Vec<_> = files.iter().map(FileId::to_string).collect();
        let path = format!("/jobs/{id}/files/{}", list.join(","));
        let call = Call { name: "cancel of files", method: Method::DELETE, path: &path, body: None };
        self.call(call).await?.cancelled_files(files)
    }

    /// Changes the priority of a job and its files.
    ///
    /// # Errors
    /// See [`FtsError`]. Setting it once more does no harm.
    pub async fn set_priority(&self, id: &JobId, priority: Priority) -> Result<Change, FtsError> {
        let (path, body) = (format!("/jobs/{id}"), priority.body());
        self.call(Call { name: "priority", method: Method::POST, path: &path, body: Some(&body) })
            .await?
            .change(id)
    }

    /// Banned storages.
    ///
    /// # Errors
    /// See [`FtsError`].
    pub async fn banned_storages(&self) -> Result<Vec<BannedStorage>, FtsError> {
        self.get("list of banned storages", "/ban/se").await?.banned_storages()
    }

    /// Bans a storage (scheme and host, as FTS names it) for our VO; says which jobs that touched.
    ///
    /// # Errors
    /// See [`FtsError`].
    pub async fn ban_storage(
        &self,
        storage: &str,
        ban: StorageBan,
        message: &str,
    ) -> Result<Vec<JobId>, FtsError> {
        let body = self.body("ban", &BanStorage::new(storage, ban, message))?;
        self.call(Call { name: "ban", method: Method::POST, path: "/ban/se", body: Some(&body) })
            .await?
            .touched()
    }

    /// Lifts the ban of a storage; FTS does not say whether there was one.
    ///
    /// # Errors
    /// See [`FtsError`].
    pub async fn unban_storage(&self, storage: &str) -> Result<(), FtsError> {
        let path = query::with("/ban/se", "storage", storage);
        self.call(Call { name: "unban", method: Method::DELETE, path: &path, body: None }).await?.done()
    }

    /// Banned users.
    ///
    /// # Errors
    /// See [`FtsError`].
    pub async fn banned_users(&self) -> Result<Vec<BannedUser>, FtsError> {
        self.get("list of banned users", "/ban/dn").await?.banned_users()
    }

    /// Bans a user (a token's subject or a certificate's DN); says which jobs that touched.
    ///
    /// # Errors
    /// See [`FtsError`]; nobody may ban themselves.
    pub async fn ban_user(&self, user_dn: &str, message: &str) -> Result<Vec<JobId>, FtsError> {
        let body = self.body("ban", &BanUser { user_dn, message })?;
        self.call(Call { name: "ban", method: Method::POST, path: "/ban/dn", body: Some(&body) })
            .await?
            .touched()
    }

    /// Lifts the ban of a user; FTS does not say whether there was one.
    ///
    /// # Errors
    /// See [`FtsError`].
    pub async fn unban_user(&self, user_dn: &str) -> Result<(), FtsError> {
        let path = query::with("/ban/dn", "user_dn", user_dn);
        self.call(Call { name: "unban", method: Method::DELETE, path: &path, body: None }).await?.done()
    }

    fn body(&self, call: &'static str, value: &impl Serialize) -> Result<Vec<u8>, FtsError> {
        serde_json::to_vec(value).map_err(|_| FtsError::Refused {
            fts: self.base.to_string(),
            status: 0,
            message: format!("not sent: the {call} can't be written as JSON"),
            field: None,
        })
    }
}

pub(crate) fn fields_query(fields: FileFields) -> String {
    match fields.names() {
        [] => String::new(),
        names => format!("?files={}", names.join(",")),
    }
}
