//! One natural way to a token: from memory, from the cache on disk, or from the issuer by one call that all who wait
//! share.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::OnceCell;
use tracing::warn;

use crate::cache::{CacheKey, CachedToken, MemoryCache, TokenCache};
use crate::clock::Clock;
use crate::error::TokenError;
use crate::oauth::Grant;
use crate::secret::AccessToken;

/// Whether a kept token will do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// A kept token will do.
    Kept,
    /// The kept one was rejected: fetch another. One that was fetched less than half a minute ago is as fresh as they come,
    /// however many have seen it rejected.
    Fresh,
}

/// Which token is wanted.
#[derive(Clone, Debug)]
pub struct TokenWish {
    /// Which one.
    pub key: CacheKey,
    /// How long it must still live. A token that lives shorter than this by nature is taken as it comes.
    pub min_life: Duration,
    /// Whether a kept one will do.
    pub freshness: Freshness,
}

/// How often tokens came from where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeeperCounts {
    /// Served from memory or disk.
    pub kept: u64,
    /// Fetched from the issuer.
    pub fetched: u64,
    /// Fetches that failed.
    pub failed: u64,
}

/// A future with a bearer token.
pub type BearerFuture<'a> = Pin<Box<dyn Future<Output = Result<AccessToken, TokenError>> + Send + 'a>>;

/// Something that has a bearer token when one is needed. The client of a service knows no more of tokens than this.
pub trait BearerSource: Send + Sync + 'static {
    /// A token; a new one when the last was rejected.
    fn bearer(&self, freshness: Freshness) -> BearerFuture<'_>;
}

impl BearerSource for AccessToken {
    fn bearer(&self, _: Freshness) -> BearerFuture<'_> {
        Box::pin(async move { Ok(self.clone()) })
    }
}

/// How long a token counts as freshly fetched.
const FRESH: Duration = Duration::from_secs(30);

type Flight = Arc<OnceCell<Result<CachedToken, TokenError>>>;

/// Keeps tokens: memory in front, a cache behind, one fetch in flight per key.
pub struct TokenKeeper {
    memory: MemoryCache,
    behind: Option<Arc<dyn TokenCache>>,
    clock: Arc<dyn Clock>,
    flights: Mutex<HashMap<CacheKey, Flight>>,
    kept: AtomicU64,
    fetched: AtomicU64,
    failed: AtomicU64,
}

impl TokenKeeper {
    /// A keeper with a cache behind it, or none.
    pub fn new(behind: Option<Arc<dyn TokenCache>>, clock: Arc<dyn Clock>) -> Self {
        Self {
            memory: MemoryCache::default(),
            behind,
            clock,
            flights: Mutex::default(),
            kept: AtomicU64::new(0),
            fetched: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        }
    }

