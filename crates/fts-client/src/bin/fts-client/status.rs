//! `status`, and watching jobs until they have ended.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use clap::Args;
use fts_client::{Answered, FileFields, FtsClient, JobId, JobState, JobStatus, Lookup, Verdict};

use super::Failure;
use super::connect::Connect;
use super::progress::Progress;
use super::show::Screen;

/// How many looks in a row may fail before watching ends.
const PATIENCE: u32 = 10;

/// Arguments of `status`.
#[derive(Args)]
pub(super) struct Status {
    /// The jobs.
    #[arg(required = true, value_name = "JOB_ID", value_parser = job_id)]
    jobs: Vec<JobId>,
    /// Wait until all have ended, and show how far they are.
    #[arg(short = 'w', long, alias = "blocking")]
    watch: bool,
    /// Most seconds between two looks.
    #[arg(short = 'i', long, value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..))]
    interval: u64,
    /// Show every file, also of several jobs.
    #[arg(short = 'l', long)]
    files: bool,
}

pub(super) fn job_id(text: &str) -> Result<JobId, &'static str> {
    JobId::parse(text).ok_or("a job id looks like 8e531ad2-e76a-11f1-b890-02fc00000001")
}

/// What is known of jobs, in the order asked; each once.
struct Known {
    order: Vec<JobId>,
    jobs: BTreeMap<JobId, JobStatus>,
    unknown: Vec<JobId>,
}

impl Known {
    fn new(ids: &[JobId]) -> Self {
        let mut seen = HashSet::new();
        let order = ids.iter().filter(|id| seen.insert(*id)).cloned().collect();
        Self { order, jobs: BTreeMap::new(), unknown: Vec::new() }
    }

    /// Those that are not known to have ended.
    fn open(&self) -> Vec<JobId> {
        let ended = |id: &&JobId| {
            self.unknown.contains(id) || self.jobs.get(*id).is_some_and(|job| job.job_state.is_terminal())
        };
        self.order.iter().filter(|id| !ended(id)).cloned().collect()
    }

    async fn look(&mut self, client: &FtsClient) -> Result<(), fts_client::FtsError> {
        let open = self.open();
        let mut poll = client.poll(&open, FileFields::Watch);
        while let Some(batch) = poll.next().await {
            for Answered { id, outcome } in batch? {
                match outcome? {
                    Lookup::Known(job) => drop(self.jobs.insert(id, *job)),
                    Lookup::Unknown => self.unknown.push(id),
                }
            }
        }
        Ok(())
    }

    fn in_order(&self) -> Vec<JobStatus> {
        self.order.iter().filter_map(|id| self.jobs.get(id)).cloned().collect()
    }

    fn show(&self, screen: &Screen, files: bool) -> Result<(), Failure> {
        let jobs = self.in_order();
        if screen.json {
            screen.print_json(&jobs)?;
        } else if !jobs.is_empty() {
            let mut text = screen.jobs(&jobs);
            if files || jobs.len() == 1 {
                let all: Vec<_> = jobs.into_iter().flat_map(|job| job.files).collect();
                text += &format!("\n{}", screen.files(&all));
            }
            screen.print(&text)?;
        }
        match self.unknown.as_slice() {
            [] => Ok(()),
            unknown => {
                let list: Vec<_> = unknown.iter().map(JobId::as_str).collect();
                Err(Failure::new(Failure::REFUSED, format!("FTS has no job {}", list.join(", "))))
            }
        }
    }
}

impl Status {
    pub(super) async fn run(&self, connect: &Connect, screen: &Screen) -> Result<(), Failure> {
        let client = connect.client()?;
        if self.watch {
            return watch_all(&client, &self.jobs, Duration::from_secs(self.interval), screen, self.files)
                .await;
        }
        let mut known = Known::new(&self.jobs);
        known.look(&client).await.map_err(Failure::reading)?;
        known.show(screen, self.files)
    }
}

/// Waits until these jobs have ended, and shows them.
pub(super) async fn watch(
    client: &FtsClient,
    ids: &[JobId],
    interval: Duration,
    screen: &Screen,
) -> Result<(), Failure> {
    watch_all(client, ids, interval, screen, false).await
}

async fn watch_all(
    client: &FtsClient,
    ids: &[JobId],
    interval: Duration,
    screen: &Screen,
    files: bool,
) -> Result<(), Failure> {
    let mut known = Known::new(ids);
    let mut progress = Progress::new(screen.terminal);
    let mut failed = 0;
    // Small files are there within a second or two.
    let mut pause = Duration::from_secs(1);
    loop {
        match known.look(client).await {
            Ok(()) => failed = 0,
            Err(error) if error.verdict() == Verdict::Mend || failed + 1 == PATIENCE => {
                progress.leave();
                return Err(Failure::reading(error));
            }
            Err(error) => {
                failed += 1;
                progress.leave();
                screen.note(&format!("{error}; looking again"));
            }
        }
        if !known.jobs.is_empty() {
            progress.show(known.jobs.values());
        }
        if known.open().is_empty() {
            break;
        }
        tokio::time::sleep(pause.min(interval)).await;
        pause = (pause * 2).min(interval);
    }
    progress.leave();
    known.show(screen, files)?;
    match known.jobs.values().all(|job| job.job_state == JobState::Finished) {
        true => Ok(()),
        false => Err(Failure::silent(Failure::JOB)),
    }
}
