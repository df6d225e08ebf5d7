//! The grants: client credentials and refresh (RFC 6749 sections 4.4 and 6), token exchange (RFC 8693) and device codes
//! (RFC 8628).

mod answer;
mod authentication;
mod call;
mod counts;
mod device;
mod key;
mod request;
mod source;
mod transport;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use reqwest::Client;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use tracing::debug;

pub use answer::Answer;
use answer::TokenAnswer;
pub use authentication::ClientAuthentication;
use call::Call;
pub use counts::CallCounts;
use counts::Counts;
pub use device::DeviceAuthorization;
pub use key::{AssertionKey, KeyError};
pub use request::{AudienceParameter, TokenRequest};
pub use source::ClientCredentials;

use crate::claims::Claims;
use crate::clock::{Clock, UnixSeconds};
use crate::error::TokenError;
use crate::guard::Guard;
use crate::http::{self, HttpSettings, SetupError};
use crate::issuer::Issuer;
use crate::metadata::IssuerMetadata;
use crate::retry::RetryPolicy;
use crate::secret::{AccessToken, RefreshToken};

const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";

/// A client at an issuer.
#[derive(Clone, Debug)]
pub struct OAuthSettings {
    /// The issuer.
    pub issuer: Issuer,
    /// The client's id.
    pub client_id: String,
    /// How it proves to be that client.
    pub authentication: ClientAuthentication,
    /// By which parameter the audience is asked for.
    pub audience: AudienceParameter,
    /// What kind of access token the issuer gives.
    pub answer: Answer,
    /// How to reach the issuer.
    pub http: HttpSettings,
    /// How often to try again.
    pub retry: RetryPolicy,
    /// What the issuer is asked to bear; clients at the same issuer share one.
    pub guard: Arc<Guard>,
}

impl OAuthSettings {
    /// A client at an issuer like INDIGO IAM, with the defaults for all else.
    pub fn new(
        issuer: Issuer,
        client_id: impl Into<String>,
        authentication: impl Into<ClientAuthentication>,
    ) -> Self {
        Self {
            issuer,
            client_id: client_id.into(),
            authentication: authentication.into(),
            audience: AudienceParameter::default(),
            answer: Answer::default(),
            http: HttpSettings::default(),
            retry: RetryPolicy::default(),
            guard: Arc::default(),
        }
    }
}

/// What was given, checked against what was asked for.
#[derive(Clone, Debug)]
pub struct Grant {
    /// The token.
    pub token: AccessToken,
    /// The earlier of its `exp` and the answer's `expires_in`.
    pub expires_at: UnixSeconds,
}

/// What was given for a request, whether it is what was asked for or not: for a person who wants to know what differs. Nothing else
/// should use such a token.
#[derive(Clone, Debug)]
pub struct Given {
    /// The token.
    pub token: AccessToken,
    /// What it is by the measure of the request.
    pub measured: Result<Grant, TokenError>,
}

/// What was given by a call that may also give a refresh token. Keep `refresh` safe before `grant` is looked at: the
/// refresh token that was used is ended already, whether the access token is what was asked for or not.
#[derive(Clone, Debug)]
pub struct Refreshed {
    /// The access token, or why it is not what was asked for.
    pub grant: Result<Grant, TokenError>,
    /// The new refresh token. After a refresh, none means that the issuer did not rotate: the old one stays good. After
    /// other calls, none means that the issuer gave none, whatever was asked for.
    pub refresh: Option<RefreshToken>,
}

