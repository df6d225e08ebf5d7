//! The `[cache]` section: where tokens outlive a restart.

use std::path::PathBuf;
use std::sync::Arc;

use serde::Deserialize;
use token_core::{CacheError, Clock, SealKeys, SledCache, SledSettings, TokenKeeper};

use crate::Failure;

/// The `[cache]` section.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CacheSettings {
    /// A folder for sled; made with mode 0700.
    pub path: PathBuf,
    /// The file with the keys that seal every entry: a line of 64 hex digits for each, the first seals and all open; made
    /// with mode 0600 if it is not there.
    #[serde(default)]
    pub key_file: Option<PathBuf>,
    /// The systemd credential (`LoadCredential=`) that holds those keys, instead of a file.
    #[serde(default)]
    pub key_credential: Option<String>,
    /// Most tokens on disk; those that end first go first.
    #[serde(default = "max_entries")]
    pub max_entries: usize,
}

fn max_entries() -> usize {
    10_000
}

impl CacheSettings {
    fn keys(&self) -> Result<SealKeys, Failure> {
        match (&self.key_file, &self.key_credential) {
            (Some(file), None) => SealKeys::from_file(file).map_err(Failure::configuration),
            (None, Some(name)) => SealKeys::from_credential(name).map_err(Failure::configuration),
            _ => Err(Failure::configuration(
                "`cache`: give the seal key either by `key_file` or by `key_credential`",
            )),
        }
    }
}

/// The cache as it lies there, to be looked at; `None` when there is none yet.
///
/// # Errors
/// When it can't be opened, as while a daemon holds it.
pub fn existing(cache: &CacheSettings) -> Result<Option<SledCache>, Failure> {
    if !cache.path.exists() {
        return Ok(None);
    }
    let settings =
        SledSettings { path: cache.path.clone(), keys: cache.keys()?, max_entries: cache.max_entries };
    SledCache::open(settings).map(Some).map_err(Failure::runtime)
}

/// A keeper of tokens over the cache, or over memory alone when there is no `[cache]` section. A cache that another process
/// holds or that can't be used is no reason to stop: it holds only what the issuer would give again.
///
/// # Errors
/// When the folder or key file is open to others, can't be made, or holds no key: that is to be mended.
pub fn keeper(cache: Option<&CacheSettings>, clock: Arc<dyn Clock>) -> Result<TokenKeeper, Failure> {
    let open = |cache: &CacheSettings| -> Result<SledCache, Failure> {
        let settings =
            SledSettings { path: cache.path.clone(), keys: cache.keys()?, max_entries: cache.max_entries };
        SledCache::open(settings).map_err(|error: CacheError| Failure::configuration(error))
    };
    let behind = cache.map(open).transpose()?;
    Ok(TokenKeeper::new(behind.map(|cache| Arc::new(cache) as Arc<_>), clock))
}
