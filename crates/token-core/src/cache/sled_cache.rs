//! Tokens in sled 0.34, sealed. The only user of the `sled` crate.

use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tracing::warn;
use zeroize::Zeroizing;

use super::seal::{Seal, private};
use super::{CacheError, CacheKey, CachedToken, TokenCache};
use crate::clock::UnixSeconds;
use crate::secret::AccessToken;

/// How often an opening is tried while another process holds the lock; a daemon that restarts may have to wait for the
/// one before it.
const LOCK_TRIES: u32 = 15;
const LOCK_WAIT: Duration = Duration::from_millis(200);
/// How many broken stores are kept for a look.
const KEPT: usize = 2;

/// Tokens in a sled store, each sealed with AES-256-GCM. Losing the store or its key file loses nothing that the issuer
/// would not give again.
pub struct SledCache {
    store: sled::Db,
    seal: Seal,
}

/// What is sealed. The token's text leaves this crate's memory only inside the seal.
#[derive(Serialize, Deserialize)]
struct Record<'a> {
    token: &'a str,
    obtained_at: UnixSeconds,
    expires_at: UnixSeconds,
}

impl SledCache {
    /// Opens the store in the folder `path`, making it (mode 0700) if it is not there. `key_file` holds 64 hex digits; it
    /// is made with a random key (mode 0600) if it is not there. A store that sled can't read is renamed to
    /// `<path>.corrupt-<n>` and a new one is begun.
    ///
    /// # Errors
    /// When the folder or key file can't be used or others may read them, or another process holds the store.
    pub fn open(path: &Path, key_file: &Path) -> Result<Self, CacheError> {
        let shown = path.display().to_string();
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(|source| CacheError::File { path: shown.clone(), source })?;
        private(path)?;
        let seal = Seal::from_key_file(key_file)?;
        match Self::open_checked(path) {
            Ok(store) => Ok(Self { store, seal }),
            Err(CacheError::Store(reason)) => {
                set_aside(path, &reason)?;
                fs::DirBuilder::new()
                    .mode(0o700)
                    .create(path)
                    .map_err(|source| CacheError::File { path: shown, source })?;
                Ok(Self { store: Self::open_checked(path)?, seal })
            }
            Err(error) => Err(error),
        }
    }

    #[expect(clippy::disallowed_methods, reason = "the one place that opens sled")]
    fn open_checked(path: &Path) -> Result<sled::Db, CacheError> {
        let config = sled::Config::new().path(path).cache_capacity(16 << 20).flush_every_ms(Some(500));
        let mut tries = 0;
        let store = loop {
            match config.open() {
                Ok(store) => break store,
                Err(sled::Error::Io(error)) if error.to_string().contains("lock") => {
                    tries += 1;
                    if tries >= LOCK_TRIES {
                        return Err(CacheError::Locked(path.display().to_string()));
                    }
                    std::thread::sleep(LOCK_WAIT);
                }
                Err(error) => return Err(failed(&error)),
            }
        };
        // Damage shows while iterating; the iterator repeats an error for ever, so the first one ends it.
        for entry in store.iter() {
            entry.map_err(|error| failed(&error))?;
        }
        Ok(store)
    }
}

/// Renames a store that can't be read, and keeps the newest few of those.
fn set_aside(path: &Path, reason: &str) -> Result<(), CacheError> {
    let name = |n: usize| {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".corrupt-{n}"));
        PathBuf::from(name)
    };
    let failed = |source| CacheError::File { path: path.display().to_string(), source };
    let oldest = name(KEPT);
    if oldest.exists() {
        fs::remove_dir_all(&oldest).map_err(failed)?;
    }
    for n in (1..KEPT).rev().filter(|n| name(*n).exists()) {
        fs::rename(name(n), name(n + 1)).map_err(failed)?;
    }
    fs::rename(path, name(1)).map_err(failed)?;
    warn!(store = %path.display(), kept = %name(1).display(), reason, "token cache unreadable: begun anew");
    Ok(())
}

fn failed(error: &sled::Error) -> CacheError {
    CacheError::Store(error.to_string())
}

impl TokenCache for SledCache {
    fn get(&self, key: &CacheKey) -> Result<Option<CachedToken>, CacheError> {
        let name = self.seal.name(&key.bytes());
        let Some(sealed) = self.store.get(&name).map_err(|error| failed(&error))? else { return Ok(None) };
        let Some(plain) = self.seal.open(&name, &sealed) else {
            // Sealed with another key, or damaged: as good as gone.
            self.store.remove(&name).map_err(|error| failed(&error))?;
            return Ok(None);
        };
        let Ok(record) = serde_json::from_slice::<Record<'_>>(&plain) else { return Ok(None) };
        let token = AccessToken::new(record.token)?;
        Ok(Some(CachedToken { token, obtained_at: record.obtained_at, expires_at: record.expires_at }))
    }

