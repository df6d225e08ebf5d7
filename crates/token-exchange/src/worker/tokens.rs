//! Where endpoint tokens come from: exchanged by the client we are at the subject token's issuer, and kept.

use std::sync::Arc;
use std::time::Duration;

use token_core::{
    CacheKey, Freshness, OAuthClient, RefreshToken, Refreshed, TokenError, TokenKeeper, TokenRequest,
    TokenWish,
};

use crate::decide::Token;
use crate::fts::hand_over::EndpointToken;
use crate::fts::remembered::{How, Origin, Submitter};
use crate::fts::waiting::Subject;

/// Gets tokens.
pub struct Tokens {
    clients: Vec<Arc<OAuthClient>>,
    keeper: Arc<TokenKeeper>,
    min_life: Duration,
}

impl Tokens {
    /// From these clients, one an issuer; a kept token is handed over only if it lives `min_life` longer.
    pub fn new(clients: Vec<Arc<OAuthClient>>, keeper: Arc<TokenKeeper>, min_life: Duration) -> Self {
        Self { clients, keeper, min_life }
    }

    /// The token of `request` that `subject` is exchanged for, which lives long enough to be handed over.
    pub async fn get(&self, subject: &Subject, request: &TokenRequest) -> Token<EndpointToken> {
        self.living(subject, request, self.min_life).await
    }

    /// As [`Self::get`], and in the first half of its life: better than any that is due to be renewed.
    pub async fn next(&self, subject: &Subject, request: &TokenRequest) -> Token<EndpointToken> {
        self.living(subject, request, Duration::MAX).await
    }

    /// What a refresh token gives at the issuer that `t_token_provider` writes so; none when no client of ours is known there.
    pub async fn refresh(
        &self,
        issuer: &str,
        refresh: &RefreshToken,
        request: &TokenRequest,
    ) -> Option<Result<Refreshed, TokenError>> {
        let client = self.client(issuer)?;
        Some(client.refresh(refresh, request).await)
    }

    fn client(&self, issuer: &str) -> Option<&Arc<OAuthClient>> {
        self.clients.iter().find(|client| client.issuer().same_but_for_slash(issuer))
    }

    /// One is made for all subjects of the same identity: each
    /// subject must cover what is asked, and then what it is exchanged for is the same.
    async fn living(
        &self,
        subject: &Subject,
        request: &TokenRequest,
        min_life: Duration,
    ) -> Token<EndpointToken> {
        let Some(client) = self.client(&subject.issuer) else {
            return Token::Wait(format!("no [[issuer]] is configured for {}", subject.issuer));
        };
        let Some((token, claims)) = &subject.token else {
            return Token::Refused("what FTS holds is no WLCG token".into());
        };
        let held = match claims.scopes() {
            Ok(held) => held,
            Err(error) => return Token::Refused(format!("the token it was submitted with: {error}")),
        };
        let missing = request.scope.beyond(&held);
        if !missing.is_empty() {
            return refused(&TokenError::BeyondSubject { issuer: client.issuer().to_string(), missing });
        }
        let key = CacheKey {
            issuer: client.issuer().to_string(),
            client_id: client.client_id().to_owned(),
            // Without a subject, nobody knows whose else it could be.
            subject: claims.sub.clone().unwrap_or_else(|| token.fingerprint().to_string()),
            audience: request.audience.clone(),
            scope: request.scope.clone(),
        };
        let wish = TokenWish { key, min_life, freshness: Freshness::Kept };
        let (client, token, asked) = (Arc::clone(client), token.clone(), request.clone());
        let fetch = move || {
            let (client, token, asked) = (Arc::clone(&client), token.clone(), asked.clone());
            async move { client.exchange(&token, &asked).await }
        };
        match self.keeper.get(wish, fetch).await {
            Ok(kept) => Token::Got(EndpointToken {
                token: kept.token,
                obtained_at: kept.obtained_at,
                expires_at: kept.expires_at,
                issuer: subject.issuer.clone(),
                scope: request.scope.to_string(),
                audience: request.audience.clone(),
                origin: Origin {
                    how: How::Exchange,
                    submitter: Some(Submitter::new(
                        subject.id.clone(),
                        claims.sub.as_deref(),
                        subject.audience.clone(),
                    )),
                },
            }),
            Err(error) if error.is_definite() => refused(&error),
            Err(error) => Token::Wait(error.to_string()),
        }
    }
}

fn refused(error: &TokenError) -> Token<EndpointToken> {
    Token::Refused(error.to_string())
}
