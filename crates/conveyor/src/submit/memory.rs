//! What a submitter keeps from pass to pass. All of it can be found again: a process that starts begins with none.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use token_core::UnixSeconds;
use tracing::{debug, info};

use super::Submitter;
use super::conditions::Conditions;
use super::left::{Left, Made, Why};
use crate::request::RequestKey;
use crate::rucio::DatabaseError;
use crate::topology::Topology;

/// The memory.
pub struct Memory {
    topology_life: Duration,
    topology: tokio::sync::Mutex<Option<(UnixSeconds, Arc<Topology>)>>,
    left: Mutex<Left>,
    conditions: Mutex<Conditions>,
    open: AtomicBool,
    said: Mutex<HashSet<String>>,
}

impl Memory {
    /// An empty one. RSEs and distances are read anew after `topology_life`.
    pub fn new(topology_life: Duration) -> Self {
        Self {
            topology_life,
            topology: tokio::sync::Mutex::default(),
            left: Mutex::default(),
            conditions: Mutex::default(),
            // What another process has left behind.
            open: AtomicBool::new(true),
            said: Mutex::default(),
        }
    }

    pub(super) fn left(&self) -> MutexGuard<'_, Left> {
        lock(&self.left)
    }

    pub(super) fn conditions(&self) -> MutexGuard<'_, Conditions> {
        lock(&self.conditions)
    }

    /// Remembers requests that are left where they are. What waits for an FTS that has come back meanwhile does not.
    pub(super) fn leave(&self, lefts: impl IntoIterator<Item = (RequestKey, Made, Why)>, now: UnixSeconds) {
        let (conditions, mut left) = (self.conditions(), self.left());
        for (request, made, why) in lefts {
            if !matches!(&why, Why::Away(fts) if !conditions.is_away(fts)) {
                left.leave(request, made, why, now);
            }
        }
    }

    /// Claims are open, to be looked at again.
    pub(super) fn set_open(&self, open: bool) {
        self.open.store(open, Ordering::Relaxed);
    }

    pub(super) fn is_open(&self) -> bool {
        self.open.load(Ordering::Relaxed)
    }

    /// Whether this is said for the first time.
    pub(super) fn is_new(&self, words: String) -> bool {
        lock(&self.said).insert(words)
    }
}

impl Submitter {
    /// RSEs and distances, not older than `topology_life`.
    pub(super) async fn topology(&self) -> Result<Arc<Topology>, DatabaseError> {
        let now = self.clock.now();
        let mut known = self.memory.topology.lock().await;
        if let Some((read_at, topology)) = &*known
            && read_at.until(now) < self.memory.topology_life
        {
            return Ok(Arc::clone(topology));
        }
        let read = Arc::new(self.rucio.topology(now).await?);
        debug!(rses = read.len(), "RSEs and distances read");
        let mut left = self.memory.left();
        left.tidy(now);
        if let Some((_, before)) = &*known
            && **before != *read
        {
            info!(rses = read.len(), "RSEs or distances have changed");
            left.forget_decisions();
        }
        drop(left);
        *known = Some((now, Arc::clone(&read)));
        Ok(read)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
