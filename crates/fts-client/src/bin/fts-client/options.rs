//! From the command line, and a file, to a job. Names are those of `fts-rest-transfer-submit` where it has them.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use fts_client::{FileEntry, Params, QueueTime, SelectionStrategy, Submission, VerifyChecksum};
use serde_json::Value;

use super::Failure;
use super::connect::token_from;

/// What is to be transferred, and how.
#[derive(Args)]
pub(super) struct JobOptions {
    /// Where the file is.
    #[arg(required_unless_present = "file", conflicts_with = "file", requires = "destination")]
    source: Option<String>,
    /// Where it goes.
    destination: Option<String>,
    /// Its checksum, as ADLER32:0a1b2c3d.
    checksum: Option<String>,
    /// Take the job from this file, `-` for standard input: {"files": [{"sources": [..], "destinations": [..]}], "params": {..}}.
    /// Options given beside it replace its params.
    #[arg(short = 'f', long, alias = "json-submission", value_name = "FILE")]
    file: Option<PathBuf>,

    /// Replace a file at the destination.
    #[arg(short = 'o', long)]
    overwrite: bool,
    /// Replace a file at the destination when the transfer is tried again.
    #[arg(long)]
    overwrite_on_retry: bool,
    /// Replace a file that is on disk and not on tape; needs --archive-timeout.
    #[arg(long)]
    overwrite_when_only_on_disk: bool,
    /// Replace files at the hops between.
    #[arg(long)]
    overwrite_hop: bool,
    /// Compare checksums at source and destination.
    #[arg(short = 'K', long, conflicts_with = "checksum_mode")]
    compare_checksum: bool,
    /// Which side's checksum to compare.
    #[arg(short = 'C', long, value_name = "SIDE")]
    checksum_mode: Option<Side>,
    /// How often a file is tried again.
    #[arg(long, value_name = "TIMES")]
    retry: Option<i64>,
    /// Seconds between the tries.
    #[arg(long, value_name = "SECONDS")]
    retry_delay: Option<i64>,
    /// 1 to 5; 5 is served first.
    #[arg(short = 'p', long, value_parser = clap::value_parser!(i64).range(1..=5))]
    priority: Option<i64>,
    /// Give a queued file up after this time: 90m, 6h, 7d; a bare number is hours.
    #[arg(long, value_name = "TIME", value_parser = queue_time)]
    max_time_in_queue: Option<QueueTime>,
    /// Seconds that one transfer may take.
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<i64>,
    /// Streams of one transfer.
    #[arg(long, value_name = "NUMBER")]
    nostreams: Option<i64>,
    /// TCP buffer.
    #[arg(long, alias = "buff-size", value_name = "BYTES")]
    buffer_size: Option<i64>,
    /// Copy without any check before or after.
    #[arg(long)]
    strict_copy: bool,
    /// Leave what a failed transfer wrote.
    #[arg(long)]
    disable_cleanup: bool,
    /// Use IPv4.
    #[arg(long, conflicts_with = "ipv6")]
    ipv4: bool,
    /// Use IPv6.
    #[arg(long)]
    ipv6: bool,
    /// S3 URLs in path style.
    #[arg(long)]
    s3alternate: bool,
    /// The files are the hops of one path.
    #[arg(short = 'm', long = "multi-hop", alias = "multihop")]
    multihop: bool,
    /// One process for all files of the job.
    #[arg(short = 'r', long)]
    reuse: bool,
    /// Space token at the source.
    #[arg(short = 'S', long, value_name = "NAME")]
    source_spacetoken: Option<String>,
    /// Space token at the destination.
    #[arg(short = 't', long, value_name = "NAME")]
    destination_spacetoken: Option<String>,
    /// Seconds to wait for a copy from tape.
    #[arg(long, value_name = "SECONDS")]
    bring_online: Option<i64>,
    /// Seconds to wait until a file is on tape.
    #[arg(long, value_name = "SECONDS")]
    archive_timeout: Option<i64>,
    /// Seconds that a staged copy stays pinned.
    #[arg(long, value_name = "SECONDS")]
    copy_pin_lifetime: Option<i64>,
    /// Report on a file that is at the destination already.
    #[arg(long)]
    dst_file_report: bool,
    /// GridFTP parameters.
    #[arg(short = 'g', long = "gparam", value_name = "TEXT")]
    gridftp: Option<String>,
    /// Kept with the job: JSON, or a text.
    #[arg(long, alias = "metadata", value_name = "JSON")]
    job_metadata: Option<String>,
    /// Make the job's id from this text: sent twice, FTS takes it once.
    #[arg(long, value_name = "TEXT")]
    sid: Option<String>,

