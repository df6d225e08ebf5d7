//! Claims that a crash, a kill or a lost answer left open: each is resolved by the id of its job.

use std::collections::BTreeMap;

use fts_client::{FtsError, JobId, Lookup};
use tracing::{info, warn};

use super::post::{End, FIELDS, adopt};
use super::{Party, Report, Submitter};
use crate::choose::{Plan, replan};
use crate::job::Job;
use crate::rucio::DatabaseError;
use crate::rucio::queue::Claimed;
use crate::rucio::settle::Outcome;
use crate::topology::Topology;

impl Submitter {
    /// Resolves all open claims: a job that FTS has is adopted, one that it has not is posted again under the same id. Claims
    /// for an FTS that can't be asked now stay open.
    pub(super) async fn recover(
        &self,
        topology: &Topology,
        unusable: &mut BTreeMap<String, FtsError>,
        report: &mut Report,
    ) -> Result<(), DatabaseError> {
        let mut jobs: BTreeMap<(String, String), Vec<Claimed>> = BTreeMap::new();
        for claimed in self.rucio.open_claims(self.clock.now()).await? {
            jobs.entry((claimed.fts.clone(), claimed.job.clone())).or_default().push(claimed);
        }
        for ((fts, id), claims) in jobs {
            let files = claims.len();
            let Some(party) = self.usable(&fts, unusable).await else {
                report.open += files;
                continue;
            };
            let plans: Vec<Plan> =
                claims.into_iter().filter_map(|claimed| replan(claimed, topology)).collect();
            let Some(id) = JobId::parse(&id).filter(|_| plans.len() == files) else {
                warn!(
                    job = id,
                    files, "an open claim cannot be read: its RSE is gone or its id is no job id"
                );
                report.open += files;
                continue;
            };
            info!(job = %id, files, "open claim found");
            report.recovered += files;
            let sid = sid_of(&id, &plans, &party);
            let job = Job { id, sid: sid.clone().unwrap_or_default(), plans };
            match party.client.job(&job.id, FIELDS).await {
                Ok(Lookup::Known(status)) => {
                    self.close(adopt(job, &status), &fts, topology, report).await?;
                }
                Ok(Lookup::Unknown) if sid.is_some() => {
                    let (mut ends, mut apart) = (Vec::new(), Vec::new());
                    for (job, end) in self.post(&party, job, topology).await {
                        match end {
                            End::Apart => apart.push(job),
                            // The post of whoever claimed it may still be on its way: the claim stays.
                            End::NotSent(_) => ends.push((job, End::Open)),
                            end => ends.push((job, end)),
                        }
                    }
                    self.close(ends, &fts, topology, report).await?;
                    let singles = self.rucio.take_apart(apart, &party.identity, self.clock.now()).await?;
                    self.post_all(&party, &fts, singles, topology, unusable, report).await?;
                }
                // FTS has it not, and would give it another id now: it has changed its name space or our VO.
                Ok(Lookup::Unknown) => {
                    self.close(vec![(job, End::NotSent(None))], &fts, topology, report).await?;
                }
                Err(error) => {
                    warn!(job = %job.id, files, %error, "the job cannot be looked up; its claim stays open");
                    report.open += files;
                }
            }
        }
        Ok(())
    }

    /// Writes down how claims ended.
    pub(super) async fn close(
        &self,
        ends: Vec<(Job, End)>,
        fts: &str,
        topology: &Topology,
        report: &mut Report,
    ) -> Result<(), DatabaseError> {
        let mut done = Vec::new();
        for (job, end) in ends {
            let files = job.plans.len();
            match end {
                End::Submitted => {
                    report.submitted += files;
                    let mode = self.rules.tokens.carried.mode();
                    *report.authorised.entry(mode.to_owned()).or_default() += files;
                    report.jobs += 1;
                    done.push((job, Outcome::Submitted));
                }
                End::Refused(words) => {
                    report.refused += files;
                    done.push((job, Outcome::Refused(words)));
                }
                End::NotSent(_) => {
                    report.released += files;
                    self.rucio.release(&job, self.clock.now()).await?;
                }
                // What is taken apart has been, before it comes here; if not, the next pass finds the claim.
                End::Open | End::Apart => report.open += files,
            }
        }
        self.rucio.settle(&done, fts, topology, self.clock.now()).await?;
        Ok(())
    }
}

/// Which of the requests lent the job its name.
fn sid_of(id: &JobId, plans: &[Plan], party: &Party) -> Option<String> {
    plans.iter().map(|plan| &plan.request.id.0).find(|sid| party.identity.job_id(sid) == *id).cloned()
}
