//! What came, measured by what was asked for: issuers narrow, widen and forget the audience without a word.

use std::time::Duration;

use serde::{Deserialize, Deserializer};
use serde_json::Value;
use tracing::info;
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::call::Call;
use super::request::{AudienceParameter, TokenRequest, rights};
use super::{Grant, OAuthSettings};
use crate::claims::Claims;
use crate::clock::UnixSeconds;
use crate::error::TokenError;
use crate::scope::ScopeSet;
use crate::secret::{AccessToken, RefreshToken};

/// What kind of access token an issuer gives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// A JWT of the WLCG profile: issuer, audience, scope and life are those of its claims.
    #[default]
    WlcgJwt,
    /// A text that only the issuer can read: the answer's own `expires_in` (which must be there) and `scope` (RFC 6749
    /// section 5.1: as asked for, when it is missing) are believed, and nothing can be known of its audience.
    Opaque,
}

const NO_BEARER: &str = "its access token is no bearer token";

/// The body of a token answer (RFC 6749 section 5.1).
#[derive(Deserialize, Zeroize, ZeroizeOnDrop)]
pub(super) struct TokenAnswer {
    access_token: String,
    /// Issuers forget it; a token without one is a Bearer.
    token_type: Option<String>,
    #[serde(default, deserialize_with = "seconds")]
    expires_in: Option<u64>,
    scope: Option<String>,
    refresh_token: Option<String>,
}

/// Issuers write it as text and as a float, too. One that can't be read is none: the refresh token beside it must not be lost.
fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let number = match Value::deserialize(deserializer)? {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse::<f64>().ok(),
        _ => None,
    };
    let duration = |number: f64| Duration::try_from_secs_f64(number.max(0.0)).ok();
    Ok(number.filter(|number| number.is_finite()).and_then(duration).map(|duration| duration.as_secs()))
}

impl TokenAnswer {
    pub(super) fn read(body: &[u8]) -> Result<Self, &'static str> {
        serde_json::from_slice(body).map_err(|_| "it is no token answer")
    }

    /// The access token, whatever it is.
    pub(super) fn access_token(&self) -> Result<AccessToken, &'static str> {
        AccessToken::new(self.access_token.as_str()).map_err(|_| NO_BEARER)
    }

    /// The refresh token, if one came.
    pub(super) fn refresh_token(&mut self) -> Result<Option<RefreshToken>, &'static str> {
        let token = self.refresh_token.take().map(RefreshToken::new).transpose();
        token.map_err(|_| "its refresh token is no refresh token")
    }

    /// The access token, if it is what was asked for.
    pub(super) fn check(
        mut self,
        settings: &OAuthSettings,
        call: Call,
        request: &TokenRequest,
        now: UnixSeconds,
    ) -> Result<Grant, TokenError> {
        let measure = Measure { settings, call, request };
        if self.token_type.as_ref().is_some_and(|name| !name.eq_ignore_ascii_case("bearer")) {
            return Err(measure.bad("its token type is not Bearer"));
        }
        let token =
            AccessToken::new(std::mem::take(&mut self.access_token)).map_err(|_| measure.bad(NO_BEARER))?;
        let told = self.expires_in.map(|s| now.plus(Duration::from_secs(s)));
        let expires_at = match settings.answer {
            Answer::WlcgJwt => {
                let exp = measure.jwt(&token)?;
                told.map_or(exp, |told| told.min(exp))
            }
            Answer::Opaque => {
                measure.scope_member(self.scope.as_deref())?;
                told.ok_or_else(|| {
                    measure.bad("it has no expires_in, and its access token is not looked into")
                })?
            }
        };
        if expires_at <= now {
            return Err(measure.mismatch("it has expired already; compare the clocks"));
        }
        info!(issuer = %settings.issuer, audience = request.audience, scope = %request.scope,
            token = %token.fingerprint(), expires_in_s = now.until(expires_at).as_secs(), "token by {}", call.name());
        Ok(Grant { token, expires_at })
    }
}

struct Measure<'a> {
    settings: &'a OAuthSettings,
    call: Call,
    request: &'a TokenRequest,
}