/// A client at one issuer: discovery, authentication, time-outs, retries, and the issuer's [`Guard`].
///
/// ```no_run
/// use std::sync::Arc;
/// use token_core::{ClientSecret, Issuer, OAuthClient, OAuthSettings, ScopeSet, SystemClock, TokenRequest};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let secret = ClientSecret::from_file("/etc/token-conveyor/client.secret".as_ref())?;
/// let settings = OAuthSettings::new(Issuer::new("https://iam.example/")?, "exchanger", secret);
/// let client = OAuthClient::new(settings, Arc::new(SystemClock), Default::default())?;
/// let wide = TokenRequest { audience: "fts.example".into(), scope: ScopeSet::parse("fts storage.read:/")? };
/// let submitted = client.client_credentials(&wide).await?;
/// let narrow = TokenRequest {
///     audience: "https://se.example".into(),
///     scope: ScopeSet::parse("storage.read:/data/run1")?,
/// };
/// let for_one_storage = client.exchange(&submitted.token, &narrow).await?;
/// println!("token {} ends at {}", for_one_storage.token.fingerprint(), for_one_storage.expires_at.0);
/// # Ok(()) }
/// ```
pub struct OAuthClient {
    settings: OAuthSettings,
    http: Client,
    clock: Arc<dyn Clock>,
    metadata: Mutex<Option<(IssuerMetadata, UnixSeconds)>>,
    calls: AtomicU64,
    counts: Counts,
    /// For whoever is told that the issuer is left alone; another client may share the guard, so it may be empty.
    last_failure: std::sync::Mutex<String>,
    cancel: CancellationToken,
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
        Ok(Self {
            settings,
            http,
            clock,
            metadata: Mutex::new(None),
            calls: AtomicU64::new(0),
            counts: Counts::default(),
            last_failure: std::sync::Mutex::default(),
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

    /// What kind of access token the issuer gives.
    pub fn answer(&self) -> Answer {
        self.settings.answer
    }

    /// How many requests the token endpoint has had from this client.
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    /// What its calls came to and how long they took, by grant.
    pub fn call_counts(&self) -> Vec<CallCounts> {
        self.counts.read()
    }

    /// What the issuer is asked to bear.
    pub fn guard(&self) -> &Arc<Guard> {
        &self.settings.guard
    }

    /// Asks for a token of the client itself.
    ///
    /// # Errors
    /// See [`TokenError`]; transient ones only after the retry budget is spent.
    pub async fn client_credentials(&self, request: &TokenRequest) -> Result<Grant, TokenError> {
        let scope = request.scope_parameter(false);
        let form = [("grant_type", "client_credentials"), ("scope", scope.as_str())];
        self.grant(Call::ClientCredentials, &form, request).await
    }

    /// Exchanges `subject` for a token of the same or less power for one audience. Nothing is sent when the request goes
    /// beyond the subject token's scopes.
    ///
    /// # Errors
    /// See [`TokenError`]; transient ones only after the retry budget is spent.
    pub async fn exchange(&self, subject: &AccessToken, request: &TokenRequest) -> Result<Grant, TokenError> {
        self.within(Call::Exchange, subject, request)?;
        let scope = request.scope_parameter(false);
        self.grant(Call::Exchange, &exchange_form(subject, &scope), request).await
    }

    /// As [`Self::client_credentials`], and tells what came when it is not what was asked for.
    ///
    /// # Errors
    /// See [`TokenError`]; when nothing came that is a token.
    pub async fn client_credentials_as_given(&self, request: &TokenRequest) -> Result<Given, TokenError> {
        let scope = request.scope_parameter(false);
        let form = [("grant_type", "client_credentials"), ("scope", scope.as_str())];
        self.given(Call::ClientCredentials, &form, request).await
    }

    /// As [`Self::exchange`], and tells what came when it is not what was asked for.
    ///
    /// # Errors
    /// See [`TokenError`]; when nothing came that is a token.
    pub async fn exchange_as_given(
        &self,
        subject: &AccessToken,
        request: &TokenRequest,
    ) -> Result<Given, TokenError> {
        self.within(Call::Exchange, subject, request)?;
        let scope = request.scope_parameter(false);
        self.given(Call::Exchange, &exchange_form(subject, &scope), request).await
    }

    /// As [`Self::exchange`], and asks for a refresh token by the scope `offline_access`. INDIGO IAM refuses this to the
    /// client that got the subject token.
    ///
    /// # Errors
    /// See [`TokenError`]. `OutcomeUnknown` when the answer was lost after the call was sent: a refresh token that nobody
    /// holds may then live at the issuer.
    pub async fn exchange_for_refresh(
        &self,
        subject: &AccessToken,
        request: &TokenRequest,
    ) -> Result<Refreshed, TokenError> {
        self.within(Call::ExchangeForRefresh, subject, request)?;
        let scope = request.scope_parameter(true);
        self.refreshing(Call::ExchangeForRefresh, &exchange_form(subject, &scope), request).await
    }

    /// Makes an access token from a refresh token (RFC 6749 section 6); the request may narrow what the refresh token
    /// stands for. Never two at a time for one refresh token: an issuer that rotates takes the second for theft (RFC 9700
    /// section 4.14.2).
    ///
    /// # Errors
    /// See [`TokenError`]. `OutcomeUnknown` when the answer was lost after the call was sent: the refresh token may have
    /// been ended by it, and is not used again here. Who drops the future under way does not know the outcome either.
    pub async fn refresh(
        &self,
        refresh: &RefreshToken,
        request: &TokenRequest,
    ) -> Result<Refreshed, TokenError> {
        let scope = request.scope_parameter(false);
        let form = [("grant_type", "refresh_token"), ("refresh_token", refresh.expose()), ("scope", &scope)];
        self.refreshing(Call::Refresh, &form, request).await
    }

    /// Whether an exchange only narrows. An opaque subject token can't be looked into: its issuer has to see to it.
    fn within(&self, call: Call, subject: &AccessToken, request: &TokenRequest) -> Result<(), TokenError> {
        let issuer = &self.settings.issuer;
        let claims = match Claims::peek(subject) {
            Ok(claims) => claims,
            Err(_) if self.settings.answer == Answer::Opaque => return Ok(()),
            Err(error) => return Err(call.mismatch(issuer, format!("subject token: {error}"))),
        };
        let held =
            claims.scopes().map_err(|error| call.mismatch(issuer, format!("subject token: {error}")))?;
        let missing = request.scope.beyond(&held);
        if missing.is_empty() {
            return Ok(());
        }
        Err(TokenError::BeyondSubject { issuer: issuer.to_string(), missing })
    }

    async fn grant(
        &self,
        call: Call,
        form: &[(&str, &str)],
        request: &TokenRequest,
    ) -> Result<Grant, TokenError> {
        let form = [form, &self.settings.audience.parameters(request)].concat();
        let read =
            |body: &[u8]| self.read(call, body)?.check(&self.settings, call, request, self.clock.now());
        self.call(call, &form, request, read).await
    }

    async fn given(
        &self,
        call: Call,
        form: &[(&str, &str)],
        request: &TokenRequest,
    ) -> Result<Given, TokenError> {
        let form = [form, &self.settings.audience.parameters(request)].concat();
        let read = |body: &[u8]| {
            let answer = self.read(call, body)?;
            let token = answer.access_token().map_err(|reason| call.bad(&self.settings.issuer, reason))?;
            Ok(Given { token, measured: answer.check(&self.settings, call, request, self.clock.now()) })
        };
        self.call(call, &form, request, read).await
    }

    async fn refreshing(
        &self,
        call: Call,
        form: &[(&str, &str)],
        request: &TokenRequest,
    ) -> Result<Refreshed, TokenError> {
        let form = [form, &self.settings.audience.parameters(request)].concat();
        self.call(call, &form, request, |body| self.refreshed(call, request, body)).await
    }

    fn refreshed(&self, call: Call, request: &TokenRequest, body: &[u8]) -> Result<Refreshed, TokenError> {
        let mut answer = self.read(call, body)?;
        let refresh = answer.refresh_token().map_err(|reason| call.bad(&self.settings.issuer, reason))?;
        let grant = answer.check(&self.settings, call, request, self.clock.now());
        if let Err(error) = &grant {
            debug!(issuer = %self.settings.issuer, audience = request.audience, %error, "no token");
        }
        Ok(Refreshed { grant, refresh })
    }

    fn read(&self, call: Call, body: &[u8]) -> Result<TokenAnswer, TokenError> {
        TokenAnswer::read(body).map_err(|reason| call.bad(&self.settings.issuer, reason))
    }
}

fn exchange_form<'a>(subject: &'a AccessToken, scope: &'a str) -> [(&'static str, &'a str); 5] {
    [
        ("grant_type", EXCHANGE),
        ("subject_token", subject.expose()),
        ("subject_token_type", ACCESS_TOKEN),
        ("requested_token_type", ACCESS_TOKEN),
        ("scope", scope),
    ]
}
