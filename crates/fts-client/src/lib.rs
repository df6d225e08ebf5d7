//! FTS3's REST API, typed, as FTS REST 3.13.4 was observed to behave.
//!
//! What a caller most needs to know is in the types: a submission ends [`Submitted::Accepted`],
//! [`Submitted::AlreadyThere`], or with an [`FtsError`] that says whether the job may exist all the same
//! ([`FtsError::OutcomeUnknown`]: look its id up before anything else), whether to try later, or whether FTS refused it
//! for good.

mod client;
mod error;
mod job;
mod status;

pub use client::{FtsClient, FtsSettings, Submitted};
pub use error::FtsError;
pub use job::{FileEntry, Identity, JobId, Params, Submission, VerifyChecksum};
pub use status::{FileStatus, JobStatus, Lookup, WhoAmI};
