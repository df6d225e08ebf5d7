//! Claims that a crash, a kill or a lost answer left open: each is resolved by the id of its job.

use std::collections::{BTreeMap, BTreeSet};

use fts_client::{JobId, Lookup};
use token_core::UnixSeconds;
use tracing::{debug, warn};

use super::post::{End, FIELDS, adopt};
use super::{Party, Pass, Posts, Report, Submitter};
use crate::choose::{Plan, replan};
use crate::job::{Job, in_order};
use crate::request::RequestKey;
use crate::rucio::queue::Claimed;
use crate::rucio::settle::Outcome;
use crate::rucio::{DatabaseError, Stamp};
use crate::topology::Topology;

/// The age at which an open claim is said to be still ours, well before others take it for forgotten.
const KEEP_S: i64 = 600;

impl Submitter {
    /// Resolves all open claims: a job that FTS has is adopted, one that it has not is posted again under the same id. Claims
    /// for an FTS that can't be asked now stay open, and the first that stays so speaks for the others.
    pub(super) async fn recover(&self, topology: &Topology, pass: &mut Pass) -> Result<(), DatabaseError> {
        self.memory.set_open(false);
        let mut jobs: BTreeMap<(String, String), Vec<Claimed>> = BTreeMap::new();
        for claimed in self.rucio.open_claims(self.clock.now()).await? {
            jobs.entry((claimed.fts.clone(), claimed.job.clone())).or_default().push(claimed);
        }
        let (mut stuck, mut asked) = (BTreeSet::new(), BTreeSet::new());
        let long_ago = Stamp::from(UnixSeconds(self.clock.now().0 - KEEP_S));
        let is_old = |claims: &[Claimed]| claims.iter().any(|claimed| claimed.claimed_at < long_ago);
        let old: Vec<_> =
            jobs.iter().filter(|(_, claims)| is_old(claims)).map(|(key, _)| key.clone()).collect();
        for ((fts, id), claims) in jobs {
            self.sight.work.moves();
            let files = claims.len();
            let party = match stuck.contains(&fts) {
                true => None,
                false => self.reachable(&fts, pass).await,
            };
            let Some(party) = party else {
                pass.report.open += files;
                stuck.insert(fts);
                continue;
            };
            let plans: Vec<Plan> =
                claims.into_iter().filter_map(|claimed| replan(claimed, topology, &self.rules)).collect();
            let plans = in_order(plans);
            let Some(id) = JobId::parse(&id).filter(|_| plans.len() == files) else {
                if self.memory.is_new(format!("claim {id}")) {
                    warn!(
                        job = id,
                        files,
                        "an open claim cannot be read: its RSE is gone or its id is no job id (said once)"
                    );
                }
                pass.report.open += files;
                continue;
            };
            debug!(job = %id, files, "open claim found");
            pass.report.recovered += files;
            let before = pass.report.open;
            self.resolve(id, plans, &party, topology, pass).await?;
            if pass.report.open > before {
                stuck.insert(fts);
            } else {
                asked.insert(fts);
            }
        }
        {
            let mut conditions = self.memory.conditions();
            asked.difference(&stuck).for_each(|fts| conditions.resolved(fts));
            for fts in conditions.due(self.clock.now()) {
                // Nothing is open there any more, whoever has seen to it.
                if !stuck.contains(&fts) {
                    conditions.resolved(&fts);
                }
            }
        }
        if !stuck.is_empty() {
            self.memory.set_open(true);
        }
        let kept: Vec<_> = old.into_iter().filter(|(fts, _)| stuck.contains(fts)).map(|(_, id)| id).collect();
        self.rucio.keep_claims(&kept, self.clock.now()).await
    }

