//! The grants: client credentials (RFC 6749 section 4.4) and token exchange (RFC 8693).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use reqwest::{Client, StatusCode};
use serde::Deserialize;
use tokio::sync::{Mutex, Semaphore};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use url::form_urlencoded::byte_serialize;
use zeroize::Zeroizing;

use crate::cache::{CacheKey, CachedToken};
use crate::claims::Claims;
use crate::clock::{Clock, UnixSeconds};
use crate::error::{OAuthCode, TokenError};
use crate::http::{self, HttpSettings, SetupError};
use crate::issuer::Issuer;
use crate::keeper::{BearerSource, Freshness, TokenKeeper, TokenWish};
use crate::metadata::{IssuerMetadata, discover};
use crate::retry::{RetryPolicy, retry};
use crate::scope::ScopeSet;
use crate::secret::{AccessToken, ClientSecret};

const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
/// Longest answer of a token endpoint, in bytes.
const LIMIT: usize = 64 * 1024;
/// How long an issuer's metadata is believed.
const METADATA_LIFE: Duration = Duration::from_secs(3600);

/// A client at an issuer.
#[derive(Clone, Debug)]
pub struct OAuthSettings {
    /// The issuer.
    pub issuer: Issuer,
    /// The client's id.
    pub client_id: String,
    /// Its secret.
    pub client_secret: ClientSecret,
    /// How to reach the issuer.
    pub http: HttpSettings,
    /// How often to try again.
    pub retry: RetryPolicy,
    /// Most calls to this issuer at a time.
    pub max_in_flight: usize,
}

impl OAuthSettings {
    /// A client with the defaults for all else.
    pub fn new(issuer: Issuer, client_id: String, client_secret: ClientSecret) -> Self {
        let (http, retry) = (HttpSettings::default(), RetryPolicy::default());
        Self { issuer, client_id, client_secret, http, retry, max_in_flight: 8 }
    }
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRequest {
    /// The resource that shall take the token.
    pub audience: String,
    /// The scopes; always sent, since some issuers give everything when asked for nothing.
    pub scope: ScopeSet,
}

/// What was given, checked against what was asked for.
#[derive(Clone, Debug)]
pub struct Grant {
    /// The token.
    pub token: AccessToken,
    /// The earlier of its `exp` and the answer's `expires_in`.
    pub expires_at: UnixSeconds,
}

/// A client at one issuer: discovery, authentication, time-outs, retries, a bound on calls in flight.
pub struct OAuthClient {
    settings: OAuthSettings,
    http: Client,
    clock: Arc<dyn Clock>,
    metadata: Mutex<Option<(IssuerMetadata, UnixSeconds)>>,
    permits: Semaphore,
    calls: AtomicU64,
    cancel: CancellationToken,
}

#[derive(Deserialize)]
struct Answer {
    access_token: String,
    token_type: String,
    expires_in: Option<u64>,
}

#[derive(Deserialize)]
struct Refusal {
    error: String,
    #[serde(default)]
    error_description: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Call {
    ClientCredentials,
    Exchange,
}

impl Call {
    fn name(self) -> &'static str {
        match self {
            Self::ClientCredentials => "client credentials",
            Self::Exchange => "token exchange",
        }
    }
}

impl OAuthClient {
    /// Makes a client; nothing is sent yet. Calls end when `cancel` fires.
    ///
    /// # Errors
    /// When the CA file can't be used.
    pub fn new(
        settings: OAuthSettings,
        clock: Arc<dyn Clock>,
        cancel: CancellationToken,
    ) -> Result<Self, SetupError> {
        let http = http::client(&settings.http)?;
        let permits = Semaphore::new(settings.max_in_flight.max(1));
        Ok(Self {
            settings,
            http,
            clock,
            metadata: Mutex::new(None),
            permits,
            calls: AtomicU64::new(0),
            cancel,
        })
    }

    /// The issuer.
    pub fn issuer(&self) -> &Issuer {
        &self.settings.issuer
    }

    /// The client's id.
    pub fn client_id(&self) -> &str {
        &self.settings.client_id
    }

