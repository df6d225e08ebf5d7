//! How a call goes out and comes back: guarded, authenticated, bounded, tried again where that does no harm.

use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use reqwest::StatusCode;
use tokio::time::Instant;
use tracing::{debug, info, warn};
use zeroize::Zeroizing;

use super::call::{Call, verdict};
use super::{OAuthClient, TokenRequest};
use crate::error::TokenError;
use crate::guard::{Barred, Change};
use crate::http;
use crate::metadata::{IssuerMetadata, discover};
use crate::retry::retry;

/// Longest answer of a token endpoint, in bytes.
const LIMIT: usize = 64 * 1024;
/// Parameters whose values no error may repeat.
const SECRET: [&str; 5] =
    ["client_secret", "client_assertion", "subject_token", "refresh_token", "device_code"];
/// How long an issuer's metadata is believed.
const METADATA_LIFE: Duration = Duration::from_secs(3600);

impl OAuthClient {
    /// Calls until there is an answer that `read` takes, a refusal, or the end of the retry budget.
    pub(super) async fn call<T>(
        &self,
        call: Call,
        form: &[(&str, &str)],
        request: &TokenRequest,
        read: impl Fn(&[u8]) -> Result<T, TokenError>,
    ) -> Result<T, TokenError> {
        let deadline = Instant::now() + self.settings.retry.total;
        let ended = retry(&self.settings.retry, &self.cancel, || async {
            match self.once(call, form, deadline, &read).await {
                Err(error @ TokenError::Open { until_s, .. }) => {
                    debug!(audience = request.audience, %error, "no token");
                    // Waiting is of no use if the breaker stays open for longer than there is time.
                    let in_time = Instant::now() + Duration::from_secs(until_s) < deadline;
                    if in_time { Err(error) } else { Ok(Err(error)) }
                }
                // Whoever asked says so, once for all that it means to him; an issuer that is away says nothing more with each call.
                Err(error) => {
                    debug!(issuer = %self.settings.issuer, audience = request.audience, %error, "no token");
                    Err(error)
                }
                Ok(value) => Ok(Ok(value)),
            }
        });
        ended.await?
    }

    /// One call, if the guard lets it pass.
    pub(super) async fn once<T>(
        &self,
        call: Call,
        form: &[(&str, &str)],
        deadline: Instant,
        read: impl Fn(&[u8]) -> Result<T, TokenError>,
    ) -> Result<T, TokenError> {
        let pass = self.settings.guard.admit(deadline, &self.cancel).await;
        let pass = pass.map_err(|barred| self.barred(call, barred))?;
        let (sent, began) = (AtomicBool::new(false), Instant::now());
        let outcome = tokio::select! {
            outcome = self.send(call, form, &sent) => Some(outcome.and_then(|body| read(&body))),
            () = self.cancel.cancelled() => None,
        };
        let outcome = match outcome {
            Some(outcome) => {
                self.counts.ended(call, &outcome, began.elapsed());
                if let Err(error) = &outcome {
                    *self.last_failure.lock().unwrap_or_else(PoisonError::into_inner) = in_short(error);
                }
                self.tell(pass.end(verdict(&outcome)));
                outcome
            }
            None => Err(call.unreachable(&self.settings.issuer, "shutting down")),
        };
        outcome.map_err(|error| if sent.load(Ordering::Relaxed) { call.lost(error) } else { error })
    }

