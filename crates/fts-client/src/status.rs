//! What FTS tells of jobs and files. Every field but a job's id may be missing: FTS leaves out what was not asked for.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use token_core::UnixSeconds;

use crate::id::{FileId, JobId};
use crate::state::{FileState, JobState};

/// A moment as FTS writes it: UTC without a zone, `2026-11-23T18:20:26`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(String);

impl Timestamp {
    /// As FTS wrote it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Seconds since the epoch; `None` for a form that FTS was not seen to write.
    pub fn seconds(&self) -> Option<UnixSeconds> {
        let numbers: Vec<i64> = self
            .0
            .trim_end_matches('Z')
            .split(['-', 'T', ' ', ':'])
            .map(|part| part.split('.').next().unwrap_or(part).parse().ok())
            .collect::<Option<_>>()?;
        let [
            year @ 1970..=9999,
            month @ 1..=12,
            day @ 1..=31,
            hour @ 0..=23,
            minute @ 0..=59,
            second @ 0..=60,
        ] = numbers[..]
        else {
            return None;
        };
        // Days of the proleptic Gregorian calendar, counted in years that begin in March.
        let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
        let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 719_469;
        Some(UnixSeconds(days * 86_400 + hour * 3600 + minute * 60 + second))
    }
}

/// A job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobStatus {
    /// Its id.
    pub job_id: JobId,
    /// How far it is.
    pub job_state: JobState,
    /// What each file said that was asked for; empty when files were not asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<FileStatus>,
    /// All else.
    #[serde(flatten)]
    pub details: Box<JobDetails>,
}

/// What is known of a job beside its state.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct JobDetails {
    /// `N` plain, `R` several replicas, `H` hops, `Y` session reuse.
    pub job_type: Option<String>,
    /// Whether it was cancelled.
    pub cancel_job: Option<bool>,
    /// Where all its files come from, if from one storage.
    pub source_se: Option<String>,
    /// Where all its files go, if to one storage.
    pub dest_se: Option<String>,
    /// Which REST server took it.
    pub submit_host: Option<String>,
    /// Whose it is: a token's subject or a certificate's DN.
    pub user_dn: Option<String>,
    /// First 16 hex digits of SHA-1 of issuer and subject.
    pub cred_id: Option<String>,
    /// The VO it counts for.
    pub vo_name: Option<String>,
    /// Why it ended as it did.
    pub reason: Option<String>,
    /// When it came.
    pub submit_time: Option<Timestamp>,
    /// When it ended.
    pub job_finished: Option<Timestamp>,
    /// 1 to 5.
    pub priority: Option<i64>,
    /// When FTS gives its queued files up, in seconds since the epoch.
    pub max_time_in_queue: Option<i64>,
    /// Space token at the source.
    pub source_spacetoken: Option<String>,
    /// Space token at the destination.
    pub destination_spacetoken: Option<String>,
    /// `nostreams:4,timeout:3600,buffersize:N,strict,disable-cleanup,ipv6,s3alternate`.
    pub internal_job_params: Option<String>,
    /// Whether files at the destination are reported.
    pub dst_file_report: Option<bool>,
    /// `Y` always, `R` on retries, `M` on hops between, `D` when only on disk, `Q` both of the last.
    pub overwrite_flag: Option<String>,
    /// Seconds that a staged copy stays pinned; -1 for none.
    pub copy_pin_lifetime: Option<i64>,
    /// `n`, `s`, `t` or `b`: neither side, source, target, both.
    pub verify_checksum: Option<String>,
    /// Seconds to wait for a copy from tape; -1 for none.
    pub bring_online: Option<i64>,
    /// Seconds to wait until files are on tape; -1 for none.
    pub archive_timeout: Option<i64>,
    /// Quality of service asked for.
    pub target_qos: Option<String>,
    /// What was given, and `auth_method`: `oauth2` or `certificate`.
    pub job_metadata: Option<Value>,
    /// How often a file is tried again.
    pub retry: Option<i64>,
    /// Seconds between the tries.
    pub retry_delay: Option<i64>,
    /// OpenStack project.
    pub os_project_id: Option<String>,
}

/// A file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct FileStatus {
    /// Its number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file_id: Option<FileId>,
    /// How far it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file_state: Option<FileState>,
    /// What was given as `metadata`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file_metadata: Option<Value>,
    /// Why it failed. `[errno] text` behind `SOURCE`, `DESTINATION` or `TRANSFER`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Where it comes from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_surl: Option<String>,
    /// Where it goes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dest_surl: Option<String>,
    /// Size in bytes, once the source was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filesize: Option<i64>,
    /// When the last attempt began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Timestamp>,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finish_time: Option<Timestamp>,
    /// When staging began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub staging_start: Option<Timestamp>,
    /// When staging ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub staging_finished: Option<Timestamp>,
    /// Mean of the last attempt, in MiB a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub throughput: Option<f64>,
    /// Seconds that the copy took.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tx_duration: Option<f64>,
    /// All else, if any of it was asked for.
    #[serde(flatten, deserialize_with = "if_any")]
    pub details: Option<Box<FileDetails>>,
}

