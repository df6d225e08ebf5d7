//! One round: lease jobs, find out which distinct tokens they need, get each once, and hand over.

mod tokens;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use daemon::Shutdown;
use futures_util::StreamExt as _;
use futures_util::stream;
use serde::Serialize;
use token_core::{Clock, TokenRequest};
use tracing::{info, warn};

use crate::decide::{Token, Waiting, decide};
use crate::endpoint::Endpoints;
use crate::fts::hand_over::{EndpointToken, HandedOver};
use crate::fts::lease::Lease;
use crate::fts::waiting::{Subject, WaitingFile, WaitingJob};
use crate::fts::{DatabaseError, FtsDatabase};
use crate::plan::{Side, need};

pub use tokens::Tokens;

/// What rounds have done.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Jobs leased.
    pub jobs: usize,
    /// Files released with tokens.
    pub released: usize,
    /// Files failed, for a definite reason.
    pub failed: usize,
    /// Files of cancelled jobs ended.
    pub cancelled: usize,
    /// Files put off, by reason.
    pub waiting: BTreeMap<String, usize>,
    /// Jobs whose lease was lost to another worker.
    pub lost: usize,
}

/// Works.
pub struct Worker {
    /// FTS's database.
    pub fts: FtsDatabase,
    /// The storage endpoints.
    pub endpoints: Endpoints,
    /// Where tokens come from.
    pub tokens: Tokens,
    /// Jobs leased at a time.
    pub batch: u32,
    /// How long a lease lasts.
    pub lease: Duration,
    /// Exchanges at a time, over all issuers.
    pub in_flight: usize,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// When to stop.
    pub shutdown: Shutdown,
}

/// Which token: from which subject, for what.
type Key = (String, String, String);

fn key(subject: &str, request: &TokenRequest) -> Key {
    (subject.to_owned(), request.audience.clone(), request.scope.to_string())
}

