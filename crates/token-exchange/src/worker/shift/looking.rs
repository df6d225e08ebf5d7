//! Looks for jobs, takes them in hand, and gets their tokens.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use tokio::time::Instant;
use tracing::{info, warn};

use super::super::Report;
use super::super::condition::Change;
use super::super::desk::Key;
use super::super::pace;
use super::super::side::taken;
use super::super::tokens::Fetched;
use super::{AT_A_TIME, FOR_ONE_ISSUER, GATHER, Looked, SUBJECTS_LIVE, Shift, Until};
use crate::decide::{Fate, Token};
use crate::fresh::renewer::subjects::{in_place_of, since};
use crate::fts::DatabaseError;
use crate::fts::hand_over::{Parcel, Rest};
use crate::fts::lease::Look;
use crate::fts::waiting::{Subject, WaitingFile, WaitingJob};
use crate::plan::Mode;

impl Shift<'_> {
    pub(super) fn begin_look(&mut self, now: Instant) {
        if self.looking.is_some() || !self.may_look() || now < self.pace.next {
            return;
        }
        let worker = self.worker;
        self.pace.interval = worker.tempo.interval();
        let once = matches!(self.until, Until::Idle);
        let from = if once { pace::From::Start } else { self.pace.from(now) };
        let busy = self.desk.busy(FOR_ONE_ISSUER);
        self.look = (from, now, !busy.is_empty());
        let time = worker.clock.now();
        let look = Look {
            after: match from {
                pace::From::Start => 0,
                pace::From::File(file) => file,
            },
            limit: worker.tempo.batch(),
            now: time,
            due_by: if once { self.started } else { time },
            end: time.plus(worker.lease),
            busy,
        };
        if now - self.subjects_read >= SUBJECTS_LIVE {
            self.subjects.clear();
            self.since.clear();
            self.subjects_read = now;
        }
        let fts = &worker.fts;
        let exchanged = |one: &&Subject| worker.planning.mode(&one.issuer) == Mode::Exchange;
        // One that has ended since it was read is read again, with what its submitter has given since.
        let ended = |one: &&Subject| one.claims().is_some_and(|claims| claims.exp <= time);
        let stale = |one: &&Subject| exchanged(one) && ended(one) && !self.since.contains_key(&one.id);
        let known = self.subjects.values().filter(|one| !stale(one));
        let known: HashSet<String> = known.map(|one| one.id.clone()).collect();
        self.looking = Some(Box::pin(async move {
            let found = fts.lease(&look).await?;
            let files = found.jobs.iter().filter(|job| !job.cancelled).flat_map(|job| &job.files);
            let mut ids: Vec<&str> = files
                .flat_map(|file| [&file.source_token, &file.destination_token])
                .filter_map(|id| id.as_deref())
                .filter(|id| !known.contains(*id))
                .collect();
            ids.sort_unstable();
            ids.dedup();
            let subjects = fts.subjects(&ids).await?;
            let since = since(fts, subjects.values().filter(exchanged), time).await?;
            Ok(Looked { found, subjects, since })
        }));
    }

    pub(super) fn looked(&mut self, looked: Result<Looked, DatabaseError>) -> Result<(), DatabaseError> {
        let now = Instant::now();
        let Looked { found, subjects, since } = match looked {
            Ok(looked) => looked,
            Err(error) => {
                let rest = self.away(error)?;
                self.pace.failed(now, rest);
                return Ok(());
            }
        };
        self.back();
        let (from, began, passed_over) = self.look;
        let files = found.jobs.iter().map(|job| job.files.len()).sum();
        self.pace.looked(from, (began, now), found.newest, files, found.more && !found.jobs.is_empty());
        if matches!(self.until, Until::Idle) {
            self.pace.next = now;
            self.nothing_due = found.jobs.is_empty() && !passed_over;
        }
        self.did(&Report { jobs: found.jobs.len(), ..Report::default() });
        self.subjects.extend(subjects);
        self.since.extend(since);
        for job in found.jobs {
            self.take(job);
        }
        self.hand_over_at = self.hand_over_at.max(now);
        Ok(())
    }

    fn take(&mut self, job: WaitingJob) {
        let worker = self.worker;
        let expired = job.queue_ends.is_some_and(|end| end <= worker.clock.now());
        if job.cancelled || expired {
            let fate = |file: WaitingFile| (file.id, Fate::Expire);
            let fates = if job.cancelled { Vec::new() } else { job.files.into_iter().map(fate).collect() };
            let parcel = Parcel { lease: job.lease, kind: job.kind, fates, rest: Rest::End };
            match self.outbox.back_mut().filter(|parcels| parcels.len() < AT_A_TIME) {
                Some(parcels) => parcels.push(parcel),
                None => self.outbox.push_back(vec![parcel]),
            }
            return;
        }
        let mut asked = HashMap::new();
        let now = worker.clock.now();
        let taken = taken(job, &worker.planning, &self.subjects, now, &mut |key, subject, request| {
            if !asked.contains_key(key) {
                asked.insert(key.clone(), (subject.clone(), request));
            }
        });
        for key in self.desk.take(taken) {
            let Some((subject, request)) = asked.remove(&key) else { continue };
            let since = self.since.get(&subject.id).map(|since| &**since).unwrap_or_default();
            let subject = in_place_of(&subject, since, &request, now).cloned().unwrap_or(subject);
            let (tokens, clock) = (Arc::clone(&worker.tokens), Arc::clone(&worker.clock));
            self.fetching.spawn(async move {
                let fetched = tokens.get(&subject, &request).await;
                let ended = subject.lives(now) && !subject.lives(clock.now());
                (key, subject.issuer.clone(), if ended { fetched.looked_at_again() } else { fetched })
            });
        }
    }

    pub(super) fn fetched(&mut self, (key, issuer, fetched): (Key, String, Fetched)) {
        let now = Instant::now();
        let Fetched::Ended { token, asked } = fetched else { return };
        let change = match &token {
            Token::Wait(_) => self.conditions.bad(&issuer, self.desk.waiting_for(&key), now),
            _ if asked => self.conditions.good(&issuer, now),
            _ => None,
        };
        match (change, &token) {
            (Some(Change::Began), Token::Wait(reason)) => {
                warn!(issuer, reason, "no tokens can be had of this issuer; its files wait");
            }
            (Some(Change::Ended { lasted, files }), _) => {
                info!(
                    issuer,
                    after_s = lasted.as_secs(),
                    files,
                    "the issuer gives tokens again; files waited"
                );
            }
            _ => (),
        }
        if !self.desk.has_ready() {
            self.hand_over_at = self.hand_over_at.max(now + GATHER);
        }
        self.desk.settled(&key, token);
    }
}
