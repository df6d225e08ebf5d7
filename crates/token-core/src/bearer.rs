//! WLCG Bearer Token Discovery: where a tool finds the token of its user, and where one is put for it.
//!
//! In this order, and the first that is not empty counts: the text of `BEARER_TOKEN`; the file that `BEARER_TOKEN_FILE` names;
//! `$XDG_RUNTIME_DIR/bt_u<euid>`; `/tmp/bt_u<euid>`. A token that is found but can't be a bearer token (RFC 6750 section 2.1) ends
//! the search with an error.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use zeroize::Zeroizing;

use crate::private_file::Draft;
use crate::secret::{AccessToken, SecretError};

/// Longest token file, in bytes.
const LIMIT: u64 = 64 * 1024;

/// Where to look: the environment and the user, as values.
///
/// ```
/// use token_core::{AccessToken, Places};
///
/// let folder = tempfile::tempdir()?;
/// let places = Places {
///     token: None,
///     file: None,
///     runtime_dir: Some(folder.path().to_owned()),
///     tmp: "/nonexistent".into(),
///     ..Places::from_environment()
/// };
/// assert!(places.discover().is_err());
/// let stored = places.store(&AccessToken::new("a.b.c")?)?;
/// assert_eq!(places.discover()?.place, stored.display().to_string());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Places {
    /// `BEARER_TOKEN`.
    pub token: Option<OsString>,
    /// `BEARER_TOKEN_FILE`.
    pub file: Option<PathBuf>,
    /// `XDG_RUNTIME_DIR`.
    pub runtime_dir: Option<PathBuf>,
    /// `/tmp`.
    pub tmp: PathBuf,
    /// The effective user id.
    pub euid: u32,
}

/// A token, and where it was.
#[derive(Clone, Debug)]
pub struct Found {
    /// The token.
    pub token: AccessToken,
    /// `BEARER_TOKEN`, or the path of a file.
    pub place: String,
}

/// Why no token was found, or the one found is not used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BearerError {
    /// All places are empty.
    #[error("no bearer token: neither BEARER_TOKEN nor BEARER_TOKEN_FILE is set, and {0} is not there")]
    Nowhere(String),
    /// A file can't be read.
    #[error("bearer token file {path}: {source}")]
    Unreadable {
        /// The file.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// A file is not safe to read.
    #[error("bearer token file {path}: {reason}")]
    Unsafe {
        /// The file.
        path: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// What is there can't be a bearer token.
    #[error("{place}: {reason}")]
    Invalid {
        /// Where it was.
        place: String,
        /// What is wrong with it.
        reason: SecretError,
    },
}

impl Places {
    /// From this process's environment.
    pub fn from_environment() -> Self {
        Self {
            token: std::env::var_os("BEARER_TOKEN"),
            file: std::env::var_os("BEARER_TOKEN_FILE").filter(|path| !path.is_empty()).map(PathBuf::from),
            runtime_dir: std::env::var_os("XDG_RUNTIME_DIR")
                .filter(|path| !path.is_empty())
                .map(PathBuf::from),
            tmp: PathBuf::from("/tmp"),
            euid: rustix::process::geteuid().as_raw(),
        }
    }

    /// Looks for a token.
    ///
    /// # Errors
    /// When there is none, or the first that is there can't be used.
    pub fn discover(&self) -> Result<Found, BearerError> {
        if let Some(text) = &self.token
            && let Some(found) = found(text.to_string_lossy().as_bytes(), "BEARER_TOKEN".into())?
        {
            return Ok(found);
        }
        if let Some(path) = &self.file
            && let Some(found) = read(path, None)?
        {
            return Ok(found);
        }
        let name = format!("bt_u{}", self.euid);
        let standard = self.runtime_dir.iter().chain([&self.tmp]).map(|folder| folder.join(&name));
        let mut last = PathBuf::new();
        for path in standard {
            match read(&path, Some(self.euid)) {
                Ok(Some(found)) => return Ok(found),
                Err(BearerError::Unreadable { source, .. }) if source.kind() == io::ErrorKind::NotFound => (),
                Ok(None) => (),
                Err(error) => return Err(error),
            }
            last = path;
        }
        Err(BearerError::Nowhere(last.display().to_string()))
    }

    /// The file that a token is put into for the user's tools.
    pub fn file_to_write(&self) -> PathBuf {
        let folder = self.runtime_dir.as_ref().unwrap_or(&self.tmp);
        folder.join(format!("bt_u{}", self.euid))
    }

    /// Puts a token where tools find it: a new file of mode 0600 that takes the place of the old one in one step, so that
    /// nobody reads half a token.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn store(&self, token: &AccessToken) -> Result<PathBuf, BearerError> {
        let path = self.file_to_write();
        let failed = |source| BearerError::Unreadable { path: path.display().to_string(), source };
        Draft::beside(&path).and_then(|draft| draft.finish(token.expose())).map_err(failed)?;
        Ok(path)
    }
}

