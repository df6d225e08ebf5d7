//! A recording: steps that were sent one after the other, and what came back.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};

/// One case.
#[derive(Debug, Deserialize)]
pub(crate) struct Recording {
    /// What it shows, in words. Only these tell what is wrong with a signature.
    #[serde(default)]
    pub(crate) shows: String,
    /// How both servers were set up.
    pub(crate) storage_config: Config,
    /// The requests, in their order.
    pub(crate) steps: Vec<Step>,
}

/// How a server was set up.
#[derive(Debug, Deserialize)]
pub(crate) struct Config {
    pub(crate) issuer: String,
    pub(crate) base_path: String,
    #[serde(default)]
    pub(crate) restricted_path: Vec<String>,
    #[serde(default)]
    pub(crate) audiences: Vec<String>,
}

/// A request and its answer.
#[derive(Debug, Deserialize)]
pub(crate) struct Step {
    pub(crate) request: Request,
    pub(crate) response: Response,
}

/// A request. A header value may hold `<token NAME>`, which stands for a token below `tokens`.
#[derive(Debug, Deserialize)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) url: String,
    pub(crate) headers: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) tokens: BTreeMap<String, Token>,
    /// Only the length of a body was kept.
    #[serde(default)]
    pub(crate) body_bytes: usize,
}

/// A token; its times are written `now+10`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Token {
    pub(crate) header: Value,
    pub(crate) claims: Map<String, Value>,
}

/// An answer. Of a long body only `<N bytes>` was kept.
#[derive(Debug, Deserialize)]
pub(crate) struct Response {
    pub(crate) status: u16,
    #[serde(default)]
    pub(crate) reason: String,
    #[serde(default)]
    pub(crate) headers: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) body: String,
}

impl Request {
    /// A header, its name in any case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// The token whose place is this header.
    pub(crate) fn token(&self, header: &str) -> Option<&Token> {
        self.tokens.iter().find(|(name, _)| name.eq_ignore_ascii_case(header)).map(|(_, token)| token)
    }
}

impl Response {
    /// A header, its name in any case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// How many bytes of content it tells of.
    pub(crate) fn length(&self) -> Option<usize> {
        let told = || self.body.split("getcontentlength>").nth(1)?.split('<').next()?.parse().ok();
        match self.status {
            207 => told(),
            _ => self.bytes().or_else(|| self.header("content-length")?.parse().ok()),
        }
    }

    /// The length of a body that was not kept.
    pub(crate) fn bytes(&self) -> Option<usize> {
        self.body.strip_prefix('<')?.strip_suffix(" bytes>")?.parse().ok()
    }
}

impl Token {
    /// Whether a scope names this right.
    pub(crate) fn has(&self, right: &str) -> bool {
        let scope = self.claims.get("scope").and_then(Value::as_str).unwrap_or_default();
        scope.split(' ').any(|item| item.split(':').next() == Some(right))
    }

    /// Seconds from now in a claim such as `now-3`.
    pub(crate) fn offset(&self, claim: &str) -> Option<i64> {
        offset(self.claims.get(claim)?)
    }
}

/// Seconds from now in a value such as `now-3`.
pub(crate) fn offset(value: &Value) -> Option<i64> {
    value.as_str()?.strip_prefix("now")?.parse().ok()
}

/// A URL, taken apart as it stands: `scheme://authority`, and the path with its query.
pub(crate) fn split(url: &str) -> Option<(&str, &str)> {
    let after = url.find("://")? + 3;
    let at = url[after..].find('/').map_or(url.len(), |at| after + at);
    Some((&url[..at], if at == url.len() { "/" } else { &url[at..] }))
}
