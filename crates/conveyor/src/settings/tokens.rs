//! `[storage_tokens]`: tokens for storages that jobs carry.

use std::time::Duration;

use serde::Deserialize;

use super::Settings;
use crate::tokens::{Carried, TokenRules, TokenSettings};

/// `[storage_tokens]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StorageTokenSettings {
    /// What jobs carry.
    pub send: Carried,
    /// How long a storage token must still live when it is sent.
    pub min_life_s: u64,
}

impl Default for StorageTokenSettings {
    fn default() -> Self {
        Self { send: Carried::None, min_life_s: 600 }
    }
}

impl Settings {
    /// The rules of tokens for the storages of a VO.
    pub fn token_rules(&self, vo: &str) -> TokenRules {
        let own = self.vo.iter().find(|own| own.name == vo).and_then(|own| own.send);
        let fits = |entry: &&TokenSettings| entry.vo.as_deref().is_none_or(|of| of == vo);
        TokenRules {
            carried: own.unwrap_or(self.storage_tokens.send),
            min_life: Duration::from_secs(self.storage_tokens.min_life_s),
            without: self.submit.without_token,
            table: self.rse.iter().filter(fits).cloned().collect(),
        }
    }
}
