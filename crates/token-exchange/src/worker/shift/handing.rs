//! Hands over what is ready.

use std::collections::HashMap;

use tokio::time::Instant;
use tracing::{debug, error, warn};

use super::super::{Report, ShortLived, pause};
use super::{AT_A_TIME, Shift};
use crate::decide::Fate;
use crate::fts::DatabaseError;
use crate::fts::hand_over::{Handed, HandedOver, Parcel, Rest};

impl Shift<'_> {
    pub(super) fn begin_hand_over(&mut self, now: Instant) {
        if self.handing.is_some() {
            return;
        }
        if self.outbox.is_empty() {
            let enough = self.desk.is_settled() || self.desk.ready_files() >= AT_A_TIME;
            if !self.desk.has_ready()
                || (now < self.hand_over_at && !(enough && self.database_away.is_none()))
            {
                return;
            }
            let time = self.worker.clock.now();
            let parcels = self.desk.parcels(AT_A_TIME, |attempts| time.plus(pause(attempts)));
            let waiting = self.desk.take_put_off();
            self.did(&Report { waiting, ..Report::default() });
            self.outbox.push_back(parcels);
        } else if now < self.hand_over_at && self.database_away.is_some() {
            return;
        }
        let Some(parcels) = self.outbox.pop_front() else { return };
        self.sent.clone_from(&parcels);
        let (fts, time) = (&self.worker.fts, self.worker.clock.now());
        self.handing = Some(Box::pin(async move { fts.hand_over(&parcels, time).await }));
    }

    pub(super) fn handed(&mut self, handed: Result<HandedOver, DatabaseError>) -> Result<(), DatabaseError> {
        let sent = std::mem::take(&mut self.sent);
        match handed {
            Ok(done) => {
                self.back();
                self.count(&sent, &done);
            }
            Err(error) if error.is_transient() => {
                self.outbox.push_front(sent);
                let rest = self.away(error)?;
                self.hand_over_at = Instant::now() + rest;
            }
            Err(error) => self.outbox_without(sent, &error),
        }
        Ok(())
    }

    /// Something among this can't be written: the others are, and it is put off with the database's words.
    fn outbox_without(&mut self, mut sent: Vec<Parcel>, error: &DatabaseError) {
        if sent.len() > 1 {
            let second = sent.split_off(sent.len() / 2);
            self.outbox.push_front(second);
            self.outbox.push_front(sent);
            return;
        }
        for parcel in sent {
            let job = parcel.lease.job.clone();
            error!(job, %error, "the job can't be handed over");
            if matches!(&parcel.rest, Rest::PutOff { .. }) && parcel.fates.is_empty() {
                // Not even that can be written: its lease ends by itself.
                continue;
            }
            self.desk.forget(&job);
            let why = error.to_string();
            let waiting = [(why.clone(), parcel.fates.len())].into();
            self.did(&Report { waiting, ..Report::default() });
            let retry_at = self.worker.clock.now().plus(pause(parcel.lease.attempts));
            let put_off = Parcel { fates: Vec::new(), rest: Rest::PutOff { retry_at, why }, ..parcel };
            self.outbox.push_front(vec![put_off]);
        }
    }

    fn count(&mut self, sent: &[Parcel], done: &HandedOver) {
        self.did(&Report {
            released: done.released,
            failed: done.failed,
            cancelled: done.cancelled,
            lost: done.lost.len(),
            ..Report::default()
        });
        for job in done.lost.iter().chain(&done.ended) {
            self.desk.forget(job);
        }
        if let Some(job) = done.lost.first() {
            warn!(
                jobs = done.lost.len(),
                job, "leases lost to another worker; nothing was written for these jobs"
            );
        }
        let (managed, now) = (self.worker.fts.hands_over_managed(), self.worker.clock.now());
        let needed = self.worker.planning.needed_life;
        let mut short_lived = ShortLived::default();
        let mut failures: HashMap<&str, (usize, &str, i64)> = HashMap::new();
        for parcel in sent {
            let job = parcel.lease.job.as_str();
            if done.lost.iter().chain(&done.ended).any(|other| other == job) {
                continue;
            }
            for (file, fate) in &parcel.fates {
                match fate {
                    Fate::Release { state, source, destination } => {
                        debug!(
                            target: "work",
                            job,
                            file,
                            state,
                            source = source.id(),
                            destination = destination.id(),
                            "released"
                        );
                        let life = |token: &Handed| token.unrenewed_life(managed, now);
                        let life = [source, destination].into_iter().filter_map(life).min();
                        if let Some(life) = life.filter(|life| *life < needed) {
                            short_lived.count(*file, life);
                        }
                    }
                    Fate::Fail(reason) => failures.entry(reason).or_insert((0, job, *file)).0 += 1,
                    _ => (),
                }
            }
        }
        self.did(&Report { short_lived, ..Report::default() });
        for (reason, (files, job, file)) in failures {
            warn!(files, reason, job, file, "failed");
        }
    }
}
