//! One pass over the queue: resolve open claims, then pick, choose, claim, post, settle, page by page.

mod parties;
mod post;
mod recover;
mod tokens;

use std::collections::BTreeMap;
use std::sync::Arc;

use daemon::Shutdown;
use fts_client::FtsError;
use futures_util::StreamExt as _;
use futures_util::stream;
use serde::Serialize;
use token_core::{Clock, Freshness};
use tracing::{debug, info, warn};

use crate::choose::{Plan, Rules, Verdict, choose};
use crate::job::{Job, JobRules, group};
use crate::pulse::Pulse;
use crate::rucio::queue::Cursor;
use crate::rucio::{DatabaseError, Rucio};
use crate::share::Share;
use crate::tokens::Carried;
use crate::topology::Topology;

pub use parties::Parties;
use parties::Party;
use post::End;

/// How many finished posts are closed in one transaction.
const SETTLE: usize = 64;

/// Why a request is left in `Q` that carries tokens for its storages, when one can't be had.
pub(crate) const WAITS: &str = "no token for a storage now";

/// What a pass has done.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Requests looked at.
    pub picked: usize,
    /// Requests that FTS has now.
    pub submitted: usize,
    /// Jobs that FTS has now.
    pub jobs: usize,
    /// Requests whose open claim was found and resolved; counted in `submitted` too when FTS has them.
    pub recovered: usize,
    /// Requests that got state `N`, `O` or `M`, by reason.
    pub ended: BTreeMap<String, usize>,
    /// Requests left in `Q`, by reason.
    pub left: BTreeMap<String, usize>,
    /// Requests that FTS refused; state `A`.
    pub refused: usize,
    /// Requests that FTS has now, by how their transfers are authorised.
    pub authorised: BTreeMap<String, usize>,
    /// Requests claimed and given back because their job could not be sent.
    pub released: usize,
    /// Requests still claimed, whose job's fate is not known yet. The next pass looks again.
    pub open: usize,
}

impl Report {
    /// Adds what another pass has done.
    pub fn add(&mut self, other: &Self) {
        let Self { picked, submitted, jobs, recovered, ended, left, refused, authorised, released, open } =
            other;
        let sums = [
            (&mut self.picked, picked),
            (&mut self.submitted, submitted),
            (&mut self.jobs, jobs),
            (&mut self.recovered, recovered),
            (&mut self.refused, refused),
            (&mut self.released, released),
            (&mut self.open, open),
        ];
        for (sum, count) in sums {
            *sum += count;
        }
        let maps = [(&mut self.ended, ended), (&mut self.left, left), (&mut self.authorised, authorised)];
        for (sums, counts) in maps {
            for (reason, count) in counts {
                *sums.entry(reason.clone()).or_default() += count;
            }
        }
    }
}

/// A pass, walked to its end.
#[derive(Clone, Debug)]
pub struct Pass {
    /// What it has done.
    pub report: Report,
    /// Why an FTS, or the issuer of its tokens, could not be used. Its requests wait; those for others were submitted.
    pub unusable: Option<FtsError>,
}

/// Submits.
pub struct Submitter {
    /// Rucio's database.
    pub rucio: Rucio,
    /// The FTS instances.
    pub parties: Parties,
    /// Which part of the queue is ours.
    pub share: Share,
    /// Our heartbeat among others, if we keep one.
    pub pulse: Option<Arc<Pulse>>,
    /// The rules of choice.
    pub rules: Rules,
    /// The rules of jobs.
    pub job_rules: JobRules,
    /// How many requests at a time.
    pub batch: u32,
    /// How many posts at a time.
    pub jobs_in_flight: usize,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// When to stop.
    pub shutdown: Shutdown,
}

