//! Renews tokens in place, each by one worker at a time: those that are due, and any that is asked for.

pub(crate) mod subjects;

use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use token_core::retry::{RetryPolicy, Waits};
use token_core::{AccessToken, Clock, RefreshToken, Refreshed, Scope, ScopeSet, TokenRequest, UnixSeconds};
use tracing::{error, info, warn};

use super::pause;
use crate::decide::Token;
use crate::fts::remembered::How;
use crate::fts::renew::{Hold, Renewable, Renewed};
use crate::fts::{DatabaseError, FtsDatabase};
use crate::seen::Seen;
use crate::worker::{Haste, Tempo, Tokens};
use subjects::Subjects;

/// How long a rotated refresh token is held in memory while the database can't be written. After that it is lost.
const HELD: Duration = Duration::from_secs(600);

/// What became of one token.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// It was renewed: the new one, and when it ends.
    Renewed(AccessToken, UnixSeconds),
    /// The issuer will not, or there is nothing to renew it with; in words.
    Refused(String),
    /// Not now; in words.
    NotNow(String),
}

/// What rounds have done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// Tokens renewed in place.
    pub renewed: usize,
    /// Tokens that could not be.
    pub failed: usize,
    /// Tokens that no file waits for any more.
    pub forgotten: usize,
}

/// Renews.
pub struct Renewer {
    /// FTS's database.
    pub fts: FtsDatabase,
    /// Where tokens come from.
    pub tokens: Arc<Tokens>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// How long a lease lasts.
    pub lease: Duration,
    /// How fast is worked.
    pub tempo: Arc<Tempo>,
    /// Calls at a time, over all issuers.
    pub in_flight: usize,
    /// `fts_url_copy` asks for a token that has less than this to live.
    pub margin: Duration,
    /// Where it is seen what is done.
    pub seen: Arc<Seen>,
}