/// Reads a file; `owner` for the standard places, which anybody may write to: no link is followed, and the file must be that
/// user's and closed to all others.
fn read(path: &Path, owner: Option<u32>) -> Result<Option<Found>, BearerError> {
    let shown = path.display().to_string();
    let failed = |source| BearerError::Unreadable { path: shown.clone(), source };
    let refused = |reason| BearerError::Unsafe { path: shown.clone(), reason };
    // A pipe must not hold us up while it is opened.
    let mut flags = OFlags::NONBLOCK;
    if owner.is_some() {
        flags |= OFlags::NOFOLLOW;
    }
    let flags = i32::try_from(flags.bits()).unwrap_or_default();
    let file: File = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(|source| {
        let link = owner.is_some() && path.symlink_metadata().is_ok_and(|metadata| metadata.is_symlink());
        if link { refused("it is a link, and anybody may put one there") } else { failed(source) }
    })?;
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(refused("it is no regular file"));
    }
    if let Some(owner) = owner {
        if metadata.uid() != owner {
            return Err(refused("it belongs to another user"));
        }
        if metadata.mode() & 0o077 != 0 {
            return Err(refused("others may read or write it: set its mode to 0600"));
        }
    } else if metadata.mode() & 0o002 != 0 {
        return Err(refused("anybody may write it"));
    }
    let mut bytes = Zeroizing::new(Vec::new());
    file.take(LIMIT + 1).read_to_end(&mut bytes).map_err(failed)?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > LIMIT) {
        return Err(refused("it is longer than 64 kB"));
    }
    found(&bytes, shown)
}

/// What is left when C99's white space around it is taken away; `None` when that is nothing.
fn found(bytes: &[u8], place: String) -> Result<Option<Found>, BearerError> {
    let space = |byte: &u8| matches!(byte, b' ' | b'\x0c' | b'\n' | b'\r' | b'\t' | b'\x0b');
    let Some(start) = bytes.iter().position(|byte| !space(byte)) else { return Ok(None) };
    let end = bytes.iter().rposition(|byte| !space(byte)).map_or(start, |last| last + 1);
    let text = String::from_utf8_lossy(&bytes[start..end]).into_owned();
    match AccessToken::new(text) {
        Ok(token) => Ok(Some(Found { token, place })),
        Err(reason) => Err(BearerError::Invalid { place, reason }),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn rig() -> (tempfile::TempDir, Places) {
        let folder = tempfile::tempdir().unwrap();
        for name in ["run", "tmp"] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
        }
        let places = Places {
            token: None,
            file: None,
            runtime_dir: Some(folder.path().join("run")),
            tmp: folder.path().join("tmp"),
            euid: rustix::process::geteuid().as_raw(),
        };
        (folder, places)
    }

    fn put(path: &Path, text: &str, mode: u32) {
        std::fs::write(path, text).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    fn token(places: &Places) -> String {
        places
            .discover()
            .map_or_else(|error| format!("error: {error}"), |found| found.token.expose().to_owned())
    }

    #[test]
    fn the_first_that_is_not_empty_counts() {
        let (folder, mut places) = rig();
        let name = format!("bt_u{}", places.euid);
        assert!(token(&places).starts_with("error: no bearer token"));
        put(&folder.path().join("tmp").join(&name), "four", 0o600);
        assert_eq!(token(&places), "four");
        put(&folder.path().join("run").join(&name), " \t\r\n\x0b\x0c three\n", 0o600);
        assert_eq!(token(&places), "three");
        places.file = Some(folder.path().join("file"));
        assert!(token(&places).contains("No such file"), "a file that is named must be there");
        put(&folder.path().join("file"), "\n", 0o644);
        assert_eq!(token(&places), "three", "a blank one is passed over");
        put(&folder.path().join("file"), "two\n", 0o644);
        assert_eq!(token(&places), "two");
        places.token = Some("  ".into());
        assert_eq!(token(&places), "two");
        places.token = Some("one".into());
        assert_eq!(token(&places), "one");
        places.token = Some("not a token".into());
        assert!(token(&places).contains("BEARER_TOKEN: "), "a wrong one ends the search");
        assert!(!token(&places).contains("not a token"));
    }

    #[test]
    fn what_others_could_have_put_there_is_not_read() {
        let (folder, places) = rig();
        let path = places.file_to_write();
        put(&path, "x", 0o640);
        assert!(token(&places).contains("mode to 0600"));
        std::fs::remove_file(&path).unwrap();
        put(&folder.path().join("elsewhere"), "x", 0o600);
        symlink(folder.path().join("elsewhere"), &path).unwrap();
        assert!(token(&places).contains("is a link"));
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert!(token(&places).contains("no regular file"));
        std::fs::remove_dir(&path).unwrap();
        put(&path, &"x".repeat(70_000), 0o600);
        assert!(token(&places).contains("longer than 64 kB"));
        put(&path, "x", 0o600);
        let other = Places { euid: places.euid + 1, ..places };
        std::fs::rename(&path, other.file_to_write()).unwrap();
        assert!(token(&other).contains("another user"));
    }

    #[test]
    fn what_is_stored_is_found_and_closed_to_others() {
        let (_folder, places) = rig();
        for text in ["first", "second"] {
            let path = places.store(&AccessToken::new(text).unwrap()).unwrap();
            assert_eq!(token(&places), text);
            assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        }
        assert_eq!(std::fs::read_dir(places.runtime_dir.unwrap()).unwrap().count(), 1, "no draft is left");
    }
}
