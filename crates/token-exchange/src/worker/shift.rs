//! A worker at work: what it has in hand, and what is under way.

use std::collections::{HashMap, HashSet, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use token_core::UnixSeconds;
use token_core::retry::{RetryPolicy, Waits};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, error, info, warn};

use super::condition::{Change, Conditions};
use super::desk::{Desk, Key};
use super::pace::{self, Pace};
use super::side::taken;
use super::tokens::Fetched;
use super::{Report, Worker, pause};
use crate::decide::{Fate, Token};
use crate::fts::DatabaseError;
use crate::fts::hand_over::{HandedOver, Parcel, Rest};
use crate::fts::lease::{Found, Look};
use crate::fts::waiting::{Subject, WaitingJob};

/// Most files in hand that wait for tokens of one issuer, and most in hand at all. They bound the memory: a file in hand is about a
/// kilobyte, and its tokens are shared with others.
const FOR_ONE_ISSUER: usize = 5000;
const IN_HAND: usize = 20_000;
/// Most files in one hand-over, or a few more.
const AT_A_TIME: usize = 2000;
/// How long files are gathered for a hand-over while tokens keep coming.
const GATHER: Duration = Duration::from_millis(25);
/// How long what is in flight may take when the worker is to stop.
const GRACE: Duration = Duration::from_secs(15);
/// How long a subject token is believed to be as it was read.
const SUBJECTS_LIVE: Duration = Duration::from_secs(10);
/// How often what was done is told.
const ACCOUNT: Duration = Duration::from_secs(30);

/// When a shift ends.
#[derive(Clone, Copy)]
pub(super) enum Until<'a> {
    /// When nothing is due.
    Idle,
    /// When it is told to.
    Stopped {
        /// Hears what was done.
        account: &'a (dyn Fn(&Report) + 'a),
    },
}

/// Work on the database that is under way.
type Task<'a, T> = Option<Pin<Box<dyn Future<Output = Result<T, DatabaseError>> + 'a>>>;

/// What a look found: jobs, the tokens they were submitted with, and the look itself.
struct Looked {
    found: Found,
    subjects: HashMap<String, Subject>,
}

pub(super) struct Shift<'a> {
    worker: &'a Worker,
    until: Until<'a>,
    started: UnixSeconds,
    report: Report,
    told: Instant,
    desk: Desk,
    subjects: HashMap<String, Subject>,
    subjects_read: Instant,
    conditions: Conditions,
    pace: Pace,
    fetching: JoinSet<(Key, String, Fetched)>,
    looking: Task<'a, Looked>,
    look: (pace::From, Instant),
    /// Whether the last look was one at everything, and found nothing.
    nothing_due: bool,
    handing: Task<'a, HandedOver>,
    /// What is being handed over, and what is to be next.
    sent: Vec<Parcel>,
    outbox: VecDeque<Vec<Parcel>>,
    hand_over_at: Instant,
    extending: Task<'a, ()>,
    extend_at: Instant,
    database: Waits,
    database_away: Option<Instant>,
    stop_at: Option<Instant>,
}

impl<'a> Shift<'a> {
    pub(super) fn new(worker: &'a Worker, until: Until<'a>) -> Self {
        let now = Instant::now();
        let waits = RetryPolicy {
            initial: Duration::from_secs(1),
            max: Duration::from_secs(30),
            ..RetryPolicy::default()
        };
        Self {
            worker,
            until,
            started: worker.clock.now(),
            report: Report::default(),
            told: now,
            desk: Desk::default(),
            subjects: HashMap::new(),
            subjects_read: now,
            conditions: Conditions::default(),
            pace: Pace::new(worker.interval, now),
            fetching: JoinSet::new(),
            looking: None,
            look: (pace::From::Start, now),
            nothing_due: false,
            handing: None,
            sent: Vec::new(),
            outbox: VecDeque::new(),
            hand_over_at: now,
            extending: None,
            extend_at: now + worker.lease / 3,
            database: Waits::new(&waits),
            database_away: None,
            stop_at: None,
        }
    }

