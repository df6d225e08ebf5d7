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
use crate::fts::hand_over::{EndpointToken, Handed, HandedOver};
use crate::fts::lease::Lease;
use crate::fts::waiting::{Subject, WaitingFile, WaitingJob};
use crate::fts::{DatabaseError, FtsDatabase};
use crate::plan::{Planning, Side, Sided};

pub use tokens::{IssuerClient, Tokens};

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
    /// Which tokens files need.
    pub planning: Planning,
    /// Where tokens come from.
    pub tokens: Arc<Tokens>,
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
                self.finish(&lease, job, &subjects, &got, report).await?;
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
        let mut distinct: HashMap<Key, (&Subject, TokenRequest)> = HashMap::new();
        for file in files {
            let sides = [Side::Source, Side::Destination].map(|side| self.side(file, side, subjects));
            // When one side can't be had for good, the file fails and needs no token for the other.
            if sides.iter().any(|side| matches!(side, Sided::Refused(_))) {
                continue;
            }
            for side in sides {
                if let Sided::Made(id, request) = side
                    && let Some(subject) = subjects.get(id)
                {
                    distinct.entry(key(id, &request)).or_insert((subject, request));
                }
            }
        }
        stream::iter(distinct)
            .map(|(key, (subject, request))| async move { (key, self.tokens.get(subject, &request).await) })
            .buffer_unordered(self.in_flight.max(1))
            .collect()
            .await
    }

    fn side<'a>(&self, file: &'a WaitingFile, side: Side, subjects: &HashMap<String, Subject>) -> Sided<'a> {
        self.planning.side(file, side, subjects, self.clock.now())
    }

    async fn finish(
        &self,
        lease: &Lease,
        job: WaitingJob,
        subjects: &HashMap<String, Subject>,
        got: &HashMap<Key, Token<EndpointToken>>,
        report: &mut Report,
    ) -> Result<(), DatabaseError> {
        let side = |file, side| match self.side(file, side, subjects) {
            Sided::Given(id) => Token::Got(Handed::Given(id.to_owned())),
            Sided::Refused(why) => Token::Refused(why),
            Sided::Wait(why) => Token::Wait(why),
            Sided::Made(id, request) => match got.get(&key(id, &request)) {
                Some(Token::Got(token)) => Token::Got(Handed::Made(token.clone())),
                Some(Token::Refused(why)) => Token::Refused(why.clone()),
                Some(Token::Wait(why)) => Token::Wait(why.clone()),
                // Not asked for, since the file fails for its other side.
                None => Token::Wait("its token was not asked for".into()),
            },
        };
        let waiting = job.files.iter().map(|file| Waiting {
            file: file.id,
            planned: file.planned.clone(),
            source: side(file, Side::Source),
            destination: side(file, Side::Destination),
        });
        let fates = decide(job.kind, waiting.collect());
        for (file, fate) in &fates {
            use crate::decide::Fate::{Fail, Release, Wait};
            match fate {
                Release { state, source, destination } => {
                    info!(
                        job = job.id,
                        file,
                        state,
                        source = source.id(),
                        destination = destination.id(),
                        "released"
                    );
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
