//! The tokens that jobs carry for their storages: distinct ones are asked for once, and kept.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream;
use token_core::{
    AccessToken, CacheKey, Clock, Freshness, OAuthClient, ScopeSet, TokenKeeper, TokenRequest, TokenWish,
};
use tracing::{info, warn};

use crate::choose::Plan;
use crate::tokens::{Carried, Side, TokenRules, Tokens};
use crate::topology::{RseId, Topology};

/// How many tokens are asked for at a time; the issuer's own limits count besides.
const AT_A_TIME: usize = 16;

/// Who gives tokens for storages.
pub struct StorageTokens {
    oauth: Arc<OAuthClient>,
    keeper: Arc<TokenKeeper>,
    rules: Arc<TokenRules>,
    clock: Arc<dyn Clock>,
    /// The storages for which there was none, which has been said.
    waiting: Mutex<BTreeSet<(RseId, Side)>>,
}

impl StorageTokens {
    /// Tokens of this client's issuer; nothing is sent yet.
    pub fn new(
        oauth: Arc<OAuthClient>,
        keeper: Arc<TokenKeeper>,
        rules: Arc<TokenRules>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { oauth, keeper, rules, clock, waiting: Mutex::default() }
    }

    /// The tokens of all storages that these plans go by; of those that can't be had now, the reason.
    pub async fn of(
        &self,
        plans: impl IntoIterator<Item = &Plan>,
        topology: &Topology,
        freshness: Freshness,
    ) -> Tokens {
        let carried = self.rules.carried;
        if carried == Carried::None {
            return Tokens::default();
        }
        let mut ends = BTreeSet::new();
        for plan in plans {
            ends.extend(plan.sources.iter().map(|source| (&source.rse, Side::Source)));
            ends.insert((&plan.request.destination, Side::Destination));
        }
        let mut got = HashMap::new();
        let mut wanted: BTreeMap<(String, ScopeSet), Vec<(RseId, Side)>> = BTreeMap::new();
        for (id, side) in ends {
            let request = topology.rse(id).map(|rse| self.rules.request(rse, side));
            match request {
                Some(Ok(TokenRequest { audience, scope })) => {
                    wanted.entry((audience, scope)).or_default().push((id.clone(), side));
                }
                Some(Err(reason)) => drop(got.insert((id.clone(), side), Err(reason.to_string()))),
                None => drop(got.insert((id.clone(), side), Err("its RSE is gone".to_owned()))),
            }
        }
        let mut asked = stream::iter(wanted)
            .map(|((audience, scope), ends)| async move {
                (self.one(TokenRequest { audience, scope }, freshness).await, ends)
            })
            .buffer_unordered(AT_A_TIME);
        while let Some((token, ends)) = asked.next().await {
            got.extend(ends.into_iter().map(|end| (end, token.clone())));
        }
        drop(asked);
        self.tell(&got, topology);
        Tokens::new(carried, got)
    }

    /// One line for each storage when there is no token for it, and one when there is again.
    fn tell(&self, got: &HashMap<(RseId, Side), Result<AccessToken, String>>, topology: &Topology) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let mut ends: Vec<_> = got.iter().collect();
        ends.sort_by_key(|(end, _)| *end);
        for (end, token) in ends {
            let (id, side) = (&end.0, end.1.name());
            let rse = topology.rse(id).map_or(id.0.as_str(), |rse| rse.name.as_str());
            match token {
                Err(reason) if waiting.insert(end.clone()) => {
                    warn!(rse, side, reason, "no token for this storage now; its files wait");
                }
                Ok(_) if waiting.remove(end) => info!(rse, side, "there are tokens for this storage again"),
                Ok(_) | Err(_) => (),
            }
        }
    }

    /// A token that lives as long as is wanted. The keeper gives out what lives shorter by nature, too.
    async fn one(&self, request: TokenRequest, freshness: Freshness) -> Result<AccessToken, String> {
        let min_life = self.rules.min_life;
        let key = CacheKey {
            issuer: self.oauth.issuer().to_string(),
            client_id: self.oauth.client_id().to_owned(),
            subject: self.oauth.client_id().to_owned(),
            audience: request.audience.clone(),
            scope: request.scope.clone(),
        };
        let request = Arc::new(request);
        for freshness in [freshness, Freshness::Fresh] {
            let wish = TokenWish { key: key.clone(), min_life, freshness };
            let (oauth, request) = (Arc::clone(&self.oauth), Arc::clone(&request));
            let fetch = move || {
                let (oauth, request) = (Arc::clone(&oauth), Arc::clone(&request));
                async move { oauth.client_credentials(&request).await }
            };
            let kept = self.keeper.get(wish, fetch).await.map_err(|error| error.to_string())?;
            let life = kept.obtained_at.until(kept.expires_at);
            if self.clock.now().until(kept.expires_at) >= min_life
                || (freshness == Freshness::Fresh && life >= min_life)
            {
                return Ok(kept.token);
            }
            if life < min_life {
                return Err(too_short(&key, life, min_life));
            }
        }
        Err(too_short(&key, Duration::ZERO, min_life))
    }
}

fn too_short(key: &CacheKey, life: Duration, min_life: Duration) -> String {
    format!(
        "the tokens of {} for {} live {} s, less than storage_tokens.min_life_s = {}",
        key.issuer,
        key.audience,
        life.as_secs(),
        min_life.as_secs()
    )
}