    /// Works to the end.
    pub(super) async fn work(mut self) -> Result<Report, DatabaseError> {
        loop {
            let now = Instant::now();
            self.begin_hand_over(now);
            self.begin_look(now);
            self.begin_extending(now);
            self.account(now);
            if self.is_over(now) {
                break;
            }
            let wake = self.wake(now);
            let soft = self.worker.shutdown.soft.clone();
            tokio::select! {
                Some(fetched) = self.fetching.join_next() => if let Ok(fetched) = fetched {
                    self.fetched(fetched);
                },
                looked = ended(&mut self.looking) => self.looked(looked)?,
                handed = ended(&mut self.handing) => self.handed(handed)?,
                extended = ended(&mut self.extending) => if let Err(error) = extended {
                    warn!(%error, "leases were not extended");
                },
                () = sleep_until(wake) => (),
                () = soft.cancelled(), if self.stop_at.is_none() => self.stop(),
            }
        }
        self.fetching.abort_all();
        self.worker.fts.give_back(&self.desk.leases()).await?;
        if let Until::Stopped { account } = self.until
            && self.report.jobs > 0
        {
            account(&self.report);
        }
        Ok(self.report)
    }

    /// Nothing new is begun.
    fn stop(&mut self) {
        self.worker.tokens.close();
        self.stop_at = Some(Instant::now() + GRACE);
    }

    fn is_over(&self, now: Instant) -> bool {
        if self.handing.is_some() || self.looking.is_some() {
            return false;
        }
        let nothing_left = self.outbox.is_empty() && !self.desk.has_ready();
        match self.stop_at {
            Some(end) => now >= end || (self.fetching.is_empty() && nothing_left),
            None => {
                matches!(self.until, Until::Idle) && self.nothing_due && nothing_left && self.desk.is_empty()
            }
        }
    }

    /// When there is something to do again, if nothing ends before.
    fn wake(&self, now: Instant) -> Instant {
        let mut wake = self.extend_at.min(self.told + ACCOUNT);
        if self.looking.is_none() && self.may_look() {
            wake = wake.min(self.pace.next);
        }
        if self.handing.is_none() && (self.desk.has_ready() || !self.outbox.is_empty()) {
            wake = wake.min(self.hand_over_at);
        }
        wake.min(self.stop_at.unwrap_or(wake)).max(now + Duration::from_millis(1))
    }

    fn may_look(&self) -> bool {
        let idle = matches!(self.until, Until::Idle) && self.nothing_due;
        self.stop_at.is_none() && !idle && self.desk.files() < IN_HAND
    }

