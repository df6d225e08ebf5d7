//! Scopes of the profile (section 2.2) and what covers what.

use std::collections::BTreeSet;
use std::fmt;

use crate::path::{PathError, StoragePath};

/// What a storage scope allows below its path (profile section 2.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Operation {
    /// Read online data.
    Read,
    /// Make new files and directories; never replace.
    Create,
    /// All of create, and overwrite, delete, rename.
    Modify,
    /// Bring from tape.
    Stage,
    /// Ask where a file is (1.2 and later).
    Poll,
}

impl Operation {
    const ALL: [Self; 5] = [Self::Read, Self::Create, Self::Modify, Self::Stage, Self::Poll];

    /// The name in a scope, `storage.read` for example.
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "storage.read",
            Self::Create => "storage.create",
            Self::Modify => "storage.modify",
            Self::Stage => "storage.stage",
            Self::Poll => "storage.poll",
        }
    }

    /// Whether the right to `self` holds the right to `wanted`.
    pub fn covers(self, wanted: Self) -> bool {
        self == wanted || matches!((self, wanted), (Self::Modify, Self::Create) | (Self::Stage, Self::Poll))
    }
}

/// What a compute scope allows (profile section 2.2.1); it has no path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Compute {
    /// Ask about jobs.
    Read,
    /// Change jobs.
    Modify,
    /// Submit jobs.
    Create,
    /// Cancel jobs.
    Cancel,
}

impl Compute {
    const ALL: [Self; 4] = [Self::Read, Self::Modify, Self::Create, Self::Cancel];

    /// The name in a scope, `compute.read` for example.
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "compute.read",
            Self::Modify => "compute.modify",
            Self::Create => "compute.create",
            Self::Cancel => "compute.cancel",
        }
    }
}

/// Why a scope string is refused. The profile has the whole token refused, not the one item.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ScopeError {
    /// A storage scope without a path (profile section 2.2.1). Some storages read it as everything.
    #[error("{0} stands without a path, which the profile forbids (section 2.2.1)")]
    NoPath(&'static str),
    /// A storage scope whose path is not normal.
    #[error("the path of {name} is refused: {reason}")]
    Path {
        /// The scope's name.
        name: &'static str,
        /// What is wrong with its path.
        reason: PathError,
    },
}

/// One item of a scope string.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Scope {
    /// A right on a path at a storage.
    Storage(Operation, StoragePath),
    /// A right on jobs.
    Compute(Compute),
    /// Anything else, `fts` or `offline_access` for example.
    Other(String),
}

impl Scope {
    /// Reads one item.
    ///
    /// # Errors
    /// When it is a storage scope without a normal path.
    pub fn parse(item: &str) -> Result<Self, ScopeError> {
        let (name, path) = item.split_once(':').unwrap_or((item, ""));
        let Some(operation) = Operation::ALL.into_iter().find(|o| o.name() == name) else {
            let compute = Compute::ALL.into_iter().find(|compute| compute.name() == item);
            return Ok(compute.map_or_else(|| Self::Other(item.to_owned()), Self::Compute));
        };
        let name = operation.name();
        if path.is_empty() {
            return Err(ScopeError::NoPath(name));
        }
        let path = StoragePath::parse(path).map_err(|reason| ScopeError::Path { name, reason })?;
        Ok(Self::Storage(operation, path))
    }

    /// Whether holding `self` is enough for `wanted`.
    pub fn covers(&self, wanted: &Self) -> bool {
        match (self, wanted) {
            (Self::Storage(held, above), Self::Storage(want, below)) => {
                held.covers(*want) && above.covers(below)
            }
            (Self::Compute(held), Self::Compute(want)) => held == want,
            (Self::Other(held), Self::Other(want)) => held == want,
            _ => false,
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Storage(operation, path) => write!(f, "{}:{path}", operation.name()),
            Self::Compute(compute) => f.write_str(compute.name()),
            Self::Other(item) => f.write_str(item),
        }
    }
}

/// A set of scopes; its text is sorted, so that equal sets are equal cache keys.
///
/// ```
/// use token_core::ScopeSet;
///
/// let held = ScopeSet::parse("storage.modify:/out storage.read:/data compute.read")?;
/// let wanted = ScopeSet::parse("storage.create:/out/run1 storage.read:/database")?;
/// // `modify` covers `create`, and an element of a path is taken whole.
/// assert_eq!(wanted.beyond(&held).to_string(), "storage.read:/database");
/// assert!(ScopeSet::parse("storage.read").is_err(), "a storage scope needs a path");
/// # Ok::<(), token_core::ScopeError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ScopeSet(BTreeSet<Scope>);

impl ScopeSet {
    /// Reads a scope string: items separated by spaces (RFC 6749 section 3.3).
    ///
    /// # Errors
    /// When any item is a storage scope without a normal path.
    pub fn parse(text: &str) -> Result<Self, ScopeError> {
        text.split(' ').filter(|item| !item.is_empty()).map(Scope::parse).collect::<Result<_, _>>().map(Self)
    }

    /// The items.
    pub fn iter(&self) -> impl Iterator<Item = &Scope> {
        self.0.iter()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether it holds any capability of the profile. Groups then do not count (section 2.2.3).
    pub fn has_capability(&self) -> bool {
        self.0.iter().any(|scope| !matches!(scope, Scope::Other(_)))
    }

    /// The items of `self` that no item of `held` covers: what an exchange may not ask for, or what an answer lacks.
    /// Empty when `self` is within `held`.
    pub fn beyond(&self, held: &Self) -> Self {
        Self(self.0.iter().filter(|wanted| !held.0.iter().any(|h| h.covers(wanted))).cloned().collect())
    }
}

impl FromIterator<Scope> for ScopeSet {
    fn from_iter<I: IntoIterator<Item = Scope>>(items: I) -> Self {
        Self(items.into_iter().collect())
    }
}

impl fmt::Display for ScopeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, item) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_str(" ")?;
            }
            write!(f, "{item}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(text: &str) -> ScopeSet {
        ScopeSet::parse(text).unwrap()
    }

    #[test]
    fn a_request_is_within_a_token_or_what_is_beyond_is_named() {
        let held = set("fts storage.read:/ storage.modify:/data");
        assert!(set("storage.read:/a/b storage.create:/data/x").beyond(&held).is_empty());
        assert_eq!(
            set("storage.modify:/database storage.read:/a").beyond(&held),
            set("storage.modify:/database")
        );
        assert_eq!(set("offline_access").beyond(&held), set("offline_access"));
        assert_eq!(set("storage.stage:/data").beyond(&held), set("storage.stage:/data"));
    }

    #[test]
    fn storage_scopes_have_paths() {
        for bad in ["storage.read", "storage.read:", "storage.create:a", "fts storage.modify:/../x"] {
            assert!(ScopeSet::parse(bad).is_err(), "{bad}");
        }
        assert_eq!(set("b  a b storage.readx").to_string(), "a b storage.readx");
    }
}
