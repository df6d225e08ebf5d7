//! From the token of a request to its rights.

use std::sync::atomic::Ordering;

use axum::http::HeaderMap;
use token_core::{AccessToken, Claims, ClaimsError, KeysError, ScopeError, UnixSeconds, VerifyError};

use super::request::bearer;
use super::rights::Rights;
use super::{Storage, lock};

/// How long 5.5.3 keeps the rights of a token it has seen.
const RIGHTS_KEPT_S: i64 = 60;

impl Storage {
    /// What the token of a request gives here, or why it gives nothing.
    pub(super) async fn rights(&self, headers: &HeaderMap) -> Result<Rights, String> {
        let token = bearer(headers).ok_or("no bearer token")?;
        let token = AccessToken::new(token).map_err(|error| error.to_string())?;
        let (now, flaws) = (self.0.clock.now(), self.0.flaws.load(Ordering::Relaxed));
        if flaws
            && let Some((rights, since)) = lock(&self.0.seen).get(&token.fingerprint())
            && now < UnixSeconds(since.0.saturating_add(RIGHTS_KEPT_S))
        {
            return Ok(rights.clone());
        }
        let claims = self.claims(&token, flaws).await?;
        // What scitokens-cpp 0.7.3 asks for beyond the profile (observed).
        if claims.nbf.is_none() {
            return Err("the token has no `nbf`".to_owned());
        }
        if claims.version.as_deref() != Some("1.0") {
            return Err("`wlcg.ver` is not 1.0".to_owned());
        }
        let rights = Rights::read(claims.scope.as_deref().unwrap_or_default(), &self.0.restricted, flaws);
        if flaws {
            lock(&self.0.seen).insert(token.fingerprint(), (rights.clone(), now));
        }
        Ok(rights)
    }

    async fn claims(&self, token: &AccessToken, flaws: bool) -> Result<Claims, String> {
        let policy = &self.running().policy;
        let verdict = self.0.keys.verify(token.expose(), policy).await;
        match verdict {
            // The scope is looked at last: all else was fine.
            Err(KeysError::Token(VerifyError::Claims(ClaimsError::Scope(ScopeError::Path { .. }))))
                if flaws =>
            {
                Claims::peek(token).map_err(|error| error.to_string())
            }
            other => other.map_err(|error| error.to_string()),
        }
    }
}
