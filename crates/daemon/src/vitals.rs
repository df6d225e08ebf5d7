//! How the process is: told by the work, read by whoever asks.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use token_core::UnixSeconds;
use tokio::time::Instant;

/// Work that has not moved for so long is stuck: every network call and every statement ends before, and what waits for something wakes
/// up now and then.
const STUCK: Duration = Duration::from_secs(300);

/// One thing that is well or not, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What.
    pub name: String,
    /// Whether it is well.
    pub ok: bool,
    /// Why, in words.
    pub why: String,
}

/// How the process is. Clones are the same.
#[derive(Clone, Debug)]
pub struct Vitals(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    began: Instant,
    started_at: UnixSeconds,
    database: &'static str,
    state: Mutex<State>,
    reloads: [AtomicU64; 2],
}

#[derive(Debug, Default)]
struct State {
    work: BTreeMap<String, Arc<AtomicU64>>,
    database: Option<Result<(), String>>,
}

/// A part of the work. It is forgotten when it is dropped.
#[derive(Debug)]
pub struct Work {
    vitals: Vitals,
    name: String,
    /// Milliseconds since the process began.
    moved: Arc<AtomicU64>,
}

impl Vitals {
    /// Of a process that works on this database.
    pub fn new(database: &'static str, now: UnixSeconds) -> Self {
        Self(Arc::new(Inner {
            began: Instant::now(),
            started_at: now,
            database,
            state: Mutex::default(),
            reloads: Default::default(),
        }))
    }

    /// A part of the work begins.
    #[must_use]
    pub fn work(&self, name: impl Into<String>) -> Work {
        let (name, moved) = (name.into(), Arc::new(AtomicU64::new(self.now())));
        self.lock().work.insert(name.clone(), Arc::clone(&moved));
        Work { vitals: self.clone(), name, moved }
    }

    /// The database can be used.
    pub fn database_is_back(&self) {
        self.lock().database = Some(Ok(()));
    }

    /// The database can't be used.
    pub fn database_is_away(&self, why: impl Display) {
        self.lock().database = Some(Err(why.to_string()));
    }

    /// The configuration was read again, or could not be.
    pub fn reloaded(&self, well: bool) {
        self.0.reloads[usize::from(!well)].fetch_add(1, Ordering::Relaxed);
    }

    /// Whether all work has moved lately.
    pub fn live(&self) -> Vec<Check> {
        let check = |(name, age): (String, Duration)| {
            let why = format!("moved {} s ago; stuck above {} s", age.as_secs(), STUCK.as_secs());
            Check { name, ok: age <= STUCK, why }
        };
        self.ages().into_iter().map(check).collect()
    }

    /// Whether the database can be used.
    pub(crate) fn database(&self) -> Check {
        let state = self.lock().database.clone();
        let (ok, why) = match state {
            Some(Ok(())) => (true, "the last statement succeeded".to_owned()),
            Some(Err(why)) => (false, why),
            None => (false, "not asked yet".to_owned()),
        };
        Check { name: format!("database {}", self.0.database), ok, why }
    }

    pub(crate) fn database_state(&self) -> Option<(&'static str, Result<(), String>)> {
        self.lock().database.clone().map(|state| (self.0.database, state))
    }

    pub(crate) fn started_at(&self) -> UnixSeconds {
        self.0.started_at
    }

    /// How long ago each part of the work last moved.
    pub(crate) fn ages(&self) -> Vec<(String, Duration)> {
        let now = self.now();
        let age =
            |moved: &AtomicU64| Duration::from_millis(now.saturating_sub(moved.load(Ordering::Relaxed)));
        self.lock().work.iter().map(|(name, moved)| (name.clone(), age(moved))).collect()
    }

    pub(crate) fn reloads(&self) -> (u64, u64) {
        let [ok, failed] = [0, 1].map(|at| self.0.reloads[at].load(Ordering::Relaxed));
        (ok, failed)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.0.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Work {
    /// It moves.
    pub fn moves(&self) {
        self.moved.store(self.vitals.now(), Ordering::Relaxed);
    }

    /// How the process is.
    pub fn vitals(&self) -> &Vitals {
        &self.vitals
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        let mut state = self.vitals.lock();
        if state.work.get(&self.name).is_some_and(|moved| Arc::ptr_eq(moved, &self.moved)) {
            state.work.remove(&self.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn work_that_does_not_move_is_stuck_and_work_that_ended_is_not() {
        let vitals = Vitals::new("rucio", UnixSeconds(0));
        let (queue, renewals) = (vitals.work("queue"), vitals.work("renewals"));
        tokio::time::advance(STUCK + Duration::from_secs(1)).await;
        queue.moves();
        let stuck = |vitals: &Vitals| -> Vec<String> {
            vitals.live().into_iter().filter(|check| !check.ok).map(|check| check.name).collect()
        };
        assert_eq!(stuck(&vitals), ["renewals"]);
        drop(renewals);
        assert!(stuck(&vitals).is_empty() && vitals.live().len() == 1);
        assert!(!vitals.database().ok);
        vitals.database_is_back();
        assert!(vitals.database().ok);
        vitals.database_is_away("gone");
        assert_eq!((vitals.database().ok, vitals.database().why.as_str()), (false, "gone"));
    }
}
