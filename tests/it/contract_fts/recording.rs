//! A recording of one REST call.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};

/// A row of a table: column and value. Columns that are null are mostly left out.
pub(crate) type Row = Map<String, Value>;

/// One case.
#[derive(Debug, Deserialize)]
pub(crate) struct Recording {
    /// What it shows, in words. Only these tell what is wrong with a signature.
    #[serde(default)]
    pub(crate) what: String,
    /// Epoch seconds, to a few seconds.
    #[serde(default = "Recording::usual_time")]
    pub(crate) recorded_at: i64,
    /// How the caller came in.
    #[serde(default)]
    pub(crate) auth: String,
    pub(crate) request: Request,
    pub(crate) response: Response,
    /// `<token:NAME>` stands for one of these.
    #[serde(default)]
    pub(crate) tokens: BTreeMap<String, Token>,
    /// Rows afterwards. Of many, a text says how many more there are.
    #[serde(default)]
    pub(crate) database_after: BTreeMap<String, Value>,
    /// What was set otherwise than in the other cases.
    #[serde(default)]
    pub(crate) server_config_changed: BTreeMap<String, Value>,
}

/// A request. A body that was no JSON is a text.
#[derive(Debug, Deserialize)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    #[serde(default)]
    pub(crate) headers: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) body: Value,
}

/// An answer. A body that was no JSON is a text.
#[derive(Debug, Deserialize)]
pub(crate) struct Response {
    pub(crate) status: u16,
    #[serde(default)]
    pub(crate) headers: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) body: Value,
}

/// A token, decoded; one that is no JWT has neither header nor claims.
#[derive(Debug, Deserialize)]
pub(crate) struct Token {
    #[serde(default)]
    pub(crate) header: Value,
    #[serde(default)]
    pub(crate) claims: Value,
    #[serde(default)]
    pub(crate) token_id: String,
}

impl Recording {
    fn usual_time() -> i64 {
        1_795_458_021
    }

    /// Why it can't be replayed.
    pub(crate) fn not_replayable(&self) -> Option<String> {
        if self.request.body.get("_abbreviated").is_some() {
            return Some("its request was not recorded whole".into());
        }
        if ["voms", "proxy"].iter().any(|word| self.auth.to_lowercase().contains(word)) {
            return Some("proxies and VOMS attributes are not simulated".into());
        }
        let known =
            ["OAuth2", "ValidateAccessTokenOffline", "NonManagedTokens", "AuthorizedVO", "CheckDuplicates"];
        let rig = ["database", "max_overflow", "pool_size", "pool_timeout", "schema", "uuid5"];
        let odd = self
            .server_config_changed
            .keys()
            .find(|key| !known.contains(&key.as_str()) && !rig.contains(&key.as_str()));
        odd.map(|key| format!("the setting {key} is not simulated"))
    }

    /// Whether the tables have the columns that the grid's have.
    pub(crate) fn usual_schema(&self) -> bool {
        !self.server_config_changed.contains_key("schema")
    }

    /// Whether a certificate was shown.
    pub(crate) fn by_certificate(&self) -> bool {
        self.auth.to_lowercase().contains("certificate")
    }

    /// A setting that is on or off.
    pub(crate) fn switch(&self, name: &str) -> Option<bool> {
        self.server_config_changed.get(name)?.as_bool()
    }

    /// A setting in words.
    pub(crate) fn setting(&self, name: &str) -> Option<&str> {
        self.server_config_changed.get(name)?.as_str()
    }

    /// The rows of a table afterwards.
    pub(crate) fn rows_after(&self, table: &str) -> Vec<Row> {
        let rows = self.database_after.get(table).and_then(Value::as_array).into_iter().flatten();
        rows.filter_map(|row| row.as_object().cloned()).collect()
    }

    /// The message of an error, of whatever kind.
    pub(crate) fn message(&self) -> &str {
        let body = &self.response.body;
        body["message"].as_str().or(body.as_str()).unwrap_or_default()
    }

    /// Whether it posts a job.
    pub(crate) fn submits(&self) -> bool {
        self.request.path() == "/jobs" && matches!(self.request.method.as_str(), "POST" | "PUT")
    }

    /// The name of the token that the caller showed.
    pub(crate) fn bearer(&self) -> Option<&str> {
        let value =
            self.request.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("authorization"))?.1;
        value.split_once("<token:")?.1.split('>').next()
    }

    /// The token whose signature the words are about: the first of the transfer tokens where they are named, else the
    /// caller's.
    pub(crate) fn forged(&self) -> Option<&str> {
        let bearer = self.bearer();
        if self.what.contains("transfer token") || bearer.is_none() {
            return self.tokens.keys().map(String::as_str).find(|name| Some(*name) != bearer);
        }
        bearer
    }
}

impl Request {
    /// Without the query.
    pub(crate) fn path(&self) -> &str {
        self.path.split('?').next().unwrap_or_default()
    }

    /// The elements of the path; a slash at its end is none.
    pub(crate) fn elements(&self) -> Vec<&str> {
        self.path().split('/').filter(|element| !element.is_empty()).collect()
    }

    /// A parameter of the query, as it stands.
    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        let (_, query) = self.path.split_once('?')?;
        query
            .split('&')
            .find_map(|pair| pair.split_once('=').filter(|(key, _)| *key == name))
            .map(|(_, value)| value)
    }
}