impl Submitter {
    /// Walks the queue once from its oldest request to its end. What can't be submitted is behind the walk and holds nobody
    /// up.
    ///
    /// # Errors
    /// When the database fails. What was claimed is settled, given back, or open for the next pass.
    pub async fn pass(&self) -> Result<Pass, DatabaseError> {
        let mut report = Report::default();
        let topology = self.rucio.topology().await?;
        debug!(rses = topology.len(), "topology read");
        let mut unusable = BTreeMap::new();
        self.recover(&topology, &mut unusable, &mut report).await?;
        let place = match &self.pulse {
            Some(pulse) => Some(pulse.place(self.clock.now()).await?),
            None => None,
        };
        let part = self.share.part(&topology, place);
        for doubt in self.share.doubts(&topology) {
            warn!(doubt, "the share of the queue looks wrong");
        }
        let mut cursor = Cursor::default();
        while !self.shutdown.soft.is_cancelled() {
            let page = self.rucio.pick(&cursor, &part, self.batch, self.clock.now()).await?;
            let Some((requests, next)) = page else { break };
            cursor = next;
            report.picked += requests.len();
            let mut plans: BTreeMap<String, Vec<Plan>> = BTreeMap::new();
            let (mut ends, mut ended) = (Vec::new(), BTreeMap::<_, usize>::new());
            for request in &requests {
                match choose(request, &topology, &self.rules) {
                    Verdict::Submit(plan) => plans.entry(plan.fts.clone()).or_default().push(*plan),
                    Verdict::End(end, reason) => {
                        info!(request = %request.id, state = end.letter(), reason, "cannot be submitted");
                        *ended.entry(reason).or_default() += 1;
                        ends.push((request.id.clone(), end, reason));
                    }
                    Verdict::Leave(reason) => {
                        debug!(request = %request.id, reason, "left in the queue");
                        *report.left.entry(reason.to_owned()).or_default() += 1;
                    }
                }
            }
            // Nothing is written, and so nothing claimed, before an FTS has told who we are to it: not before there is a
            // token.
            let mut ready = Vec::new();
            let wanted = !plans.is_empty();
            for (fts, plans) in plans {
                match self.usable(&fts, &mut unusable).await {
                    Some(party) => {
                        let plans = with_tokens(&party, plans, &topology, &mut report).await;
                        ready.push((party, fts, plans));
                    }
                    None => {
                        let words = format!("FTS {fts} cannot be used now");
                        *report.left.entry(words).or_default() += plans.len();
                    }
                }
            }
            if wanted && ready.is_empty() {
                break;
            }
            self.rucio.end(&ends, self.clock.now()).await?;
            for (reason, count) in ended {
                *report.ended.entry(reason.to_owned()).or_default() += count;
            }
            for (party, fts, plans) in ready.into_iter().filter(|(.., plans)| !plans.is_empty()) {
                let jobs = group(plans, &party.identity, &self.job_rules);
                let jobs = self.rucio.claim(jobs, &fts, &party.identity, self.clock.now()).await?;
                self.post_all(&party, &fts, jobs, &topology, &mut unusable, &mut report).await?;
            }
            info!(looked_at = report.picked, submitted = report.submitted, "page done");
        }
        self.tell_authorisation(&report);
        Ok(Pass { report, unusable: unusable.into_values().next() })
    }

    /// One line a pass that has something to tell.
    fn tell_authorisation(&self, report: &Report) {
        let count = |of: &BTreeMap<String, usize>, name: &str| of.get(name).copied().unwrap_or_default();
        let by = |carried: Carried| count(&report.authorised, carried.mode());
        let (Verdict::Leave(words) | Verdict::End(_, words)) = self.rules.tokens.without.verdict() else {
            return;
        };
        let without = count(&report.left, words) + count(&report.ended, words);
        if report.authorised.is_empty() && without == 0 {
            return;
        }
        info!(
            token_for_fts = by(Carried::None),
            managed_storage_tokens = by(Carried::Managed),
            unmanaged_storage_tokens = by(Carried::Unmanaged),
            not_by_token = without,
            "authorised"
        );
    }

    async fn usable(&self, fts: &str, unusable: &mut BTreeMap<String, FtsError>) -> Option<Arc<Party>> {
        if unusable.contains_key(fts) {
            return None;
        }
        match self.parties.party(fts).await {
            Ok(party) => Some(party),
            Err(error) => {
                warn!(fts, %error, "this FTS cannot be used now; its requests wait");
                unusable.insert(fts.to_owned(), error);
                None
            }
        }
    }

    /// Posts claimed jobs, many at a time, and closes their claims as the answers come. What was refused as a job of several
    /// files is posted again, file by file.
    async fn post_all(
        &self,
        party: &Party,
        fts: &str,
        mut jobs: Vec<Job>,
        topology: &Topology,
        unusable: &mut BTreeMap<String, FtsError>,
        report: &mut Report,
    ) -> Result<(), DatabaseError> {
        while !jobs.is_empty() {
            let mut apart = Vec::new();
            let posts = stream::iter(jobs).map(|job| self.post(party, job, topology));
            let mut chunks = posts.buffer_unordered(self.jobs_in_flight.max(1)).ready_chunks(SETTLE);
            while let Some(chunk) = chunks.next().await {
                let mut ends = Vec::new();
                for (job, end) in chunk.into_iter().flatten() {
                    match end {
                        End::Apart => apart.push(job),
                        End::NotSent(Some(error)) => {
                            unusable.entry(fts.to_owned()).or_insert(error);
                            ends.push((job, End::NotSent(None)));
                        }
                        end => ends.push((job, end)),
                    }
                }
                self.close(ends, fts, topology, report).await?;
            }
            drop(chunks);
            jobs = self.rucio.take_apart(apart, &party.identity, self.clock.now()).await?;
        }
        Ok(())
    }
}

/// Those plans that have the tokens of all their storages. The others wait in the queue: nothing is claimed for them.
async fn with_tokens(party: &Party, plans: Vec<Plan>, topology: &Topology, report: &mut Report) -> Vec<Plan> {
    let tokens = party.tokens.of(&plans, topology, Freshness::Kept).await;
    let (ready, waiting): (Vec<_>, Vec<_>) = plans.into_iter().partition(|plan| tokens.of(plan).is_ok());
    if !waiting.is_empty() {
        *report.left.entry(WAITS.to_owned()).or_default() += waiting.len();
    }
    ready
}
