//! Whether a scope set allows an action: the table of the profile (section 2.2.1), version by version.

use crate::path::StoragePath;
use crate::profile::Profile;
use crate::scope::{Compute, Operation, Scope, ScopeSet};

/// Something that is to be done at a storage or compute service. Paths are relative to what the site gives to the issuer.
///
/// ```
/// use token_core::{Action, Profile, ScopeSet, StoragePath};
///
/// let held = ScopeSet::parse("storage.create:/out")?;
/// let file = StoragePath::parse("/out/f")?;
/// assert!(held.permit(Action::Create(&file), Profile::V1_3).is_ok());
/// let why = held.permit(Action::Overwrite(&file), Profile::V1_3).unwrap_err();
/// assert!(why.to_string().contains("storage.modify"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Action<'a> {
    /// Read a file.
    Read(&'a StoragePath),
    /// Size, checksum, times.
    Stat(&'a StoragePath),
    /// Make a new file, where nothing is.
    Create(&'a StoragePath),
    /// Make a directory that is not there.
    MakeDirectory(&'a StoragePath),
    /// Replace, cut or otherwise change a file that is there.
    Overwrite(&'a StoragePath),
    /// Remove.
    Delete(&'a StoragePath),
    /// Rename a file.
    Rename {
        /// From here.
        from: &'a StoragePath,
        /// To there.
        to: &'a StoragePath,
        /// Whether there is a file there already.
        replaces: bool,
    },
    /// Bring from tape; also poll, cancel, release and pin what was staged.
    Stage(&'a StoragePath),
    /// Ask whether a file is on disk.
    Poll(&'a StoragePath),
    /// Something with jobs.
    Job(Compute),
}

/// Why an action is not allowed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Denied {
    /// No scope of a kind that would allow it.
    #[error("no scope of the token allows this anywhere; it takes {0} (profile section 2.2.1)")]
    NoRight(&'static str),
    /// There is a scope of the kind, for other paths.
    #[error("the token allows this elsewhere, not on `{0}` (profile section 2.2.1)")]
    OtherPath(StoragePath),
}

impl ScopeSet {
    /// Whether the token's scopes allow `action`, by the text of `profile`.
    ///
    /// # Errors
    /// The rule that forbids it.
    pub fn permit(&self, action: Action<'_>, profile: Profile) -> Result<(), Denied> {
        use Operation::{Create, Modify, Poll, Read, Stage};
        let reads: &[Operation] = if profile.staging_reads() { &[Read, Stage] } else { &[Read] };
        match action {
            Action::Read(path) => self.any(reads, path, "storage.read"),
            Action::Stat(path) => self.any(
                &[Read, Create, Modify, Stage],
                path,
                "storage.read, storage.create, storage.modify or storage.stage",
            ),
            Action::Create(path) => self.any(&[Create, Modify], path, "storage.create or storage.modify"),
            Action::MakeDirectory(path) => self.make_directory(path),
            Action::Overwrite(path) | Action::Delete(path) => self.any(&[Modify], path, "storage.modify"),
            Action::Rename { from, to, replaces } => {
                let rights: &[Operation] = if replaces { &[Modify] } else { &[Create, Modify] };
                let needed = if replaces { "storage.modify" } else { "storage.create or storage.modify" };
                self.any(rights, from, needed)?;
                self.any(rights, to, needed)
            }
            Action::Stage(path) => self.any(&[Stage], path, "storage.stage"),
            Action::Poll(path) => self.any(&[Poll, Stage], path, "storage.poll or storage.stage"),
            Action::Job(compute) => match self.iter().any(|scope| *scope == Scope::Compute(compute)) {
                true => Ok(()),
                false => Err(Denied::NoRight(compute.name())),
            },
        }
    }

    fn any(&self, rights: &[Operation], path: &StoragePath, needed: &'static str) -> Result<(), Denied> {
        let mut elsewhere = false;
        for scope in self.iter() {
            if let Scope::Storage(held, above) = scope
                && rights.contains(held)
            {
                if above.covers(path) {
                    return Ok(());
                }
                elsewhere = true;
            }
        }
        Err(if elsewhere { Denied::OtherPath(path.clone()) } else { Denied::NoRight(needed) })
    }

    /// Who may write below a path may make the directories that lead there.
    fn make_directory(&self, path: &StoragePath) -> Result<(), Denied> {
        let writes = |scope: &Scope| match scope {
            Scope::Storage(Operation::Create | Operation::Modify, granted) => path.leads_to(granted),
            _ => false,
        };
        if self.iter().any(writes) {
            return Ok(());
        }
        let rights = [Operation::Create, Operation::Modify];
        self.any(&rights, &path.as_directory(), "storage.create or storage.modify")
    }
}
