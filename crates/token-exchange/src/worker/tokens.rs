//! Where endpoint tokens come from: exchanged by the client we are at the subject token's issuer, and kept.

mod wish;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use token_core::retry::{Classify as _, Disposition};
use token_core::{
    AccessToken, CacheKey, CachedToken, Claims, OAuthClient, RefreshToken, Refreshed, TokenError,
    TokenKeeper, TokenRequest,
};
use tokio::sync::OwnedSemaphorePermit;

use super::{Haste, Lanes, lanes::Turn};
use crate::decide::Token;
use crate::fts::hand_over::EndpointToken;
use crate::fts::remembered::{How, Origin, Submitter};
use crate::fts::waiting::Subject;
use crate::plan::Mode;
use wish::{Good, shared};

/// The bounds of what others are told to wait for.
const LEAST_PAUSE: Duration = Duration::from_secs(1);
const MOST_PAUSE: Duration = Duration::from_secs(300);

/// The client that we are at an issuer.
pub struct IssuerClient {
    /// How tokens of this issuer are got.
    mode: Mode,
    client: Arc<OAuthClient>,
    /// The same client at the issuer's name without a slash at its end, where it is not known which is right.
    other: Option<Arc<OAuthClient>>,
    /// Whether the tokens have shown that the other is right.
    is_other: AtomicBool,
    max_in_flight: usize,
}

impl IssuerClient {
    /// With the same client under the issuer's other name, where it is not known which is right.
    pub fn new(mode: Mode, client: OAuthClient, other: Option<OAuthClient>, max_in_flight: usize) -> Self {
        let (client, other) = (Arc::new(client), other.map(Arc::new));
        Self { mode, client, other, is_other: AtomicBool::new(false), max_in_flight }
    }

    /// Most calls at a time.
    pub fn max_in_flight(&self) -> usize {
        self.max_in_flight
    }

    /// The client, under each of its issuer's names.
    pub fn clients(&self) -> impl Iterator<Item = &Arc<OAuthClient>> {
        std::iter::once(&self.client).chain(&self.other)
    }

    fn is_for(&self, issuer: &str) -> bool {
        self.client.issuer().same_but_for_slash(issuer)
    }

    /// The client under the name that this token's `iss` has, or that the last one had.
    fn client(&self, claims: Option<&Claims>) -> &Arc<OAuthClient> {
        let Some(other) = &self.other else { return &self.client };
        if let Some(claims) = claims {
            self.is_other.store(claims.iss == other.issuer().as_str(), Ordering::Relaxed);
        }
        if self.is_other.load(Ordering::Relaxed) { other } else { &self.client }
    }
}

/// What became of a wish for a token.
#[derive(Clone, Debug)]
pub enum Fetched {
    /// It is known.
    Ended {
        /// The token.
        token: Token<EndpointToken>,
        /// Whether the issuer was asked for it just now.
        asked: bool,
    },
    /// No call begins any more, since the worker is to stop.
    Closed,
}

impl Fetched {
    /// When its subject has ended while it was asked for: what was refused waits, and its submitter may have given a later one.
    pub(super) fn looked_at_again(self) -> Self {
        match self {
            Self::Ended { token: Token::Refused(why), asked } => {
                Self::Ended { token: Token::Wait(why), asked }
            }
            other => other,
        }
    }
}

/// Why there is no token.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum Lack {
    /// What was submitted is not enough, and stays so.
    #[error("{0}")]
    Refused(String),
    /// We are no client of this issuer.
    #[error("no client is known for the issuer {0}: neither [[issuer]] nor t_token_provider names one")]
    NoClient(String),
    /// The issuer gave none.
    #[error("{0}")]
    Error(#[from] TokenError),
    /// No call begins any more, since the worker is to stop.
    #[error("token-exchange is about to stop")]
    Closed,
}

impl Lack {
    /// When it may be better, if something says so.
    pub(crate) fn again(&self) -> Option<Duration> {
        let Self::Error(error) = self else { return None };
        match error.disposition() {
            Disposition::Retry { after } => after.map(|after| after.clamp(LEAST_PAUSE, MOST_PAUSE)),
            _ => None,
        }
    }
}