    /// Sends one call and reads its body; `sent` tells whether the issuer may have seen it.
    async fn send(
        &self,
        call: Call,
        form: &[(&str, &str)],
        sent: &AtomicBool,
    ) -> Result<Zeroizing<Vec<u8>>, TokenError> {
        let issuer = &self.settings.issuer;
        let broken = |error: &reqwest::Error| call.unreachable(issuer, http::reason(error));
        let metadata = self.metadata().await?;
        let endpoint = call.endpoint(&metadata);
        let endpoint = endpoint
            .ok_or_else(|| TokenError::NoEndpoint { issuer: issuer.to_string(), call: call.name() })?;
        let (id, aud) = (&self.settings.client_id, metadata.token_endpoint.as_str());
        let proof = self.settings.authentication.proof(id, aud, self.clock.now());
        let proof = proof.ok_or_else(|| TokenError::Unsigned { issuer: issuer.to_string() })?;
        let mut form = form.to_vec();
        form.extend(proof.form.iter().map(|(name, value)| (*name, value.as_str())));
        // RFC 8628 section 3.1; INDIGO IAM wants it however the client authenticates.
        if call == Call::DeviceAuthorization && !form.iter().any(|(name, _)| *name == "client_id") {
            form.push(("client_id", id));
        }
        let mut request = self.http.post(endpoint.clone()).form(&form);
        if let Some((id, secret)) = &proof.basic {
            request = request.basic_auth(id.as_str(), Some(secret.as_str()));
        }
        self.calls.fetch_add(1, Ordering::Relaxed);
        sent.store(true, Ordering::Relaxed);
        #[expect(clippy::disallowed_methods, reason = "no redirects, time-outs set, bounded body")]
        let response = request.send().await.map_err(|error| {
            sent.store(!error.is_connect(), Ordering::Relaxed);
            broken(&error)
        })?;
        let (status, retry_after) = (response.status(), http::retry_after(&response));
        let body = http::body(response, LIMIT).await.map_err(|error| broken(&error))?;
        let body = body.map(Zeroizing::new).ok_or_else(|| call.bad(issuer, "it is too long"))?;
        if status == StatusCode::OK {
            return Ok(body);
        }
        let mut secrets: Vec<&str> =
            form.iter().filter(|(name, _)| SECRET.contains(name)).map(|(_, v)| *v).collect();
        secrets.extend(self.settings.authentication.secret());
        Err(withhold(call.refusal(issuer.as_str(), status, retry_after, &body), &secrets))
    }

    async fn metadata(&self) -> Result<IssuerMetadata, TokenError> {
        let mut held = self.metadata.lock().await;
        let now = self.clock.now();
        if let Some((metadata, fetched)) = held.as_ref()
            && fetched.until(now) < METADATA_LIFE
        {
            return Ok(metadata.clone());
        }
        match discover(&self.http, &self.settings.issuer).await {
            Ok(metadata) => {
                *held = Some((metadata.clone(), now));
                Ok(metadata)
            }
            // An issuer that is away keeps the endpoints it had.
            Err(error) => held.as_ref().map(|(metadata, _)| metadata.clone()).ok_or(error),
        }
    }

    fn barred(&self, call: Call, barred: Barred) -> TokenError {
        let issuer = self.settings.issuer.to_string();
        // Up, so that who waits that long does not come too early.
        let seconds = |wait: Duration| wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        match barred {
            Barred::Open(wait) => {
                let last = self.last_failure.lock().unwrap_or_else(PoisonError::into_inner).clone();
                TokenError::Open { issuer, until_s: seconds(wait), last }
            }
            Barred::Spent(wait) => TokenError::Throttled { issuer, until_s: seconds(wait) },
            Barred::Cancelled => call.unreachable(&self.settings.issuer, "shutting down"),
        }
    }

    fn tell(&self, change: Change) {
        let issuer = &self.settings.issuer;
        match change {
            Change::None => (),
            Change::Opened(wait) => {
                warn!(%issuer, for_s = wait.as_secs(), "the issuer is left alone: its last calls failed");
            }
            Change::StaysOpen(wait) => debug!(%issuer, for_s = wait.as_secs(), "the issuer is still away"),
            Change::Closed => info!(%issuer, "the issuer answers again"),
        }
    }
}

/// An error without the name of the issuer and the call, which whoever repeats it knows.
fn in_short(error: &TokenError) -> String {
    match error {
        TokenError::Busy { status, .. } => format!("it answered {status}"),
        TokenError::Unreachable { reason, .. } => (*reason).to_owned(),
        other => other.to_string(),
    }
}

/// Takes the issuer's words out of a refusal when they repeat what it was sent: they go to logs and into databases.
fn withhold(mut error: TokenError, secrets: &[&str]) -> TokenError {
    if let TokenError::Refused { description, .. } = &mut error
        && secrets.iter().any(|secret| !secret.is_empty() && description.contains(secret))
    {
        *description = " (its words are withheld: they repeat a secret)".into();
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_issuer_that_repeats_a_secret_is_not_quoted() {
        let refusal = |words: &str| {
            let body = serde_json::json!({"error": "invalid_client", "error_description": words}).to_string();
            let error = Call::Refresh.refusal("https://i", StatusCode::UNAUTHORIZED, None, body.as_bytes());
            withhold(error, &["", "canary", "other"]).to_string()
        };
        assert!(refusal("wrong secret").contains("(wrong secret)"));
        let withheld = refusal("wrong secret xcanaryx");
        assert!(withheld.contains("withheld") && withheld.contains("invalid_client"), "{withheld}");
        assert!(!withheld.contains("canary"), "{withheld}");
    }
}
