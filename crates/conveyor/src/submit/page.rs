//! One page of requests: read, choose, claim, post, settle.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use fts_client::FtsError;
use futures_util::StreamExt as _;
use futures_util::stream;
use token_core::Freshness;
use tracing::debug;

use super::left::Why;
use super::post::End;
use super::{Ground, Party, Pass, Submitter, WAITS};
use crate::choose::{Plan, Verdict, choose};
use crate::job::{Job, group};
use crate::request::RequestKey;
use crate::rucio::DatabaseError;
use crate::topology::Topology;

/// How many finished posts are closed in one transaction.
const SETTLE: usize = 64;

impl Submitter {
    /// Does with a page of requests what can be done now.
    pub(super) async fn page(
        &self,
        keys: Vec<RequestKey>,
        ground: &Ground<'_>,
        pass: &mut Pass,
    ) -> Result<(), DatabaseError> {
        self.sight.work.moves();
        let (now, topology) = (self.clock.now(), ground.topology);
        let requests = self.rucio.read(&ground.part, &keys, now).await?;
        pass.report.picked += requests.len();
        let mut plans: BTreeMap<String, Vec<Plan>> = BTreeMap::new();
        let (mut ends, mut lefts, mut read) = (Vec::new(), Vec::new(), HashSet::new());
        for request in &requests {
            let key = RequestKey::of(&request.id.0);
            read.insert(key);
            match choose(request, topology, &self.rules) {
                Verdict::Submit(plan) => plans.entry(plan.fts.clone()).or_default().push(*plan),
                Verdict::End(end, reason) => {
                    debug!(request = %request.id, state = end.letter(), reason, "cannot be submitted");
                    ends.push((request.id.clone(), end, reason));
                }
                Verdict::Leave(reason) => {
                    debug!(request = %request.id, reason, "left in the queue");
                    *pass.report.left.entry(reason.to_owned()).or_default() += 1;
                    lefts.push((key, None, Why::Decided(reason.into())));
                }
            }
        }
        drop(requests);
        lefts.extend(
            keys.into_iter().filter(|key| !read.contains(key)).map(|key| (key, None, Why::Ineligible)),
        );
        // Nothing is written, and so nothing claimed, before an FTS has told who we are to it: not before there is a
        // token.
        let mut ready = Vec::new();
        let wanted = !plans.is_empty();
        for (fts, plans) in plans {
            match self.usable(&fts, pass).await {
                Some(party) => {
                    let plans = with_tokens(&party, plans, topology, pass).await;
                    ready.push((party, fts, plans));
                }
                None => {
                    let words = format!("FTS {fts} cannot be used now");
                    *pass.report.left.entry(words).or_default() += plans.len();
                    let why = Why::Away(fts.into());
                    lefts.extend(plans.iter().map(|Plan { request, .. }| {
                        (RequestKey::of(&request.id.0), request.made_at, why.clone())
                    }));
                }
            }
        }
        self.memory.leave(lefts, now);
        // Without any FTS, what would end for the topology's sake may be wrong as well: not now.
        if wanted && ready.is_empty() {
            return Ok(());
        }
        self.rucio.end(&ends, now).await?;
        for (_, _, reason) in ends {
            *pass.report.ended.entry(reason.to_owned()).or_default() += 1;
        }
        for (party, fts, plans) in ready.into_iter().filter(|(.., plans)| !plans.is_empty()) {
            let jobs = group(plans, &party.identity, &self.job_rules);
            let jobs = self.rucio.claim(jobs, &fts, &party.identity, self.clock.now()).await?;
            self.post_all(&party, &fts, jobs, topology, pass).await?;
        }
        Ok(())
    }

    /// The FTS, if it can be used now and nothing is open there.
    pub(super) async fn usable(&self, fts: &str, pass: &mut Pass) -> Option<Arc<Party>> {
        let party = self.reachable(fts, pass).await?;
        if let Err(error) = self.memory.conditions().may_claim(fts) {
            pass.unusable.get_or_insert(error);
            return None;
        }
        self.back(fts);
        Some(party)
    }

    /// The FTS, if it answers.
    pub(super) async fn reachable(&self, fts: &str, pass: &mut Pass) -> Option<Arc<Party>> {
        let now = self.clock.now();
        let early = self.memory.conditions().may_try(fts, now);
        let tried = match early {
            Ok(()) => self.parties.party(fts).await.inspect_err(|error| self.away(fts, error, false)),
            Err(error) => Err(error),
        };
        tried.map_err(|error| _ = pass.unusable.get_or_insert(error)).ok()
    }

    /// An FTS cannot be used: it is tried again later.
    pub(super) fn away(&self, fts: &str, error: &FtsError, claims: bool) {
        self.memory.conditions().away(fts, error, claims, self.clock.now());
        self.sight.seen.fts(fts, self.rucio.vo(), Some(error));
    }

    /// An FTS can be used.
    pub(super) fn back(&self, fts: &str) {
        self.memory.conditions().back(fts, self.clock.now(), || self.memory.left().back(fts));
        self.sight.seen.fts(fts, self.rucio.vo(), None);
    }

    /// Posts claimed jobs, many at a time, and closes their claims as the answers come. What was refused as a job of several
    /// files is posted again, file by file.
    pub(super) async fn post_all(
        &self,
        party: &Party,
        fts: &str,
        mut jobs: Vec<Job>,
        topology: &Topology,
        pass: &mut Pass,
    ) -> Result<(), DatabaseError> {
        while !jobs.is_empty() {
            let mut apart = Vec::new();
            let posts = stream::iter(jobs).map(|job| self.post(party, job, topology));
            let mut chunks = posts.buffer_unordered(self.tempo.now().jobs_in_flight).ready_chunks(SETTLE);
            while let Some(chunk) = chunks.next().await {
                self.sight.work.moves();
                let mut ends = Vec::new();
                for (job, end) in chunk.into_iter().flatten() {
                    match end {
                        End::Apart => apart.push(job),
                        end => ends.push((job, end)),
                    }
                }
                self.close(ends, fts, topology, pass).await?;
            }
            drop(chunks);
            jobs = self.rucio.take_apart(apart, &party.identity, self.clock.now()).await?;
        }
        Ok(())
    }
}

/// Those plans that have the tokens of all their storages. The others wait in the queue: nothing is claimed for them.
async fn with_tokens(party: &Party, plans: Vec<Plan>, topology: &Topology, pass: &mut Pass) -> Vec<Plan> {
    let tokens = party.tokens.of(&plans, topology, Freshness::Kept).await;
    let (ready, waiting): (Vec<_>, Vec<_>) = plans.into_iter().partition(|plan| tokens.of(plan).is_ok());
    if !waiting.is_empty() {
        *pass.report.left.entry(WAITS.to_owned()).or_default() += waiting.len();
        waiting.iter().for_each(|plan| pass.queue.waits(plan.request.made_at));
    }
    ready
}