impl From<Result<EndpointToken, Lack>> for Token<EndpointToken> {
    fn from(got: Result<EndpointToken, Lack>) -> Self {
        match got {
            Ok(token) => Self::Got(token),
            Err(Lack::Refused(why)) => Self::Refused(why),
            Err(Lack::Error(error)) if error.is_definite() => Self::Refused(error.to_string()),
            Err(lack) => Self::Wait(lack.to_string()),
        }
    }
}

/// A place in the lane of an issuer, for one call.
pub struct Place {
    client: Arc<OAuthClient>,
    _held: Option<OwnedSemaphorePermit>,
}

impl Place {
    /// What a refresh token gives.
    ///
    /// # Errors
    /// See [`OAuthClient::refresh`].
    pub async fn refresh(
        self,
        refresh: &RefreshToken,
        request: &TokenRequest,
    ) -> Result<Refreshed, TokenError> {
        self.client.refresh(refresh, request).await
    }
}

/// Gets tokens.
pub struct Tokens {
    clients: Vec<IssuerClient>,
    lanes: Lanes,
    keeper: Arc<TokenKeeper>,
    min_life: Duration,
}

impl Tokens {
    /// From these clients, one an issuer, each with its lane; a kept token is handed over only if it lives `min_life` longer.
    pub fn new(
        clients: Vec<IssuerClient>,
        lanes: Lanes,
        keeper: Arc<TokenKeeper>,
        min_life: Duration,
    ) -> Self {
        Self { clients, lanes, keeper, min_life }
    }

    /// Begins no call any more; what is in flight goes on.
    pub fn close(&self) {
        self.lanes.close();
    }

    /// The token of `request` that `subject` is exchanged for, or that we get as ourselves, which lives long enough to be handed over.
    pub async fn get(&self, subject: &Subject, request: &TokenRequest) -> Fetched {
        let turn = self.turn(&subject.issuer, Haste::Waits);
        let token = self.living(subject, request, Good::enough(self.min_life), &turn).await;
        match turn.was_refused() {
            true => Fetched::Closed,
            false => Fetched::Ended { token: token.into(), asked: turn.was_taken() },
        }
    }

    /// As [`Self::get`], and in the first half of its life: better than any that is due to be renewed. In haste, a fresh one.
    pub async fn next(
        &self,
        subject: &Subject,
        request: &TokenRequest,
        haste: Haste,
    ) -> Token<EndpointToken> {
        let turn = self.turn(&subject.issuer, haste);
        self.living(subject, request, Good::next(haste), &turn).await.into()
    }

    /// As [`Self::get`], and never more than the subject holds, also where we ask with our own rights.
    pub(crate) async fn narrowed(
        &self,
        subject: &Subject,
        request: &TokenRequest,
    ) -> Result<EndpointToken, Lack> {
        self.within(subject, request)?;
        let turn = self.turn(&subject.issuer, Haste::Waits);
        let token = self.living(subject, request, Good::enough(self.min_life), &turn).await;
        if turn.was_refused() { Err(Lack::Closed) } else { token }
    }

    /// One of ours, by client credentials, in the first half of its life. In haste, a fresh one.
    pub async fn next_own(&self, issuer: &str, request: &TokenRequest, haste: Haste) -> Token<EndpointToken> {
        match self.client(issuer) {
            Some(known) => {
                let turn = self.turn(issuer, haste);
                self.own(known.client(None), issuer, request, Good::next(haste), &turn).await.into()
            }
            None => Err(Lack::NoClient(issuer.to_owned())).into(),
        }
    }

    /// A place at the issuer that `t_token_provider` writes so, to use the refresh token that stands beside `token`, whose `iss`
    /// tells the issuer's own name; none when no client of ours is known there.
    pub async fn place(
        &self,
        issuer: &str,
        token: &AccessToken,
        haste: Haste,
    ) -> Option<Result<Place, TokenError>> {
        let claims = Claims::peek(token).ok();
        let client = Arc::clone(self.client(issuer)?.client(claims.as_ref()));
        let held = self.turn(issuer, haste).place(&client).await;
        Some(held.map(|held| Place { client, _held: held }))
    }

    fn client(&self, issuer: &str) -> Option<&IssuerClient> {
        self.clients.iter().find(|known| known.is_for(issuer))
    }

