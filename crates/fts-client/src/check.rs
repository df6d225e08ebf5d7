//! What can be said of a job before it is sent: the rules of FTS REST 3.13.4 that do not depend on its configuration.

use crate::params::IdGenerator;
use crate::submission::{FileEntry, SelectionStrategy, Submission};

/// Longest URL that FTS's database holds; it answers 500 to longer ones.
const LONGEST_URL: usize = 1100;

/// Why a job would be refused, or would never end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct Fault {
    /// Where, as in `files[3].sources[0]`.
    pub field: String,
    /// What is wrong there.
    pub reason: String,
}

fn fault<T>(field: impl Into<String>, reason: impl Into<String>) -> Result<T, Fault> {
    Err(Fault { field: field.into(), reason: reason.into() })
}

impl Submission {
    /// Looks for what FTS would refuse, and for what it takes and then never transfers. What depends on how an FTS is
    /// configured (sizes of metadata, known issuers, bans) only FTS can say.
    ///
    /// # Errors
    /// The first fault found.
    pub fn check(&self) -> Result<(), Fault> {
        if self.files.is_empty() {
            return fault("files", "a job has at least one file");
        }
        for (index, file) in self.files.iter().enumerate() {
            check_file(file, &format!("files[{index}]"))?;
        }
        self.check_tokens()?;
        self.check_kind()?;
        self.check_overwrite()?;
        match (self.params.id_generator, &self.params.sid) {
            (IdGenerator::Deterministic, None) => {
                fault("params.sid", "a deterministic id is made from a sid")
            }
            _ => Ok(()),
        }?;
        match &self.params.job_metadata {
            metadata if metadata.is_null() || metadata.is_object() || metadata.is_string() => Ok(()),
            _ => fault("params.job_metadata", "it is an object or a text"),
        }
    }

    /// FTS takes a job in which some files have tokens and others none, and the others then stay in TOKEN_PREP for ever.
    fn check_tokens(&self) -> Result<(), Fault> {
        let with = |file: &FileEntry| !file.source_tokens.is_empty() || !file.destination_tokens.is_empty();
        if !self.files.iter().any(with) {
            return Ok(());
        }
        for (index, file) in self.files.iter().enumerate() {
            let sides = [
                ("source_tokens", file.source_tokens.len(), file.sources.len()),
                ("destination_tokens", file.destination_tokens.len(), file.destinations.len()),
            ];
            for (name, tokens, urls) in sides {
                if tokens != urls {
                    let reason = format!("{tokens} tokens for {urls} URLs; all files need them, or none");
                    return fault(format!("files[{index}].{name}"), reason);
                }
            }
        }
        Ok(())
    }

    fn check_kind(&self) -> Result<(), Fault> {
        let (multihop, reuse) = (self.params.multihop, self.params.reuse);
        let several =
            self.files.iter().position(|file| file.sources.len() > 1 || file.destinations.len() > 1);
        if let Some(index) = several {
            if multihop || reuse {
                return fault(format!("files[{index}].sources"), "several replicas and multihop or reuse");
            }
            if self.files.len() > 1 {
                let reason = "a file with several sources or destinations must be the only one of its job";
                return fault(format!("files[{index}].sources"), reason);
            }
            if let Some(SelectionStrategy::Other(word)) = &self.files[index].selection_strategy {
                let reason = format!("FTS knows no strategy `{word}`");
                return fault(format!("files[{index}].selection_strategy"), reason);
            }
        }
        if reuse && !multihop {
            let link = |file: &FileEntry| {
                (
                    file.sources.first().and_then(|url| storage(url)),
                    file.destinations.first().and_then(|url| storage(url)),
                )
            };
            let first = self.files.first().map(link);
            if let Some(index) = self.files.iter().position(|file| Some(link(file)) != first) {
                let reason = "a reuse job has one source and one destination storage";
                return fault(format!("files[{index}]"), reason);
            }
        }
        Ok(())
    }

    fn check_overwrite(&self) -> Result<(), Fault> {
        let params = &self.params;
        let (hop, disk) = (params.overwrite_hop, params.overwrite_when_only_on_disk);
        let set = [params.overwrite, params.overwrite_on_retry, hop, disk].iter().filter(|set| **set).count();
        if set > 1 && !(set == 2 && hop && disk) {
            return fault("params.overwrite", "only one of the ways to overwrite, or hops and only-on-disk");
        }
        if disk && params.archive_timeout.unwrap_or(-1) <= 0 {
            return fault("params.overwrite_when_only_on_disk", "it needs archive_timeout");
        }
        if hop && !params.multihop {
            return fault("params.overwrite_hop", "it needs multihop");
        }
        Ok(())
    }
}

