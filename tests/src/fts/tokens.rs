//! The tokens of a submission: the rules on the lists, and what a row of `t_token` takes from a token.

use serde_json::{Map, Value};
use token_core::AccessToken;

use super::answer::Refusal;
use super::params::truthy;
use super::trust::{audience, peek};

const LISTS: [(&str, &str); 2] = [("source_tokens", "sources"), ("destination_tokens", "destinations")];

/// A row of `t_token` to be.
#[derive(Clone, Debug)]
pub(super) struct NewToken {
    /// The token itself.
    pub(super) token: AccessToken,
    /// With a slash at the end, as `t_token_provider` has it.
    pub(super) issuer: String,
    pub(super) not_before: i64,
    pub(super) expiry: i64,
    pub(super) scope: String,
    /// Joined by blanks; none when the claim is null, which the column then refuses.
    pub(super) audience: Option<String>,
}

/// A JSON array of a file entry; empty when absent.
pub(super) fn list<'a>(file: &'a Map<String, Value>, name: &str) -> &'a [Value] {
    file.get(name).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// Clients that name no token at all use their bearer for every source and destination.
pub(super) fn fill_with_bearer(
    files: &mut [Map<String, Value>],
    bearer: &AccessToken,
) -> Result<(), Refusal> {
    if files.iter().any(|file| LISTS.iter().any(|(tokens, _)| file.contains_key(*tokens))) {
        return Ok(());
    }
    for file in files {
        for (tokens, urls) in LISTS {
            let count = match file.get(urls) {
                Some(Value::Array(urls)) => urls.len(),
                Some(_) => return Err(Refusal::malformed("object of this type has no len()")),
                None => return Err(Refusal::bad(format!("Missing parameter: '{urls}'"))),
            };
            file.insert(tokens.to_owned(), vec![Value::from(bearer.expose()); count].into());
        }
    }
    Ok(())
}

/// The rules on the lists of one file. Both lists empty, or neither there, passes (the observed gap).
pub(super) fn check_lists(file: &Map<String, Value>) -> Result<(), Refusal> {
    if LISTS.iter().all(|(tokens, _)| list(file, tokens).is_empty()) {
        return Ok(());
    }
    if LISTS.iter().any(|(tokens, _)| list(file, tokens).is_empty()) {
        let message = "Both source_tokens and destination_tokens are required if one of them is present.";
        return Err(Refusal::bad(message));
    }
    for (tokens, urls) in LISTS {
        if list(file, tokens).len() != list(file, urls).len() {
            return Err(Refusal::bad(format!("Length of {tokens} should be equal to the length of {urls}.")));
        }
    }
    for (tokens, urls) in LISTS {
        let missing = list(file, urls).iter().zip(list(file, tokens)).find(|(_, token)| !truthy(Some(token)));
        if let Some((url, _)) = missing {
            let side = urls.trim_end_matches('s');
            let url = url.as_str().unwrap_or_default();
            return Err(Refusal::bad(format!("Token for {side} '{url}' is missing.")));
        }
    }
    Ok(())
}

/// The distinct tokens of all files, in the order of their first use.
pub(super) fn distinct(files: &[Map<String, Value>]) -> Result<Vec<NewToken>, Refusal> {
    let mut seen = std::collections::HashSet::new();
    let mut texts = Vec::new();
    for token in files.iter().flat_map(|file| LISTS.iter().flat_map(|(tokens, _)| list(file, tokens))) {
        // The id is hashed first; a token that is no string falls over there.
        let text = token.as_str().ok_or_else(Refusal::internal)?;
        if seen.insert(text) {
            texts.push(text);
        }
    }
    texts.into_iter().map(read).collect()
}

fn read(text: &str) -> Result<NewToken, Refusal> {
    let token = AccessToken::new(text).map_err(|_| lacks("an iss"))?;
    let claims = peek(&token);
    let claim = |name, shown| claims.get(name).ok_or_else(|| lacks(shown));
    // A time that is no number is found out when the token is validated.
    let seconds = |value: &Value| value.as_i64().or(value.as_f64().map(whole)).unwrap_or(0);
    let issuer = claim("iss", "an iss")?.as_str().ok_or_else(Refusal::internal)?;
    let not_before = seconds(claim("nbf", "a nbf")?);
    let expiry = seconds(claim("exp", "an exp")?);
    let scope = claim("scope", "a scope")?.as_str().ok_or_else(Refusal::internal)?.to_owned();
    if let Some(kind) = python_kind(claim("aud", "an aud")?) {
        let message = "Token audience must be a null, string or list of strings: actual_type=<class";
        return Err(Refusal::bad(format!("{message} '{kind}'>")));
    }
    let audience = (!claims["aud"].is_null()).then(|| audience(&claims).join(" "));
    let issuer = if issuer.ends_with('/') { issuer.to_owned() } else { format!("{issuer}/") };
    Ok(NewToken { token, issuer, not_before, expiry, scope, audience })
}

/// What Python calls the type of an audience that is none.
fn python_kind(audience: &Value) -> Option<&'static str> {
    match audience {
        Value::Null | Value::String(_) | Value::Array(_) => None,
        Value::Bool(_) => Some("bool"),
        Value::Number(number) if number.is_f64() => Some("float"),
        Value::Number(_) => Some("int"),
        Value::Object(_) => Some("dict"),
    }
}

/// The ids of those tokens that have no `offline_access`.
pub(super) fn offline_less(tokens: &[NewToken]) -> Vec<String> {
    let without = |token: &&NewToken| !token.scope.split_whitespace().any(|item| item == "offline_access");
    tokens.iter().filter(without).map(|token| token.token.fingerprint().to_string()).collect()
}

#[expect(clippy::cast_possible_truncation, reason = "a time has no fraction in the table")]
fn whole(seconds: f64) -> i64 {
    seconds as i64
}

fn lacks(claim: &str) -> Refusal {
    Refusal::bad(format!("Token does not contain {claim} claim"))
}
