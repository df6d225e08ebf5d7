//! Keys, tokens that say what they are, and a service over a cache.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use token_core::{
    AccessToken, CacheKey, CachedToken, Freshness, Grant, ManualClock, ScopeSet, SealKeys, SledCache,
    SledSettings, TokenCache, TokenKeeper, TokenWish, UnixSeconds, hex,
};

pub(crate) const NOW: UnixSeconds = UnixSeconds(1_000_000);

pub(crate) fn key(n: usize) -> CacheKey {
    CacheKey {
        issuer: "https://issuer.example/".into(),
        client_id: "client".into(),
        subject: "subject".into(),
        audience: format!("https://storage-{n}.example"),
        scope: ScopeSet::parse("storage.read:/").unwrap(),
    }
}

/// The token of key `n` in its `round`th edition: 2 kB that can't be cut or mixed without being seen.
pub(crate) fn token(n: usize, round: u64) -> CachedToken {
    let mut word = u64::try_from(n).unwrap() << 40 | round;
    let filler: String = (0..125)
        .map(|_| {
            word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            hex(&word.to_be_bytes())
        })
        .collect();
    let token = AccessToken::new(format!("{n}.{round}.{filler}")).unwrap();
    CachedToken { token, obtained_at: NOW, expires_at: UnixSeconds(NOW.0 + 3600) }
}

/// Which edition of key `n` this is; panics when it is none.
pub(crate) fn round_of(n: usize, held: &CachedToken) -> u64 {
    let text = held.token.expose();
    let round = text.split('.').nth(1).and_then(|round| round.parse().ok()).expect("a token of ours");
    assert_eq!(*held, token(n, round), "whole, and of this key");
    round
}

pub(crate) fn settings(folder: &Path) -> SledSettings {
    SledSettings::new(folder.join("tokens"), SealKeys::from_file(&folder.join("key")).unwrap())
}

pub(crate) fn open(folder: &Path) -> SledCache {
    SledCache::open(settings(folder)).unwrap()
}

/// A keeper over the cache, and an issuer whose tokens are of the edition 0.
pub(crate) struct Service {
    pub(crate) cache: Arc<SledCache>,
    pub(crate) clock: Arc<ManualClock>,
    keeper: TokenKeeper,
    asked: Arc<AtomicU32>,
    runtime: tokio::runtime::Runtime,
}

impl Service {
    pub(crate) fn over(cache: SledCache) -> Self {
        let (cache, clock) = (Arc::new(cache), Arc::new(ManualClock::new(NOW)));
        Self {
            keeper: TokenKeeper::new(Some(cache.clone()), clock.clone()),
            cache,
            clock,
            asked: Arc::default(),
            runtime: tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap(),
        }
    }

    /// The edition that is served for key `n`, which is whole and of that key.
    pub(crate) fn serve(&self, n: usize) -> u64 {
        let wish = TokenWish { key: key(n), min_life: Duration::from_secs(300), freshness: Freshness::Kept };
        let asked = Arc::clone(&self.asked);
        let fetch = move || {
            asked.fetch_add(1, Ordering::SeqCst);
            async move {
                let CachedToken { token, expires_at, .. } = token(n, 0);
                Ok(Grant { token, expires_at })
            }
        };
        let held = self.runtime.block_on(self.keeper.get(wish, fetch)).unwrap();
        round_of(n, &held)
    }

    /// How often the issuer was asked.
    pub(crate) fn asked(&self) -> u32 {
        self.asked.load(Ordering::SeqCst)
    }

    /// Housekeeping, half a minute later.
    pub(crate) fn tend(&self) {
        use token_core::Clock as _;
        self.clock.advance(Duration::from_secs(30));
        assert!(self.clock.now() < UnixSeconds(NOW.0 + 3000));
        self.runtime.block_on(self.keeper.tend());
    }

    pub(crate) fn trouble(&self) -> Option<String> {
        self.cache.health().trouble
    }
}
