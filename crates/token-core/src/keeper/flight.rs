//! One fetch in flight for each key.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::OnceCell;

use crate::cache::{CacheKey, CachedToken};
use crate::clock::UnixSeconds;
use crate::error::TokenError;

/// A token, and whether it came from the issuer just now.
pub(super) type Landed = Result<(CachedToken, Source), TokenError>;

/// Where a token came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// It was kept already.
    Kept,
    /// The issuer gave it.
    Issuer,
}

/// Who waits for which key.
#[derive(Default)]
pub(super) struct Flights(Mutex<Book>);

#[derive(Default)]
struct Book {
    under_way: HashMap<CacheKey, Arc<OnceCell<Landed>>>,
    /// Keys whose renewal failed, and until when it is not tried again.
    resting: HashMap<CacheKey, UnixSeconds>,
}

impl Flights {
    /// A seat in the flight for `key`, which may have begun already.
    pub(super) fn seat(&self, key: &CacheKey) -> Seat<'_> {
        let flight = Arc::clone(self.lock().under_way.entry(key.clone()).or_default());
        Seat { flights: self, key: key.clone(), flight: Some(flight) }
    }

    /// Whether a renewal of `key` should begin: none is under way, and the last one did not fail just now.
    pub(super) fn idle(&self, key: &CacheKey, now: UnixSeconds) -> bool {
        let book = self.lock();
        !book.under_way.contains_key(key) && book.resting.get(key).is_none_or(|until| *until <= now)
    }

    /// Leaves `key` alone until then.
    pub(super) fn rest(&self, key: &CacheKey, until: UnixSeconds) {
        self.lock().resting.insert(key.clone(), until);
    }

    /// Forgets who has rested enough.
    pub(super) fn wake(&self, now: UnixSeconds) {
        self.lock().resting.retain(|_, until| *until > now);
    }

    #[cfg(test)]
    pub(super) fn under_way(&self) -> usize {
        self.lock().under_way.len()
    }

    fn lock(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One who waits. Who leaves, with an outcome or without, leaves nothing behind.
pub(super) struct Seat<'a> {
    flights: &'a Flights,
    key: CacheKey,
    flight: Option<Arc<OnceCell<Landed>>>,
}

impl Seat<'_> {
    /// Flies: `lead` runs once for all who wait; if the one who runs it is cancelled, the next who waits takes over.
    pub(super) async fn fly<F: Future<Output = Landed>>(&self, lead: impl FnOnce() -> F) -> Landed {
        match &self.flight {
            Some(flight) => flight.get_or_init(lead).await.clone(),
            None => lead().await,
        }
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        let Some(mine) = self.flight.take() else { return };
        let mut book = self.flights.lock();
        let current = book.under_way.get(&self.key).is_some_and(|flight| Arc::ptr_eq(flight, &mine));
        // The book's and mine: nobody else waits.
        if current && (mine.initialized() || Arc::strong_count(&mine) <= 2) {
            book.under_way.remove(&self.key);
        }
    }
}
