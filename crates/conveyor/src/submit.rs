//! One pass over the queue: resolve open claims, then pick, choose, claim, post, settle, page by page and several pages at a time.

mod conditions;
mod left;
mod memory;
mod page;
mod parties;
mod post;
mod recover;
mod tempo;
mod tokens;
mod walk;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use daemon::Shutdown;
use fts_client::FtsError;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use serde::Serialize;
use token_core::{Clock, UnixSeconds};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::{info, warn};

use crate::choose::{Rules, Verdict};
use crate::job::JobRules;
use crate::pulse::Pulse;
use crate::request::RequestKey;
use crate::rucio::{DatabaseError, Rucio};
use crate::seen::Sight;
use crate::share::{Part, Share};
use crate::tokens::Carried;
use crate::topology::Topology;

pub use memory::Memory;
pub use parties::Parties;
use parties::Party;
pub(crate) use tempo::Rates;
pub use tempo::Tempo;
use walk::Walk;

/// How often a long pass says how far it is.
const SAY: Duration = Duration::from_secs(30);

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
    /// What came of posts, by FTS.
    pub fts: BTreeMap<String, Posts>,
    /// Requests claimed and given back because their job could not be sent.
    pub released: usize,
    /// Requests still claimed, whose job's fate is not known yet. The next pass looks again.
    pub open: usize,
}

/// What came of posts to one FTS, in requests but for `jobs`.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Posts {
    /// FTS has them now.
    pub submitted: usize,
    /// In so many jobs.
    pub jobs: usize,
    /// FTS refused them.
    pub refused: usize,
    /// They were given back.
    pub released: usize,
    /// No answer told.
    pub unknown: usize,
}

impl Report {
    /// Adds what another pass has done.
    pub fn add(&mut self, other: &Self) {
        let Self {
            picked,
            submitted,
            jobs,
            recovered,
            ended,
            left,
            refused,
            authorised,
            fts,
            released,
            open,
        } = other;
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
        for (fts, posts) in fts {
            let sum = self.fts.entry(fts.clone()).or_default();
            sum.submitted += posts.submitted;
            sum.jobs += posts.jobs;
            sum.refused += posts.refused;
            sum.released += posts.released;
            sum.unknown += posts.unknown;
        }
    }
}

/// A pass, walked to its end.
#[derive(Clone, Debug, Default)]
pub struct Pass {
    /// What it has done.
    pub report: Report,
    /// Why an FTS, or the issuer of its tokens, could not be used. Its requests wait; those for others were submitted.
    pub unusable: Option<FtsError>,
    /// The queue as it was found.
    pub queue: Queue,
}

/// Our part of the queue, as a walk over all of it found it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Queue {
    /// How many requests.
    pub requests: usize,
    /// When the oldest was made of those that wait for an FTS, a token or the end of a ban.
    pub waiting_since: Option<UnixSeconds>,
}

impl Queue {
    /// One waits that was made then, where that is known.
    fn waits(&mut self, made: Option<UnixSeconds>) {
        self.waiting_since = self.waiting_since.into_iter().chain(made).min();
    }
}

impl Pass {
    /// Adds what another part of it has done.
    fn add(&mut self, other: Self) {
        self.report.add(&other.report);
        self.unusable = self.unusable.take().or(other.unusable);
        self.queue.requests += other.queue.requests;
        self.queue.waits(other.queue.waiting_since);
    }
}

/// What a pass goes by.
struct Ground<'a> {
    topology: &'a Topology,
    /// The part of the queue that is ours.
    part: Part,
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
    /// How fast is worked.
    pub tempo: Arc<Tempo>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// When to stop.
    pub shutdown: Shutdown,
    /// What is kept from pass to pass.
    pub memory: Memory,
    /// Where it is seen what is done.
    pub sight: Sight,
}

impl Submitter {
    /// Resolves open claims, then walks the queue once from its oldest request to its end. What can't be submitted is behind the
    /// walk and holds nobody up; what came since the last pass and can't either is not read again for a while.
    ///
    /// # Errors
    /// When the database fails. What was claimed is settled, given back, or open for the next pass.
    pub async fn pass(&self) -> Result<Pass, DatabaseError> {
        self.memory.set_open(true);
        let mut pass = self.work(Walk::whole()).await?;
        pass.queue.waits(self.memory.left().waiting_since(self.clock.now()));
        Ok(pass)
    }