    /// How many requests the token endpoint has had from this client.
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    /// Asks for a token of the client itself.
    ///
    /// # Errors
    /// See [`TokenError`]; transient ones only after the retry budget is spent.
    pub async fn client_credentials(&self, request: &TokenRequest) -> Result<Grant, TokenError> {
        let scope = request.scope.to_string();
        let form = [("grant_type", "client_credentials"), ("scope", &scope), ("audience", &request.audience)];
        self.grant(Call::ClientCredentials, &form, request).await
    }

    /// Exchanges `subject` for a token of the same or less power for one audience. Nothing is sent when the request goes
    /// beyond the subject token's scopes.
    ///
    /// # Errors
    /// See [`TokenError`]; transient ones only after the retry budget is spent.
    pub async fn exchange(&self, subject: &AccessToken, request: &TokenRequest) -> Result<Grant, TokenError> {
        let held = Claims::peek(subject)
            .and_then(|claims| Ok(claims.scopes()?))
            .map_err(|error| self.mismatch(Call::Exchange, format!("subject token: {error}")))?;
        let missing = request.scope.beyond(&held);
        if !missing.is_empty() {
            return Err(TokenError::BeyondSubject { issuer: self.settings.issuer.to_string(), missing });
        }
        let scope = request.scope.to_string();
        let form = [
            ("grant_type", EXCHANGE),
            ("subject_token", subject.expose()),
            ("subject_token_type", ACCESS_TOKEN),
            ("requested_token_type", ACCESS_TOKEN),
            ("scope", &scope),
            ("audience", &request.audience),
        ];
        self.grant(Call::Exchange, &form, request).await
    }

    async fn grant(
        &self,
        call: Call,
        form: &[(&str, &str)],
        request: &TokenRequest,
    ) -> Result<Grant, TokenError> {
        retry(&self.settings.retry, &self.cancel, || async {
            let outcome = self.once(call, form, request).await;
            if let Err(error) = &outcome {
                warn!(issuer = %self.settings.issuer, audience = request.audience, %error, "no token");
            }
            outcome
        })
        .await
    }

    async fn once(
        &self,
        call: Call,
        form: &[(&str, &str)],
        request: &TokenRequest,
    ) -> Result<Grant, TokenError> {
        let _permit = self.permits.acquire().await.map_err(|_| self.unreachable(call, "shutting down"))?;
        let endpoint = self.metadata().await?.token_endpoint;
        // RFC 6749 section 2.3.1: id and secret are form-encoded before they become user name and password.
        let encoded = |text: &str| Zeroizing::new(byte_serialize(text.as_bytes()).collect::<String>());
        let (id, secret) = (encoded(&self.settings.client_id), encoded(self.settings.client_secret.expose()));
        self.calls.fetch_add(1, Ordering::Relaxed);
        let sent = self.http.post(endpoint).basic_auth(id.as_str(), Some(secret.as_str())).form(form);
        #[expect(clippy::disallowed_methods, reason = "no redirects, time-outs set, bounded body")]
        let response = tokio::select! {
            response = sent.send() => response,
            () = self.cancel.cancelled() => return Err(self.unreachable(call, "shutting down")),
        };
        let response = response.map_err(|error| self.unreachable(call, http::reason(&error)))?;
        let (status, retry_after) = (response.status(), http::retry_after(&response));
        let body = http::body(response, LIMIT)
            .await
            .map_err(|error| self.unreachable(call, http::reason(&error)))?
            .map(Zeroizing::new)
            .ok_or_else(|| self.bad(call, "it is too long"))?;
        if status == StatusCode::OK {
            let answer =
                serde_json::from_slice(&body).map_err(|_| self.bad(call, "it is no token answer"))?;
            return self.check(call, answer, request);
        }
        Err(self.refusal(call, status, retry_after, &body))
    }