    /// Kept with the file: JSON, or a text.
    #[arg(long, value_name = "JSON", conflicts_with = "file")]
    file_metadata: Option<String>,
    /// For the tape system at the source: JSON.
    #[arg(long, value_name = "JSON", conflicts_with = "file")]
    staging_metadata: Option<String>,
    /// For the tape system at the destination: JSON.
    #[arg(long, value_name = "JSON", conflicts_with = "file")]
    archive_metadata: Option<String>,
    /// Size in bytes, compared with what the source says.
    #[arg(long, value_name = "BYTES", conflicts_with = "file")]
    file_size: Option<i64>,
    /// The share that the file counts against.
    #[arg(long, value_name = "NAME", conflicts_with = "file")]
    activity: Option<String>,
    /// Flow label, 65 to 65535.
    #[arg(long, value_name = "NUMBER", conflicts_with = "file", value_parser = clap::value_parser!(u16).range(65..))]
    scitag: Option<u16>,
    /// How FTS picks among several sources: auto, orderly, queue, ...
    #[arg(long, value_name = "WORD", conflicts_with = "file")]
    selection_strategy: Option<String>,
    /// A token for the source. Without this and the next, FTS uses the one of the submission.
    #[arg(long, value_name = "FILE", conflicts_with = "file", requires = "destination_token_file")]
    source_token_file: Option<PathBuf>,
    /// A token for the destination.
    #[arg(long, value_name = "FILE", conflicts_with = "file", requires = "source_token_file")]
    destination_token_file: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Side {
    None,
    Source,
    Target,
    Both,
}

fn queue_time(text: &str) -> Result<QueueTime, &'static str> {
    QueueTime::parse(text).ok_or("a time is 300s, 90m, 6h, 7d, or a bare number of hours")
}

impl JobOptions {
    /// The job. `read` reads a file or standard input.
    pub(super) fn job(
        &self,
        read: impl Fn(&Path) -> Result<Vec<u8>, Failure>,
    ) -> Result<Submission, Failure> {
        let mut job = match &self.file {
            Some(path) => parse(&read(path)?, path)?,
            None => Submission { files: vec![self.entry()?], params: Params::default() },
        };
        self.apply(&mut job.params);
        job.check().map_err(|fault| Failure::usage(format!("the job is not sent: {fault}")))?;
        Ok(job)
    }

    fn entry(&self) -> Result<FileEntry, Failure> {
        let (Some(source), Some(destination)) = (&self.source, &self.destination) else {
            return Err(Failure::usage("a source and a destination, or --file"));
        };
        let token = |path: &Option<PathBuf>| path.clone().map(token_from).transpose();
        let object = |text: &Option<String>, name| match text.as_deref().map(serde_json::from_str::<Value>) {
            None => Ok(None),
            Some(Ok(value)) if value.is_object() => Ok(Some(value)),
            Some(_) => Err(Failure::usage(format!("{name} is not a JSON object"))),
        };
        Ok(FileEntry {
            source_tokens: token(&self.source_token_file)?.into_iter().collect(),
            destination_tokens: token(&self.destination_token_file)?.into_iter().collect(),
            checksum: self.checksum.clone(),
            filesize: self.file_size,
            metadata: self.file_metadata.as_deref().map_or(Value::Null, metadata),
            staging_metadata: object(&self.staging_metadata, "--staging-metadata")?,
            archive_metadata: object(&self.archive_metadata, "--archive-metadata")?,
            activity: self.activity.clone(),
            scitag: self.scitag,
            selection_strategy: self.selection_strategy.clone().map(SelectionStrategy::from),
            ..FileEntry::new(source, destination)
        })
    }

