//! RSEs, their attributes and protocols, and the distances between them: what changes seldom.

use std::collections::HashMap;

/// Rucio's id of an RSE: 32 hex digits.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RseId(pub String);

/// One RSE.
#[derive(Clone, Debug, PartialEq)]
pub struct Rse {
    /// Its id.
    pub id: RseId,
    /// Its name, unique within its VO.
    pub name: String,
    /// Whether its type is TAPE.
    pub tape: bool,
    /// Whether paths follow from names.
    pub deterministic: bool,
    /// Whether it is a staging area.
    pub staging_area: bool,
    /// Whether it may be read.
    pub availability_read: bool,
    /// Attributes; booleans are the texts `true` and `false`.
    pub attributes: HashMap<String, String>,
    /// Protocols.
    pub protocols: Vec<Protocol>,
    /// Other columns that an RSE expression may ask for, by name; truths as in `attributes`.
    pub columns: HashMap<String, String>,
}

/// One protocol of an RSE.
#[derive(Clone, Debug, PartialEq)]
pub struct Protocol {
    /// `davs`, `root`, ...
    pub scheme: String,
    /// The host.
    pub hostname: String,
    /// The port; 0 is none.
    pub port: i64,
    /// The path before every file's.
    pub prefix: String,
    /// The Python class that makes its URLs.
    pub implementation: String,
    /// Rank for third-party reads; `None` is off.
    pub tpc_read: Option<i64>,
    /// Rank for third-party writes; `None` is off.
    pub tpc_write: Option<i64>,
    /// `web_service_path` of the extended attributes.
    pub web_service_path: Option<String>,
}

impl Rse {
    /// An attribute.
    pub fn attribute(&self, key: &str) -> Option<&str> {
        self.attributes.get(key).map(String::as_str)
    }

    /// Whether an attribute is set and true.
    pub fn is(&self, key: &str) -> bool {
        self.attribute(key)
            .is_some_and(|value| !matches!(value.to_ascii_lowercase().as_str(), "" | "false" | "0"))
    }

    /// Whether an attribute is set and false.
    pub fn is_not(&self, key: &str) -> bool {
        self.attribute(key).is_some_and(|value| matches!(value.to_ascii_lowercase().as_str(), "false" | "0"))
    }

    /// Whether files must be brought from tape.
    pub fn is_tape(&self) -> bool {
        self.tape || self.is("staging_required")
    }

    /// `DISK` or `TAPE`, as it stands in a file's metadata.
    pub fn kind(&self) -> &'static str {
        if self.is_tape() { "TAPE" } else { "DISK" }
    }
}

/// All RSEs of one VO, and distances.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Topology {
    rses: HashMap<RseId, Rse>,
    distances: HashMap<(RseId, RseId), i64>,
    multihop: bool,
}

impl Topology {
    /// Puts one together; distances that are NULL are left out by the caller.
    pub fn new(rses: Vec<Rse>, distances: HashMap<(RseId, RseId), i64>) -> Self {
        let multihop = rses.iter().any(|rse| rse.is("available_for_multihop"));
        Self { rses: rses.into_iter().map(|rse| (rse.id.clone(), rse)).collect(), distances, multihop }
    }

    /// An RSE by its id.
    pub fn rse(&self, id: &RseId) -> Option<&Rse> {
        self.rses.get(id)
    }

    /// An RSE by its name.
    pub fn named(&self, name: &str) -> Option<&Rse> {
        self.rses.values().find(|rse| rse.name == name)
    }

    /// The distance, if the two are linked; a negative one counts as 0.
    pub fn distance(&self, source: &RseId, destination: &RseId) -> Option<i64> {
        self.distances.get(&(source.clone(), destination.clone())).map(|distance| (*distance).max(0))
    }

    /// Whether files may go by way of other RSEs.
    pub fn has_multihop(&self) -> bool {
        self.multihop
    }

    /// All RSEs, in no order.
    pub fn rses(&self) -> impl Iterator<Item = &Rse> {
        self.rses.values()
    }

    /// How many RSEs there are.
    pub fn len(&self) -> usize {
        self.rses.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.rses.is_empty()
    }
}
