//! A submission: the body of `POST /jobs`.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

/// The id of a job at an FTS.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct JobId(String);

impl TryFrom<String> for JobId {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text).ok_or("not a job id")
    }
}

impl JobId {
    /// Takes an id as a database or an answer gave it; it must be a UUID, since it becomes part of a URL.
    pub fn parse(text: &str) -> Option<Self> {
        Uuid::try_parse(text).ok().filter(|_| text.len() == 36).map(|_| Self(text.to_ascii_lowercase()))
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Who we are to one FTS, as far as job ids depend on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// `base_id` of `GET /whoami`.
    pub base_id: Uuid,
    /// The first VO of `GET /whoami`.
    pub vo: String,
}

impl Identity {
    /// The id that FTS gives a job with `id_generator: deterministic` and this `sid`: uuid5(uuid5(base_id, vo), sid).
    pub fn job_id(&self, sid: &str) -> JobId {
        let namespace = Uuid::new_v5(&self.base_id, self.vo.as_bytes());
        JobId(Uuid::new_v5(&namespace, sid.as_bytes()).to_string())
    }
}

/// The body of `POST /jobs`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Submission {
    /// The files; at least one. Several sources for one file are allowed only if it is the only file.
    pub files: Vec<FileEntry>,
    /// What holds for the whole job. FTS answers 500 to token users who leave it out.
    pub params: Params,
}

/// One file of a job.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FileEntry {
    /// Where it is: several are tried by `selection_strategy`.
    pub sources: Vec<String>,
    /// Where it goes.
    pub destinations: Vec<String>,
    /// Kept with the file and given back on every poll; at most 4096 bytes in the shipped configuration.
    pub metadata: Value,
    /// Size in bytes.
    pub filesize: Option<i64>,
    /// `ALGORITHM:value`.
    pub checksum: Option<String>,
    /// How FTS picks among several sources: `orderly`, `auto`, ...
    pub selection_strategy: String,
    /// The share that the file counts against.
    pub activity: String,
}

/// Which side's checksum FTS compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum VerifyChecksum {
    /// Both sides with the one given.
    Both,
    /// The source only.
    Source,
    /// The destination only.
    Target,
    /// Neither.
    None,
}

/// The parameters of a job that Rucio sets, and the two that make its id known beforehand.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Params {
    /// The Rucio account; FTS ignores it.
    pub account: Option<String>,
    /// Which checksums are compared.
    pub verify_checksum: VerifyChecksum,
    /// Seconds that a staged copy stays pinned; -1 for none. Null is taken as the default.
    pub copy_pin_lifetime: Option<i64>,
    /// Seconds to wait for a copy from tape; null for disk.
    pub bring_online: Option<i64>,
    /// Kept with the job; at most 2048 bytes in the shipped configuration.
    pub job_metadata: Value,
    /// Whether a file at the destination is replaced.
    pub overwrite: bool,
    /// Whether only a copy on disk is replaced (tape endpoints).
    pub overwrite_when_only_on_disk: bool,
    /// 1 to 5, 3 is the default.
    pub priority: i64,
    /// S3 URLs in path style.
    pub s3alternate: bool,
    /// Hours after which FTS gives a queued file up.
    pub max_time_in_queue: Option<i64>,
    /// Copies without any check before or after.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub strict_copy: bool,
    /// Whether IPv4 is to be used; left out, FTS decides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipv4: Option<bool>,
    /// Whether IPv6 is to be used; left out, FTS decides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipv6: Option<bool>,
    /// `deterministic`: the id follows from `sid`.
    pub id_generator: &'static str,
    /// What the id follows from.
    pub sid: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_job_id_is_the_one_a_real_fts_gave() {
        // Recorded from FTS REST 3.13.4: rucio-submit-deterministic.
        let identity = Identity {
            base_id: Uuid::try_parse("01874efb-4735-4595-bc9c-591aef8240c9").unwrap(),
            vo: "rigvo".into(),
        };
        assert_eq!(identity.job_id("sid-1795458021").as_str(), "f159b6bb-dd1f-5860-82f8-bddca63e8835");
    }

    #[test]
    fn a_job_id_is_a_uuid() {
        assert!(JobId::parse("8e531ad2-e76a-11f1-b890-02fc00000001").is_some());
        for bad in [
            "",
            "x",
            "../jobs/all",
            "8e531ad2e76a11f1b89002fc00000001",
            "8e531ad2-e76a-11f1-b890-02fc0000\n001",
        ] {
            assert!(JobId::parse(bad).is_none(), "{bad}");
            assert!(
                serde_json::from_value::<JobId>(bad.into()).is_err(),
                "an answer of FTS is no better: {bad}"
            );
        }
    }
}