    /// Resolves one claim.
    async fn resolve(
        &self,
        id: JobId,
        plans: Vec<Plan>,
        party: &Party,
        topology: &Topology,
        pass: &mut Pass,
    ) -> Result<(), DatabaseError> {
        let fts = party.name.as_str();
        let files = plans.len();
        let sid = sid_of(&id, &plans, party);
        let job = Job { id, sid: sid.clone().unwrap_or_default(), plans };
        match party.client.job(&job.id, FIELDS).await {
            Ok(Lookup::Known(status)) => self.close(adopt(job, &status), fts, topology, pass).await,
            Ok(Lookup::Unknown) if sid.is_some() => {
                let (mut ends, mut apart) = (Vec::new(), Vec::new());
                for (job, end) in self.post(party, job, topology).await {
                    match end {
                        End::Apart => apart.push(job),
                        // The post of whoever claimed it may still be on its way: the claim stays.
                        End::NotSent(_) => ends.push((job, End::Open)),
                        end => ends.push((job, end)),
                    }
                }
                self.close(ends, fts, topology, pass).await?;
                let singles = self.rucio.take_apart(apart, &party.identity, self.clock.now()).await?;
                self.post_all(party, fts, singles, topology, pass).await
            }
            // FTS has it not, and would give it another id now: it has changed its name space or our VO.
            Ok(Lookup::Unknown) => self.close(vec![(job, End::NotSent(None))], fts, topology, pass).await,
            Err(error) => {
                debug!(job = %job.id, files, %error, "the job cannot be looked up; its claim stays open");
                self.away(fts, &error, true);
                pass.unusable.get_or_insert(error);
                pass.report.open += files;
                Ok(())
            }
        }
    }

    /// Writes down how claims ended.
    pub(super) async fn close(
        &self,
        ends: Vec<(Job, End)>,
        fts: &str,
        topology: &Topology,
        pass: &mut Pass,
    ) -> Result<(), DatabaseError> {
        let report = &mut pass.report;
        let mut done = Vec::new();
        let (mut refused, mut words) = (0, None);
        let mut posts = Posts::default();
        for (job, end) in ends {
            let files = job.plans.len();
            match end {
                End::Submitted => {
                    report.submitted += files;
                    let mode = self.rules.tokens.carried.mode();
                    *report.authorised.entry(mode.to_owned()).or_default() += files;
                    report.jobs += 1;
                    posts.submitted += files;
                    posts.jobs += 1;
                    done.push((job, Outcome::Submitted));
                }
                End::Refused(said) => {
                    refused += files;
                    words.get_or_insert_with(|| said.clone());
                    done.push((job, Outcome::Refused(said)));
                }
                End::NotSent(why) => {
                    report.released += files;
                    posts.released += files;
                    let now = self.clock.now();
                    self.rucio.release(&job, now).await?;
                    if let Some(why) = why {
                        let left = |Plan { request, .. }: &Plan| {
                            (RequestKey::of(&request.id.0), request.made_at, why.clone())
                        };
                        self.memory.leave(job.plans.iter().map(left), now);
                    }
                    if let Some(error) = self.memory.conditions().may_try(fts, now).err() {
                        pass.unusable.get_or_insert(error);
                    }
                }
                // What is taken apart has been, before it comes here; if not, the next pass finds the claim.
                End::Open | End::Apart => {
                    report.open += files;
                    posts.unknown += files;
                    self.memory.set_open(true);
                }
            }
        }
        report.refused += refused;
        posts.refused = refused;
        report.add(&Report { fts: [(fts.to_owned(), posts)].into(), ..Report::default() });
        if let Some(words) = words {
            warn!(fts, requests = refused, words, "FTS refused requests: they get state A, and these words");
        }
        self.rucio.settle(&done, fts, topology, self.clock.now()).await?;
        Ok(())
    }
}

/// Which of the requests lent the job its name.
fn sid_of(id: &JobId, plans: &[Plan], party: &Party) -> Option<String> {
    plans.iter().map(|plan| &plan.request.id.0).find(|sid| party.identity.job_id(sid) == *id).cloned()
}
