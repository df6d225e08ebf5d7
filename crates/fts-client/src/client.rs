//! One FTS and the way to it: connections, the token, and what is done when FTS does not believe it.

use std::sync::Arc;
use std::time::Duration;

use reqwest::{Client, Method};
use token_core::http::{self, ClientCertificate, HttpSettings, SetupError};
use token_core::{BearerSource, Freshness};
use tracing::debug;
use url::Url;

use crate::answer::Answer;
use crate::error::FtsError;
use crate::who::{ServerInfo, WhoAmI};

/// Longest answer, in bytes. 2,000 files with the longest metadata that the shipped configuration allows take 10 MB.
const LIMIT: usize = 32 * 1024 * 1024;

/// How to reach an FTS.
#[derive(Clone, Debug)]
pub struct FtsSettings {
    /// Its base URL; a slash at the end makes no difference.
    pub url: Url,
    /// TLS and time-outs.
    pub http: HttpSettings,
    /// A certificate to show, beside or instead of a token.
    pub certificate: Option<ClientCertificate>,
}

impl FtsSettings {
    /// An FTS with the default time-outs and the system's certificate authorities.
    pub fn new(url: Url) -> Self {
        let http = HttpSettings { timeout: Duration::from_secs(60), ..HttpSettings::default() };
        Self { url, http, certificate: None }
    }
}

/// One FTS, and a source of tokens for it. Connections are kept and used again; calls may run at the same time. A call is
/// cancelled by dropping its future: of a submission the outcome is then unknown.
pub struct FtsClient {
    pub(crate) base: Arc<str>,
    http: Client,
    bearer: Option<Arc<dyn BearerSource>>,
}

/// A request to be sent.
pub(crate) struct Call<'a> {
    /// For error texts.
    pub(crate) name: &'static str,
    pub(crate) method: Method,
    pub(crate) path: &'a str,
    pub(crate) body: Option<&'a [u8]>,
}

impl Call<'_> {
    fn changes(&self) -> bool {
        self.method != Method::GET
    }
}

/// What came of sending: an answer, or one that is too long to be taken.
pub(crate) enum Sent {
    Answer(Answer),
    TooLong,
}

impl FtsClient {
    /// Makes a client; nothing is sent yet.
    ///
    /// # Errors
    /// When the CA file or the certificate can't be used.
    pub fn new(settings: &FtsSettings, bearer: Arc<dyn BearerSource>) -> Result<Self, SetupError> {
        Self::make(settings, Some(bearer))
    }

    /// Makes a client that sends no token: it is its certificate, or nobody.
    ///
    /// # Errors
    /// When the CA file or the certificate can't be used.
    pub fn without_token(settings: &FtsSettings) -> Result<Self, SetupError> {
        Self::make(settings, None)
    }

    fn make(settings: &FtsSettings, bearer: Option<Arc<dyn BearerSource>>) -> Result<Self, SetupError> {
        let base = settings.url.as_str().trim_end_matches('/').into();
        let http = http::client_with(&settings.http, settings.certificate.as_ref())?;
        Ok(Self { base, http, bearer })
    }

    /// The base URL without a slash at its end.
    pub fn url(&self) -> &str {
        &self.base
    }

    /// Who FTS takes us for. A token that it does not believe is replaced once.
    ///
    /// # Errors
    /// [`FtsError::Anonymous`] when a fresh token is not believed either.
    pub async fn whoami(&self) -> Result<WhoAmI, FtsError> {
        self.believed().await.map(|(who, _)| who)
    }

    /// What this FTS is. Anybody may ask.
    ///
    /// # Errors
    /// See [`FtsError`].
    pub async fn server(&self) -> Result<ServerInfo, FtsError> {
        self.get("server information", "/").await?.server()
    }

