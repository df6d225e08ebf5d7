//! How many calls each issuer gets at a time.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use token_core::{OAuthClient, TokenError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A lane for each issuer. An issuer that is slow fills its own lane and no other's, and all lanes together are no wider than the
/// whole.
#[derive(Clone, Debug)]
pub struct Lanes(Vec<Arc<Semaphore>>);

impl Lanes {
    /// Lanes for issuers that take so many calls at a time each, `whole` of them together.
    pub fn new(whole: usize, limits: &[usize]) -> Self {
        let lane = |width| Arc::new(Semaphore::new(width));
        Self(shares(whole, limits).into_iter().map(lane).collect())
    }

    /// Waits for a place in the lane of this issuer; none when no call is to begin any more.
    pub async fn place(&self, issuer: usize) -> Option<OwnedSemaphorePermit> {
        Arc::clone(self.0.get(issuer)?).acquire_owned().await.ok()
    }

    /// No call begins any more.
    pub fn close(&self) {
        self.0.iter().for_each(|lane| lane.close());
    }
}

/// One wish's turn in the lane of an issuer, and what became of it.
#[derive(Debug)]
pub(super) struct Turn {
    lanes: Lanes,
    issuer: Option<usize>,
    taken: AtomicBool,
    refused: AtomicBool,
}

impl Turn {
    /// In the lane of this issuer; without one, calls are not held up.
    pub(super) fn new(lanes: Lanes, issuer: Option<usize>) -> Self {
        Self { lanes, issuer, taken: AtomicBool::new(false), refused: AtomicBool::new(false) }
    }

    /// Makes a call when there is a place. The time for its tries begins then: who waits for a place is not late.
    pub(super) async fn call<T, F: Future<Output = Result<T, TokenError>>>(
        &self,
        client: &OAuthClient,
        call: impl FnOnce() -> F,
    ) -> Result<T, TokenError> {
        let place = match self.issuer {
            Some(issuer) => Some(self.lanes.place(issuer).await),
            None => None,
        };
        if let Some(None) = place {
            self.refused.store(true, Ordering::Relaxed);
            return Err(TokenError::Throttled { issuer: client.issuer().to_string(), until_s: 0 });
        }
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
        let _held = lanes.place(0).await.unwrap();
        assert!(lanes.place(1).await.is_some());
        let waiting = tokio::spawn({
            let lanes = lanes.clone();
            async move { lanes.place(0).await.is_none() }
        });
        tokio::task::yield_now().await;
        lanes.close();
        assert!(waiting.await.unwrap(), "who waits is told that no call begins any more");
    }
}
