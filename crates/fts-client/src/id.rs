//! Names of jobs and files at an FTS.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The id of a job at an FTS.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(try_from = "String")]
pub struct JobId(String);

impl JobId {
    /// Takes an id as a database, a user or an answer gave it; it must be a UUID, since it becomes part of a URL.
    pub fn parse(text: &str) -> Option<Self> {
        Uuid::try_parse(text).ok().filter(|_| text.len() == 36).map(|_| Self(text.to_ascii_lowercase()))
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for JobId {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text).ok_or("not a job id")
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The number of a file at an FTS: its row in `t_file`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(transparent)]
pub struct FileId(pub u64);

impl fmt::Display for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
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
