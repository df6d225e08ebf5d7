//! What the issuer of a recording says to us: its recorded answers, where we ask what `fts_token` asked.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use url::form_urlencoded;

use super::recording::{Call, Recording, Response, Row, label, number, text};

/// What a token exchange is answered with.
#[derive(Clone)]
pub(crate) enum Reply {
    /// The connection is closed without an answer.
    Dropped,
    /// As recorded.
    Recorded(Response),
    /// What was asked for, as an issuer without troubles would: `fts_token` did not ask, or not this.
    Granted,
}

/// All replies of an issuer, by the label of the subject token.
pub(crate) struct Script {
    /// Nobody listens at all.
    pub(crate) down: bool,
    pub(crate) replies: BTreeMap<String, Reply>,
    /// What a refresh is answered with, by the refresh token.
    pub(crate) refreshes: BTreeMap<String, Reply>,
}

impl Script {
    pub(crate) fn of(recording: &Recording) -> Self {
        let answered =
            recording.calls.iter().any(|call| call.response.as_ref().is_some_and(|r| r.status.is_some()));
        let reply = |row: &Row| {
            let label = label(text(row, "access_token")?)?;
            Some((label.to_owned(), reply(recording, label, row)))
        };
        Self {
            down: !recording.alive && !answered,
            replies: recording.before.tokens.iter().filter_map(reply).collect(),
            refreshes: recording.refreshes().filter_map(refresh).collect(),
        }
    }
}

fn reply(recording: &Recording, label: &str, row: &Row) -> Reply {
    let Some(call) = recording.exchange(label) else {
        if !recording.alive {
            return Reply::Dropped;
        }
        // It was not asked, since it had failed before: then it says again what it said then.
        return match text(row, "exchange_message") {
            Some(message) if number(row, "exchange_attempts") > 0 => Reply::Recorded(again(message)),
            _ => Reply::Granted,
        };
    };
    let response = call.response.as_ref().filter(|response| response.status.is_some());
    match (response, garbled(call.request.body.as_deref().unwrap_or_default(), row)) {
        (None, _) => Reply::Dropped,
        (Some(_), true) => Reply::Granted,
        (Some(response), false) => Reply::Recorded(response.clone()),
    }
}

/// `fts_token` does not percent-encode what it sends, so it is read as it was meant.
fn refresh(call: &Call) -> Option<(String, Reply)> {
    let fields = call.request.body.as_deref()?.split('&');
    let used = fields.filter_map(|field| field.strip_prefix("refresh_token=")).next()?.to_owned();
    let answered = call.response.as_ref().filter(|response| response.status.is_some());
    Some((used, answered.map_or(Reply::Dropped, |response| Reply::Recorded(response.clone()))))
}

/// The answer whose words `fts_token` kept: `[error]: error_description` of an OAuth error, else the library's own.
fn again(message: &str) -> Response {
    let spoken = message.strip_prefix('[').and_then(|rest| rest.split_once("]: "));
    let (status, body) = match spoken {
        Some((error, description)) => (400, json!({"error": error, "error_description": description})),
        None => (503, Value::String(String::new())),
    };
    Response { status: Some(status), headers: BTreeMap::new(), body }
}

/// Whether the issuer read something else in the form than what was meant: FTS does not percent-encode it.
pub(crate) fn garbled(body: &str, row: &Row) -> bool {
    let read = |name: &str| {
        form_urlencoded::parse(body.as_bytes()).find(|(key, _)| key == name).map(|(_, value)| value)
    };
    let words = |text: &str| text.split(' ').map(str::to_owned).collect::<BTreeSet<_>>();
    let mut scope = words(text(row, "scope").unwrap_or_default());
    scope.insert("offline_access".into());
    let audience = text(row, "audience").unwrap_or_default();
    read("scope").is_none_or(|read| words(&read) != scope) || read("audience").unwrap_or_default() != audience
}

/// How a reply is to be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// A token.
    Got,
    /// A definite refusal.
    Refused,
    /// Trouble that may pass, or that is not the transfer's fault.
    Trouble,
}

/// The codes by which an issuer refuses this exchange for good (RFC 6749 section 5.2, RFC 8693 section 2.2.2). Not among them:
/// what is about our client or the request's form, which is ours to mend.
const DEFINITE: [&str; 5] =
    ["invalid_grant", "invalid_token", "invalid_scope", "invalid_target", "access_denied"];

impl Reply {
    /// What it means for the token in `row`.
    pub(crate) fn meaning(&self, recording: &Recording, row: &Row) -> Meaning {
        let response = match self {
            Self::Dropped => return Meaning::Trouble,
            Self::Granted => return Meaning::Got,
            Self::Recorded(response) => response,
        };
        let code = response.body.get("error").and_then(Value::as_str);
        match response.status {
            Some(200) if is_what_was_asked(recording, response, row) => Meaning::Got,
            Some(408 | 429) => Meaning::Trouble,
            Some(400..=499) if code.is_some_and(|code| DEFINITE.contains(&code)) => Meaning::Refused,
            _ => Meaning::Trouble,
        }
    }
}

/// Whether an answer has an access token with the scopes and the audience of the token that it was given for.
fn is_what_was_asked(recording: &Recording, response: &Response, row: &Row) -> bool {
    let given = response.body.get("access_token").and_then(Value::as_str).and_then(label);
    let Some(token) = given.and_then(|label| recording.tokens.get(label)) else { return false };
    let rights = |row: &Row| -> BTreeSet<String> {
        let words = text(row, "scope").unwrap_or_default().split(' ');
        words.filter(|word| !matches!(*word, "" | "offline_access")).map(str::to_owned).collect()
    };
    let audience = match token.claims.get("aud") {
        Some(Value::Array(many)) => many.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" "),
        Some(Value::String(one)) => one.clone(),
        _ => String::new(),
    };
    rights(&token.claims) == rights(row) && Some(audience.as_str()) == text(row, "audience")
}
