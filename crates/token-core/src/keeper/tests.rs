use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32};

use tokio::time::{sleep, timeout};

use super::*;
use crate::cache::CacheError;
use crate::clock::ManualClock;
use crate::scope::ScopeSet;

fn wish_for(audience: &str, freshness: Freshness) -> TokenWish {
    let key = CacheKey {
        issuer: "https://i".into(),
        client_id: "c".into(),
        subject: "c".into(),
        audience: audience.into(),
        scope: ScopeSet::default(),
    };
    TokenWish { key, min_life: Duration::from_secs(300), freshness }
}

fn wish() -> TokenWish {
    wish_for("a", Freshness::Kept)
}

/// An issuer that takes a second for each token, and counts.
#[derive(Default)]
struct Slow {
    calls: AtomicU32,
    given: Mutex<HashSet<String>>,
    down: AtomicBool,
}

impl Slow {
    fn calls(&self) -> u32 {
        self.calls.load(Ordering::SeqCst)
    }

    /// A token with the number of its call, that lives an hour.
    async fn give(self: Arc<Self>, audience: String, clock: Arc<ManualClock>) -> Result<Grant, TokenError> {
        let n = self.calls.fetch_add(1, Ordering::SeqCst) + 1;
        sleep(Duration::from_secs(1)).await;
        if self.down.load(Ordering::SeqCst) {
            return Err(trouble());
        }
        self.given.lock().unwrap().insert(audience.clone());
        let token = AccessToken::new(format!("{audience}.{n}")).unwrap();
        Ok(Grant { token, expires_at: clock.now().plus(Duration::from_secs(3600)) })
    }
}

fn trouble() -> TokenError {
    TokenError::Unreachable { issuer: "https://i".into(), call: "test", reason: "down" }
}

struct World {
    keeper: TokenKeeper,
    clock: Arc<ManualClock>,
    issuer: Arc<Slow>,
}

fn world() -> World {
    behind(None)
}

fn behind(cache: Option<Arc<dyn TokenCache>>) -> World {
    let clock = Arc::new(ManualClock::new(UnixSeconds(1_000_000)));
    World { keeper: TokenKeeper::new(cache, clock.clone()), clock, issuer: Arc::default() }
}

impl World {
    fn get(&self, wish: TokenWish) -> impl Future<Output = Result<String, TokenError>> + Send + 'static {
        let (keeper, clock, issuer) = (self.keeper.clone(), self.clock.clone(), Arc::clone(&self.issuer));
        async move {
            let audience = wish.key.audience.clone();
            let fetch = move || Arc::clone(&issuer).give(audience.clone(), clock.clone());
            Ok(keeper.get(wish, fetch).await?.token.expose().to_owned())
        }
    }

    fn counts(&self) -> (u64, u64, u64, u64, u64) {
        let KeeperCounts { kept, shared, fetched, renewed, failed, .. } = self.keeper.counts();
        (kept, shared, fetched, renewed, failed)
    }
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_who_ask_at_once_make_one_call_and_share_its_end() {
    for down in [false, true] {
        let world = world();
        world.issuer.down.store(down, Ordering::SeqCst);
        let asked: Vec<_> = (0..10_000).map(|_| tokio::spawn(world.get(wish()))).collect();
        for one in asked {
            assert_eq!(one.await.unwrap().is_err(), down);
        }
        assert_eq!(world.issuer.calls(), 1);
        assert_eq!(world.keeper.0.flights.under_way(), 0);
        // A failure is shared by those who waited for it, and by nobody after.
        world.issuer.down.store(false, Ordering::SeqCst);
        world.get(wish()).await.unwrap();
        assert_eq!(world.issuer.calls(), if down { 2 } else { 1 });
    }
}

#[test]
fn ten_thousand_on_many_threads_make_one_call() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build().unwrap();
    runtime.block_on(async {
        let world = world();
        let asked: Vec<_> = (0..10_000).map(|_| tokio::spawn(world.get(wish()))).collect();
        for one in asked {
            assert_eq!(one.await.unwrap().unwrap(), "a.1");
        }
        assert_eq!(world.issuer.calls(), 1);
    });
}

