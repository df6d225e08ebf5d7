//! Tokens in sled 0.34, sealed. The only user of the `sled` crate.

mod store;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{PoisonError, RwLock};

use serde::{Deserialize, Serialize};
use tracing::{debug, info, warn};
use zeroize::Zeroizing;

use super::keys::{SealKeys, private};
use super::seal::Seal;
use super::{CacheError, CacheHealth, CacheKey, CachedToken, Tended, TokenCache};
use crate::clock::UnixSeconds;
use crate::secret::AccessToken;

/// How often an opening is tried at start while another process holds the lock; a daemon that restarts may have to wait for
/// the one before it.
const LOCK_TRIES: u32 = 15;

/// Where and how.
#[derive(Debug)]
pub struct SledSettings {
    /// The folder of the store; made with mode 0700.
    pub path: PathBuf,
    /// The keys that seal it.
    pub keys: SealKeys,
    /// How many tokens it holds at most; those that end first go first.
    pub max_entries: usize,
}

impl SledSettings {
    /// A store of at most 10,000 tokens.
    pub fn new(path: impl Into<PathBuf>, keys: SealKeys) -> Self {
        Self { path: path.into(), keys, max_entries: 10_000 }
    }
}

/// Tokens in a sled store, each sealed with AES-256-GCM. What [`TokenCache::put`] has taken outlives this process, however
/// it ends; a power cut may lose it (sled's flush is no fsync), and then the issuer is asked again, as when the store or its
/// keys are lost.
///
/// A store that can't be used is no reason to stop: it is set aside when it can't be read, and otherwise left out of use,
/// with a warning, until [`TokenCache::tend`] finds it well.
///
/// ```
/// use token_core::{AccessToken, CacheKey, CachedToken, ScopeSet, SealKeys, SledCache, SledSettings, TokenCache, UnixSeconds};
///
/// let folder = tempfile::tempdir()?;
/// let open = || -> Result<SledCache, token_core::CacheError> {
///     SledCache::open(SledSettings::new(folder.path().join("tokens"), SealKeys::from_file(&folder.path().join("key"))?))
/// };
/// let key = CacheKey {
///     issuer: "https://iam.example/".into(),
///     client_id: "conveyor".into(),
///     subject: "conveyor".into(),
///     audience: "fts.example".into(),
///     scope: ScopeSet::parse("fts")?,
/// };
/// let token = CachedToken {
///     token: AccessToken::new("a.b.c")?,
///     obtained_at: UnixSeconds(1_000),
///     expires_at: UnixSeconds(4_600),
/// };
/// open()?.put(&key, &token)?;
/// let after_a_restart = open()?;
/// assert_eq!(after_a_restart.get(&key)?, Some(token));
/// after_a_restart.tend(UnixSeconds(5_000))?;
/// assert_eq!(after_a_restart.get(&key)?, None);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct SledCache {
    settings: SledSettings,
    state: RwLock<State>,
    entries: AtomicUsize,
    errors: AtomicU64,
    set_aside: AtomicU64,
}

enum State {
    Open(sled::Db),
    Away(String),
}

/// What is sealed. The token's text leaves this crate's memory only inside the seal.
#[derive(Serialize, Deserialize)]
struct Record<'a> {
    token: &'a str,
    obtained_at: UnixSeconds,
    expires_at: UnixSeconds,
}

impl SledCache {
    /// Opens the store, or stands in for it while it can't be opened: see [`TokenCache::health`].
    ///
    /// # Errors
    /// When the folder can't be made, or others may read it: an operator has to mend that.
    pub fn open(settings: SledSettings) -> Result<Self, CacheError> {
        store::folder(&settings.path)?;
        private(&settings.path)?;
        let cache = Self {
            settings,
            state: RwLock::new(State::Away(String::new())),
            entries: AtomicUsize::new(0),
            errors: AtomicU64::new(0),
            set_aside: AtomicU64::new(0),
        };
        if let Err(error) = cache.begin(LOCK_TRIES) {
            cache.lost(&error);
        }
        Ok(cache)
    }

    fn begin(&self, lock_tries: u32) -> Result<(), CacheError> {
        let opened = store::open(&self.settings.path, lock_tries)?;
        self.entries.store(opened.entries, Ordering::Relaxed);
        self.set_aside.fetch_add(opened.set_aside.into(), Ordering::Relaxed);
        self.set(State::Open(opened.store));
        Ok(())
    }

    fn set(&self, state: State) {
        *self.state.write().unwrap_or_else(PoisonError::into_inner) = state;
    }

    fn store(&self) -> Result<sled::Db, CacheError> {
        match &*self.state.read().unwrap_or_else(PoisonError::into_inner) {
            State::Open(store) => Ok(store.clone()),
            State::Away(reason) => Err(CacheError::Away(reason.clone())),
        }
    }

    /// Drops the store: after a failed write sled fails for ever, also when there is space again.
    fn lost(&self, error: &CacheError) {
        self.errors.fetch_add(1, Ordering::Relaxed);
        warn!(store = %self.settings.path.display(), %error, "token cache out of use: tokens are kept in memory only");
        self.set(State::Away(error.to_string()));
    }

    /// Runs a call; if sled fails, the store is out of use.
    fn with<T>(&self, call: impl FnOnce(&sled::Db) -> Result<T, CacheError>) -> Result<T, CacheError> {
        let store = self.store()?;
        call(&store).inspect_err(|error| {
            if let CacheError::Store(_) = error {
                self.lost(error);
            }
        })
    }

