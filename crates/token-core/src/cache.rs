//! Where tokens are kept: in memory, or in sled so that a restart asks the issuer for nothing.
//!
//! A cache holds only what can be fetched again. So a cache that is broken is set aside, never a reason to stop.

mod keys;
mod memory;
mod seal;
mod sled_cache;

use crate::clock::UnixSeconds;
use crate::scope::ScopeSet;
use crate::secret::AccessToken;

pub use keys::SealKeys;
pub use memory::MemoryCache;
pub use sled_cache::{SledCache, SledSettings};

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
    /// A line of the key file is no key.
    #[error("token cache: the key file {path}, line {line}: not 64 hex digits")]
    Key {
        /// The path.
        path: String,
        /// Which line, from 1.
        line: usize,
    },
    /// The key file holds no key at all.
    #[error("token cache: the key file {0} holds no key: it takes a line of 64 hex digits")]
    NoKey(String),
    /// systemd handed over no credential of that name.
    #[error(
        "token cache: no systemd credential {0}: the unit needs LoadCredential= or SetCredentialEncrypted= with that name"
    )]
    NoCredential(String),
    /// Another process has it open.
    #[error("token cache {0}: another process has it open")]
    Locked(String),
    /// The folder holds files of something else.
    #[error(
        "token cache {path}: the folder holds {name}, which is no part of a token cache; give it a folder of its own"
    )]
    Foreign {
        /// The path.
        path: String,
        /// What was found there.
        name: String,
    },
    /// sled failed.
    #[error("token cache: sled: {0}")]
    Store(String),
    /// The store is out of use since an earlier trouble, which was reported then. It is tried again by [`TokenCache::tend`].
    #[error("token cache: out of use: {0}")]
    Away(String),
    /// Sealing failed.
    #[error("token cache: a value could not be sealed")]
    Seal,
}

/// What housekeeping did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tended {
    /// How many entries were forgotten: ended, sealed with a key we do not have, or over the bound.
    pub removed: usize,
    /// Whether a store that was out of use works again; it holds nothing of what was kept meanwhile.
    pub mended: bool,
}

/// How a cache is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CacheHealth {
    /// How many entries it holds.
    pub entries: usize,
    /// How many calls failed.
    pub errors: u64,
    /// How often a store was set aside because it could not be read or was somebody else's.
    pub set_aside: u64,
    /// Why it is out of use now, if it is.
    pub trouble: Option<String>,
}

/// A place for tokens. Calls may block for about a millisecond.
pub trait TokenCache: Send + Sync + 'static {
    /// The token kept under `key`, if any; it may have ended.
    ///
    /// # Errors
    /// When the cache failed; ask the issuer then.
    fn get(&self, key: &CacheKey) -> Result<Option<CachedToken>, CacheError>;

    /// Keeps a token under `key`, in place of any older one.
    ///
    /// # Errors
    /// When the cache failed; the token is still good.
    fn put(&self, key: &CacheKey, token: &CachedToken) -> Result<(), CacheError>;

    /// Keeps many tokens. A cache that writes does so once for all of them.
    ///
    /// # Errors
    /// When the cache failed; some may be kept.
    fn put_all(&self, tokens: &[(CacheKey, CachedToken)]) -> Result<(), CacheError> {
        tokens.iter().try_for_each(|(key, token)| self.put(key, token))
    }

    /// Housekeeping: forgets what ended before `now`, keeps to the bound, and takes a store that failed into use again.
    ///
    /// # Errors
    /// When the cache failed.
    fn tend(&self, now: UnixSeconds) -> Result<Tended, CacheError>;

    /// How it is.
    fn health(&self) -> CacheHealth;
}
