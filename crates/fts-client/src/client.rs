//! The calls.

use std::sync::Arc;
use std::time::Duration;

use reqwest::{Client, Method, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use token_core::http::{self, HttpSettings, SetupError};
use token_core::{BearerSource, Freshness};
use tracing::debug;
use url::Url;

use crate::error::FtsError;
use crate::job::{JobId, Submission};
use crate::status::{JobStatus, Lookup, WhoAmI};

/// Longest answer, in bytes: 1,000 files with metadata take about 2 MB.
const LIMIT: usize = 8 * 1024 * 1024;

/// How to reach an FTS.
#[derive(Clone, Debug)]
pub struct FtsSettings {
    /// Its base URL; a slash at the end makes no difference.
    pub url: Url,
    /// TLS and time-outs.
    pub http: HttpSettings,
}

impl FtsSettings {
    /// An FTS with the default time-outs and the system's certificate authorities.
    pub fn new(url: Url) -> Self {
        let http = HttpSettings { timeout: Duration::from_secs(60), ..HttpSettings::default() };
        Self { url, http }
    }
}

/// How a submission ended well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Submitted {
    /// FTS took the job.
    Accepted(JobId),
    /// FTS has a job of this `sid` already (409): ours, from a try whose answer was lost.
    AlreadyThere,
}

/// One FTS, and a source of tokens for it.
pub struct FtsClient {
    base: String,
    http: Client,
    bearer: Arc<dyn BearerSource>,
}

struct Answer {
    status: StatusCode,
    body: Vec<u8>,
}

#[derive(Deserialize)]
struct ErrorBody {
    message: Option<String>,
    http_message: Option<String>,
}

impl FtsClient {
    /// Makes a client; nothing is sent yet.
    ///
    /// # Errors
    /// When the CA file can't be used.
    pub fn new(settings: &FtsSettings, bearer: Arc<dyn BearerSource>) -> Result<Self, SetupError> {
        let base = settings.url.as_str().trim_end_matches('/').to_owned();
        Ok(Self { base, http: http::client(&settings.http)?, bearer })
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
        for freshness in [Freshness::Kept, Freshness::Fresh] {
            let answer = self.call(Method::GET, "/whoami", None, freshness).await?;
            let who: WhoAmI = self.decode("whoami", &self.expect(answer, "whoami")?)?;
            if who.identity().is_some() {
                return Ok(who);
            }
        }
        Err(FtsError::Anonymous { fts: self.base.clone() })
    }

    /// Submits a job. A 403 that says nothing more is what an unbelieved token gets: it is replaced once.
    ///
    /// # Errors
    /// See [`FtsError`]; after [`FtsError::job_may_exist`] the job's id must be looked up.
    pub async fn submit(&self, job: &Submission) -> Result<Submitted, FtsError> {
        #[derive(Deserialize)]
        struct Accepted {
            job_id: JobId,
        }
        let body = serde_json::to_vec(job)
            .map_err(|_| self.bad("submission", "the job can't be written as JSON".into()))?;
        let mut answer = self.call(Method::POST, "/jobs", Some(&body), Freshness::Kept).await?;
        if self.anonymous(&answer) {
            answer = self.call(Method::POST, "/jobs", Some(&body), Freshness::Fresh).await?;
        }
        match answer.status {
            StatusCode::CONFLICT if message(&answer.body).contains("sid") => Ok(Submitted::AlreadyThere),
            _ => {
                let body = self.expect(answer, "submission")?;
                self.decode("submission", &body).map(|Accepted { job_id }| Submitted::Accepted(job_id))
            }
        }
    }

