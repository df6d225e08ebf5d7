//! Files for one user's eyes that are replaced in one step.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use crate::hash::random_hex;

/// A new file of mode 0600 beside `path`, which takes the place of `path` once it is whole, so that nobody reads half a
/// secret. Dropped before that, it leaves nothing.
#[derive(Debug)]
pub(crate) struct Draft {
    file: File,
    draft: PathBuf,
    path: PathBuf,
}

impl Draft {
    /// Makes the draft; what may go wrong with rights and folders goes wrong here.
    pub(crate) fn beside(path: &Path) -> io::Result<Self> {
        let mut draft = path.to_owned().into_os_string();
        draft.push(format!(".{}", random_hex()));
        let draft = PathBuf::from(draft);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
        Ok(Self { file, draft, path: path.to_owned() })
    }

    /// Writes `text` as one line, and puts the file in its place.
    pub(crate) fn finish(mut self, text: &str) -> io::Result<()> {
        self.file.write_all(text.as_bytes())?;
        self.file.write_all(b"\n")?;
        self.file.sync_all()?;
        std::fs::rename(&self.draft, &self.path)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.draft);
    }
}
