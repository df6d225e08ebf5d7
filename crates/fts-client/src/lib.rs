//! FTS3's REST API, typed, as FTS REST 3.13.4 was observed to behave.
//!
//! What a caller most needs to know is in the types. A submission ends [`Submitted::Accepted`],
//! [`Submitted::AlreadyThere`], or with an [`FtsError`] whose [`Verdict`] says what to do: refused for good, to be tried
//! later, ours to mend, or outcome unknown, after which the job's id must be looked up before anything else. The id is
//! known beforehand: see [`Identity::job_id`].
//!
//! Where a token comes from is not known here ([`token_core::BearerSource`]). FTS never refuses a bad token, it ignores it;
//! so a call that ends as nobody's calls end is made again with a fresh one, once.

mod answer;
mod ban;
mod bulk;
mod calls;
mod check;
mod client;
mod error;
mod id;
mod params;
mod query;
mod state;
mod status;
mod submission;
mod who;
mod words;

pub use answer::{Answer, Answered, FileCancel, Submitted};
pub use ban::{BannedStorage, BannedUser, StorageBan};
pub use bulk::Bulk;
pub use calls::Priority;
pub use check::Fault;
pub use client::{FtsClient, FtsSettings};
pub use error::{FtsError, Verdict};
pub use id::{FileId, Identity, JobId};
pub use params::{IdGenerator, Params, QueueTime, VerifyChecksum};
pub use query::{FileFields, FileQuery, JobQuery};
pub use state::{FileState, JobState};
pub use status::{Attempt, Change, FileDetails, FileStatus, JobDetails, JobStatus, Lookup, Timestamp};
pub use submission::{FileEntry, SelectionStrategy, Submission};
pub use who::{ServerInfo, Version, WhoAmI};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExamples;