    /// Looks one job up with the fields named of its files.
    ///
    /// # Errors
    /// See [`FtsError`]. An expired token makes FTS answer 500 here: it is replaced if FTS takes us for nobody.
    pub async fn job(&self, id: &JobId, file_fields: &[&str]) -> Result<Lookup, FtsError> {
        let path = format!("/jobs/{id}?files={}", file_fields.join(","));
        let mut answer = self.call(Method::GET, &path, None, Freshness::Kept).await?;
        if answer.status == StatusCode::INTERNAL_SERVER_ERROR {
            // What an expired token gets, and what a real error gets: `whoami` tells them apart, and replaces the token.
            self.whoami().await?;
            answer = self.call(Method::GET, &path, None, Freshness::Kept).await?;
        }
        if answer.status == StatusCode::NOT_FOUND {
            return match self.decode::<NotFound>("job", &answer.body)?.job_id == *id {
                true => Ok(Lookup::Unknown),
                false => Err(self.bad("job", "the 404 is for another job".into())),
            };
        }
        let body = self.expect(answer, "job")?;
        self.decode::<JobStatus>("job", &body).map(Lookup::Known)
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&[u8]>,
        freshness: Freshness,
    ) -> Result<Answer, FtsError> {
        let token = self.bearer.bearer(freshness).await?;
        debug!(fts = self.base, %method, path, token = %token.fingerprint(), "call");
        let mut request =
            self.http.request(method, format!("{}{path}", self.base)).bearer_auth(token.expose());
        if let Some(body) = body {
            request = request.header(reqwest::header::CONTENT_TYPE, "application/json").body(body.to_vec());
        }
        #[expect(clippy::disallowed_methods, reason = "no redirects, time-outs set, bounded body")]
        let response = request.send().await.map_err(|error| self.unanswered(&error))?;
        let status = response.status();
        let body = http::body(response, LIMIT).await.map_err(|error| self.unanswered(&error))?;
        let body = body.ok_or_else(|| self.bad("the call", "it is too long".into()))?;
        Ok(Answer { status, body })
    }

    fn anonymous(&self, answer: &Answer) -> bool {
        answer.status == StatusCode::FORBIDDEN && message(&answer.body) == "Not enough permissions"
    }

    /// The body of a 200, or what the status means.
    fn expect(&self, answer: Answer, call: &'static str) -> Result<Vec<u8>, FtsError> {
        let (fts, status) = (self.base.clone(), answer.status.as_u16());
        let said = || message(&answer.body);
        match answer.status {
            StatusCode::OK => Ok(answer.body),
            StatusCode::FORBIDDEN if self.anonymous(&answer) => Err(FtsError::Anonymous { fts }),
            StatusCode::FORBIDDEN if said().ends_with("is banned") => {
                Err(FtsError::Banned { fts, message: said() })
            }
            StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED => {
                Err(FtsError::Forbidden { fts, message: said() })
            }
            StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT => {
                Err(FtsError::OutcomeUnknown { fts, reason: format!("it answered {status} to {call}") })
            }
            s if s.is_server_error() => Err(FtsError::OutcomeUnknown {
                fts,
                reason: format!("it answered {status} to {call}: {}", said()),
            }),
            s if s.is_client_error() => Err(FtsError::Refused { fts, status, message: said() }),
            _ => Err(self.bad(call, format!("status {status}"))),
        }
    }

    fn decode<T: DeserializeOwned>(&self, call: &'static str, body: &[u8]) -> Result<T, FtsError> {
        serde_json::from_slice(body).map_err(|error| {
            self.bad(
                call,
                format!("not the JSON expected, at line {} column {}", error.line(), error.column()),
            )
        })
    }

    fn bad(&self, call: &'static str, reason: String) -> FtsError {
        FtsError::BadAnswer { fts: self.base.clone(), call, reason }
    }

    fn unanswered(&self, error: &reqwest::Error) -> FtsError {
        let (fts, reason) = (self.base.clone(), http::reason(error));
        if error.is_connect() {
            FtsError::Unreachable { fts, reason }
        } else {
            FtsError::OutcomeUnknown { fts, reason: reason.into() }
        }
    }
}

#[derive(Deserialize)]
struct NotFound {
    job_id: JobId,
}

/// FTS's words, from JSON or from the HTML of its authentication layer, made safe to print.
fn message(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let json =
        serde_json::from_str::<ErrorBody>(&text).ok().and_then(|body| body.message.or(body.http_message));
    let plain = json.unwrap_or_else(|| {
        let mut inside = false;
        let visible = |c: &char| {
            inside = (*c == '<') || (inside && *c != '>');
            !inside && *c != '>'
        };
        text.chars().filter(visible).collect()
    });
    http::printable(&plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_found_in_json_and_in_html() {
        assert_eq!(
            message(br#"{"status":"403 Forbidden","message":"Not enough permissions"}"#),
            "Not enough permissions"
        );
        assert_eq!(
            message(b"<html><h1>Forbidden</h1>\n<p>Invalid credentials</p></html>"),
            "Forbidden Invalid credentials"
        );
        assert_eq!(message(b"\xff<"), "");
    }
}
