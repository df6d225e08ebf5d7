//! The keys that seal a cache: where they come from, and how they are changed.

use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::CacheError;
use super::seal::Seal;
use crate::hash::{hex, random, random_hex};

/// One key or more. The first seals; all of them open. To change keys, put a new line of 64 hex digits (`openssl rand -hex
/// 32`) at the top of the file and start the daemon again: what is still in use moves to the new key by itself, and the
/// old line can go as soon as all tokens of its time have ended.
///
/// ```
/// use token_core::SealKeys;
///
/// let folder = tempfile::tempdir()?;
/// let file = folder.path().join("cache.key");
/// SealKeys::from_file(&file)?; // made with a random key and mode 0600
/// let old = std::fs::read_to_string(&file)?;
/// std::fs::write(&file, format!("# changed in May\n{}\n{old}", "5e".repeat(32)))?;
/// assert_eq!(format!("{:?}", SealKeys::from_file(&file)?), "SealKeys(2 keys)");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct SealKeys(Vec<Seal>);

impl SealKeys {
    /// Reads a key file: one key a line, 64 hex digits each; empty lines and lines that begin with `#` do not count. A file
    /// that is not there is made, with a random key and mode 0600.
    ///
    /// # Errors
    /// When the file can't be made or read, others may read it, or it holds no key.
    pub fn from_file(path: &Path) -> Result<Self, CacheError> {
        if !path.exists() {
            make(path).map_err(|source| CacheError::File { path: path.display().to_string(), source })?;
        }
        private(path)?;
        Self::read(path)
    }

    /// Reads the systemd credential of that name, from the folder that systemd names by `CREDENTIALS_DIRECTORY`
    /// (`LoadCredential=`, systemd.exec(5)); its form is that of the key file. systemd sees to who may read it.
    ///
    /// # Errors
    /// When there is no such credential, or it holds no key.
    pub fn from_credential(name: &str) -> Result<Self, CacheError> {
        Self::credential(std::env::var_os("CREDENTIALS_DIRECTORY").as_deref(), name)
    }

    fn credential(folder: Option<&OsStr>, name: &str) -> Result<Self, CacheError> {
        let plain = !name.is_empty() && !name.contains('/') && name != "..";
        let path = folder.filter(|_| plain).map(|folder| Path::new(folder).join(name));
        match path.filter(|path| path.is_file()) {
            Some(path) => Self::read(&path),
            None => Err(CacheError::NoCredential(name.to_owned())),
        }
    }

    fn read(path: &Path) -> Result<Self, CacheError> {
        let shown = || path.display().to_string();
        let text = fs::read_to_string(path).map_err(|source| CacheError::File { path: shown(), source })?;
        let text = Zeroizing::new(text);
        let lines = text.lines().enumerate().map(|(at, line)| (at + 1, line.trim()));
        let keys = lines
            .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
            .map(|(line, text)| Seal::from_hex(text).ok_or_else(|| CacheError::Key { path: shown(), line }))
            .collect::<Result<Vec<_>, _>>()?;
        match keys.is_empty() {
            true => Err(CacheError::NoKey(shown())),
            false => Ok(Self(keys)),
        }
    }

    /// The key that seals.
    pub(super) fn first(&self) -> &Seal {
        &self.0[0]
    }

    /// All keys, the one that seals first.
    pub(super) fn all(&self) -> impl Iterator<Item = &Seal> {
        self.0.iter()
    }

    /// The keys that only open.
    pub(super) fn older(&self) -> &[Seal] {
        &self.0[1..]
    }
}

impl fmt::Debug for SealKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealKeys({} keys)", self.0.len())
    }
}

/// Whole or not at all: who is killed here leaves no file with half a key. Of two who come at once, one makes it.
fn make(path: &Path) -> io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}", random_hex()));
    let draft = PathBuf::from(name);
    let key = Zeroizing::new(hex(&random::<32>()));
    let made = (|| {
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
        file.write_all(key.as_bytes())?;
        file.sync_all()?;
        match fs::hard_link(&draft, path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => Ok(()),
        }
    })();
    let _ = fs::remove_file(&draft);
    made
}

/// Refuses a file or folder that group or others may read.
pub(super) fn private(path: &Path) -> Result<(), CacheError> {
    let shown = path.display().to_string();
    let metadata = fs::metadata(path).map_err(|source| CacheError::File { path: shown.clone(), source })?;
    match metadata.permissions().mode() & 0o7777 {
        mode if mode & 0o077 != 0 => Err(CacheError::Open { path: shown, mode }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_file_is_private_and_each_bad_line_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        assert_eq!(SealKeys::from_file(&path).unwrap().all().count(), 1);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no draft is left");
        fs::write(&path, "\n# none\n").unwrap();
        assert!(matches!(SealKeys::from_file(&path), Err(CacheError::NoKey(_))));
        fs::write(&path, format!("{}\n\ncanary\n", "a1".repeat(32))).unwrap();
        let error = SealKeys::from_file(&path).unwrap_err();
        assert!(matches!(error, CacheError::Key { line: 3, .. }) && !error.to_string().contains("canary"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(SealKeys::from_file(&path), Err(CacheError::Open { mode: 0o640, .. })));
    }

    #[test]
    fn a_credential_is_a_plain_name_in_the_folder_that_systemd_names() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("cache.key"), "b2".repeat(32)).unwrap();
        fs::create_dir(folder.path().join("sub")).unwrap();
        let from = |name: &str| SealKeys::credential(Some(folder.path().as_os_str()), name);
        assert_eq!(from("cache.key").unwrap().all().count(), 1);
        for name in ["", "..", ".", "sub", "sub/../cache.key", "other"] {
            assert!(matches!(from(name), Err(CacheError::NoCredential(_))), "{name}");
        }
        assert!(SealKeys::credential(None, "cache.key").is_err());
    }
}
