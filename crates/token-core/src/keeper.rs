//! One natural way to a token: from memory, from the cache on disk, or from the issuer by one call that all who wait
//! share.

mod behind;
mod flight;
mod renewal;

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use tracing::{debug, warn};

use behind::Behind;
use flight::{Flights, Landed, Source};
use renewal::Verdict;

use crate::cache::{CacheHealth, CacheKey, CachedToken, MemoryCache, Tended, TokenCache};
use crate::clock::{Clock, UnixSeconds};
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

/// How often tokens came from where, and how the cache behind is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeeperCounts {
    /// Served from memory or from the cache behind.
    pub kept: u64,
    /// Served by a fetch that somebody else had begun.
    pub shared: u64,
    /// Fetches begun since no token was kept.
    pub missed: u64,
    /// Fetches begun since the one that was kept would not do: it lived too short, had ended, or was rejected.
    pub stale: u64,
    /// Fetched from the issuer, renewals among them.
    pub fetched: u64,
    /// Of those, how many were got ahead of the end of a token that still did.
    pub renewed: u64,
    /// Fetches that failed, renewals among them.
    pub failed: u64,
    /// Of those, renewals.
    pub not_renewed: u64,
    /// How many tokens are in memory.
    pub in_memory: usize,
    /// How the cache behind is, if there is one.
    pub behind: Option<CacheHealth>,
}

/// The tokens in memory for one audience at one issuer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holding {
    /// The issuer.
    pub issuer: String,
    /// The audience.
    pub audience: String,
    /// How many.
    pub tokens: usize,
    /// When the first of them ends.
    pub first_end: UnixSeconds,
    /// When the last of them ends.
    pub last_end: UnixSeconds,
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

/// How often the keeper looks after its caches, at most.
const TEND_EVERY: Duration = Duration::from_secs(30);

/// Keeps tokens: memory in front, a cache behind, one fetch in flight for each key, and the next token got ahead of the end of
/// the one in use. Clones are the same keeper.
///
/// ```
/// use std::sync::Arc;
/// use std::time::Duration;
/// use token_core::{
///     AccessToken, CacheKey, Freshness, Grant, ManualClock, ScopeSet, TokenKeeper, TokenWish, UnixSeconds,
/// };
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let keeper = TokenKeeper::new(None, Arc::new(ManualClock::new(UnixSeconds(1_000))));
/// let key = CacheKey {
///     issuer: "https://iam.example/".into(),
///     client_id: "conveyor".into(),
///     subject: "conveyor".into(),
///     audience: "fts.example".into(),
///     scope: ScopeSet::parse("fts")?,
/// };
/// let wish = TokenWish { key, min_life: Duration::from_secs(600), freshness: Freshness::Kept };
/// // Here: what OAuthClient::client_credentials does.
/// let fetch = || async {
///     Ok(Grant { token: AccessToken::new("a.b.c").expect("a token"), expires_at: UnixSeconds(4_600) })
/// };
/// let (first, second) = (keeper.get(wish.clone(), fetch), keeper.get(wish, fetch));
/// let (first, second) = tokio::join!(first, second);
/// assert_eq!(first?, second?);
/// assert_eq!(keeper.counts().fetched, 1);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct TokenKeeper(Arc<Keeper>);

struct Keeper {
    memory: MemoryCache,
    behind: Option<Behind>,
    clock: Arc<dyn Clock>,
    flights: Flights,
    tended: AtomicI64,
    counts: Counts,
}

#[derive(Default)]
struct Counts {
    kept: AtomicU64,
    shared: AtomicU64,
    missed: AtomicU64,
    stale: AtomicU64,
    fetched: AtomicU64,
    renewed: AtomicU64,
    failed: AtomicU64,
    not_renewed: AtomicU64,
}

/// What is kept for a wish.
enum Kept {
    /// One that will do.
    Good(CachedToken),
    /// One that won't.
    Stale,
    None,
}

