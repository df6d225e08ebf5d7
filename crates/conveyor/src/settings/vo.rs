//! What one VO, or one FTS instance, has of its own.

use daemon::Failure;
use daemon::settings::IssuerSettings;
use serde::Deserialize;
use url::Url;

use super::RucioSettings;
use crate::rucio::Rucio;
use crate::tokens::Carried;

impl RucioSettings {
    /// The VOs that are served.
    ///
    /// # Errors
    /// When one is named that has no RSEs, which is a slip of the pen, or the database can't be read.
    pub async fn served(&self, rucio: &Rucio) -> Result<Vec<String>, Failure> {
        if self.vos.is_empty() {
            return Ok(vec![self.vo.clone()]);
        }
        let there = rucio.vos().await.map_err(Failure::runtime)?;
        if self.vos == ["*"] {
            return match there.is_empty() {
                true => Err(Failure::configuration("`rucio.vos` is all VOs, but none has RSEs")),
                false => Ok(there),
            };
        }
        match self.vos.iter().find(|vo| !there.contains(vo)) {
            Some(vo) => Err(Failure::Configuration(format!(
                "`rucio.vos`: VO `{vo}` has no RSEs in this database; those that have: {}",
                there.join(", ")
            ))),
            None => {
                let mut vos = self.vos.clone();
                vos.sort();
                vos.dedup();
                Ok(vos)
            }
        }
    }
}

/// `[[vo]]`: a VO with settings of its own.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VoSettings {
    /// The VO, as in `rses.vo`.
    pub name: String,
    /// Where its tokens come from, instead of `[issuer]`.
    #[serde(default)]
    pub issuer: Option<IssuerSettings>,
    /// The audience of its tokens for FTS, instead of `fts.audience`.
    #[serde(default)]
    pub audience: Option<String>,
    /// Their scopes, instead of `fts.scope`.
    #[serde(default)]
    pub scope: Option<String>,
    /// What its jobs carry, instead of `storage_tokens.send`.
    #[serde(default)]
    pub send: Option<Carried>,
}

/// `[[fts.instance]]`: an FTS with settings of its own; they count before those of a VO.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InstanceSettings {
    /// The URL, as in the RSE's `fts` attribute; a slash at the end makes no difference.
    pub url: Url,
    /// The VO that they are for; without it all that have no entry of their own for this FTS.
    #[serde(default)]
    pub vo: Option<String>,
    /// The audience of tokens for it.
    #[serde(default)]
    pub audience: Option<String>,
    /// Their scopes.
    #[serde(default)]
    pub scope: Option<String>,
    /// Where they come from.
    #[serde(default)]
    pub issuer: Option<IssuerSettings>,
}
