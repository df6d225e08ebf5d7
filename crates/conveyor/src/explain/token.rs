//! The token that a job would be sent with.

use daemon::settings::{CacheSettings, existing};
use serde::Serialize;
use token_core::{TokenCache as _, UnixSeconds};
use url::Url;

use crate::access::Access;
use crate::choose::Plan;
use crate::tokens::{Carried, Side, TokenRules};
use crate::topology::Topology;

/// The token for FTS.
#[derive(Debug, Serialize)]
pub(super) struct TokenView {
    issuer: String,
    client_id: String,
    pub(super) audience: String,
    pub(super) scope: String,
    /// Seconds it still lives, if it is in the cache.
    #[serde(skip_serializing_if = "Option::is_none")]
    life_s: Option<i64>,
    /// What would be done to have it.
    pub(super) how: String,
}

/// A token for a storage.
#[derive(Debug, Serialize)]
pub(super) struct StorageTokenView {
    pub(super) rse: String,
    pub(super) side: &'static str,
    /// What it is asked for with, or why it can't be.
    pub(super) wanted: String,
}

/// What the tokens of a job's storages are asked for with, where jobs carry any.
pub(super) fn for_storages(plan: &Plan, topology: &Topology, rules: &TokenRules) -> Vec<StorageTokenView> {
    if rules.carried == Carried::None {
        return Vec::new();
    }
    let sources = plan.sources.iter().map(|source| (&source.rse, Side::Source));
    let sides = sources.chain([(&plan.request.destination, Side::Destination)]);
    let rses = sides.filter_map(|(id, side)| Some((topology.rse(id)?, side)));
    rses.map(|(rse, side)| StorageTokenView {
        rse: rse.name.clone(),
        side: side.name(),
        wanted: match rules.request(rse, side) {
            Ok(request) => format!("audience `{}`, scope `{}`", request.audience, request.scope),
            Err(error) => error.to_string(),
        },
    })
    .collect()
}

/// What a token for this FTS is asked for with, and whether the cache has one; the issuer is not called. `None` when the `fts`
/// attribute is no URL.
pub(super) fn of(
    access: &Access,
    fts: &str,
    cache: Option<&CacheSettings>,
    now: UnixSeconds,
) -> Option<TokenView> {
    let url = Url::parse(fts).ok()?;
    let grantor = access.grantor(&url);
    let request = grantor.request(&url);
    let key = grantor.oauth.cache_key(&request);
    let min_life_s = i64::try_from(access.min_life.as_secs()).unwrap_or(i64::MAX);
    let (life_s, how) = match cache.map(existing) {
        None => (None, "asked for; without [cache] tokens live in a process's memory only".into()),
        Some(Err(error)) => (None, format!("not known: {error}")),
        Some(Ok(None)) => (None, "asked for; there is no cache yet".into()),
        Some(Ok(Some(cache))) => match cache.get(&key) {
            Err(error) => (None, format!("not known: {error}")),
            Ok(None) => (None, "asked for; the cache has none".into()),
            Ok(Some(token)) => {
                let life = token.expires_at.0 - now.0;
                let fingerprint = token.token.fingerprint();
                let how = match life {
                    life if life >= min_life_s => {
                        format!("from the cache ({fingerprint}); it lives {life} s more")
                    }
                    life => format!(
                        "asked for: the one in the cache ({fingerprint}) lives {life} s more, and {min_life_s} s are wanted"
                    ),
                };
                (Some(life), how)
            }
        },
    };
    Some(TokenView {
        issuer: key.issuer,
        client_id: key.client_id,
        audience: request.audience,
        scope: request.scope.to_string(),
        life_s,
        how,
    })
}
