//! `[[rse]]`: what the tokens of some RSEs have of their own.

use serde::{Deserialize, Deserializer, de};
use token_core::{Operation, Scope, ScopeSet};

use crate::topology::Rse;

/// What a source's token may do, as Rucio asks.
pub(super) const READ: &[Operation] = &[Operation::Read];
/// What a destination's token may do, as Rucio asks: StoRM looks at the file with it, too.
pub(super) const WRITE: &[Operation] = &[Operation::Modify, Operation::Read];

/// One entry. What it does not say is as for any other RSE.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TokenSettings {
    /// The VO whose RSEs it is for; without it, those of every VO.
    pub vo: Option<String>,
    /// The RSE's name.
    pub name: Option<String>,
    /// An RSE attribute: `key=value`, or `key` for one that is true. With a name too, both have to fit; with neither, every RSE fits.
    pub attribute: Option<Fits>,
    /// Whether transfers may go by token, instead of the RSE's attribute of this name.
    pub oidc_support: Option<bool>,
    /// The audience: `{host}` and `{url}` (`https://HOST:PORT`) stand for each of its `davs` protocols.
    pub audience: Option<String>,
    /// What is taken off the front of a protocol's prefix, instead of the RSE's attribute `oidc_base_path`.
    pub base_path: Option<String>,
    /// The path of every scope, instead of the prefix without the base path.
    pub path: Option<String>,
    /// What the token may do at a source, as scopes without a path.
    #[serde(deserialize_with = "rights")]
    pub source: Option<Vec<Operation>>,
    /// And at a destination.
    #[serde(deserialize_with = "rights")]
    pub destination: Option<Vec<Operation>>,
}

/// A condition on an RSE's attributes.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(from = "String")]
pub enum Fits {
    /// An attribute that is true.
    True(String),
    /// An attribute of this value.
    Equal(String, String),
}

impl From<String> for Fits {
    fn from(text: String) -> Self {
        match text.split_once('=') {
            Some((key, value)) => Self::Equal(key.trim().to_owned(), value.trim().to_owned()),
            None => Self::True(text.trim().to_owned()),
        }
    }
}

impl TokenSettings {
    pub(super) fn fits(&self, rse: &Rse) -> bool {
        let of_name = self.name.as_ref().is_none_or(|name| *name == rse.name);
        of_name
            && match &self.attribute {
                None => true,
                Some(Fits::True(key)) => rse.is(key),
                Some(Fits::Equal(key, value)) => rse.attribute(key) == Some(value),
            }
    }

    pub(super) fn source_rights(&self) -> &[Operation] {
        self.source.as_deref().unwrap_or(READ)
    }

    pub(super) fn destination_rights(&self) -> &[Operation] {
        self.destination.as_deref().unwrap_or(WRITE)
    }
}

/// `storage.create storage.read`.
fn rights<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<Operation>>, D::Error> {
    let Some(text) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
    let wrong = "rights are storage scopes without a path, such as `storage.create storage.read`";
    if text.contains(':') {
        return Err(de::Error::custom(wrong));
    }
    let all: Vec<String> = text.split_whitespace().map(|right| format!("{right}:/")).collect();
    let scopes = ScopeSet::parse(&all.join(" ")).map_err(de::Error::custom)?;
    let operation = |scope: &Scope| match scope {
        Scope::Storage(operation, _) => Some(*operation),
        _ => None,
    };
    match scopes.iter().map(operation).collect::<Option<Vec<_>>>() {
        Some(rights) if !rights.is_empty() => Ok(Some(rights)),
        _ => Err(de::Error::custom(wrong)),
    }
}
