//! One token of the client itself, kept and renewed.

use std::sync::Arc;
use std::time::Duration;

use super::{OAuthClient, TokenRequest};
use crate::cache::{CacheKey, CachedToken};
use crate::keeper::{BearerFuture, BearerSource, Freshness, TokenKeeper, TokenWish};

/// One client-credentials token for one audience, kept and renewed: what a client of FTS sends.
pub struct ClientCredentials {
    client: Arc<OAuthClient>,
    keeper: Arc<TokenKeeper>,
    request: Arc<TokenRequest>,
    min_life: Duration,
}

impl ClientCredentials {
    /// A source of tokens that live at least `min_life` when they are given out.
    pub fn new(
        client: Arc<OAuthClient>,
        keeper: Arc<TokenKeeper>,
        request: TokenRequest,
        min_life: Duration,
    ) -> Self {
        Self { client, keeper, request: Arc::new(request), min_life }
    }
}

impl OAuthClient {
    /// What a token that is asked for by client credentials is kept under.
    pub fn cache_key(&self, request: &TokenRequest) -> CacheKey {
        CacheKey {
            issuer: self.issuer().to_string(),
            client_id: self.client_id().to_owned(),
            subject: self.client_id().to_owned(),
            audience: request.audience.clone(),
            scope: request.scope.clone(),
        }
    }
}

impl BearerSource for ClientCredentials {
    fn bearer(&self, freshness: Freshness) -> BearerFuture<'_> {
        Box::pin(async move {
            let key = self.client.cache_key(&self.request);
            let wish = TokenWish { key, min_life: self.min_life, freshness };
            let (client, request) = (Arc::clone(&self.client), Arc::clone(&self.request));
            let fetch = move || {
                let (client, request) = (Arc::clone(&client), Arc::clone(&request));
                async move { client.client_credentials(&request).await }
            };
            let CachedToken { token, .. } = self.keeper.get(wish, fetch).await?;
            Ok(token)
        })
    }
}