    /// What the command line says replaces what the file said.
    fn apply(&self, params: &mut Params) {
        for (flag, param) in [
            (self.overwrite, &mut params.overwrite),
            (self.overwrite_on_retry, &mut params.overwrite_on_retry),
            (self.overwrite_when_only_on_disk, &mut params.overwrite_when_only_on_disk),
            (self.overwrite_hop, &mut params.overwrite_hop),
            (self.strict_copy, &mut params.strict_copy),
            (self.disable_cleanup, &mut params.disable_cleanup),
            (self.s3alternate, &mut params.s3alternate),
            (self.multihop, &mut params.multihop),
            (self.reuse, &mut params.reuse),
            (self.dst_file_report, &mut params.dst_file_report),
        ] {
            *param |= flag;
        }
        for (number, param) in [
            (self.retry, &mut params.retry),
            (self.retry_delay, &mut params.retry_delay),
            (self.priority, &mut params.priority),
            (self.timeout, &mut params.timeout),
            (self.nostreams, &mut params.nostreams),
            (self.buffer_size, &mut params.buffer_size),
            (self.bring_online, &mut params.bring_online),
            (self.archive_timeout, &mut params.archive_timeout),
            (self.copy_pin_lifetime, &mut params.copy_pin_lifetime),
        ] {
            *param = number.or(*param);
        }
        for (text, param) in [
            (&self.source_spacetoken, &mut params.source_spacetoken),
            (&self.destination_spacetoken, &mut params.destination_spacetoken),
            (&self.gridftp, &mut params.gridftp),
            (&self.sid, &mut params.sid),
        ] {
            if text.is_some() {
                param.clone_from(text);
            }
        }
        let side = match (self.compare_checksum, self.checksum_mode) {
            (true, _) | (_, Some(Side::Both)) => Some(VerifyChecksum::Both),
            (_, Some(Side::None)) => Some(VerifyChecksum::None),
            (_, Some(Side::Source)) => Some(VerifyChecksum::Source),
            (_, Some(Side::Target)) => Some(VerifyChecksum::Target),
            (_, None) => None,
        };
        params.verify_checksum = side.or(params.verify_checksum);
        params.max_time_in_queue = self.max_time_in_queue.or(params.max_time_in_queue);
        params.ipv4 = self.ipv4.then_some(true).or(params.ipv4);
        params.ipv6 = self.ipv6.then_some(true).or(params.ipv6);
        if let Some(text) = &self.job_metadata {
            params.job_metadata = metadata(text);
        }
    }
}

/// JSON if it is an object, else a text, which FTS takes too.
fn metadata(text: &str) -> Value {
    serde_json::from_str(text).ok().filter(Value::is_object).unwrap_or_else(|| text.into())
}

fn parse(bytes: &[u8], path: &Path) -> Result<Submission, Failure> {
    let shown = path.display();
    serde_json::from_slice(bytes).map_err(|error| {
        // What stands in the file is not repeated: it may be a token. What was expected there is ours.
        let text = error.to_string();
        let what = match text.rsplit_once("expected ") {
            Some((_, expected)) => format!("expected {expected}"),
            None if text.starts_with("missing field") => text,
            None => format!("not a job, at line {} column {}", error.line(), error.column()),
        };
        Failure::usage(format!("{shown}: {what}"))
    })
}

/// Members that FTS 3.13.4 has no use for: a slip of the pen, most of the time.
pub(super) fn unknown_members(job: &Submission) -> Vec<String> {
    let known = ["credential", "credentials", "unmanaged_tokens"];
    let params = job.params.other.keys().filter(|key| !known.contains(&key.as_str()));
    let files = job
        .files
        .iter()
        .enumerate()
        .flat_map(|(index, file)| file.other.keys().map(move |key| format!("files[{index}].{key}")));
    params.map(|key| format!("params.{key}")).chain(files).take(5).collect()
}