    /// Who we are, and whether it took a fresh token.
    async fn believed(&self) -> Result<(WhoAmI, bool), FtsError> {
        let call = Call { name: "whoami", method: Method::GET, path: "/whoami", body: None };
        for freshness in [Freshness::Kept, Freshness::Fresh] {
            let answer = self.send(&call, freshness).await?.answer(self, call.name)?;
            if freshness == Freshness::Kept && self.bearer.is_some() && answer.blames_the_token() {
                continue;
            }
            let who = answer.whoami()?;
            if who.identity().is_some() {
                return Ok((who, freshness == Freshness::Fresh));
            }
            if self.bearer.is_none() {
                break;
            }
        }
        Err(FtsError::Anonymous { fts: self.base.to_string() })
    }

    pub(crate) async fn get(&self, name: &'static str, path: &str) -> Result<Answer, FtsError> {
        self.call(Call { name, method: Method::GET, path, body: None }).await
    }

    pub(crate) async fn call(&self, call: Call<'_>) -> Result<Answer, FtsError> {
        let name = call.name;
        self.ask(call).await?.answer(self, name)
    }

    /// Sends a call. A token that FTS does not believe, or that lacks the scope that it wants, is replaced once: where it looks at
    /// rights it says 403, and for a job by its id it falls over with a 500, which `whoami` tells from a real one.
    pub(crate) async fn ask(&self, call: Call<'_>) -> Result<Sent, FtsError> {
        let sent = self.send(&call, Freshness::Kept).await?;
        let again = match (&sent, &self.bearer) {
            (Sent::Answer(answer), Some(_)) if answer.blames_the_token() => Some(Freshness::Fresh),
            (Sent::Answer(answer), _) if answer.status() == 500 && call.path.starts_with("/jobs/") => {
                // The call is made by a fresh token if that is what `whoami` needed, which is then the kept one.
                self.believed().await?.1.then_some(Freshness::Kept)
            }
            _ => None,
        };
        match again {
            None => Ok(sent),
            Some(freshness) => self.send(&call, freshness).await,
        }
    }

    async fn send(&self, call: &Call<'_>, freshness: Freshness) -> Result<Sent, FtsError> {
        let mut request = self.http.request(call.method.clone(), format!("{}{}", self.base, call.path));
        if let Some(bearer) = &self.bearer {
            let token = bearer.bearer(freshness).await?;
            debug!(fts = %self.base, method = %call.method, path = call.path, token = %token.fingerprint(), "call");
            request = request.bearer_auth(token.expose());
        }
        if let Some(body) = call.body {
            request = request.header(reqwest::header::CONTENT_TYPE, "application/json").body(body.to_vec());
        }
        #[expect(clippy::disallowed_methods, reason = "no redirects, time-outs set, bounded body")]
        let response = request.send().await.map_err(|error| self.unanswered(call, &error))?;
        let status = response.status().as_u16();
        let body = http::body(response, LIMIT).await.map_err(|error| self.unanswered(call, &error))?;
        Ok(match body {
            Some(body) => {
                Sent::Answer(Answer::new(Arc::clone(&self.base), call.name, call.changes(), status, body))
            }
            None => Sent::TooLong,
        })
    }

    fn unanswered(&self, call: &Call<'_>, error: &reqwest::Error) -> FtsError {
        let (fts, reason) = (self.base.to_string(), http::reason(error));
        match () {
            () if error.is_connect() => FtsError::Unreachable { fts, reason },
            () if call.changes() => FtsError::OutcomeUnknown { fts, reason: reason.into() },
            () => FtsError::Busy { fts, reason: reason.into() },
        }
    }
}

impl Sent {
    pub(crate) fn answer(self, client: &FtsClient, call: &'static str) -> Result<Answer, FtsError> {
        match self {
            Self::Answer(answer) => Ok(answer),
            Self::TooLong => Err(FtsError::BadAnswer {
                fts: client.base.to_string(),
                call,
                reason: format!("it is longer than {} MB: ask for fewer fields or jobs", LIMIT >> 20),
            }),
        }
    }
}