    /// A turn in the lane of this issuer.
    fn turn(&self, issuer: &str, haste: Haste) -> Arc<Turn> {
        let lane = self.clients.iter().position(|known| known.is_for(issuer));
        Arc::new(Turn::new(self.lanes.clone(), lane, haste))
    }

    /// One is made for all subjects of the same identity: each subject must cover what is asked, and then what it is exchanged
    /// for is the same.
    async fn living(
        &self,
        subject: &Subject,
        request: &TokenRequest,
        good: Good,
        turn: &Arc<Turn>,
    ) -> Result<EndpointToken, Lack> {
        let Some(known) = self.client(&subject.issuer) else {
            return Err(Lack::NoClient(subject.issuer.clone()));
        };
        if known.mode == Mode::ClientCredentials {
            return self.own(known.client(subject.claims()), &subject.issuer, request, good, turn).await;
        }
        let client = known.client(subject.claims());
        let (token, claims) = self.within(subject, request)?;
        let wish = good.wish(key(client, subject.identity(), request));
        let (client, token, asked) = (Arc::clone(client), token.clone(), request.clone());
        let turn = Arc::clone(turn);
        let fetch = move || {
            let (client, token, asked) = (Arc::clone(&client), token.clone(), asked.clone());
            let turn = Arc::clone(&turn);
            async move { turn.call(&client, || client.exchange(&token, &asked)).await }
        };
        let submitter = Submitter::new(subject.id.clone(), claims.sub.as_deref(), subject.audience.clone());
        let origin = Origin { how: How::Exchange, submitter: Some(submitter) };
        got(shared(&self.keeper, wish, fetch).await, &subject.issuer, request, origin)
    }

    /// The subject's token, if it covers what is asked.
    fn within<'a>(
        &self,
        subject: &'a Subject,
        request: &TokenRequest,
    ) -> Result<(&'a AccessToken, &'a Claims), Lack> {
        let Some((token, claims)) = &subject.token else {
            return Err(Lack::Refused("what FTS holds is no WLCG token".into()));
        };
        let held = claims
            .scopes()
            .map_err(|error| Lack::Refused(format!("the token it was submitted with: {error}")))?;
        let missing = request.scope.beyond(&held);
        if missing.is_empty() {
            return Ok((token, claims));
        }
        let known =
            self.client(&subject.issuer).map(|known| known.client(subject.claims()).issuer().to_string());
        let issuer = known.unwrap_or_else(|| subject.issuer.clone());
        Err(TokenError::BeyondSubject { issuer, missing }.into())
    }

    /// One of ours, by client credentials.
    async fn own(
        &self,
        client: &Arc<OAuthClient>,
        issuer: &str,
        request: &TokenRequest,
        good: Good,
        turn: &Arc<Turn>,
    ) -> Result<EndpointToken, Lack> {
        let wish = good.wish(key(client, None, request));
        let (client, asked, turn) = (Arc::clone(client), request.clone(), Arc::clone(turn));
        let fetch = move || {
            let (client, asked, turn) = (Arc::clone(&client), asked.clone(), Arc::clone(&turn));
            async move { turn.call(&client, || client.client_credentials(&asked)).await }
        };
        let origin = Origin { how: How::ClientCredentials, submitter: None };
        got(self.keeper.get(wish, fetch).await, issuer, request, origin)
    }
}

/// What makes a token one of its own; without a subject it is the client's.
fn key(client: &OAuthClient, subject: Option<String>, request: &TokenRequest) -> CacheKey {
    CacheKey {
        issuer: client.issuer().to_string(),
        client_id: client.client_id().to_owned(),
        subject: subject.unwrap_or_else(|| client.client_id().to_owned()),
        audience: request.audience.clone(),
        scope: request.scope.clone(),
    }
}

fn got(
    answer: Result<CachedToken, TokenError>,
    issuer: &str,
    request: &TokenRequest,
    origin: Origin,
) -> Result<EndpointToken, Lack> {
    let kept = answer?;
    Ok(EndpointToken {
        token: kept.token,
        obtained_at: kept.obtained_at,
        expires_at: kept.expires_at,
        issuer: issuer.to_owned(),
        scope: request.scope.to_string(),
        audience: request.audience.clone(),
        origin,
    })
}

#[cfg(test)]
pub(crate) mod tests;