    fn refusal(
        &self,
        call: Call,
        status: StatusCode,
        retry_after: Option<Duration>,
        body: &[u8],
    ) -> TokenError {
        let issuer = self.settings.issuer.to_string();
        let (call, code) = (call.name(), status.as_u16());
        let refusal = serde_json::from_slice::<Refusal>(body).ok();
        match (status, refusal) {
            (StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT, _) => {
                TokenError::Busy { issuer, call, status: code, retry_after }
            }
            (status, _) if status.is_server_error() => {
                TokenError::Busy { issuer, call, status: code, retry_after }
            }
            (status, Some(refusal)) if status.is_client_error() => TokenError::Refused {
                issuer,
                call,
                code: OAuthCode::parse(&refusal.error),
                status: code,
                description: match http::printable(&refusal.error_description) {
                    text if text.is_empty() => text,
                    text => format!(" ({text})"),
                },
            },
            _ => TokenError::BadAnswer { issuer, call, reason: "neither a token nor an OAuth error" },
        }
    }

    /// Looks at what really came: issuers narrow, widen and forget the audience without a word.
    fn check(&self, call: Call, answer: Answer, request: &TokenRequest) -> Result<Grant, TokenError> {
        if !answer.token_type.eq_ignore_ascii_case("bearer") {
            return Err(self.bad(call, "its token type is not Bearer"));
        }
        let token = AccessToken::new(answer.access_token)
            .map_err(|_| self.bad(call, "its access token is no bearer token"))?;
        let claims = Claims::peek(&token).map_err(|_| self.bad(call, "its access token is no WLCG token"))?;
        let granted = claims.scopes().map_err(|error| self.mismatch(call, error.to_string()))?;
        if claims.iss != self.settings.issuer.as_str() {
            return Err(self.mismatch(call, "`iss` names another issuer".into()));
        }
        if !claims.aud.contains(&request.audience) {
            return Err(self.mismatch(call, format!("its audience is not `{}`", request.audience)));
        }
        let missing = request.scope.beyond(&granted);
        if !missing.is_empty() {
            return Err(self.mismatch(call, format!("it lacks `{missing}`")));
        }
        if call == Call::Exchange {
            let more = granted.beyond(&request.scope);
            if !more.is_empty() || claims.aud.len() > 1 {
                return Err(self.mismatch(call, "it has more scopes or audiences than were asked for".into()));
            }
        }
        let now = self.clock.now();
        let told = answer.expires_in.map(|s| now.plus(Duration::from_secs(s)));
        let expires_at = told.map_or(claims.exp, |told| told.min(claims.exp));
        if expires_at <= now {
            return Err(self.mismatch(call, "it has expired already; compare the clocks".into()));
        }
        info!(issuer = %self.settings.issuer, audience = request.audience, scope = %request.scope,
            token = %token.fingerprint(), expires_in_s = now.until(expires_at).as_secs(), "token by {}", call.name());
        Ok(Grant { token, expires_at })
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

    fn unreachable(&self, call: Call, reason: &'static str) -> TokenError {
        TokenError::Unreachable { issuer: self.settings.issuer.to_string(), call: call.name(), reason }
    }

    fn bad(&self, call: Call, reason: &'static str) -> TokenError {
        TokenError::BadAnswer { issuer: self.settings.issuer.to_string(), call: call.name(), reason }
    }

    fn mismatch(&self, call: Call, reason: String) -> TokenError {
        TokenError::Mismatch { issuer: self.settings.issuer.to_string(), call: call.name(), reason }
    }
}

/// One client-credentials token for one audience, kept and renewed: what a client of FTS sends.
pub struct ClientCredentials {
    client: Arc<OAuthClient>,
    keeper: Arc<TokenKeeper>,
    request: TokenRequest,
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
        Self { client, keeper, request, min_life }
    }
}

impl BearerSource for ClientCredentials {
    fn bearer(&self, freshness: Freshness) -> crate::keeper::BearerFuture<'_> {
        Box::pin(async move {
            let key = CacheKey {
                issuer: self.client.issuer().to_string(),
                client_id: self.client.client_id().to_owned(),
                subject: self.client.client_id().to_owned(),
                audience: self.request.audience.clone(),
                scope: self.request.scope.clone(),
            };
            let wish = TokenWish { key, min_life: self.min_life, freshness };
            let (client, request) = (Arc::clone(&self.client), self.request.clone());
            let held = self.keeper.get(wish, async move || client.client_credentials(&request).await).await?;
            let CachedToken { token, .. } = held;
            Ok(token)
        })
    }
}
