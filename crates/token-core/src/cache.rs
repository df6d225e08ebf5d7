//! Where tokens are kept: in memory, or in sled so that a restart asks the issuer for nothing.
//!
//! A cache holds only what can be fetched again. So a cache that is broken is set aside, never a reason to stop.

mod seal;
mod sled_cache;

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::clock::UnixSeconds;
use crate::scope::ScopeSet;
use crate::secret::{AccessToken, SecretError};

pub use sled_cache::SledCache;

/// What makes two tokens interchangeable.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CacheKey {
    /// The issuer.
    pub issuer: String,
    /// The client that asks.
    pub client_id: String,
    /// On whose behalf: the client itself, or the subject of the exchanged token.
    pub subject: String,
    /// For which resource.
    pub audience: String,
    /// With which scopes.
    pub scope: ScopeSet,
}

impl CacheKey {
    /// The fields with their lengths, so that no two keys run together.
    fn bytes(&self) -> Vec<u8> {
        let scope = self.scope.to_string();
        let fields = [&self.issuer, &self.client_id, &self.subject, &self.audience, &scope];
        let mut bytes = Vec::new();
        for field in fields {
            bytes.extend_from_slice(&u64::try_from(field.len()).unwrap_or(u64::MAX).to_be_bytes());
            bytes.extend_from_slice(field.as_bytes());
        }
        bytes
    }
}

/// A token that is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CachedToken {
    /// The token.
    pub token: AccessToken,
    /// When it was got.
    pub obtained_at: UnixSeconds,
    /// When it ends.
    pub expires_at: UnixSeconds,
}

/// Why a cache did not do its work. The token can still be fetched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CacheError {
    /// The folder or the key file can't be made or read.
    #[error("token cache {path}: {source}")]
    File {
        /// The path.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The folder or the key file can be read by others.
    #[error(
        "token cache {path}: others may read it (mode {mode:o}); set it to 0700 (folder) or 0600 (key file)"
    )]
    Open {
        /// The path.
        path: String,
        /// Its mode.
        mode: u32,
    },
    /// The key file holds no key.
    #[error("token cache: the key file {0} does not hold 64 hex digits")]
    Key(String),
    /// Another process has it open.
    #[error("token cache {0}: another process has it open")]
    Locked(String),
    /// sled failed.
    #[error("token cache: sled: {0}")]
    Store(String),
    /// Sealing failed.
    #[error("token cache: a value could not be sealed")]
    Seal,
    /// What was kept is no token.
    #[error("token cache: {0}")]
    Value(#[from] SecretError),
}

/// A place for tokens. Calls may block for about a millisecond.
pub trait TokenCache: Send + Sync + 'static {
    /// The token kept under `key`, if any.
    ///
    /// # Errors
    /// When the cache failed; ask the issuer then.
    fn get(&self, key: &CacheKey) -> Result<Option<CachedToken>, CacheError>;

    /// Keeps a token under `key`, in place of any older one.
    ///
    /// # Errors
    /// When the cache failed; the token is still good.
    fn put(&self, key: &CacheKey, token: &CachedToken) -> Result<(), CacheError>;

    /// Forgets what ended before `now`; returns how many.
    ///
    /// # Errors
    /// When the cache failed.
    fn evict(&self, now: UnixSeconds) -> Result<usize, CacheError>;
}

/// Tokens in memory, gone with the process.
#[derive(Debug, Default)]
pub struct MemoryCache(Mutex<HashMap<CacheKey, CachedToken>>);

impl TokenCache for MemoryCache {
    fn get(&self, key: &CacheKey) -> Result<Option<CachedToken>, CacheError> {
        Ok(self.0.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned())
    }

    fn put(&self, key: &CacheKey, token: &CachedToken) -> Result<(), CacheError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone(), token.clone());
        Ok(())
    }

    fn evict(&self, now: UnixSeconds) -> Result<usize, CacheError> {
        let mut map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = map.len();
        map.retain(|_, token| token.expires_at > now);
        Ok(before - map.len())
    }
}