impl Renewer {
    /// Renews until nothing is due.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn rounds(&self) -> Result<Done, DatabaseError> {
        let mut done = Done::default();
        while self.round(&mut done).await? {}
        Ok(done)
    }

    /// Writes down tokens that end within the margin and that others gave a refresh token.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn adopt(&self) -> Result<(), DatabaseError> {
        let now = self.clock.now();
        let adopted = self.fts.adopt_refreshable(now, now.plus(self.margin)).await?;
        if adopted > 0 {
            info!(tokens = adopted, "tokens with refresh tokens of others are kept alive from now on");
        }
        Ok(())
    }

    /// One batch; false when nothing was due.
    async fn round(&self, done: &mut Done) -> Result<bool, DatabaseError> {
        let now = self.clock.now();
        let holds = self.fts.take_due(self.tempo.batch(), now, now.plus(self.lease)).await?;
        if holds.is_empty() {
            return Ok(false);
        }
        let ids: Vec<&str> = holds.iter().map(|hold| hold.token_id.as_str()).collect();
        let tokens = self.fts.renewable(&ids).await?;
        let (live, over): (Vec<&Hold>, Vec<&Hold>) =
            holds.iter().partition(|hold| tokens.get(&hold.token_id).is_some_and(|token| token.live));
        let handed = |hold: &Hold| tokens.get(&hold.token_id).map(|token| token.handed);
        let over: Vec<(&Hold, Option<i64>)> = over.into_iter().map(|hold| (hold, handed(hold))).collect();
        self.fts.forget(&over).await?;
        done.forgotten += over.len();
        let live: Vec<(&Hold, &Renewable)> =
            live.into_iter().filter_map(|hold| Some((hold, tokens.get(&hold.token_id)?))).collect();
        let subjects = Subjects::of(&self.fts, live.iter().map(|(_, token)| *token), now).await?;
        let renewals = stream::iter(live)
            .map(|(hold, token)| self.renew(hold, token, &subjects, Haste::Waits))
            .buffer_unordered(self.in_flight.max(1));
        let outcomes: Vec<_> = renewals.collect().await;
        for outcome in outcomes {
            match outcome {
                Ok(Outcome::Renewed(..)) => done.renewed += 1,
                Ok(_) => done.failed += 1,
                Err(DatabaseError::LeaseLost(id)) => {
                    warn!(
                        token = id,
                        "this token was not ours to renew any more when its turn came or its renewal ended"
                    );
                }
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Renews one token that nobody else has in hand; none when somebody has. What another has just renewed is not renewed again.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn renew_now(&self, token: &Renewable) -> Result<Option<Outcome>, DatabaseError> {
        let now = self.clock.now();
        let Some(hold) = self.fts.take_token(token, now, now.plus(self.lease)).await? else {
            return Ok(None);
        };
        // Between the look and the lease another may have had it, and used its refresh token.
        let found = self.fts.renewable(&[&token.id]).await?.remove(&token.id);
        let Some(token) = found.filter(|now| now.turn == token.turn) else {
            self.fts.let_go(&hold).await?;
            return Ok(None);
        };
        let subjects = Subjects::of(&self.fts, [&token].into_iter(), now).await?;
        match self.renew(&hold, &token, &subjects, Haste::First).await {
            Ok(outcome) => Ok(Some(outcome)),
            Err(DatabaseError::LeaseLost(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn renew(
        &self,
        hold: &Hold,
        token: &Renewable,
        subjects: &Subjects,
        haste: Haste,
    ) -> Result<Outcome, DatabaseError> {
        let outcome = self.tried(hold, token, subjects, haste).await?;
        self.seen.renewal(&outcome);
        Ok(outcome)
    }

    async fn tried(
        &self,
        hold: &Hold,
        token: &Renewable,
        subjects: &Subjects,
        haste: Haste,
    ) -> Result<Outcome, DatabaseError> {
        let request = match request(token) {
            Ok(request) => request,
            Err(why) => return self.failed(hold, token, Outcome::Refused(why)).await,
        };
        if let Some(refresh) = &token.refresh {
            return self.by_refresh(hold, token, (refresh, &request), haste).await;
        }
        let ours = token.origin.as_ref().is_some_and(|origin| origin.how == How::ClientCredentials);
        let subject = match (ours, subjects.covering(token, &request)) {
            (true, _) => None,
            (false, Ok(subject)) => Some(subject),
            (false, Err(why)) => return self.failed(hold, token, Outcome::Refused(why)).await,
        };
        let next = match subject {
            Some(subject) => self.tokens.next(subject, &request, haste).await,
            None => self.tokens.next_own(&token.issuer, &request, haste).await,
        };
        let got = match next {
            Token::Got(got) => got,
            Token::Refused(why) => return self.failed(hold, token, Outcome::Refused(why)).await,
            Token::Wait(why) => return self.failed(hold, token, Outcome::NotNow(why)).await,
        };
        let renewed = Renewed {
            token: got.token,
            obtained_at: got.obtained_at,
            expires_at: got.expires_at,
            subject_id: subject.map(|subject| subject.id.clone()),
        };
        self.fts.renewed(hold, &renewed, None).await?;
        Ok(said(token, renewed))
    }

    /// Never given up half way: the refresh token that was used may be ended by the answer.
    async fn by_refresh(
        &self,
        hold: &Hold,
        token: &Renewable,
        (old, request): (&RefreshToken, &TokenRequest),
        haste: Haste,
    ) -> Result<Outcome, DatabaseError> {
        let place = match self.tokens.place(&token.issuer, &token.token, haste).await {
            Some(Ok(place)) => place,
            Some(Err(error)) => {
                return self.failed(hold, token, Outcome::NotNow(error.to_string())).await;
            }
            None => {
                let why = format!("no client is known for the issuer {}", token.issuer);
                return self.failed(hold, token, Outcome::NotNow(why)).await;
            }
        };
        let now = self.clock.now();
        self.fts.hold_on(hold, now, now.plus(self.lease)).await?;
        let answer = place.refresh(old, request).await;
        let now = self.clock.now();
        let (grant, next) = match answer {
            Ok(Refreshed { grant, refresh }) => (grant, refresh),
            Err(error) => (Err(error), None),
        };
        let next = next.as_ref().filter(|next| next.expose() != old.expose()).map(|next| (old, next));
        match grant {
            Ok(grant) => {
                let renewed = Renewed {
                    token: grant.token,
                    obtained_at: now,
                    expires_at: grant.expires_at,
                    subject_id: None,
                };
                self.held(token, next.is_some(), || self.fts.renewed(hold, &renewed, next)).await?;
                Ok(said(token, renewed))
            }
            Err(error) => {
                let again = now.plus(pause(token.attempts));
                let why = error.to_string();
                self.held(token, next.is_some(), || self.fts.not_renewed(hold, &why, now, again, next))
                    .await?;
                tell(token, &why, now, again);
                Ok(if error.is_definite() { Outcome::Refused(why) } else { Outcome::NotNow(why) })
            }
        }
    }

    /// Writes down what must not be lost: as long as the database is away, it is tried again.
    async fn held(
        &self,
        token: &Renewable,
        rotated: bool,
        write: impl AsyncFn() -> Result<(), DatabaseError>,
    ) -> Result<(), DatabaseError> {
        let mut waits = Waits::new(&RetryPolicy {
            initial: Duration::from_millis(500),
            max: Duration::from_secs(10),
            ..RetryPolicy::default()
        });
        let end = self.clock.now().plus(HELD);
        loop {
            match write().await {
                Err(error) if rotated && error.is_transient() && self.clock.now() < end => {
                    error!(token = token.id, %error, "a rotated refresh token is held in memory until it can be written");
                    tokio::time::sleep(waits.pause()).await;
                }
                done => return done,
            }
        }
    }

    async fn failed(
        &self,
        hold: &Hold,
        token: &Renewable,
        outcome: Outcome,
    ) -> Result<Outcome, DatabaseError> {
        if let Outcome::Refused(why) | Outcome::NotNow(why) = &outcome {
            let now = self.clock.now();
            let again = now.plus(pause(token.attempts));
            self.fts.not_renewed(hold, why, now, again, None).await?;
            tell(token, why, now, again);
        }
        Ok(outcome)
    }
}

/// What a renewal asks for: the same audience and scopes.
fn request(token: &Renewable) -> Result<TokenRequest, String> {
    let offline = Scope::Other("offline_access".to_owned());
    let scope = ScopeSet::parse(&token.scope).map_err(|error| format!("its scope in t_token: {error}"))?;
    let scope: ScopeSet = scope.iter().filter(|scope| **scope != offline).cloned().collect();
    Ok(TokenRequest { audience: token.audience.clone(), scope })
}

fn said(token: &Renewable, renewed: Renewed) -> Outcome {
    info!(token = token.id, now_is = %renewed.token.fingerprint(), audience = token.audience,
        after_failures = token.attempts, "renewed in place");
    Outcome::Renewed(renewed.token, renewed.expires_at)
}

/// Once for each token when its renewal begins to fail, and once when it has ended.
fn tell(token: &Renewable, why: &str, now: UnixSeconds, again: UnixSeconds) {
    let left_s = now.until(token.expires_at).as_secs();
    if left_s == 0 {
        warn!(
            token = token.id,
            audience = token.audience,
            why,
            "a token that files wait for has ended and is not renewed: they will fail unless it is in time"
        );
    } else if token.attempts == 0 {
        let again_in_s = now.until(again).as_secs();
        warn!(token = token.id, audience = token.audience, why, left_s, again_in_s, "not renewed yet");
    }
}

#[cfg(test)]
mod tests;
