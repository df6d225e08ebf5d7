//! Whether a caller's token may be believed: its issuer is one that we know, its signature fits, it lives, and it is for us.

use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use daemon::Failure;
use token_core::{AccessToken, Claims, Clock, IssuerKeys, KeysError, Policy};

use super::answer::{Refusal, Who};
use crate::fts::waiting::Subject;
use crate::issuers::KnownIssuer;

/// When an issuer whose keys can't be had may be asked again: its keys are not asked for more often.
const KEYS_AGAIN: Duration = Duration::from_secs(5);

/// An issuer whose tokens we take.
struct Trusted {
    /// Its exact name.
    name: String,
    /// As `t_token_provider` writes it, by which our client there is found.
    with_slash: String,
    keys: IssuerKeys,
}

/// Looks at callers' tokens.
pub(super) struct Gate {
    audiences: Vec<String>,
    trusted: Vec<Trusted>,
}

impl Gate {
    /// Takes tokens of these issuers for these audiences.
    ///
    /// # Errors
    /// When an authority's file can't be used.
    pub(super) fn new(
        audiences: Vec<String>,
        issuers: &[KnownIssuer],
        clock: &Arc<dyn Clock>,
    ) -> Result<Self, Failure> {
        let mut trusted = Vec::new();
        for known in issuers.iter().filter(|known| known.gives_tokens()) {
            for (issuer, keys) in known.keys(clock)? {
                trusted.push(Trusted { name: issuer.to_string(), with_slash: issuer.with_slash(), keys });
            }
        }
        Ok(Self { audiences, trusted })
    }

    /// The caller, and what its token holds.
    pub(super) async fn pass(&self, token: AccessToken) -> Result<Subject, Refusal> {
        let invalid = |why: String| Refusal::caller(StatusCode::UNAUTHORIZED, "invalid_token", why);
        let named =
            Claims::peek(&token).map_err(|error| invalid(format!("the token in Authorization: {error}")))?;
        let trusted = self.trusted.iter().find(|known| known.name == named.iss).ok_or_else(|| {
            invalid(
                "the token in Authorization: its issuer is none that token-exchange gets tokens of".into(),
            )
        })?;
        let policy = Policy::new(trusted.name.as_str(), self.audiences.clone());
        let claims = match trusted.keys.verify(token.expose(), &policy).await {
            Ok(claims) => claims,
            Err(KeysError::NoKeys(error)) => {
                let why = format!("no keys to check the token in Authorization with: {error}");
                return Err(Refusal::later(Who::Issuer, why, KEYS_AGAIN));
            }
            Err(error) => return Err(invalid(format!("the token in Authorization: {error}"))),
        };
        Ok(Subject {
            id: token.fingerprint().to_string(),
            audience: claims.aud.join(" "),
            token: Some((token, claims)),
            issuer: trusted.with_slash.clone(),
            unmanaged: false,
            refreshable: false,
        })
    }
}
