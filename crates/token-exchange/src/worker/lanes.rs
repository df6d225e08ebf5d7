//! How many calls each issuer gets at a time.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use token_core::{OAuthClient, TokenError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Whether a call waits for its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Haste {
    /// Behind all that came before: files wait in FTS's queue for it.
    Waits,
    /// Before all that wait for their turn: a running transfer waits for it, and not for long.
    First,
}

/// A lane for each issuer. An issuer that is slow fills its own lane and no other's, and all lanes together are no wider than the
/// whole.
#[derive(Clone, Debug)]
pub struct Lanes(Vec<Lane>);

#[derive(Clone, Debug)]
struct Lane {
    places: Arc<Semaphore>,
    /// Who waits for its turn stands in line here, and only the head of the line waits for a place: who is in haste is behind that
    /// one at most.
    head: Arc<Semaphore>,
}

impl Lanes {
    /// Lanes for issuers that take so many calls at a time each, `whole` of them together.
    pub fn new(whole: usize, limits: &[usize]) -> Self {
        let lane =
            |width| Lane { places: Arc::new(Semaphore::new(width)), head: Arc::new(Semaphore::new(1)) };
        Self(shares(whole, limits).into_iter().map(lane).collect())
    }

    /// Waits for a place in the lane of this issuer; none when no call is to begin any more.
    pub async fn place(&self, issuer: usize, haste: Haste) -> Option<OwnedSemaphorePermit> {
        let lane = self.0.get(issuer)?;
        let _head = match haste {
            Haste::Waits => Some(lane.head.acquire().await.ok()?),
            Haste::First => None,
        };
        Arc::clone(&lane.places).acquire_owned().await.ok()
    }

    /// No call begins any more.
    pub fn close(&self) {
        for lane in &self.0 {
            lane.head.close();
            lane.places.close();
        }
    }
}

/// One wish's turn in the lane of an issuer, and what became of it.
#[derive(Debug)]
pub(super) struct Turn {
    lanes: Lanes,
    issuer: Option<usize>,
    haste: Haste,
    taken: AtomicBool,
    refused: AtomicBool,
}

impl Turn {
    /// In the lane of this issuer; without one, calls are not held up.
    pub(super) fn new(lanes: Lanes, issuer: Option<usize>, haste: Haste) -> Self {
        Self { lanes, issuer, haste, taken: AtomicBool::new(false), refused: AtomicBool::new(false) }
    }

    /// Waits for a place; the call may be made as long as it is held.
    pub(super) async fn place(
        &self,
        client: &OAuthClient,
    ) -> Result<Option<OwnedSemaphorePermit>, TokenError> {
        let Some(issuer) = self.issuer else { return Ok(None) };
        let place = self.lanes.place(issuer, self.haste).await;
        if place.is_none() {
            self.refused.store(true, Ordering::Relaxed);
            return Err(TokenError::Throttled { issuer: client.issuer().to_string(), until_s: 0 });
        }
        Ok(place)
    }

    /// Makes a call when there is a place. The time for its tries begins then: who waits for a place is not late.
    pub(super) async fn call<T, F: Future<Output = Result<T, TokenError>>>(
        &self,
        client: &OAuthClient,
        call: impl FnOnce() -> F,
    ) -> Result<T, TokenError> {
        let _place = self.place(client).await?;
        self.taken.store(true, Ordering::Relaxed);
        call().await
    }

    /// Whether the issuer was asked.
    pub(super) fn was_taken(&self) -> bool {
        self.taken.load(Ordering::Relaxed)
    }

    /// Whether no call begins any more.
    pub(super) fn was_refused(&self) -> bool {
        self.refused.load(Ordering::Relaxed)
    }
}

/// Shares `whole` out: nobody gets more than its limit, what one can't use goes to the others, and each gets one at least.
fn shares(whole: usize, limits: &[usize]) -> Vec<usize> {
    let mut shares = vec![0; limits.len()];
    let mut by_limit: Vec<usize> = (0..limits.len()).collect();
    by_limit.sort_unstable_by_key(|issuer| limits[*issuer]);
    let (mut left, mut others) = (whole, limits.len());
    for issuer in by_limit {
        let share = limits[issuer].min(left / others).max(1);
        shares[issuer] = share;
        left = left.saturating_sub(share);
        others -= 1;
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_issuer_takes_what_is_anothers() {
        for (whole, limits, expected) in [
            (100, vec![100], vec![100]),
            (100, vec![8], vec![8]),
            (100, vec![100, 100], vec![50, 50]),
            (100, vec![8, 100, 100], vec![8, 46, 46]),
            (64, vec![8, 8, 8], vec![8, 8, 8]),
            (10, vec![100, 2, 100], vec![4, 2, 4]),
            (1, vec![8, 8], vec![1, 1]),
            (5, vec![], vec![]),
        ] {
            assert_eq!(shares(whole, &limits), expected, "{whole} {limits:?}");
        }
    }

    #[tokio::test]
    async fn a_full_lane_keeps_no_other_waiting() {
        let lanes = Lanes::new(2, &[1, 1]);
        let _held = lanes.place(0, Haste::Waits).await.unwrap();
        assert!(lanes.place(1, Haste::Waits).await.is_some());
        let waiting = tokio::spawn({
            let lanes = lanes.clone();
            async move { lanes.place(0, Haste::Waits).await.is_none() }
        });
        tokio::task::yield_now().await;
        lanes.close();
        assert!(waiting.await.unwrap(), "who waits is told that no call begins any more");
    }

    #[tokio::test]
    async fn who_is_in_haste_is_behind_one_of_those_that_wait_at_most() {
        let lanes = Lanes::new(1, &[1]);
        let held = lanes.place(0, Haste::Waits).await.unwrap();
        let (told, mut order) = tokio::sync::mpsc::unbounded_channel();
        for (name, haste) in
            [("a", Haste::Waits), ("b", Haste::Waits), ("c", Haste::Waits), ("x", Haste::First)]
        {
            let (lanes, told) = (lanes.clone(), told.clone());
            tokio::spawn(async move {
                let _place = lanes.place(0, haste).await.unwrap();
                told.send(name).unwrap();
            });
            tokio::task::yield_now().await;
        }
        drop((held, told));
        let mut came = String::new();
        while let Some(name) = order.recv().await {
            came.push_str(name);
        }
        assert_eq!(came, "axbc");
    }
}