#[tokio::test(start_paused = true)]
async fn a_thousand_keys_for_a_hundred_tasks_each_are_a_thousand_calls() {
    let world = world();
    let wish = |n: usize| wish_for(&(n % 1000).to_string(), Freshness::Kept);
    let asked: Vec<_> = (0..100_000).map(|n| tokio::spawn(world.get(wish(n)))).collect();
    for (n, one) in asked.into_iter().enumerate() {
        assert!(one.await.unwrap().unwrap().starts_with(&format!("{}.", n % 1000)));
    }
    assert_eq!(world.issuer.calls(), 1000);
    assert_eq!(world.issuer.given.lock().unwrap().len(), 1000);
    assert_eq!(world.counts(), (0, 99_000, 1000, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_first_caller_does_not_fail_the_others() {
    let world = world();
    let first = tokio::spawn(world.get(wish()));
    tokio::task::yield_now().await;
    let others: Vec<_> = (0..100).map(|_| tokio::spawn(world.get(wish()))).collect();
    sleep(Duration::from_millis(500)).await;
    first.abort();
    for one in others {
        assert_eq!(one.await.unwrap().unwrap(), "a.2", "the next who waits asks again");
    }
    assert_eq!(world.issuer.calls(), 2);
    // Nothing is left behind when all are cancelled.
    let gone = timeout(Duration::from_millis(500), world.get(wish_for("b", Freshness::Kept))).await;
    assert!(gone.is_err());
    assert_eq!(world.keeper.0.flights.under_way(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_next_token_is_got_ahead_while_the_one_in_use_still_does() {
    let world = world();
    assert_eq!(world.get(wish()).await.unwrap(), "a.1");
    world.clock.advance(Duration::from_secs(3000));
    for _ in 0..100 {
        assert_eq!(world.get(wish()).await.unwrap(), "a.1", "nobody waits for the renewal");
        tokio::task::yield_now().await;
    }
    sleep(Duration::from_secs(2)).await;
    assert_eq!(world.get(wish()).await.unwrap(), "a.2");
    assert_eq!((world.issuer.calls(), world.counts()), (2, (101, 0, 2, 1, 0)));
    world.clock.advance(Duration::from_secs(3500));
    world.get(wish()).await.unwrap();
    let counts = world.keeper.counts();
    assert_eq!((counts.missed, counts.stale, counts.not_renewed), (1, 1, 0), "the third was got too late");
    let now = world.clock.now();
    let [held] = world.keeper.holdings().try_into().unwrap();
    assert_eq!((held.audience.as_str(), held.tokens, held.first_end), ("a", 1, held.last_end));
    assert!(held.last_end > now && now.until(held.last_end) <= Duration::from_secs(3600));
    world.clock.advance(Duration::from_secs(3600));
    assert_eq!(world.keeper.holdings(), []);
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_fails_rests_and_who_needs_a_token_at_once_asks_anyway() {
    let world = world();
    world.get(wish()).await.unwrap();
    world.issuer.down.store(true, Ordering::SeqCst);
    world.clock.advance(Duration::from_secs(3000));
    for _ in 0..10 {
        assert_eq!(world.get(wish()).await.unwrap(), "a.1");
        sleep(Duration::from_secs(2)).await;
    }
    assert_eq!(world.issuer.calls(), 2, "one try, and then a rest");
    world.clock.advance(Duration::from_secs(60));
    world.keeper.tend().await;
    world.get(wish()).await.unwrap();
    sleep(Duration::from_secs(2)).await;
    assert_eq!(world.issuer.calls(), 3, "and then another");
    world.clock.advance(Duration::from_secs(300));
    assert!(world.get(wish()).await.is_err(), "240 s are less than was asked for");
    world.issuer.down.store(false, Ordering::SeqCst);
    assert_eq!(world.get(wish()).await.unwrap(), "a.5");
}

#[tokio::test(start_paused = true)]
async fn who_needs_more_life_than_another_does_not_get_the_others_token() {
    let world = world();
    world.get(wish()).await.unwrap();
    world.clock.advance(Duration::from_secs(1700));
    let longer = TokenWish { min_life: Duration::from_secs(1900), ..wish() };
    assert_eq!(
        world.get(longer.clone()).await.unwrap(),
        "a.1",
        "half its life is what a token can be asked for"
    );
    world.clock.advance(Duration::from_secs(101));
    assert_eq!(world.get(wish()).await.unwrap(), "a.1");
    assert_eq!(world.get(longer).await.unwrap(), "a.2");
}

#[tokio::test(start_paused = true)]
async fn a_rejected_token_is_replaced_but_not_one_that_is_as_fresh_as_they_come() {
    let world = world();
    world.get(wish()).await.unwrap();
    assert_eq!(
        world.get(wish_for("a", Freshness::Fresh)).await.unwrap(),
        "a.1",
        "it has only just been fetched"
    );
    world.clock.advance(renewal::FRESH);
    let all: Vec<_> = (0..100).map(|_| tokio::spawn(world.get(wish_for("a", Freshness::Fresh)))).collect();
    for one in all {
        assert_eq!(one.await.unwrap().unwrap(), "a.2");
    }
}

/// A cache that can be out of use.
#[derive(Default)]
struct Frail {
    kept: MemoryCache,
    away: AtomicBool,
}

impl Frail {
    fn well(&self) -> Result<&MemoryCache, CacheError> {
        match self.away.load(Ordering::SeqCst) {
            true => Err(CacheError::Away("test".into())),
            false => Ok(&self.kept),
        }
    }
}

impl TokenCache for Frail {
    fn get(&self, key: &CacheKey) -> Result<Option<CachedToken>, CacheError> {
        self.well()?.get(key)
    }

    fn put(&self, key: &CacheKey, token: &CachedToken) -> Result<(), CacheError> {
        self.well()?.put(key, token)
    }

    fn tend(&self, _: UnixSeconds) -> Result<Tended, CacheError> {
        Ok(Tended { removed: 0, mended: self.away.swap(false, Ordering::SeqCst) })
    }

    fn health(&self) -> CacheHealth {
        self.kept.health()
    }
}

#[tokio::test]
async fn a_cache_that_comes_back_is_given_what_it_missed() {
    let frail = Arc::new(Frail::default());
    let first = behind(Some(frail.clone()));
    frail.away.store(true, Ordering::SeqCst);
    assert_eq!(first.get(wish()).await.unwrap(), "a.1");
    assert_eq!(frail.kept.health().entries, 0);
    first.keeper.tend().await;
    assert_eq!(first.keeper.counts().behind.unwrap().entries, 1);
    frail.away.store(true, Ordering::SeqCst);
    first.keeper.tend().await;
    assert!(frail.away.load(Ordering::SeqCst), "not more often than every half minute");
    frail.away.store(false, Ordering::SeqCst);
    let restarted = behind(Some(frail));
    let all: Vec<_> = (0..100).map(|_| tokio::spawn(restarted.get(wish()))).collect();
    for one in all {
        assert_eq!(one.await.unwrap().unwrap(), "a.1");
    }
    assert_eq!((restarted.issuer.calls(), restarted.counts().2), (0, 0));
}
