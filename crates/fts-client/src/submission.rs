//! A submission: the body of `POST /jobs`.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use token_core::AccessToken;

use crate::params::Params;

/// The body of `POST /jobs`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Submission {
    /// The files; at least one. Several sources for one file are allowed only if it is the only file.
    pub files: Vec<FileEntry>,
    /// What holds for the whole job. Always written: FTS answers 500 to token users who leave it out.
    #[serde(default)]
    pub params: Params,
}

/// One file of a job.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Where it is: several are tried by `selection_strategy`. Each URL has a scheme other than `file`, a host and a path,
    /// and at most 1100 characters: FTS answers 500 to longer ones.
    pub sources: Vec<String>,
    /// Where it goes.
    pub destinations: Vec<String>,
    /// One token for each source. Without tokens in any file of a job, FTS stores the bearer of the submission for all.
    #[serde(default, with = "exposed", skip_serializing_if = "Vec::is_empty")]
    pub source_tokens: Vec<AccessToken>,
    /// One token for each destination.
    #[serde(default, with = "exposed", skip_serializing_if = "Vec::is_empty")]
    pub destination_tokens: Vec<AccessToken>,
    /// Kept with the file and given back on every poll: an object, or a text, which FTS turns into `{"label": text}`; at
    /// most 4096 bytes in the shipped configuration.
    #[serde(default)]
    pub metadata: Value,
    /// Size in bytes; compared with what the source says.
    #[serde(default)]
    pub filesize: Option<i64>,
    /// `ALGORITHM:value`.
    #[serde(default)]
    pub checksum: Option<String>,
    /// How FTS picks among several sources; `auto` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selection_strategy: Option<SelectionStrategy>,
    /// The share that the file counts against; `default` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activity: Option<String>,
    /// For the tape system at the source; an object of at most 1024 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub staging_metadata: Option<Value>,
    /// For the tape system at the destination; an object of at most 1024 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archive_metadata: Option<Value>,
    /// Flow label (SciTags): experiment times 64 plus activity, 65 to 65535.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scitag: Option<u16>,
    /// Keys that have no name here, as they are. FTS ignores what it does not know.
    #[serde(flatten)]
    pub other: BTreeMap<String, Value>,
}

impl FileEntry {
    /// One source, one destination, nothing else.
    pub fn new(source: impl Into<String>, destination: impl Into<String>) -> Self {
        Self { sources: vec![source.into()], destinations: vec![destination.into()], ..Self::default() }
    }
}

/// How FTS picks among several sources.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum SelectionStrategy {
    /// As FTS is configured; the default.
    Auto,
    /// In the order given.
    Orderly,
    /// Fewest files waiting.
    Queue,
    /// Best recent success rate.
    Success,
    /// Highest recent throughput.
    Throughput,
    /// Highest recent throughput per file.
    FileThroughput,
    /// Fewest bytes waiting.
    PendingData,
    /// Shortest time in the queue.
    WaitingTime,
    /// Shortest time in the queue, failures counted in.
    WaitingTimeWithError,
    /// Shortest transfers.
    Duration,
    /// Another word. FTS 3.13.4 refuses it for a file with several sources.
    Other(String),
}

impl SelectionStrategy {
    const NAMES: [(Self, &'static str); 10] = [
        (Self::Auto, "auto"),
        (Self::Orderly, "orderly"),
        (Self::Queue, "queue"),
        (Self::Success, "success"),
        (Self::Throughput, "throughput"),
        (Self::FileThroughput, "file-throughput"),
        (Self::PendingData, "pending-data"),
        (Self::WaitingTime, "waiting-time"),
        (Self::WaitingTimeWithError, "waiting-time-with-error"),
        (Self::Duration, "duration"),
    ];

    /// FTS's word for it.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Other(word) => word,
            known => Self::NAMES.iter().find(|(one, _)| one == known).map_or("auto", |(_, name)| name),
        }
    }
}

impl From<String> for SelectionStrategy {
    fn from(word: String) -> Self {
        let known = Self::NAMES.into_iter().find(|(_, name)| *name == word);
        known.map_or(Self::Other(word), |(one, _)| one)
    }
}

impl Serialize for SelectionStrategy {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for SelectionStrategy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::from)
    }
}

/// Tokens in the body, which is the one place where they may be written out.
mod exposed {
    use serde::{Deserialize as _, Deserializer, Serializer, de};
    use token_core::AccessToken;

    pub(super) fn serialize<S: Serializer>(tokens: &[AccessToken], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(tokens.iter().map(AccessToken::expose))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<AccessToken>, D::Error> {
        let texts = Option::<Vec<String>>::deserialize(deserializer)?.unwrap_or_default();
        texts.into_iter().map(|text| AccessToken::new(text).map_err(de::Error::custom)).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_is_set_is_written() {
        let job =
            Submission { files: vec![FileEntry::new("davs://a/x", "davs://b/x")], params: Params::default() };
        let written = serde_json::to_value(&job).unwrap();
        assert_eq!(
            written["files"][0],
            json!({"sources": ["davs://a/x"], "destinations": ["davs://b/x"], "metadata": null, "filesize": null,
                "checksum": null})
        );
        assert!(written["params"].is_object(), "FTS falls over without it");
    }

    #[test]
    fn a_token_is_in_the_body_only() {
        let token = AccessToken::new("canary").unwrap();
        let file = FileEntry { source_tokens: vec![token], ..FileEntry::new("a", "b") };
        assert_eq!(serde_json::to_value(&file).unwrap()["source_tokens"], json!(["canary"]));
        assert!(!format!("{file:?}").contains("canary"));
        let read: FileEntry = serde_json::from_value(serde_json::to_value(&file).unwrap()).unwrap();
        assert_eq!(read, file);
    }

    #[test]
    fn unknown_keys_are_kept() {
        let text = json!({"sources": ["a"], "destinations": ["b"], "wibble": 1, "selection_strategy": "odd"});
        let file: FileEntry = serde_json::from_value(text).unwrap();
        assert_eq!(file.other["wibble"], 1);
        assert_eq!(file.selection_strategy, Some(SelectionStrategy::Other("odd".into())));
        assert_eq!(serde_json::to_value(&file).unwrap()["wibble"], 1);
    }
}