    fn put(&self, key: &CacheKey, token: &CachedToken) -> Result<(), CacheError> {
        let name = self.seal.name(&key.bytes());
        let record = Record {
            token: token.token.expose(),
            obtained_at: token.obtained_at,
            expires_at: token.expires_at,
        };
        let plain = Zeroizing::new(serde_json::to_vec(&record).map_err(|_| CacheError::Seal)?);
        let sealed = self.seal.seal(&name, &plain)?;
        self.store.insert(name, sealed).map_err(|error| failed(&error))?;
        // Enough to outlive this process. A power cut may still lose it, and then the issuer is asked again.
        self.store.flush().map_err(|error| failed(&error))?;
        Ok(())
    }

    fn evict(&self, now: UnixSeconds) -> Result<usize, CacheError> {
        let mut gone = 0;
        for entry in self.store.iter() {
            let (name, sealed) = entry.map_err(|error| failed(&error))?;
            let plain = self.seal.open(&name, &sealed);
            let ends = plain.as_deref().and_then(|plain| {
                serde_json::from_slice::<Record<'_>>(plain).ok().map(|record| record.expires_at)
            });
            if ends.is_none_or(|ends| ends <= now) {
                self.store.remove(&name).map_err(|error| failed(&error))?;
                gone += 1;
            }
        }
        Ok(gone)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::scope::ScopeSet;

    fn key(audience: &str) -> CacheKey {
        CacheKey {
            issuer: "https://i".into(),
            client_id: "c".into(),
            subject: "s".into(),
            audience: audience.into(),
            scope: ScopeSet::parse("storage.read:/").unwrap(),
        }
    }

    fn token(text: &str) -> CachedToken {
        let token = AccessToken::new(text).unwrap();
        CachedToken { token, obtained_at: UnixSeconds(1), expires_at: UnixSeconds(100) }
    }

    fn open(folder: &Path) -> Result<SledCache, CacheError> {
        SledCache::open(&folder.join("tokens"), &folder.join("key"))
    }

    /// Everything below `folder`, as bytes.
    fn contents(folder: &Path) -> Vec<u8> {
        let mut all = Vec::new();
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            all.extend(if path.is_dir() { contents(&path) } else { fs::read(&path).unwrap() });
        }
        all
    }

    #[test]
    fn survives_a_restart_and_shows_nothing_on_disk() {
        let folder = tempfile::tempdir().unwrap();
        open(folder.path()).unwrap().put(&key("canary-audience"), &token("canary.token")).unwrap();
        let cache = open(folder.path()).unwrap();
        assert_eq!(cache.get(&key("canary-audience")).unwrap(), Some(token("canary.token")));
        assert_eq!(cache.get(&key("other")).unwrap(), None);
        drop(cache);
        let disk = contents(folder.path());
        assert!(!disk.windows(6).any(|window| window == b"canary"));
    }

    #[test]
    fn another_key_file_finds_nothing_and_breaks_nothing() {
        let folder = tempfile::tempdir().unwrap();
        open(folder.path()).unwrap().put(&key("a"), &token("t")).unwrap();
        fs::remove_file(folder.path().join("key")).unwrap();
        let cache = open(folder.path()).unwrap();
        assert_eq!(cache.get(&key("a")).unwrap(), None);
        cache.put(&key("a"), &token("t")).unwrap();
        assert_eq!(cache.evict(UnixSeconds(50)).unwrap(), 1, "the value of the lost key goes");
        assert_eq!(cache.evict(UnixSeconds(100)).unwrap(), 1, "the expired one goes");
    }

    #[test]
    fn a_second_opener_is_told_and_a_wide_open_folder_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let held = open(folder.path()).unwrap();
        assert!(matches!(open(folder.path()), Err(CacheError::Locked(_))));
        drop(held);
        let path = folder.path().join("tokens");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        assert!(matches!(open(folder.path()), Err(CacheError::Open { mode: 0o755, .. })));
    }

    #[test]
    fn a_damaged_store_is_set_aside() {
        let folder = tempfile::tempdir().unwrap();
        open(folder.path()).unwrap().put(&key("a"), &token("t")).unwrap();
        let path = folder.path().join("tokens");
        for entry in fs::read_dir(&path).unwrap() {
            let file = entry.unwrap().path();
            if file.is_file() {
                let mut bytes = fs::read(&file).unwrap();
                bytes.iter_mut().for_each(|b| *b ^= 0x5a);
                fs::write(&file, bytes).unwrap();
            }
        }
        let cache = open(folder.path()).unwrap();
        assert_eq!(cache.get(&key("a")).unwrap(), None);
        assert!(folder.path().join("tokens.corrupt-1").exists());
    }
}