/// What is known of a file beside what a poller needs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct FileDetails {
    /// Its job.
    pub job_id: Option<JobId>,
    /// Rows of one entry of the submission share it.
    pub file_index: Option<i64>,
    /// 16 bits by which FTS spreads files over its nodes.
    pub hashed_id: Option<i64>,
    /// Set where duplicates are refused.
    pub dest_surl_uuid: Option<String>,
    /// The VO it counts for.
    pub vo_name: Option<String>,
    /// The storage it comes from.
    pub source_se: Option<String>,
    /// The storage it goes to.
    pub dest_se: Option<String>,
    /// 1 to 5.
    pub priority: Option<i64>,
    /// What it becomes after TOKEN_PREP.
    pub file_state_initial: Option<FileState>,
    /// Which FTS node copies it.
    pub transfer_host: Option<String>,
    /// Which FTS node stages it.
    pub staging_host: Option<String>,
    /// Whether its failure may be tried again.
    pub recoverable: Option<bool>,
    /// Size in bytes as it was given.
    pub user_filesize: Option<i64>,
    /// `ALGORITHM:value`, or only the algorithm.
    pub checksum: Option<String>,
    /// When archiving began.
    pub archive_start_time: Option<Timestamp>,
    /// When archiving ended.
    pub archive_finish_time: Option<Timestamp>,
    /// What the transfer was started with.
    pub internal_file_params: Option<String>,
    /// Process on the FTS node.
    pub pid: Option<i64>,
    /// How often it was tried again.
    pub retry: Option<i64>,
    /// For the tape system at the source.
    pub staging_metadata: Option<Value>,
    /// For the tape system at the destination.
    pub archive_metadata: Option<Value>,
    /// How FTS picks among several sources.
    pub selection_strategy: Option<String>,
    /// The tape system's name for the staging request.
    pub bringonline_token: Option<String>,
    /// Where its log is.
    pub log_file: Option<String>,
    /// Whether there is a debug log.
    pub log_debug: Option<Value>,
    /// The share that it counts against.
    pub activity: Option<String>,
    /// Flow label.
    pub scitag: Option<i64>,
    /// Fingerprint of its source token: `t_token.token_id`.
    pub src_token_id: Option<String>,
    /// Fingerprint of its destination token.
    pub dst_token_id: Option<String>,
}

/// Most polls ask for none of it: a file then takes a third of the memory.
fn if_any<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Box<FileDetails>>, D::Error> {
    let details = FileDetails::deserialize(deserializer)?;
    Ok((details != FileDetails::default()).then(|| Box::new(details)))
}

/// A failed attempt that was followed by another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attempt {
    /// Counted from 1. The first tells most: later ones may fail on what it left behind.
    pub attempt: i64,
    /// When.
    pub datetime: Option<Timestamp>,
    /// Why.
    pub reason: Option<String>,
    /// Which FTS node did it.
    pub transfer_host: Option<String>,
    /// Where its log is.
    pub log_file: Option<String>,
    /// The file.
    pub file_id: Option<FileId>,
}

/// Whether FTS has a job.
#[derive(Clone, Debug, PartialEq)]
pub enum Lookup {
    /// It has.
    Known(Box<JobStatus>),
    /// It has not: 404 for this id.
    Unknown,
}

/// What became of a job that was to be changed.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// It is as it was asked for.
    Done(Box<JobStatus>),
    /// It had ended before; nothing was changed. FTS answers 200 and writes `304 Not Modified` into the body.
    AtItsEnd(Box<JobStatus>),
    /// FTS has no such job.
    Unknown,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_seconds() {
        let seconds = |text: &str| Timestamp(text.into()).seconds().map(|at| at.0);
        assert_eq!(seconds("1970-01-01T00:00:00"), Some(0));
        // `date -u -d 2026-11-23T18:20:26 +%s` and of a leap day.
        assert_eq!(seconds("2026-11-23T18:20:26"), Some(1_795_458_026));
        assert_eq!(seconds("2024-02-29T12:00:01.5Z"), Some(1_709_208_001));
        for odd in ["", "now", "2026-13-01T00:00:00", "2026-11-23", "99999999999999999999-1-1T0:0:0"] {
            assert_eq!(seconds(odd), None, "{odd}");
        }
    }
}
