//! Who FTS takes us for, and what it is itself.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::id::Identity;

/// `GET /whoami`. FTS never refuses a bad token here: it takes the caller for anonymous.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WhoAmI {
    /// The token's subject, or the certificate's DN; `anon` for nobody.
    pub user_dn: String,
    /// The name space of this installation's deterministic job ids.
    pub base_id: Uuid,
    /// The VOs that the token stands for; the first counts.
    #[serde(default)]
    pub vos: Vec<String>,
    /// The ids of these VOs.
    #[serde(default)]
    pub vos_id: Vec<Uuid>,
    /// First 16 hex digits of SHA-1 of issuer and subject; nobody has none.
    #[serde(default)]
    pub delegation_id: Option<String>,
    /// `oauth2`, `certificate` or `unauthenticated`.
    pub method: String,
    /// Whether it is the host's own certificate, which may cancel all jobs of a VO.
    #[serde(default)]
    pub is_root: bool,
    /// The scopes of the token.
    #[serde(default)]
    pub oauth2_scope: Option<String>,
}

impl WhoAmI {
    /// Who we are, unless FTS took us for nobody.
    pub fn identity(&self) -> Option<Identity> {
        let vo = self.vos.first().filter(|_| self.method != "unauthenticated")?;
        Some(Identity { base_id: self.base_id, vo: vo.clone() })
    }
}

/// `GET /`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerInfo {
    /// The REST server.
    pub api: Version,
    /// The schema of its database.
    pub schema: Version,
    /// Its delegation interface.
    pub delegation: Version,
    /// The daemons behind it, if the REST server knows them.
    #[serde(default)]
    pub core: Option<Version>,
}

/// A version in three numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Version {
    /// First.
    pub major: u32,
    /// Second.
    pub minor: u32,
    /// Third.
    pub patch: u32,
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}
