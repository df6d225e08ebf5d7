//! `params` of a submission: what holds for the whole job.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::Value;

/// Which sides' checksum FTS compares with the one given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
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

/// How FTS makes the id of a job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IdGenerator {
    /// A new one for every submission.
    #[default]
    Standard,
    /// From `sid`, see [`crate::Identity::job_id`]: a second submission of the same `sid` is a 409.
    Deterministic,
}

/// Longest wait in FTS's queue. FTS stores the moment it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum QueueTime {
    /// Hours, written as a bare number.
    Hours(i64),
    /// Seconds, written with `s`.
    Seconds(i64),
    /// Minutes, written with `m`.
    Minutes(i64),
    /// Days, written with `d`.
    Days(i64),
}

impl QueueTime {
    /// Reads `90m`, `6h`, `7d`, `300s`, or a bare number of hours.
    pub fn parse(text: &str) -> Option<Self> {
        let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
        let number = number.parse().ok()?;
        match unit {
            "" | "h" | "H" => Some(Self::Hours(number)),
            "s" | "S" => Some(Self::Seconds(number)),
            "m" | "M" => Some(Self::Minutes(number)),
            "d" | "D" => Some(Self::Days(number)),
            _ => None,
        }
    }
}

impl Serialize for QueueTime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Hours(hours) => serializer.serialize_i64(*hours),
            Self::Seconds(seconds) => serializer.collect_str(&format_args!("{seconds}s")),
            Self::Minutes(minutes) => serializer.collect_str(&format_args!("{minutes}m")),
            Self::Days(days) => serializer.collect_str(&format_args!("{days}d")),
        }
    }
}

impl<'de> Deserialize<'de> for QueueTime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Hours(i64),
            Text(String),
        }
        let wrong = || de::Error::custom("a wrong time, expected hours, or a text like 90m, 6h, 7d");
        match Written::deserialize(deserializer).map_err(|_| wrong())? {
            Written::Hours(hours) => Ok(Self::Hours(hours)),
            Written::Text(text) => Self::parse(&text).ok_or_else(wrong),
        }
    }
}

/// The parameters of a job. What is `None` or false is FTS's default. Not named here: `credential` and `credentials`, which
/// FTS stores in clear beside the job.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Params {
    /// The Rucio account; FTS ignores it.
    pub account: Option<String>,
    /// Which checksums are compared. Left out: the destination's, if any file has a checksum.
    #[serde(deserialize_with = "verify_checksum", skip_serializing_if = "Option::is_none")]
    pub verify_checksum: Option<VerifyChecksum>,
    /// Seconds that a staged copy stays pinned; more than 0 makes the job wait in STAGING.
    pub copy_pin_lifetime: Option<i64>,
    /// Seconds to wait for a copy from tape; more than 0 is refused with tokens.
    pub bring_online: Option<i64>,
    /// Seconds to wait until a file is on tape; more than 0 is refused with tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub archive_timeout: Option<i64>,
    /// Kept with the job: an object, or a text, which FTS turns into `{"label": text}`; at most 2048 bytes in the shipped
    /// configuration. FTS adds `auth_method`.
    pub job_metadata: Value,
    /// Whether a file at the destination is replaced. No other of the four ways may be set beside it.
    #[serde(deserialize_with = "flag")]
    pub overwrite: bool,
    /// Whether a file at the destination is replaced when the transfer is tried again.
    #[serde(deserialize_with = "flag", skip_serializing_if = "unset")]
    pub overwrite_on_retry: bool,
    /// Whether files at the hops between are replaced; multihop only.
    #[serde(deserialize_with = "flag", skip_serializing_if = "unset")]
    pub overwrite_hop: bool,
    /// Whether a file is replaced that is on disk and not on tape; needs `archive_timeout`.
    #[serde(deserialize_with = "flag")]
    pub overwrite_when_only_on_disk: bool,
    /// Whether FTS reports on a file that is at the destination already.
    #[serde(deserialize_with = "flag", skip_serializing_if = "unset")]
    pub dst_file_report: bool,
    /// Whether one process does all files of the job, which must be of one source and one destination storage.
    #[serde(deserialize_with = "flag", skip_serializing_if = "unset")]
    pub reuse: bool,
    /// Whether the files are the hops of one path.
    #[serde(deserialize_with = "flag", skip_serializing_if = "unset")]
    pub multihop: bool,
    /// Space token at the source.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_spacetoken: Option<String>,
    /// Space token at the destination.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination_spacetoken: Option<String>,
    /// How often a file is tried again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry: Option<i64>,
    /// Seconds between the tries.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_delay: Option<i64>,
    /// 1 to 5, 5 is served first; FTS brings others within these. Left out: 3.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<i64>,
    /// After which FTS gives a queued file up.
    pub max_time_in_queue: Option<QueueTime>,
    /// S3 URLs in path style.
    #[serde(deserialize_with = "flag")]
    pub s3alternate: bool,
    /// Streams of one transfer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nostreams: Option<i64>,
    /// Seconds that one transfer may take.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<i64>,
    /// TCP buffer in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub buffer_size: Option<i64>,
    /// Copies without any check before or after.
    #[serde(deserialize_with = "flag", skip_serializing_if = "unset")]
    pub strict_copy: bool,
    /// Leaves what a failed transfer wrote.
    #[serde(deserialize_with = "flag", skip_serializing_if = "unset")]
    pub disable_cleanup: bool,
    /// Whether IPv4 is to be used, before IPv6; left out, FTS decides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipv4: Option<bool>,
    /// Whether IPv6 is to be used; left out, FTS decides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipv6: Option<bool>,
    /// GridFTP parameters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gridftp: Option<String>,
    /// Whether FTS is to use the tokens of the files as they are, and neither exchanges nor refreshes them. FTS 3.14 and later, where
    /// its `AllowNonManagedTokens` is on; before, it is ignored.
    #[serde(deserialize_with = "flag", skip_serializing_if = "unset")]
    pub unmanaged_tokens: bool,
    /// Quality of service that the file is to change to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_qos: Option<String>,
    /// How the job's id is made.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "is_standard")]
    pub id_generator: IdGenerator,
    /// What a deterministic id is made from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sid: Option<String>,
    /// Keys that have no name here, as they are. FTS ignores what it does not know.
    #[serde(flatten)]
    pub other: BTreeMap<String, Value>,
}