impl Measure<'_> {
    /// Checks the claims and returns `exp`.
    fn jwt(&self, token: &AccessToken) -> Result<UnixSeconds, TokenError> {
        let claims = Claims::peek(token).map_err(|_| self.bad("its access token is no WLCG token"))?;
        let granted = claims.scopes().map_err(|error| self.mismatch(error.to_string()))?;
        if claims.iss != self.settings.issuer.as_str() {
            return Err(self.mismatch("`iss` names another issuer"));
        }
        let unasked = self.settings.audience == AudienceParameter::None && self.request.audience.is_empty();
        let mut wanted: Vec<&str> = self.request.audiences().collect();
        if !unasked
            && (wanted.is_empty() || !wanted.iter().all(|one| claims.aud.iter().any(|aud| aud == one)))
        {
            return Err(self.mismatch(format!("its audience is not `{}`", self.request.audience)));
        }
        self.scope(&granted)?;
        wanted.dedup();
        if self.call.narrows() && claims.aud.len() > wanted.len().max(1) {
            return Err(self.mismatch("it has more scopes or audiences than were asked for"));
        }
        Ok(claims.exp)
    }

    fn scope_member(&self, scope: Option<&str>) -> Result<(), TokenError> {
        let Some(scope) = scope else { return Ok(()) };
        let granted = ScopeSet::parse(scope).map_err(|error| self.mismatch(error.to_string()))?;
        self.scope(&granted)
    }

    fn scope(&self, granted: &ScopeSet) -> Result<(), TokenError> {
        let missing = rights(&self.request.scope).beyond(granted);
        if !missing.is_empty() {
            return Err(self.mismatch(format!("it lacks `{missing}`")));
        }
        if self.call.narrows() && !self.allowed(granted).beyond(&self.request.scope).is_empty() {
            return Err(self.mismatch("it has more scopes or audiences than were asked for"));
        }
        Ok(())
    }

    /// Where `offline_access` was asked for, INDIGO IAM also writes it into the access token.
    fn allowed(&self, granted: &ScopeSet) -> ScopeSet {
        if self.call.once() { rights(granted) } else { granted.clone() }
    }

    fn bad(&self, reason: &'static str) -> TokenError {
        self.call.bad(&self.settings.issuer, reason)
    }

    fn mismatch(&self, reason: impl Into<String>) -> TokenError {
        self.call.mismatch(&self.settings.issuer, reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::issuer::Issuer;
    use crate::oauth::ClientAuthentication;
    use crate::secret::ClientSecret;

    const NOW: UnixSeconds = UnixSeconds(1000);

    /// What a body gives: the life of its token or why it is none, and its refresh token.
    fn given(body: &str) -> (Result<u64, String>, Option<String>) {
        let proof = ClientAuthentication::Basic(ClientSecret::new("s"));
        let settings = OAuthSettings {
            answer: Answer::Opaque,
            ..OAuthSettings::new(Issuer::new("https://i").unwrap(), "c", proof)
        };
        let request = TokenRequest { audience: "a".into(), scope: ScopeSet::default() };
        let mut answer = TokenAnswer::read(body.as_bytes()).unwrap();
        let refresh = answer.refresh_token().unwrap();
        let grant = answer.check(&settings, Call::Refresh, &request, NOW);
        let life =
            grant.map(|grant| NOW.until(grant.expires_at).as_secs()).map_err(|error| error.to_string());
        (life, refresh.map(|token| token.expose().to_owned()))
    }

    #[test]
    fn an_answer_that_is_written_otherwise_gives_its_tokens() {
        let body = |rest: &str| given(&format!(r#"{{"access_token":"t","refresh_token":"r"{rest}}}"#));
        for (rest, life) in [
            (r#","token_type":"bearer","expires_in":3600"#, 3600),
            (r#","token_type":"Bearer","expires_in":"3600""#, 3600),
            (r#","token_type":"Bearer","expires_in":3599.0"#, 3599),
            (r#","expires_in":" 60.9 ""#, 60),
        ] {
            assert_eq!(body(rest), (Ok(life), Some("r".into())), "{rest}");
        }
    }

    #[test]
    fn a_refresh_token_outlives_what_is_wrong_with_the_token_beside_it() {
        for (rest, why) in [
            (r#""token_type":"DPoP","expires_in":60"#, "not Bearer"),
            (r#""expires_in":"soon""#, "no expires_in"),
            (r#""expires_in":"1e400""#, "no expires_in"),
            (r#""expires_in":null"#, "no expires_in"),
            (r#""expires_in":-5"#, "expired already"),
        ] {
            let (life, refresh) = given(&format!(r#"{{"access_token":"t","refresh_token":"r",{rest}}}"#));
            assert!(life.as_ref().is_err_and(|told| told.contains(why)), "{rest}: {life:?}");
            assert_eq!(refresh.as_deref(), Some("r"), "{rest}");
        }
    }
}
