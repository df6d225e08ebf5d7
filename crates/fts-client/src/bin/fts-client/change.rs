//! `cancel` and `priority`.

use clap::Args;
use fts_client::{Answered, Bulk, Change, FileCancel, FileId, JobId, Priority};
use serde_json::json;

use super::Failure;
use super::connect::Connect;
use super::show::{Screen, safe};
use super::status::job_id;

/// Arguments of `cancel`.
#[derive(Args)]
pub(super) struct Cancel {
    /// Jobs; of one job also single files, as JOB_ID:FILE_ID,FILE_ID.
    #[arg(required = true, value_name = "JOB_ID[:FILE_ID,..]", value_parser = target)]
    targets: Vec<Target>,
}

/// A job, or files of it.
#[derive(Clone)]
struct Target {
    job: JobId,
    files: Vec<FileId>,
}

fn target(text: &str) -> Result<Target, String> {
    let (job, files) = text.split_once(':').unwrap_or((text, ""));
    let file = |file: &str| file.parse().map(FileId).map_err(|_| format!("{file} is no file number"));
    let files = files.split(',').filter(|file| !file.is_empty()).map(file).collect::<Result<_, _>>()?;
    Ok(Target { job: job_id(job)?, files })
}

/// Arguments of `priority`.
#[derive(Args)]
pub(super) struct SetPriority {
    /// 1 to 5; 5 is served first.
    #[arg(value_parser = clap::value_parser!(u8).range(1..=5))]
    priority: u8,
    /// The jobs.
    #[arg(required = true, value_name = "JOB_ID", value_parser = job_id)]
    jobs: Vec<JobId>,
}

impl Cancel {
    pub(super) async fn run(&self, connect: &Connect, screen: &Screen) -> Result<(), Failure> {
        let client = connect.client()?;
        let whole: Vec<JobId> = self
            .targets
            .iter()
            .filter(|target| target.files.is_empty())
            .map(|target| target.job.clone())
            .collect();
        let mut done = changed(client.cancel_many(&whole), screen).await;
        for Target { job, files } in self.targets.iter().filter(|target| !target.files.is_empty()) {
            for (file, outcome) in client.cancel_files(job, files).await? {
                let (word, refused) = match outcome {
                    FileCancel::Now(state) => (state.to_string(), false),
                    FileCancel::Refused(words) => (words, true),
                };
                line(screen, &format!("{job}:{file}"), &word)?;
                if refused {
                    done = done.and(Err(Failure::silent(Failure::REFUSED)));
                }
            }
        }
        done
    }
}

impl SetPriority {
    pub(super) async fn run(&self, connect: &Connect, screen: &Screen) -> Result<(), Failure> {
        let priority = Priority::new(self.priority).ok_or_else(|| Failure::usage("1 to 5"))?;
        let client = connect.client()?;
        changed(client.set_priority_many(&self.jobs, priority), screen).await
    }
}

/// Does it, and says of each job what became of it.
async fn changed(mut bulk: Bulk<'_, Change>, screen: &Screen) -> Result<(), Failure> {
    let mut done = Ok(());
    while let Some(batch) = bulk.next().await {
        for Answered { id, outcome } in batch? {
            let word = match outcome {
                Ok(Change::Done(job)) => job.job_state.to_string(),
                Ok(Change::AtItsEnd(job)) => format!("{} before", job.job_state),
                Ok(Change::Unknown) => {
                    done = Err(Failure::silent(Failure::REFUSED));
                    "no such job".to_owned()
                }
                Err(error) => {
                    let word = error.to_string();
                    done = Err(Failure::from(error));
                    word
                }
            };
            line(screen, id.as_str(), &word)?;
        }
    }
    done
}

fn line(screen: &Screen, name: &str, word: &str) -> Result<(), Failure> {
    match screen.json {
        true => screen.print_json(&json!({"id": name, "outcome": word})),
        false => screen.print(&safe(&format!("{name}  {word}"))),
    }
}
