//! A recording of `fts_token`: the database before, what it sent to the issuer and got, and the database after.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::Deserialize;
use serde_json::{Map, Value};

pub(crate) type Row = Map<String, Value>;

#[derive(Deserialize)]
pub(crate) struct Recording {
    pub(crate) name: String,
    pub(crate) recorded_at: i64,
    #[serde(default, rename = "requests_to_issuer")]
    pub(crate) calls: Vec<Call>,
    #[serde(rename = "database_before")]
    pub(crate) before: Tables,
    #[serde(rename = "database_after")]
    pub(crate) after: Tables,
    #[serde(rename = "daemon_alive_after", default = "yes")]
    pub(crate) alive: bool,
    #[serde(default)]
    pub(crate) tokens: BTreeMap<String, Token>,
    /// What `fts_url_copy` asked over ZeroMQ, and what came back.
    #[serde(default)]
    zmq: Value,
    /// What `fts_token` said.
    #[serde(default)]
    log: Vec<String>,
}

fn yes() -> bool {
    true
}

#[derive(Deserialize)]
pub(crate) struct Call {
    pub(crate) request: Request,
    pub(crate) response: Option<Response>,
}

#[derive(Deserialize)]
pub(crate) struct Request {
    pub(crate) method: String,
    #[serde(rename = "body_as_sent")]
    pub(crate) body: Option<String>,
}

#[derive(Clone, Deserialize)]
pub(crate) struct Response {
    /// None when the connection was closed without an answer.
    pub(crate) status: Option<u16>,
    #[serde(default)]
    pub(crate) headers: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) body: Value,
}

#[derive(Default, Deserialize)]
pub(crate) struct Tables {
    #[serde(rename = "t_job", default)]
    pub(crate) jobs: Vec<Row>,
    #[serde(rename = "t_file", default)]
    pub(crate) files: Vec<Row>,
    #[serde(rename = "t_token", default)]
    pub(crate) tokens: Vec<Row>,
}

#[derive(Deserialize)]
pub(crate) struct Token {
    pub(crate) claims: Row,
}

impl Recording {
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
        serde_json::from_slice(&text).with_context(|| format!("{} is no recording", path.display()))
    }

    /// Whether `fts_url_copy` asked for a token, or one was refreshed.
    pub(crate) fn is_refresh(&self) -> bool {
        !self.zmq.is_null() || self.refreshes().next().is_some()
    }

    /// Why it is not run.
    pub(crate) fn not_run(&self) -> Option<&'static str> {
        let unknown = self.is_refresh() && self.refreshed().is_none();
        unknown.then_some("it does not say which token was asked for")
    }

    /// The token that `fts_url_copy` asked for. Where the question was not written down, the log names it.
    pub(crate) fn refreshed(&self) -> Option<&str> {
        let named = || {
            let line = self.log.iter().find(|line| line.contains("TokenRefresh request received"))?;
            line.split("token_id=").nth(1)?.split(' ').next()
        };
        self.zmq.pointer("/request/token_id").and_then(Value::as_str).or_else(named)
    }

    /// The kinds of the answers that came; none for one that did not come in time.
    pub(crate) fn replies(&self) -> Vec<Option<&str>> {
        let replies =
            self.zmq.get("replies").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        replies.iter().map(|reply| reply.get("response_type").and_then(Value::as_str)).collect()
    }

    /// The refreshes that `fts_token` made.
    pub(crate) fn refreshes(&self) -> impl Iterator<Item = &Call> {
        let refresh = |call: &&Call| {
            call.request.body.as_deref().is_some_and(|body| body.starts_with("grant_type=refresh_token"))
        };
        self.calls.iter().filter(refresh)
    }

    /// The exchange that `fts_token` made of the token `label`.
    pub(crate) fn exchange(&self, label: &str) -> Option<&Call> {
        let subject = format!("subject_token=<token:{label}>");
        let asked = |call: &&Call| {
            call.request.method == "POST"
                && call.request.body.as_deref().is_some_and(|body| body.contains(&subject))
        };
        self.calls.iter().find(asked)
    }
}

impl Tables {
    /// A token's row.
    pub(crate) fn token(&self, id: &str) -> Option<&Row> {
        self.tokens.iter().find(|row| text(row, "token_id") == Some(id))
    }

    /// The row that holds the token `wanted`.
    pub(crate) fn subject(&self, wanted: &str) -> Option<&Row> {
        self.tokens.iter().find(|row| text(row, "access_token").and_then(label) == Some(wanted))
    }

    /// A job's row.
    pub(crate) fn job(&self, id: &str) -> Option<&Row> {
        self.jobs.iter().find(|row| text(row, "job_id") == Some(id))
    }

    /// A file's row.
    pub(crate) fn file(&self, id: i64) -> Option<&Row> {
        self.files.iter().find(|row| row.get("file_id").and_then(Value::as_i64) == Some(id))
    }
}

/// A column's text; none where it is null or not there.
pub(crate) fn text<'a>(row: &'a Row, column: &str) -> Option<&'a str> {
    row.get(column).and_then(Value::as_str)
}

/// A column's number; 0 where it is null or not there.
pub(crate) fn number(row: &Row, column: &str) -> i64 {
    row.get(column).and_then(Value::as_i64).unwrap_or(0)
}

/// What stands between `<token:` and `>`.
pub(crate) fn label(placeholder: &str) -> Option<&str> {
    placeholder.strip_prefix("<token:")?.strip_suffix('>')
}