fn one_more(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl TokenKeeper {
    /// A keeper with a cache behind it, or none. It holds at most 10,000 tokens in memory.
    pub fn new(behind: Option<Arc<dyn TokenCache>>, clock: Arc<dyn Clock>) -> Self {
        Self(Arc::new(Keeper {
            memory: MemoryCache::default(),
            behind: behind.map(Behind::new),
            clock,
            flights: Flights::default(),
            tended: AtomicI64::new(i64::MIN),
            counts: Counts::default(),
        }))
    }

    /// How often tokens came from where, and how the cache behind is.
    pub fn counts(&self) -> KeeperCounts {
        let Keeper { memory, behind, counts, .. } = &*self.0;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        KeeperCounts {
            kept: read(&counts.kept),
            shared: read(&counts.shared),
            missed: read(&counts.missed),
            stale: read(&counts.stale),
            fetched: read(&counts.fetched),
            renewed: read(&counts.renewed),
            failed: read(&counts.failed),
            not_renewed: read(&counts.not_renewed),
            in_memory: memory.health().entries,
            behind: behind.as_ref().map(|behind| behind.cache.health()),
        }
    }

    /// The tokens in memory that have not ended, by issuer and audience.
    pub fn holdings(&self) -> Vec<Holding> {
        let now = self.0.clock.now();
        let mut holdings: BTreeMap<(String, String), (usize, UnixSeconds, UnixSeconds)> = BTreeMap::new();
        self.0.memory.each(|key, token| {
            let end = token.expires_at;
            if end > now {
                let of = holdings.entry((key.issuer.clone(), key.audience.clone()));
                let (tokens, first, last) = of.or_insert((0, end, end));
                *tokens += 1;
                *first = end.min(*first);
                *last = end.max(*last);
            }
        });
        let holding = |((issuer, audience), (tokens, first_end, last_end))| Holding {
            issuer,
            audience,
            tokens,
            first_end,
            last_end,
        };
        holdings.into_iter().map(holding).collect()
    }

    /// A token for `wish`, fetched by `fetch` if none is kept. Who asks while a fetch is under way waits for that one and
    /// shares its end, good or bad; if the one who fetches is cancelled, the next who waits takes over.
    ///
    /// A token that will soon not do any more is given out still, and the next is fetched meanwhile in a task of its own; if
    /// that fails, it is tried again after half a minute or more.
    ///
    /// # Errors
    /// What `fetch` says.
    pub async fn get<F>(
        &self,
        wish: TokenWish,
        fetch: impl Fn() -> F + Send + Sync + 'static,
    ) -> Result<CachedToken, TokenError>
    where
        F: Future<Output = Result<Grant, TokenError>> + Send + 'static,
    {
        let keeper = &self.0;
        if let Some((token, verdict)) = keeper.in_memory(&wish) {
            one_more(&keeper.counts.kept);
            if verdict == Verdict::Renew && keeper.flights.idle(&wish.key, keeper.clock.now()) {
                tokio::spawn(Arc::clone(keeper).renew(wish, fetch));
            }
            return Ok(token);
        }
        loop {
            let mut led = false;
            let seat = keeper.flights.seat(&wish.key);
            let lead = || {
                led = true;
                keeper.kept_or_fetched(&wish, &fetch)
            };
            let (token, source) = seat.fly(lead).await?;
            // Somebody else may have been content with less than is wished for here.
            if source == Source::Issuer || keeper.verdict(&token, &wish) != Verdict::Unfit {
                match source {
                    Source::Kept => one_more(&keeper.counts.kept),
                    Source::Issuer if !led => one_more(&keeper.counts.shared),
                    Source::Issuer => (),
                }
                return Ok(token);
            }
        }
    }

    /// Housekeeping: forgets what has ended, and takes a cache that failed into use again. Call it now and then; it does its
    /// work every half minute at most.
    pub async fn tend(&self) {
        let keeper = &self.0;
        let now = keeper.clock.now();
        let last = keeper.tended.swap(now.0, Ordering::Relaxed);
        if last > i64::MIN && UnixSeconds(last).until(now) < TEND_EVERY {
            keeper.tended.store(last, Ordering::Relaxed);
            return;
        }
        let _ = keeper.memory.tend(now);
        keeper.flights.wake(now);
        let Some(behind) = &keeper.behind else { return };
        match behind.call(move |cache| cache.tend(now)).await {
            Some(Ok(Tended { mended: true, .. })) => {
                let all = keeper.memory.all();
                if let Some(Err(error)) = behind.call(move |cache| cache.put_all(&all)).await {
                    warn!(%error, "not all tokens are kept across a restart");
                }
            }
            Some(Err(error)) => debug!(%error, "token cache not tended"),
            _ => (),
        }
    }
}

impl Keeper {
    fn verdict(&self, token: &CachedToken, wish: &TokenWish) -> Verdict {
        renewal::verdict(token, wish, self.clock.now())
    }

    fn in_memory(&self, wish: &TokenWish) -> Option<(CachedToken, Verdict)> {
        let token = self.memory.get(&wish.key).ok().flatten()?;
        let verdict = self.verdict(&token, wish);
        (verdict != Verdict::Unfit).then_some((token, verdict))
    }

    /// From memory, where a fetch may have put it since, or from the cache behind.
    async fn kept(&self, wish: &TokenWish) -> Kept {
        let in_memory = self.memory.get(&wish.key).ok().flatten();
        let none = if in_memory.is_some() { Kept::Stale } else { Kept::None };
        if let Some(token) = in_memory.filter(|token| self.verdict(token, wish) != Verdict::Unfit) {
            return Kept::Good(token);
        }
        let Some(behind) = &self.behind else { return none };
        match behind.get(wish.key.clone()).await {
            Some(Ok(Some(token))) if self.verdict(&token, wish) != Verdict::Unfit => {
                let _ = self.memory.put(&wish.key, &token);
                Kept::Good(token)
            }
            Some(Ok(Some(_))) => Kept::Stale,
            Some(Err(error)) => {
                debug!(%error, "the issuer is asked instead");
                none
            }
            Some(Ok(None)) | None => none,
        }
    }

    async fn kept_or_fetched<F>(&self, wish: &TokenWish, fetch: &(impl Fn() -> F + Sync)) -> Landed
    where
        F: Future<Output = Result<Grant, TokenError>> + Send,
    {
        match self.kept(wish).await {
            Kept::Good(token) => return Ok((token, Source::Kept)),
            Kept::Stale => one_more(&self.counts.stale),
            Kept::None => one_more(&self.counts.missed),
        }
        self.fetched(&wish.key, fetch).await
    }

    async fn fetched<F>(&self, key: &CacheKey, fetch: &(impl Fn() -> F + Sync)) -> Landed
    where
        F: Future<Output = Result<Grant, TokenError>> + Send,
    {
        let Grant { token, expires_at } = fetch().await.inspect_err(|_| one_more(&self.counts.failed))?;
        one_more(&self.counts.fetched);
        let token = CachedToken { token, obtained_at: self.clock.now(), expires_at };
        let _ = self.memory.put(key, &token);
        if let Some(behind) = &self.behind
            && let Some(Err(error)) = behind.put(key.clone(), token.clone()).await
        {
            debug!(%error, "the token is not kept across a restart");
        }
        Ok((token, Source::Issuer))
    }

    /// Gets the next token while the one that is kept still does. Who needs one at once meanwhile waits for this.
    async fn renew<F>(self: Arc<Self>, wish: TokenWish, fetch: impl Fn() -> F + Send + Sync)
    where
        F: Future<Output = Result<Grant, TokenError>> + Send,
    {
        let seat = self.flights.seat(&wish.key);
        let landed = seat.fly(|| self.fetched(&wish.key, &fetch)).await;
        match landed {
            Ok(_) => one_more(&self.counts.renewed),
            Err(error) => {
                one_more(&self.counts.not_renewed);
                let now = self.clock.now();
                let rest = renewal::rest(&wish, now);
                self.flights.rest(&wish.key, now.plus(rest));
                // An issuer that is away is told of where it is left alone, once for all its tokens.
                match error {
                    TokenError::Unreachable { .. } | TokenError::Busy { .. } | TokenError::Open { .. } => {
                        debug!(audience = wish.key.audience, %error, again_in_s = rest.as_secs(), "token not renewed yet");
                    }
                    error => {
                        warn!(audience = wish.key.audience, %error, again_in_s = rest.as_secs(), "token not renewed yet; the one in use still does");
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