    /// Does what has come up since the last pass: requests that came lately, and what waited for an FTS that may be tried again.
    ///
    /// # Errors
    /// As [`Self::pass`].
    pub async fn news(&self) -> Result<Pass, DatabaseError> {
        self.work(Walk::news()).await
    }

    async fn work(&self, mut walk: Walk) -> Result<Pass, DatabaseError> {
        let mut pass = Pass::default();
        let topology = self.topology().await?;
        let due = !self.memory.conditions().due(self.clock.now()).is_empty();
        if self.memory.is_open() && (walk.is_whole() || due) {
            let recovered = self.recover(&topology, &mut pass).await;
            self.sight.seen.did(&pass.report);
            recovered?;
        }
        if self.try_again(&mut pass).await {
            // What waited stands anywhere in the queue.
            walk = Walk::whole();
        }
        let place = match &self.pulse {
            Some(pulse) => Some(pulse.place(self.clock.now()).await?),
            None => None,
        };
        for doubt in self.share.doubts(&topology) {
            if self.memory.is_new(doubt.clone()) {
                warn!(doubt, "the share of the queue looks wrong");
            }
        }
        let ground = Ground { part: self.share.part(&topology, place), topology: &topology };
        let (pages, next) = mpsc::channel(1);
        let (walked, worked) = tokio::join!(self.walk(walk, &ground, pages), self.pages(next, &ground));
        let (walked, walk_failed) = walked;
        let (worked, work_failed) = worked;
        pass.add(walked);
        pass.add(worked);
        match walk_failed.or(work_failed) {
            Some(error) => Err(error),
            None => Ok(pass),
        }
    }

    /// One line on how transfers are authorised, if there is something to tell.
    pub fn tell_authorisation(&self, report: &Report) {
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

    /// Tries what could not be used and is due. Whether anything can be used again.
    async fn try_again(&self, pass: &mut Pass) -> bool {
        let due = self.memory.conditions().due(self.clock.now());
        let mut back = false;
        for fts in due {
            back |= self.usable(&fts, pass).await.is_some();
        }
        back
    }

    /// Looks for pages of requests, somewhat ahead of those who work on them.
    async fn walk(
        &self,
        mut walk: Walk,
        ground: &Ground<'_>,
        pages: mpsc::Sender<Vec<RequestKey>>,
    ) -> (Pass, Option<DatabaseError>) {
        let mut pass = Pass::default();
        loop {
            match walk.next(self, &ground.part, &mut pass).await {
                Ok(Some(page)) => {
                    // Nobody is there any more who would take it.
                    if pages.send(page).await.is_err() {
                        return (pass, None);
                    }
                }
                Ok(None) => return (pass, None),
                Err(error) => return (pass, Some(error)),
            }
        }
    }

    /// Works on pages, several at a time: while FTS looks at the jobs of one, the next is claimed. When the database fails, those that are
    /// in hand are brought to their end.
    async fn pages(
        &self,
        mut pages: mpsc::Receiver<Vec<RequestKey>>,
        ground: &Ground<'_>,
    ) -> (Pass, Option<DatabaseError>) {
        let (mut all, mut failed, mut said) = (Pass::default(), None, Instant::now());
        let (mut working, mut ended) = (FuturesUnordered::new(), false);
        loop {
            let room = !ended && working.len() < self.rucio.lanes();
            tokio::select! {
                page = pages.recv(), if room => match page {
                    Some(page) => working.push(async move {
                        let mut pass = Pass::default();
                        let worked = self.page(page, ground, &mut pass).await;
                        self.sight.seen.did(&pass.report);
                        (pass, worked)
                    }),
                    None => ended = true,
                },
                Some((pass, worked)) = working.next(), if !working.is_empty() => {
                    all.add(pass);
                    if let Err(error) = worked {
                        failed.get_or_insert(error);
                        pages.close();
                        ended = true;
                    }
                    if said.elapsed() > SAY {
                        said = Instant::now();
                        info!(looked_at = all.report.picked, submitted = all.report.submitted, "walking the queue");
                    }
                }
                else => return (all, failed),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_that_waits_counts_whatever_it_waits_for() {
        let mut queue = Queue::default();
        for made in [None, Some(30), Some(20), None, Some(40)] {
            queue.waits(made.map(UnixSeconds));
        }
        assert_eq!(queue.waiting_since, Some(UnixSeconds(20)));
    }
}
