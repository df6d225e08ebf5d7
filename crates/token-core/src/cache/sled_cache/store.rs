//! Opening a sled 0.34 store, and what is done about one that can't be used.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tracing::warn;

use super::super::CacheError;
use super::super::seal::FORMAT;

const LOCK_WAIT: Duration = Duration::from_millis(200);
/// How many stores that were set aside are kept for a look.
const KEPT: usize = 2;
/// The entry that says whose store this is. No name of a token is as short.
const MARK: &[u8] = b"format";

/// A store that can be used.
pub(super) struct Opened {
    pub(super) store: sled::Db,
    pub(super) entries: usize,
    /// Whether another store stood in its place that could not be read, or was somebody else's.
    pub(super) set_aside: bool,
}

/// Why a store was not opened.
enum Trouble {
    /// As it is, it will never be of use.
    Damaged(String),
    /// It may be better another time, or after someone has seen to it.
    Away(CacheError),
}

/// Opens the store in the folder `path`; a store that can't be read is renamed to `<path>.corrupt-<n>` and a new one begun.
/// While another process holds the store, it is tried `tries` times.
pub(super) fn open(path: &Path, tries: u32) -> Result<Opened, CacheError> {
    foreign(path)?;
    match checked(path, tries) {
        Ok((store, entries)) => Ok(Opened { store, entries, set_aside: false }),
        Err(Trouble::Away(error)) => Err(error),
        Err(Trouble::Damaged(reason)) => {
            set_aside(path, &reason)?;
            folder(path)?;
            match checked(path, tries) {
                Ok((store, entries)) => Ok(Opened { store, entries, set_aside: true }),
                Err(Trouble::Damaged(reason)) => Err(CacheError::Store(reason)),
                Err(Trouble::Away(error)) => Err(error),
            }
        }
    }
}

/// Makes the folder, for its owner only.
pub(super) fn folder(path: &Path) -> Result<(), CacheError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|source| CacheError::File { path: path.display().to_string(), source })
}

/// Refuses a folder with files that sled does not make: nothing of somebody else's is renamed or mixed with ours.
fn foreign(path: &Path) -> Result<(), CacheError> {
    let shown = || path.display().to_string();
    let entries = fs::read_dir(path).map_err(|source| CacheError::File { path: shown(), source })?;
    let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    let ours = |name: &String| ["conf", "db", "blobs"].contains(&name.as_str()) || name.starts_with("snap.");
    match names.into_iter().find(|name| !ours(name)) {
        Some(name) => Err(CacheError::Foreign { path: shown(), name }),
        None => Ok(()),
    }
}

fn checked(path: &Path, tries: u32) -> Result<(sled::Db, usize), Trouble> {
    // sled 0.34.7 panics where a log is shorter than its snapshot says (index out of bounds in segment.rs).
    catch_unwind(AssertUnwindSafe(|| locked(path, tries).and_then(scrubbed)))
        .unwrap_or_else(|_| Err(Trouble::Damaged("sled panicked".into())))
}

#[expect(clippy::disallowed_methods, reason = "the one place that opens sled")]
fn locked(path: &Path, tries: u32) -> Result<sled::Db, Trouble> {
    let config = sled::Config::new().path(path).cache_capacity(16 << 20).flush_every_ms(Some(500));
    let mut tried = 0;
    loop {
        match config.open() {
            Ok(store) => return Ok(store),
            Err(sled::Error::Io(error)) if error.to_string().contains("lock") => {
                tried += 1;
                if tried >= tries {
                    return Err(Trouble::Away(CacheError::Locked(path.display().to_string())));
                }
                std::thread::sleep(LOCK_WAIT);
            }
            Err(error) => return Err(classed(&error)),
        }
    }
}

/// Reads every entry once, since damage shows then only, and looks whose store it is. The iterator repeats an error for
/// ever, so the first one ends it.
fn scrubbed(store: sled::Db) -> Result<(sled::Db, usize), Trouble> {
    let mut entries = 0;
    for entry in store.iter() {
        let (name, _) = entry.map_err(|error| classed(&error))?;
        entries += usize::from(name != MARK);
    }
    let mark = store.get(MARK).map_err(|error| classed(&error))?;
    match mark {
        Some(mark) if mark == FORMAT => (),
        None if entries == 0 => {
            store.insert(MARK, FORMAT).map_err(|error| classed(&error))?;
            store.flush().map_err(|error| classed(&error))?;
        }
        _ => return Err(Trouble::Damaged("it is no token cache, or one of another version".into())),
    }
    Ok((store, entries))
}

/// Whether a name is that of a token, and not of our mark.
pub(super) fn is_token(name: &[u8]) -> bool {
    name != MARK
}

fn classed(error: &sled::Error) -> Trouble {
    use io::ErrorKind::{
        FileTooLarge, OutOfMemory, PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull,
    };
    match error {
        sled::Error::Io(cause)
            if matches!(
                cause.kind(),
                StorageFull
                    | QuotaExceeded
                    | FileTooLarge
                    | ReadOnlyFilesystem
                    | PermissionDenied
                    | OutOfMemory
            ) =>
        {
            Trouble::Away(failed(error))
        }
        error => Trouble::Damaged(said(error)),
    }
}

pub(super) fn failed(error: &sled::Error) -> CacheError {
    CacheError::Store(said(error))
}

/// sled tells of an IO error in Rust's words; its kind says the same in a person's.
fn said(error: &sled::Error) -> String {
    match error {
        sled::Error::Io(cause) if cause.kind() != io::ErrorKind::Other => cause.kind().to_string(),
        error => error.to_string(),
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
