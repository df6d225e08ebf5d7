//! `submit`.

use std::io::Read as _;
use std::path::Path;
use std::time::Duration;

use clap::Args;
use fts_client::{FileFields, FtsClient, IdGenerator, JobId, Lookup, Submission, Submitted, Verdict};
use serde_json::{Value, json};
use token_core::random_hex;

use super::connect::Connect;
use super::options::{JobOptions, unknown_members};
use super::show::Screen;
use super::{Failure, status};

/// Waits before a submission whose fate is unknown is looked for and, if it is not there, sent again under the same id.
const WAITS: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4)];
/// Largest job file: 2,000 files with the longest metadata take 10 MB.
const LIMIT: u64 = 64 * 1024 * 1024;

/// Arguments of `submit`.
#[derive(Args)]
pub(super) struct Submit {
    #[command(flatten)]
    job: JobOptions,
    /// Wait until the job has ended, and show how far it is.
    #[arg(short = 'b', long)]
    blocking: bool,
    /// Most seconds between two looks at it.
    #[arg(short = 'i', long, value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..))]
    interval: u64,
    /// Print what would be sent, tokens left out, and send nothing.
    #[arg(long)]
    dry_run: bool,
}

impl Submit {
    pub(super) async fn run(&self, connect: &Connect, screen: &Screen) -> Result<(), Failure> {
        let mut job = self.job.job(read)?;
        for member in unknown_members(&job) {
            screen.note(&format!("{member}: FTS ignores what it does not know"));
        }
        // With an id that is known beforehand an answer that is lost can be looked for.
        job.params.id_generator = IdGenerator::Deterministic;
        let sid = job.params.sid.get_or_insert_with(random_hex).clone();
        if self.dry_run {
            return screen.print(&format!("{:#}\n", without_tokens(&job)));
        }
        let client = connect.client()?;
        let identity = client.whoami().await.map_err(Failure::reading)?.identity();
        let identity = identity.ok_or_else(|| Failure::usage("FTS takes us for nobody"))?;
        let id = post(&client, &job, identity.job_id(&sid), screen).await?;
        if !self.blocking {
            let json = json!({"job_id": id, "sid": sid});
            return screen.print(&if screen.json { format!("{json}\n") } else { format!("{id}\n") });
        }
        screen.note(&format!("job {id}"));
        status::watch(&client, &[id], Duration::from_secs(self.interval), screen).await
    }
}

/// Sends a job, and finds out what became of it when no answer tells.
async fn post(client: &FtsClient, job: &Submission, id: JobId, screen: &Screen) -> Result<JobId, Failure> {
    let mut unknown = None;
    for wait in WAITS {
        match client.submit(job).await {
            Ok(Submitted::Accepted(given)) => return Ok(given),
            Ok(Submitted::AlreadyThere) => {
                screen.note("FTS has a job of this sid already");
                return Ok(id);
            }
            Err(error) if error.verdict() == Verdict::OutcomeUnknown => unknown = Some(error),
            // This try did nothing, but an earlier one may have; what is refused now was refused then.
            Err(error) if unknown.is_some() && error.verdict() != Verdict::Refused => unknown = Some(error),
            Err(error) => return Err(error.into()),
        }
        if let Some(error) = &unknown {
            screen.note(&format!("{error}; looking for job {id}"));
        }
        tokio::time::sleep(wait).await;
        if let Ok(Lookup::Known(_)) = client.job(&id, FileFields::None).await {
            return Ok(id);
        }
    }
    let sid = job.params.sid.as_deref().unwrap_or_default();
    let what = unknown.map(|error| error.to_string()).unwrap_or_default();
    let line = format!(
        "{what}: it may be there. Look with `fts-client status {id}`, or submit it again with `--sid {sid}`: FTS takes it once"
    );
    Err(Failure::new(Failure::UNKNOWN, line))
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let failed = |error| Failure::usage(format!("{}: {error}", path.display()));
    let mut bytes = Vec::new();
    match path.as_os_str() == "-" {
        true => std::io::stdin().take(LIMIT).read_to_end(&mut bytes).map_err(failed)?,
        false => std::fs::File::open(path)
            .and_then(|file| file.take(LIMIT).read_to_end(&mut bytes))
            .map_err(failed)?,
    };
    Ok(bytes)
}

fn without_tokens(job: &Submission) -> Value {
    let mut shown = json!(job);
    for (index, file) in job.files.iter().enumerate() {
        for (name, tokens) in
            [("source_tokens", &file.source_tokens), ("destination_tokens", &file.destination_tokens)]
        {
            let names = tokens.iter().map(|token| format!("<token {}>", token.fingerprint()));
            if !tokens.is_empty() {
                shown["files"][index][name] = names.collect();
            }
        }
    }
    shown
}
