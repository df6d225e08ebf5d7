//! A worker at work: what it has in hand, and what is under way.

mod handing;
mod looking;

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use token_core::UnixSeconds;
use token_core::retry::{RetryPolicy, Waits};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tracing::{error, info, warn};

use super::condition::Conditions;
use super::desk::{Desk, Key};
use super::pace::{self, Pace};
use super::tokens::Fetched;
use super::{Report, Worker};
use crate::fts::DatabaseError;
use crate::fts::hand_over::{HandedOver, Parcel};
use crate::fts::lease::Found;
use crate::fts::waiting::Subject;

/// Most sides of files in hand that wait for tokens of one issuer, and most files in hand at all. They bound the memory: a file in
/// hand is about a kilobyte, and its tokens are shared with others.
const FOR_ONE_ISSUER: usize = 10_000;
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
    since: HashMap<String, Arc<[Subject]>>,
}

pub(super) struct Shift<'a> {
    worker: &'a Worker,
    until: Until<'a>,
    started: UnixSeconds,
    report: Report,
    told: Instant,
    desk: Desk,
    subjects: HashMap<String, Subject>,
    /// For those of them that have ended, what their submitters have given since.
    since: HashMap<String, Arc<[Subject]>>,
    subjects_read: Instant,
    conditions: Conditions,
    pace: Pace,
    fetching: JoinSet<(Key, String, Fetched)>,
    looking: Task<'a, Looked>,
    /// Where the look that is under way began, when, and whether it passes anything over.
    look: (pace::From, Instant, bool),
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
            since: HashMap::new(),
            subjects_read: now,
            conditions: Conditions::default(),
            pace: Pace::new(worker.tempo.interval(), now),
            fetching: JoinSet::new(),
            looking: None,
            look: (pace::From::Start, now, false),
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
            self.worker.sight.work.moves();
            self.worker.sight.seen.in_hand(self.desk.jobs(), self.desk.files());
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

    /// Counts what was done just now.
    fn did(&mut self, report: &Report) {
        self.worker.sight.seen.did(report);
        self.report.add(report);
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
        self.worker.sight.work.vitals().database_is_away(&error);
        Ok(self.database.pause())
    }

    fn back(&mut self) {
        self.database.reset();
        self.worker.sight.work.vitals().database_is_back();
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