    fn write(&self, store: &sled::Db, key: &CacheKey, token: &CachedToken) -> Result<(), CacheError> {
        let seal = self.settings.keys.first();
        let name = seal.name(&key.bytes());
        let record = Record {
            token: token.token.expose(),
            obtained_at: token.obtained_at,
            expires_at: token.expires_at,
        };
        let plain = Zeroizing::new(serde_json::to_vec(&record).map_err(|_| CacheError::Seal)?);
        let sealed = seal.seal(&name, &plain)?;
        let before = store.insert(name, sealed).map_err(|error| store::failed(&error))?;
        if before.is_none() && self.entries.fetch_add(1, Ordering::Relaxed) >= self.settings.max_entries {
            self.make_room(store)?;
        }
        Ok(())
    }

    /// So that what was written outlives this process.
    fn flush(store: &sled::Db) -> Result<(), CacheError> {
        store.flush().map(drop).map_err(|error| store::failed(&error))
    }

    /// Forgets those that end first, a sixteenth at once, so that a full store is not read for every token.
    fn make_room(&self, store: &sled::Db) -> Result<usize, CacheError> {
        let most = self.settings.max_entries;
        let mut all = Vec::new();
        for entry in store.iter() {
            let (name, sealed) = entry.map_err(|error| store::failed(&error))?;
            if store::is_token(&name) {
                all.push((self.read(&name, &sealed).map(|token| token.expires_at), name));
            }
        }
        all.sort_unstable();
        let surplus = (all.len() + (most / 16).max(1)).saturating_sub(most.max(1));
        let gone = all.iter().take(surplus);
        for (_, name) in gone.clone() {
            self.remove(store, name)?;
        }
        Ok(gone.len())
    }

    fn remove(&self, store: &sled::Db, name: &[u8]) -> Result<(), CacheError> {
        if store.remove(name).map_err(|error| store::failed(&error))?.is_some() {
            let _ = self.entries.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1));
        }
        Ok(())
    }

    fn read(&self, name: &[u8], sealed: &[u8]) -> Option<CachedToken> {
        self.settings.keys.all().find_map(|seal| unsealed(seal, name, sealed))
    }
}

/// `None` for what was sealed with another key, or damaged: as good as gone.
fn unsealed(seal: &Seal, name: &[u8], sealed: &[u8]) -> Option<CachedToken> {
    let plain = seal.open(name, sealed)?;
    let record: Record<'_> = serde_json::from_slice(&plain).ok()?;
    let token = AccessToken::new(record.token).ok()?;
    Some(CachedToken { token, obtained_at: record.obtained_at, expires_at: record.expires_at })
}

impl TokenCache for SledCache {
    fn get(&self, key: &CacheKey) -> Result<Option<CachedToken>, CacheError> {
        self.with(|store| {
            let bytes = key.bytes();
            let find = |seal: &Seal| -> Result<_, CacheError> {
                let name = seal.name(&bytes);
                let sealed = store.get(&name).map_err(|error| store::failed(&error))?;
                Ok((sealed.and_then(|sealed| unsealed(seal, &name, &sealed)), name))
            };
            if let (Some(token), _) = find(self.settings.keys.first())? {
                return Ok(Some(token));
            }
            for seal in self.settings.keys.older() {
                if let (Some(token), name) = find(seal)? {
                    self.write(store, key, &token)?;
                    Self::flush(store)?;
                    self.remove(store, &name)?;
                    return Ok(Some(token));
                }
            }
            Ok(None)
        })
    }

    fn put(&self, key: &CacheKey, token: &CachedToken) -> Result<(), CacheError> {
        self.with(|store| self.write(store, key, token).and_then(|()| Self::flush(store)))
    }

    fn put_all(&self, tokens: &[(CacheKey, CachedToken)]) -> Result<(), CacheError> {
        self.with(|store| {
            tokens.iter().try_for_each(|(key, token)| self.write(store, key, token))?;
            Self::flush(store)
        })
    }

    fn tend(&self, now: UnixSeconds) -> Result<Tended, CacheError> {
        let mut tended = Tended::default();
        if self.store().is_err() {
            if let Err(error) = self.begin(1) {
                debug!(store = %self.settings.path.display(), %error, "token cache still out of use");
                return Ok(tended);
            }
            info!(store = %self.settings.path.display(), "token cache in use again");
            tended.mended = true;
        }
        tended.removed = self.with(|store| {
            let (mut gone, mut left) = (0, 0);
            for entry in store.iter() {
                let (name, sealed) = entry.map_err(|error| store::failed(&error))?;
                if !store::is_token(&name) {
                    continue;
                }
                if self.read(&name, &sealed).is_none_or(|token| token.expires_at <= now) {
                    self.remove(store, &name)?;
                    gone += 1;
                } else {
                    left += 1;
                }
            }
            if left > self.settings.max_entries {
                gone += self.make_room(store)?;
            }
            Ok(gone)
        })?;
        Ok(tended)
    }

    fn health(&self) -> CacheHealth {
        let trouble = match &*self.state.read().unwrap_or_else(PoisonError::into_inner) {
            State::Open(_) => None,
            State::Away(reason) => Some(reason.clone()),
        };
        let entries = if trouble.is_none() { self.entries.load(Ordering::Relaxed) } else { 0 };
        CacheHealth {
            entries,
            errors: self.errors.load(Ordering::Relaxed),
            set_aside: self.set_aside.load(Ordering::Relaxed),
            trouble,
        }
    }
}

#[cfg(test)]
mod tests;