impl Worker {
    /// Works until no job is due. Jobs that were put off are not waited for.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn rounds(&self) -> Result<Report, DatabaseError> {
        let mut report = Report::default();
        while !self.shutdown.soft.is_cancelled() && self.round(&mut report).await? {}
        Ok(report)
    }

    /// One batch; false when no job was due.
    async fn round(&self, report: &mut Report) -> Result<bool, DatabaseError> {
        let now = self.clock.now();
        let leases = self.fts.lease(self.batch, now, now.plus(self.lease)).await?;
        if leases.is_empty() {
            return Ok(false);
        }
        let ids: Vec<&str> = leases.iter().map(|lease| lease.job.as_str()).collect();
        let jobs = self.fts.waiting(&ids).await?;
        let files = || jobs.iter().filter(|job| !job.cancelled).flat_map(|job| &job.files);
        let subject_ids: BTreeSet<&str> = files()
            .flat_map(|f| [&f.source_token, &f.destination_token])
            .filter_map(|id| id.as_deref())
            .collect();
        let subjects = self.fts.subjects(&subject_ids.into_iter().collect::<Vec<_>>()).await?;
        // A little earlier than the lease ends, so that the hand-over is made under it.
        let got = tokio::time::timeout(self.lease.mul_f32(0.8), self.fetch(files(), &subjects)).await;
        let Ok(got) = got else {
            warn!(jobs = leases.len(), "tokens did not come within the lease; its jobs are given back");
            self.fts.give_back(&leases).await?;
            return Ok(true);
        };
        let mut leases: HashMap<String, Lease> = leases.into_iter().map(|l| (l.job.clone(), l)).collect();
        for job in jobs {
            if let Some(lease) = leases.remove(&job.id) {
                self.finish(&lease, job, &got, report).await?;
            }
        }
        // Whose files left TOKEN_PREP between the lease and the look.
        for lease in leases.into_values() {
            self.record(&lease, self.fts.hand_over(&lease, &[], self.clock.now(), now).await, report)?;
        }
        Ok(true)
    }

    /// Gets each distinct token once.
    async fn fetch<'a>(
        &self,
        files: impl Iterator<Item = &'a WaitingFile>,
        subjects: &HashMap<String, Subject>,
    ) -> HashMap<Key, Token<EndpointToken>> {
        let mut wanted: HashMap<Key, (&Subject, TokenRequest)> = HashMap::new();
        for file in files {
            for (id, request) in self.needs(file).into_iter().flatten() {
                if let Some(subject) = subjects.get(&id) {
                    wanted.entry(key(&id, &request)).or_insert((subject, request));
                }
            }
        }
        stream::iter(wanted)
            .map(|(key, (subject, request))| async move { (key, self.tokens.get(subject, &request).await) })
            .buffer_unordered(self.in_flight.max(1))
            .collect()
            .await
    }

    /// What both sides of a file need; nothing, when that can't be said of one of them, since the file fails then.
    fn needs(&self, file: &WaitingFile) -> Option<[(String, TokenRequest); 2]> {
        let side = |id: &Option<String>, url: &str, side| {
            Some((id.clone()?, need(url, side, &self.endpoints).ok()?))
        };
        Some([
            side(&file.source_token, &file.source_url, Side::Source)?,
            side(&file.destination_token, &file.destination_url, Side::Destination)?,
        ])
    }

    async fn finish(
        &self,
        lease: &Lease,
        job: WaitingJob,
        got: &HashMap<Key, Token<EndpointToken>>,
        report: &mut Report,
    ) -> Result<(), DatabaseError> {
        let waiting = job.files.iter().map(|file| Waiting {
            file: file.id,
            planned: file.planned.clone(),
            source: self.side(file.source_token.as_deref(), &file.source_url, Side::Source, got),
            destination: self.side(
                file.destination_token.as_deref(),
                &file.destination_url,
                Side::Destination,
                got,
            ),
        });
        let fates = decide(job.kind, waiting.collect());
        for (file, fate) in &fates {
            use crate::decide::Fate::{Fail, Release, Wait};
            match fate {
                Release { state, source, destination } => {
                    info!(job = job.id, file, state, source = %source.token.fingerprint(),
                        destination = %destination.token.fingerprint(), "released");
                }
                Fail(reason) => warn!(job = job.id, file, reason, "failed"),
                Wait(reason) => *report.waiting.entry(reason.clone()).or_default() += 1,
                crate::decide::Fate::Spare => (),
            }
        }
        let now = self.clock.now();
        let handed = self.fts.hand_over(lease, &fates, now, now.plus(pause(lease.attempts))).await;
        self.record(lease, handed, report)
    }

    fn side(
        &self,
        subject: Option<&str>,
        url: &str,
        side: Side,
        got: &HashMap<Key, Token<EndpointToken>>,
    ) -> Token<EndpointToken> {
        let Some(subject) = subject else {
            return Token::Refused(
                "FTS accepted this file without a token, so there is nothing to exchange".into(),
            );
        };
        match need(url, side, &self.endpoints) {
            Err(reason) => Token::Refused(reason.to_string()),
            Ok(request) => match got.get(&key(subject, &request)) {
                Some(token) => token.clone(),
                None => Token::Wait("its token row is gone".into()),
            },
        }
    }

    fn record(
        &self,
        lease: &Lease,
        handed: Result<HandedOver, DatabaseError>,
        report: &mut Report,
    ) -> Result<(), DatabaseError> {
        report.jobs += 1;
        match handed {
            Ok(done) => {
                report.released += done.released;
                report.failed += done.failed;
                report.cancelled += done.cancelled;
                Ok(())
            }
            Err(DatabaseError::LeaseLost(_)) => {
                warn!(job = lease.job, "lease lost to another worker; nothing written");
                report.lost += 1;
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
}

/// How long a job is put off: 2, 4, 8, ... seconds, at most 5 minutes.
fn pause(attempts: i64) -> Duration {
    let doubled = u32::try_from(attempts.clamp(0, 8)).unwrap_or(8);
    Duration::from_secs((2_u64 << doubled).min(300))
}