fn check_file(file: &FileEntry, at: &str) -> Result<(), Fault> {
    for (name, urls) in [("sources", &file.sources), ("destinations", &file.destinations)] {
        if urls.is_empty() {
            return fault(format!("{at}.{name}"), "at least one URL");
        }
        for (index, url) in urls.iter().enumerate() {
            if let Err(reason) = check_url(url) {
                return fault(format!("{at}.{name}[{index}]"), reason);
            }
        }
    }
    if !(file.metadata.is_null() || file.metadata.is_object() || file.metadata.is_string()) {
        return fault(format!("{at}.metadata"), "it is an object or a text");
    }
    for (name, value) in
        [("staging_metadata", &file.staging_metadata), ("archive_metadata", &file.archive_metadata)]
    {
        if value.as_ref().is_some_and(|value| !value.is_object() && !value.is_null()) {
            return fault(format!("{at}.{name}"), "it is an object");
        }
    }
    match file.scitag {
        Some(tag) if tag < 65 => fault(format!("{at}.scitag"), "65 to 65535"),
        _ => Ok(()),
    }
}

/// Scheme, host and path, which is all that FTS asks for. Its own reading of URLs is Python's, not a browser's.
fn check_url(url: &str) -> Result<(), &'static str> {
    if url.chars().count() > LONGEST_URL {
        return Err("longer than 1100 characters");
    }
    let Some((scheme, authority, rest)) = parts(url) else { return Err("no URL with scheme and host") };
    if scheme == "file" {
        return Err("a local file cannot be transferred");
    }
    if host(authority).is_empty() {
        return Err("no host");
    }
    match rest.split('#').next().unwrap_or_default() {
        "" | "/" | "/?" | "?" => Err("no path"),
        _ => Ok(()),
    }
}

/// The storage element as FTS names it: scheme and host, without the port.
pub(crate) fn storage(url: &str) -> Option<(String, String)> {
    let (scheme, authority, _) = parts(url)?;
    Some((scheme, host(authority)))
}

/// Scheme, authority, and what follows.
fn parts(url: &str) -> Option<(String, &str, &str)> {
    let (scheme, rest) = url.trim().split_once("://")?;
    let letters = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
    if !scheme.starts_with(|c: char| c.is_ascii_alphabetic()) || !scheme.chars().all(letters) {
        return None;
    }
    let (authority, rest) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    Some((scheme.to_ascii_lowercase(), authority, rest))
}

fn host(authority: &str) -> String {
    let host = authority.rsplit('@').next().unwrap_or_default();
    let host = match host.strip_prefix('[') {
        Some(six) => six.split(']').next(),
        None => host.split(':').next(),
    };
    host.unwrap_or_default().to_lowercase()
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use token_core::AccessToken;

    use super::*;
    use crate::params::Params;

    fn job() -> Submission {
        Submission {
            files: vec![FileEntry::new("davs://a.example:1094/x", "davs://b.example/x")],
            params: Params::default(),
        }
    }

    #[test]
    fn the_field_at_fault_is_named() {
        type Change = fn(&mut Submission);
        let cases: &[(&str, Change)] = &[
            ("files", |job| job.files.clear()),
            ("files[0].sources", |job| job.files[0].sources.clear()),
            ("files[0].sources[0]", |job| job.files[0].sources[0] = "file:///etc/passwd".into()),
            ("files[0].destinations[0]", |job| job.files[0].destinations[0] = "davs:///x".into()),
            ("files[0].destinations[0]", |job| job.files[0].destinations[0] = "davs://b.example/".into()),
            ("files[0].sources[0]", |job| job.files[0].sources[0].push_str(&"x".repeat(1100))),
            ("files[0].metadata", |job| job.files[0].metadata = json!([1])),
            ("files[0].scitag", |job| job.files[0].scitag = Some(64)),
            ("files[0].staging_metadata", |job| job.files[0].staging_metadata = Some(json!("text"))),
            ("files[1].source_tokens", |job| {
                let token = AccessToken::new("t").unwrap();
                let plain = job.files[0].clone();
                job.files[0].source_tokens = vec![token.clone()];
                job.files[0].destination_tokens = vec![token];
                job.files.push(plain);
            }),
            ("files[0].sources", |job| {
                job.files[0].sources.push("davs://c.example/x".into());
                job.files.push(job.files[0].clone());
            }),
            ("files[0].selection_strategy", |job| {
                job.files[0].sources.push("davs://c.example/x".into());
                job.files[0].selection_strategy = Some(SelectionStrategy::Other("random".into()));
            }),
            ("files[1]", |job| {
                job.params.reuse = true;
                job.files.push(FileEntry::new("davs://c.example/x", "davs://b.example/y"));
            }),
            ("params.overwrite", |job| {
                job.params.overwrite = true;
                job.params.overwrite_on_retry = true;
            }),
            ("params.overwrite_hop", |job| job.params.overwrite_hop = true),
            ("params.overwrite_when_only_on_disk", |job| job.params.overwrite_when_only_on_disk = true),
            ("params.sid", |job| job.params.id_generator = IdGenerator::Deterministic),
            ("params.job_metadata", |job| job.params.job_metadata = json!(1)),
        ];
        assert_eq!(job().check(), Ok(()));
        for (field, change) in cases {
            let mut job = job();
            change(&mut job);
            assert_eq!(job.check().unwrap_err().field, *field);
        }
    }

    #[test]
    fn a_port_is_no_part_of_a_storage() {
        let mut job = job();
        job.params.reuse = true;
        job.files.push(FileEntry::new("DAVS://A.example:1095/y", "davs://b.example:1/y"));
        assert_eq!(job.check(), Ok(()));
    }
}