    /// How often tokens came from where.
    pub fn counts(&self) -> KeeperCounts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        KeeperCounts { kept: read(&self.kept), fetched: read(&self.fetched), failed: read(&self.failed) }
    }

    /// A token for `wish`, fetched by `fetch` if none is kept. Who asks while a fetch is under way waits for that one and
    /// shares its end, good or bad; if the one who fetches is cancelled, the next who waits takes over.
    ///
    /// # Errors
    /// What `fetch` says.
    pub async fn get<F>(
        &self,
        wish: TokenWish,
        fetch: impl FnOnce() -> F + Send,
    ) -> Result<CachedToken, TokenError>
    where
        F: Future<Output = Result<Grant, TokenError>> + Send,
    {
        if let Some(token) = self.kept(&wish).await {
            self.kept.fetch_add(1, Ordering::Relaxed);
            return Ok(token);
        }
        let flight = {
            let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(flights.entry(wish.key.clone()).or_default())
        };
        let outcome = flight.get_or_init(|| self.fetch(&wish.key, fetch)).await.clone();
        let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
        if flights.get(&wish.key).is_some_and(|current| Arc::ptr_eq(current, &flight)) {
            flights.remove(&wish.key);
        }
        outcome
    }

    /// Forgets what has ended.
    pub async fn evict(&self) {
        let now = self.clock.now();
        let _ = self.memory.evict(now);
        if let Some(Err(error)) = self.behind(move |cache| cache.evict(now)).await {
            warn!(%error, "token cache");
        }
    }

    async fn kept(&self, wish: &TokenWish) -> Option<CachedToken> {
        if let Ok(Some(token)) = self.memory.get(&wish.key)
            && self.will_do(&token, wish)
        {
            return Some(token);
        }
        let key = wish.key.clone();
        let token = match self.behind(move |cache| cache.get(&key)).await? {
            Ok(token) => token.filter(|token| self.will_do(token, wish))?,
            Err(error) => {
                warn!(%error, "the issuer is asked instead");
                return None;
            }
        };
        let _ = self.memory.put(&wish.key, &token);
        Some(token)
    }

    /// Long enough to live: `min_life`, or half of its whole life where that is less.
    fn will_do(&self, token: &CachedToken, wish: &TokenWish) -> bool {
        let now = self.clock.now();
        let left = now.until(token.expires_at);
        let half = token.obtained_at.until(token.expires_at) / 2;
        let fresh = wish.freshness == Freshness::Kept || token.obtained_at.until(now) < FRESH;
        fresh && !left.is_zero() && left >= wish.min_life.min(half)
    }

    async fn fetch<F>(
        &self,
        key: &CacheKey,
        fetch: impl FnOnce() -> F + Send,
    ) -> Result<CachedToken, TokenError>
    where
        F: Future<Output = Result<Grant, TokenError>> + Send,
    {
        let Grant { token, expires_at } = fetch().await.inspect_err(|_| {
            self.failed.fetch_add(1, Ordering::Relaxed);
        })?;
        self.fetched.fetch_add(1, Ordering::Relaxed);
        let token = CachedToken { token, obtained_at: self.clock.now(), expires_at };
        let _ = self.memory.put(key, &token);
        let (key, copy) = (key.clone(), token.clone());
        if let Some(Err(error)) = self.behind(move |cache| cache.put(&key, &copy)).await {
            warn!(%error, "the token is not kept across a restart");
        }
        Ok(token)
    }

    /// Runs a call of the cache behind, which may block, where blocking does no harm.
    async fn behind<T: Send + 'static>(
        &self,
        call: impl FnOnce(&dyn TokenCache) -> T + Send + 'static,
    ) -> Option<T> {
        let cache = Arc::clone(self.behind.as_ref()?);
        tokio::task::spawn_blocking(move || call(cache.as_ref())).await.ok()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use super::*;
    use crate::clock::{ManualClock, UnixSeconds};
    use crate::scope::ScopeSet;

    fn wish(freshness: Freshness) -> TokenWish {
        let key = CacheKey {
            issuer: "https://i".into(),
            client_id: "c".into(),
            subject: "c".into(),
            audience: "a".into(),
            scope: ScopeSet::default(),
        };
        TokenWish { key, min_life: Duration::from_secs(300), freshness }
    }

    fn grant(text: &str, expires_at: i64) -> Result<Grant, TokenError> {
        Ok(Grant { token: AccessToken::new(text).unwrap(), expires_at: UnixSeconds(expires_at) })
    }

    fn trouble() -> TokenError {
        TokenError::Unreachable { issuer: "https://i".into(), call: "test", reason: "down" }
    }

    #[tokio::test(start_paused = true)]
    async fn a_hundred_who_ask_at_once_make_one_call_and_share_its_end() {
        let keeper = Arc::new(TokenKeeper::new(None, Arc::new(ManualClock::new(UnixSeconds(0)))));
        for good in [false, true] {
            let calls = Arc::new(AtomicU32::new(0));
            let ask = || {
                let (keeper, calls) = (Arc::clone(&keeper), Arc::clone(&calls));
                tokio::spawn(async move {
                    keeper
                        .get(wish(Freshness::Kept), || async {
                            calls.fetch_add(1, Ordering::SeqCst);
                            tokio::time::sleep(Duration::from_secs(1)).await;
                            if good { grant("t", 3600) } else { Err(trouble()) }
                        })
                        .await
                        .is_ok()
                })
            };
            let asked: Vec<_> = (0..100).map(|_| ask()).collect();
            for one in asked {
                assert_eq!(one.await.unwrap(), good);
            }
            assert_eq!(calls.load(Ordering::SeqCst), 1);
        }
    }

    #[tokio::test]
    async fn a_token_near_its_end_is_renewed_and_a_rejected_one_too() {
        let clock = Arc::new(ManualClock::new(UnixSeconds(0)));
        let keeper = TokenKeeper::new(None, clock.clone());
        let first = keeper.get(wish(Freshness::Kept), || async { grant("one", 3600) }).await.unwrap();
        clock.advance(Duration::from_secs(3300));
        let second = keeper.get(wish(Freshness::Kept), || async { grant("two", 7200) }).await.unwrap();
        assert_eq!(first, second, "300 s are enough");
        clock.advance(Duration::from_secs(1));
        let third = keeper.get(wish(Freshness::Kept), || async { grant("two", 7200) }).await.unwrap();
        assert_eq!(third.token.expose(), "two");
        let same = keeper.get(wish(Freshness::Fresh), || async { grant("three", 7200) }).await.unwrap();
        assert_eq!(same.token.expose(), "two", "it has only just been fetched");
        clock.advance(FRESH);
        let fourth = keeper.get(wish(Freshness::Fresh), || async { grant("three", 7200) }).await.unwrap();
        assert_eq!(fourth.token.expose(), "three");
        assert_eq!(keeper.counts(), KeeperCounts { kept: 2, fetched: 3, failed: 0 });
    }

    #[tokio::test]
    async fn a_short_lived_token_is_used_for_half_its_life() {
        let clock = Arc::new(ManualClock::new(UnixSeconds(0)));
        let keeper = TokenKeeper::new(None, clock.clone());
        keeper.get(wish(Freshness::Kept), || async { grant("one", 60) }).await.unwrap();
        clock.advance(Duration::from_secs(20));
        let again = keeper.get(wish(Freshness::Kept), || async { Err(trouble()) }).await.unwrap();
        assert_eq!(again.token.expose(), "one");
        clock.advance(Duration::from_secs(20));
        assert!(keeper.get(wish(Freshness::Kept), || async { Err(trouble()) }).await.is_err());
    }
}