    fn begin_look(&mut self, now: Instant) {
        if self.looking.is_some() || !self.may_look() || now < self.pace.next {
            return;
        }
        let worker = self.worker;
        let once = matches!(self.until, Until::Idle);
        let from = if once { pace::From::Start } else { self.pace.from(now) };
        self.look = (from, now);
        let time = worker.clock.now();
        let look = Look {
            after: match from {
                pace::From::Start => 0,
                pace::From::File(file) => file,
            },
            limit: worker.batch,
            now: time,
            due_by: if once { self.started } else { time },
            end: time.plus(worker.lease),
            busy: self.desk.busy(FOR_ONE_ISSUER),
        };
        if now - self.subjects_read >= SUBJECTS_LIVE {
            self.subjects.clear();
            self.subjects_read = now;
        }
        let fts = &worker.fts;
        let known: HashSet<String> = self.subjects.keys().cloned().collect();
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
            Ok(Looked { found, subjects })
        }));
    }

    fn looked(&mut self, looked: Result<Looked, DatabaseError>) -> Result<(), DatabaseError> {
        let now = Instant::now();
        let Looked { found, subjects } = match looked {
            Ok(looked) => looked,
            Err(error) => {
                let rest = self.away(error)?;
                self.pace.failed(now, rest);
                return Ok(());
            }
        };
        self.back();
        let (from, began) = self.look;
        let files = found.jobs.iter().map(|job| job.files.len()).sum();
        self.pace.looked(from, (began, now), found.newest, files, found.more && !found.jobs.is_empty());
        if matches!(self.until, Until::Idle) {
            self.pace.next = now;
            // Files of busy issuers were passed over.
            self.nothing_due = found.jobs.is_empty() && self.desk.busy(FOR_ONE_ISSUER).is_empty();
        }
        self.report.jobs += found.jobs.len();
        self.subjects.extend(subjects);
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
            let fate = |file: crate::fts::waiting::WaitingFile| (file.id, Fate::Expire);
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
            let tokens = Arc::clone(&worker.tokens);
            self.fetching.spawn(async move {
                let fetched = tokens.get(&subject, &request).await;
                (key, subject.issuer.clone(), fetched)
            });
        }
    }

    fn fetched(&mut self, (key, issuer, fetched): (Key, String, Fetched)) {
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

    fn begin_hand_over(&mut self, now: Instant) {
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
            for (why, files) in self.desk.take_put_off() {
                *self.report.waiting.entry(why).or_default() += files;
            }
            self.outbox.push_back(parcels);
        } else if now < self.hand_over_at && self.database_away.is_some() {
            return;
        }
        let Some(parcels) = self.outbox.pop_front() else { return };
        self.sent.clone_from(&parcels);
        let (fts, time) = (&self.worker.fts, self.worker.clock.now());
        self.handing = Some(Box::pin(async move { fts.hand_over(&parcels, time).await }));
    }

    fn handed(&mut self, handed: Result<HandedOver, DatabaseError>) -> Result<(), DatabaseError> {
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
            *self.report.waiting.entry(why.clone()).or_default() += parcel.fates.len();
            let retry_at = self.worker.clock.now().plus(pause(parcel.lease.attempts));
            let put_off = Parcel { fates: Vec::new(), rest: Rest::PutOff { retry_at, why }, ..parcel };
            self.outbox.push_front(vec![put_off]);
        }
    }

    fn count(&mut self, sent: &[Parcel], done: &HandedOver) {
        self.report.released += done.released;
        self.report.failed += done.failed;
        self.report.cancelled += done.cancelled;
        self.report.lost += done.lost.len();
        for job in done.lost.iter().chain(&done.ended) {
            self.desk.forget(job);
        }
        if let Some(job) = done.lost.first() {
            warn!(
                jobs = done.lost.len(),
                job, "leases lost to another worker; nothing was written for these jobs"
            );
        }
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
                            job,
                            file,
                            state,
                            source = source.id(),
                            destination = destination.id(),
                            "released"
                        );
                    }
                    Fate::Fail(reason) => failures.entry(reason).or_insert((0, job, *file)).0 += 1,
                    _ => (),
                }
            }
        }
        for (reason, (files, job, file)) in failures {
            warn!(files, reason, job, file, "failed");
        }
    }

    fn begin_extending(&mut self, now: Instant) {
        if self.extending.is_some() || now < self.extend_at {
            return;
        }
        self.extend_at = now + self.worker.lease / 3;
        let mut owners = self.desk.owners();
        owners.extend(self.sent.iter().chain(self.outbox.iter().flatten()).map(|p| p.lease.owner.clone()));
        owners.sort_unstable();
        owners.dedup();
        if owners.is_empty() {
            return;
        }
        let (fts, time) = (&self.worker.fts, self.worker.clock.now());
        let end = time.plus(self.worker.lease);
        self.extending = Some(Box::pin(async move { fts.extend(&owners, time, end).await }));
    }

    /// The database failed; tells how long to rest.
    fn away(&mut self, error: DatabaseError) -> Result<Duration, DatabaseError> {
        if matches!(self.until, Until::Idle) {
            return Err(error);
        }
        if self.database_away.is_none() {
            self.database_away = Some(Instant::now());
            error!(%error, "FTS's database can't be used; it is tried again and again");
        }
        Ok(self.database.pause())
    }

    fn back(&mut self) {
        self.database.reset();
        if let Some(since) = self.database_away.take() {
            info!(after_s = since.elapsed().as_secs(), "FTS's database can be used again");
        }
    }

    fn account(&mut self, now: Instant) {
        let Until::Stopped { account } = self.until else { return };
        if now - self.told < ACCOUNT {
            return;
        }
        self.told = now;
        if self.report.jobs > 0 {
            account(&self.report);
            self.report = Report::default();
        }
    }
}

/// The end of work that may not be under way.
async fn ended<T>(task: &mut Task<'_, T>) -> Result<T, DatabaseError> {
    let Some(running) = task else { return std::future::pending().await };
    let ended = running.await;
    *task = None;
    ended
}