impl Params {
    /// Parameters of a job whose id is known beforehand.
    pub fn deterministic(sid: impl Into<String>) -> Self {
        Self { id_generator: IdGenerator::Deterministic, sid: Some(sid.into()), ..Self::default() }
    }
}

fn unset(flag: &bool) -> bool {
    !flag
}

fn is_standard(generator: &IdGenerator) -> bool {
    *generator == IdGenerator::Standard
}

/// Null counts as absent everywhere.
fn or_default<'de, T: Deserialize<'de> + Default, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

fn flag<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    or_default(deserializer)
}

/// FTS takes a flag too: true is both, false the default.
fn verify_checksum<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<VerifyChecksum>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Flag(bool),
        Word(VerifyChecksum),
    }
    let wrong =
        |_| de::Error::custom("a wrong verify_checksum, expected a flag, none, source, target or both");
    Ok(match Option::<Written>::deserialize(deserializer).map_err(wrong)? {
        None | Some(Written::Flag(false)) => None,
        Some(Written::Flag(true)) => Some(VerifyChecksum::Both),
        Some(Written::Word(word)) => Some(word),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn forms_that_fts_takes_are_read() {
        let read = |value| serde_json::from_value::<Params>(value).unwrap();
        assert_eq!(read(json!({"verify_checksum": true})).verify_checksum, Some(VerifyChecksum::Both));
        assert_eq!(read(json!({"verify_checksum": false})).verify_checksum, None);
        assert_eq!(read(json!({"verify_checksum": "target"})).verify_checksum, Some(VerifyChecksum::Target));
        assert_eq!(read(json!({"max_time_in_queue": 2})).max_time_in_queue, Some(QueueTime::Hours(2)));
        assert_eq!(read(json!({"max_time_in_queue": "90m"})).max_time_in_queue, Some(QueueTime::Minutes(90)));
        assert_eq!(
            read(json!({"overwrite": null, "id_generator": null, "priority": null})),
            Params::default()
        );
        assert_eq!(read(json!({"overwite": true})).other["overwite"], true);
        for wrong in [json!({"verify_checksum": "all"}), json!({"max_time_in_queue": "6w"})] {
            assert!(serde_json::from_value::<Params>(wrong).is_err());
        }
    }

    #[test]
    fn what_is_written_reads_the_same() {
        let params = Params {
            verify_checksum: Some(VerifyChecksum::None),
            max_time_in_queue: Some(QueueTime::Days(3)),
            multihop: true,
            overwrite_hop: true,
            ..Params::deterministic("s")
        };
        let written = serde_json::to_value(&params).unwrap();
        assert_eq!(written["id_generator"], "deterministic");
        assert_eq!(written["max_time_in_queue"], "3d");
        assert_eq!(serde_json::from_value::<Params>(written).unwrap(), params);
    }
}
