//! The `[cache]` section: where tokens outlive a restart.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use token_core::{CacheError, Clock, SealKeys, SledCache, SledSettings, TokenKeeper};
use tracing::info;

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
            (Some(file), None) => SealKeys::from_file(file).map_err(explained),
            (None, Some(name)) => SealKeys::from_credential(name).map_err(Failure::configuration),
            _ => Err(Failure::configuration(
                "`cache`: give the seal key either by `key_file` or by `key_credential`",
            )),
        }
    }
}

impl CacheSettings {
    /// Looks whether the keys can be read, if there are any yet; nothing is made.
    ///
    /// # Errors
    /// One line that names the file and what to do.
    pub fn check(&self) -> Result<(), Failure> {
        match (&self.key_file, &self.key_credential) {
            (Some(file), None) if !file.exists() => Ok(()),
            _ => self.keys().map(drop),
        }
    }

    /// Makes the folders that the cache and its keys are to be in.
    fn make_folders(&self) -> Result<(), Failure> {
        let parents =
            [Some(&self.path), self.key_file.as_ref()].into_iter().flatten().filter_map(|path| path.parent());
        for folder in parents.filter(|folder| !folder.as_os_str().is_empty()) {
            DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|source| {
                explained(CacheError::File { path: folder.display().to_string(), source })
            })?;
        }
        Ok(())
    }

    /// Whether this is root and the folder is another user's, as of a service with a user of its own.
    fn is_anothers(&self) -> bool {
        let owner = |path: &Path| fs::metadata(path).ok().map(|metadata| metadata.uid());
        owner(Path::new("/proc/self")) == Some(0)
            && self.path.ancestors().skip(1).find_map(owner).is_some_and(|folder| folder != 0)
    }
}

/// With what to do where this process may not.
fn explained(error: CacheError) -> Failure {
    let denied =
        matches!(&error, CacheError::File { source, .. } if source.kind() == io::ErrorKind::PermissionDenied);
    match denied {
        true => Failure::configuration(format!(
            "{error}: `[cache]` must be in a folder of this process's own user (a unit's is /var/lib/token-conveyor/NAME), and what is \
             there must be that user's (chown)"
        )),
        false => Failure::configuration(error),
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
/// holds or that can't be used is no reason to stop: it holds only what the issuer would give again. What runs `once`, by hand, as root,
/// does without one that is in a folder of another user: that user's daemon could not read what it leaves there.
///
/// # Errors
/// When the folder or key file is open to others, can't be made, or holds no key: that is to be mended.
pub fn keeper(
    cache: Option<&CacheSettings>,
    clock: Arc<dyn Clock>,
    once: bool,
) -> Result<TokenKeeper, Failure> {
    let anothers = cache.filter(|cache| once && cache.is_anothers());
    if let Some(cache) = anothers {
        info!(path = %cache.path.display(), "the cache is another user's, and this is root: tokens are kept in memory");
    }
    let open = |cache: &CacheSettings| -> Result<SledCache, Failure> {
        cache.make_folders()?;
        let settings =
            SledSettings { path: cache.path.clone(), keys: cache.keys()?, max_entries: cache.max_entries };
        SledCache::open(settings).map_err(explained)
    };
    let behind = cache.filter(|_| anothers.is_none()).map(open).transpose()?;
    Ok(TokenKeeper::new(behind.map(|cache| Arc::new(cache) as Arc<_>), clock))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::chown;

    use token_core::SystemClock;

    use super::*;

    fn cache(folder: &Path) -> CacheSettings {
        CacheSettings {
            path: folder.join("made/tokens"),
            key_file: Some(folder.join("made/tokens.key")),
            key_credential: None,
            max_entries: max_entries(),
        }
    }

    #[test]
    fn folders_are_made_and_a_key_that_is_none_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let cache = cache(folder.path());
        cache.check().unwrap();
        drop(keeper(Some(&cache), Arc::new(SystemClock), true).unwrap());
        cache.check().unwrap();
        let made = fs::metadata(folder.path().join("made")).unwrap();
        assert_eq!(made.mode() & 0o777, 0o700);
        fs::write(folder.path().join("made/tokens.key"), "canary").unwrap();
        let line = cache.check().unwrap_err().to_string();
        assert!(line.contains("tokens.key") && !line.contains("canary"), "{line}");
    }

    /// As after a service with a user of its own has run; only root can set that up.
    #[test]
    fn root_leaves_a_cache_in_anothers_folder_alone() {
        let folder = tempfile::tempdir().unwrap();
        let cache = cache(folder.path());
        assert!(!cache.is_anothers(), "our own folder");
        if chown(folder.path(), Some(12345), None).is_ok() {
            drop(keeper(Some(&cache), Arc::new(SystemClock), true).unwrap());
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
            drop(keeper(Some(&cache), Arc::new(SystemClock), false).unwrap());
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "a daemon is meant to");
        }
    }

    #[test]
    fn who_may_not_is_told_what_to_do() {
        let source = io::Error::from(io::ErrorKind::PermissionDenied);
        let line = explained(CacheError::File { path: "/c.key".into(), source }).to_string();
        assert!(line.contains("/c.key") && line.contains("chown"), "{line}");
    }
}
