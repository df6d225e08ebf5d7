//! Which token of those that are kept will do, and who asks the issuer when none does.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use token_core::{CacheKey, CachedToken, Freshness, Grant, TokenError, TokenKeeper, TokenWish};

use super::Haste;

/// How good a token must be.
#[derive(Clone, Copy)]
pub(super) struct Good {
    /// How long it must live still.
    life: Duration,
    freshness: Freshness,
}

impl Good {
    /// To be handed over now.
    pub(super) fn enough(life: Duration) -> Self {
        Self { life, freshness: Freshness::Kept }
    }

    /// Better than one that is due to be renewed: in the first half of its life. Who asks while it runs may have the kept one
    /// already, however long that lives.
    pub(super) fn next(haste: Haste) -> Self {
        let freshness = match haste {
            Haste::Waits => Freshness::Kept,
            Haste::First => Freshness::Fresh,
        };
        Self { life: Duration::MAX, freshness }
    }

    pub(super) fn wish(self, key: CacheKey) -> TokenWish {
        TokenWish { key, min_life: self.life, freshness: self.freshness }
    }
}

/// A token for a wish that subjects of the same identity share, each with a token of its own to `fetch` with. What is refused for
/// good to another's, which may have ended, is asked for with one's own before it counts.
pub(super) async fn shared<F>(
    keeper: &TokenKeeper,
    wish: TokenWish,
    fetch: impl Fn() -> F + Clone + Send + Sync + 'static,
) -> Result<CachedToken, TokenError>
where
    F: Future<Output = Result<Grant, TokenError>> + Send + 'static,
{
    let asked = Arc::new(AtomicBool::new(false));
    loop {
        let (fetch, mark) = (fetch.clone(), Arc::clone(&asked));
        let own = move || {
            mark.store(true, Ordering::Relaxed);
            fetch()
        };
        match keeper.get(wish.clone(), own).await {
            Err(error) if error.is_definite() && !asked.load(Ordering::Relaxed) => (),
            done => return done,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use token_core::{AccessToken, ManualClock, OAuthCode, ScopeSet, UnixSeconds};

    use super::*;

    fn key() -> CacheKey {
        CacheKey {
            issuer: "https://i".into(),
            client_id: "c".into(),
            subject: "s".into(),
            audience: "a".into(),
            scope: ScopeSet::default(),
        }
    }

    fn grant(token: &str, expires_at: i64) -> Grant {
        Grant { token: AccessToken::new(token).unwrap(), expires_at: UnixSeconds(expires_at) }
    }

    /// What subjects of one identity get who wish for the same at once, and who of them asked. Only `good` is not refused.
    async fn together(subjects: &[&'static str], good: &'static str) -> (Vec<bool>, Vec<&'static str>) {
        let keeper = TokenKeeper::new(None, Arc::new(ManualClock::new(UnixSeconds(0))));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let get = |subject: &'static str| {
            let asked = Arc::clone(&asked);
            let fetch = move || {
                asked.lock().unwrap().push(subject);
                async move {
                    tokio::task::yield_now().await;
                    let refused = TokenError::Refused {
                        issuer: "https://i".into(),
                        call: "token exchange",
                        code: OAuthCode::InvalidGrant,
                        status: 400,
                        description: String::new(),
                    };
                    if subject == good { Ok(grant("t", 3600)) } else { Err(refused) }
                }
            };
            shared(&keeper, Good::enough(Duration::ZERO).wish(key()), fetch)
        };
        let got = futures_util::future::join_all(subjects.iter().copied().map(get)).await;
        (got.iter().map(Result::is_ok).collect(), asked.lock().unwrap().clone())
    }

    #[tokio::test]
    async fn what_anothers_token_was_refused_is_asked_for_with_ones_own() {
        let (got, asked) = together(&["ended", "good"], "good").await;
        assert_eq!((got, asked), (vec![false, true], vec!["ended", "good"]));
        let (got, asked) = together(&["good", "ended"], "good").await;
        assert_eq!((got, asked), (vec![true, true], vec!["good"]), "one call for all");
        let (got, mut asked) = together(&["a", "b", "c"], "none").await;
        asked.sort_unstable();
        assert_eq!((got, asked), (vec![false; 3], vec!["a", "b", "c"]), "once each");
    }

    #[tokio::test]
    async fn who_asks_for_a_better_token_than_its_own_does_not_get_that_again() {
        let clock = Arc::new(ManualClock::new(UnixSeconds(0)));
        let keeper = TokenKeeper::new(None, Arc::<ManualClock>::clone(&clock));
        let get = |good: Good, token: &'static str, end| {
            let fetch = move || async move { Ok(grant(token, end)) };
            let kept = shared(&keeper, good.wish(key()), fetch);
            async move { kept.await.unwrap().token.expose().to_owned() }
        };
        assert_eq!(get(Good::enough(Duration::ZERO), "old", 400).await, "old");
        clock.advance(Duration::from_secs(101));
        // 299 s left, less than the margin: `fts_url_copy` asks.
        assert_eq!(get(Good::next(Haste::Waits), "new", 501).await, "old", "not due yet");
        assert_eq!(get(Good::next(Haste::First), "new", 501).await, "new");
    }
}
