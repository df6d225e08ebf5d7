//! What each grant gives: decisions only.

use serde_json::{Map, Value, json};
use token_core::{ANY_AUDIENCE, Scope, ScopeSet, UnixSeconds};

use super::client::{Client, GrantType};
use super::fault::Fault;
use super::refresh::Refreshable;
use super::request::{Form, Refusal};

const OFFLINE: &str = "offline_access";

/// What a token will say, and what goes with it.
#[derive(Clone, Debug)]
pub(super) struct Granted {
    pub(super) grant: GrantType,
    pub(super) subject: String,
    pub(super) scope: ScopeSet,
    /// None: the any-audience.
    pub(super) audience: Vec<String>,
    pub(super) act: Option<Value>,
    /// What a refresh token in the answer will stand for.
    pub(super) refresh: Option<Refreshable>,
}

/// A subject token that was verified.
#[derive(Clone, Debug)]
pub(super) struct Subject {
    pub(super) subject: String,
    pub(super) client: Option<String>,
    pub(super) scope: ScopeSet,
    pub(super) act: Option<Value>,
}

/// The grant that is asked for, if this client may use it.
pub(super) fn grant_type(client: &Client, form: &Form) -> Result<GrantType, Refusal> {
    let name =
        form.get("grant_type").ok_or_else(|| Refusal::new("invalid_request", "grant_type is missing"))?;
    let grant = GrantType::ALL.into_iter().find(|grant| grant.name() == name);
    let grant =
        grant.ok_or_else(|| Refusal::new("unsupported_grant_type", "this grant is not known here"))?;
    if client.grants.contains(&grant) {
        Ok(grant)
    } else {
        Err(Refusal::new("unauthorized_client", format!("{} may not use this grant", client.id)))
    }
}

/// A token of the client itself (RFC 6749 section 4.4). Without `scope` it gets all it is registered for, as at INDIGO IAM.
pub(super) fn client_credentials(client: &Client, form: &Form) -> Result<Granted, Refusal> {
    let scope = match form.get("scope") {
        Some(asked) => registered(client, &parse(asked)?)?,
        None => client.scopes.clone(),
    };
    Ok(Granted {
        grant: GrantType::ClientCredentials,
        subject: client.id.clone(),
        scope,
        audience: form.audiences()?,
        act: None,
        refresh: None,
    })
}

/// A token for the same subject that can do less (RFC 8693). INDIGO IAM compares with the scopes registered for the
/// clients; this issuer compares with the subject token as well, so that a client that widens is found out.
pub(super) fn exchange(client: &Client, form: &Form, subject: &Subject) -> Result<Granted, Refusal> {
    let asked = parse(form.get("scope").unwrap_or_default())?;
    let (offline, asked): (Vec<_>, Vec<_>) =
        asked.iter().cloned().partition(|scope| *scope == Scope::Other(OFFLINE.into()));
    let asked = ScopeSet::from_iter(asked);
    if asked.is_empty() {
        return Err(Refusal::new(
            "invalid_request",
            "The scope parameter is required for a token exchange request!",
        ));
    }
    let beyond = asked.beyond(&subject.scope);
    if !beyond.is_empty() {
        return Err(Refusal::new("invalid_scope", format!("beyond the subject token: {beyond}")));
    }
    let scope: ScopeSet =
        registered(client, &asked)?.iter().cloned().chain(offline.iter().cloned()).collect();
    if !offline.is_empty() && subject.client.as_ref() == Some(&client.id) {
        return Err(Refusal::new(
            "access_denied",
            "offline_access is not for the subject token's own client",
        ));
    }
    let mut act = Map::from_iter([("sub".to_owned(), json!(client.id))]);
    if let Some(earlier) = &subject.act {
        act.insert("act".to_owned(), earlier.clone());
    }
    let (act, audience) = (Some(Value::Object(act)), form.audiences()?);
    let refresh = (!offline.is_empty()).then(|| Refreshable {
        client: client.id.clone(),
        subject: subject.subject.clone(),
        scope: scope.clone(),
        audience: audience.clone(),
        act: act.clone(),
    });
    Ok(Granted {
        grant: GrantType::TokenExchange,
        subject: subject.subject.clone(),
        scope,
        audience,
        act,
        refresh,
    })
}

/// What a device code is asked for (RFC 8628 section 3.1): scopes within the registered ones, and whether a refresh token
/// is wanted.
pub(super) fn device(client: &Client, form: &Form) -> Result<(ScopeSet, bool), Refusal> {
    if !client.grants.contains(&GrantType::DeviceCode) {
        return Err(Refusal::new("unauthorized_client", format!("{} may not use this grant", client.id)));
    }
    let asked = parse(form.get("scope").unwrap_or_default())?;
    let (offline, asked): (Vec<_>, Vec<_>) =
        asked.iter().cloned().partition(|scope| *scope == Scope::Other(OFFLINE.into()));
    Ok((registered(client, &ScopeSet::from_iter(asked))?, !offline.is_empty()))
}

/// A token for a refresh token (RFC 6749 section 6). The new refresh token stands for what the old one did; another
/// audience counts for this one token only, as at INDIGO IAM.
pub(super) fn refresh(form: &Form, held: &Refreshable) -> Result<Granted, Refusal> {
    let scope = match form.get("scope") {
        Some(asked) => parse(asked)?,
        None => held.scope.clone(),
    };
    if !scope.beyond(&held.scope).is_empty() {
        return Err(Refusal::new("invalid_scope", "Up-scoping is not allowed."));
    }
    let asked = form.audiences()?;
    Ok(Granted {
        grant: GrantType::RefreshToken,
        subject: held.subject.clone(),
        scope,
        audience: if asked.is_empty() { held.audience.clone() } else { asked },
        act: held.act.clone(),
        refresh: Some(held.clone()),
    })
}

/// Makes the token another one than was asked for.
pub(super) fn falsify(mut granted: Granted, fault: &Fault) -> Granted {
    match fault {
        Fault::NarrowScope => {
            let last =
                granted.scope.iter().filter(|scope| matches!(scope, Scope::Storage(..))).last().cloned();
            granted.scope =
                granted.scope.iter().filter(|scope| Some(*scope) != last.as_ref()).cloned().collect();
        }
        Fault::WidenScope => {
            let everything = ScopeSet::parse("storage.read:/").unwrap_or_default();
            granted.scope = granted.scope.iter().chain(everything.iter()).cloned().collect();
        }
        Fault::WrongAudience => granted.audience = vec!["https://elsewhere.invalid".to_owned()],
        _ => (),
    }
    granted
}

/// The claims of the WLCG profile as INDIGO IAM writes them: `nbf` equal to `iat`, version 1.0.
pub(super) fn claims(issuer: &str, client: &Client, granted: &Granted, jti: &str, now: UnixSeconds) -> Value {
    let audience = match granted.audience.as_slice() {
        [] => json!(ANY_AUDIENCE),
        [one] => json!(one),
        several => json!(several),
    };
    let mut claims = json!({
        "iss": issuer, "sub": granted.subject, "aud": audience, "iat": now, "nbf": now,
        "exp": now.plus(client.token_life), "jti": jti, "client_id": client.id, "wlcg.ver": "1.0",
        "scope": granted.scope.to_string(),
    });
    if let (Some(act), Some(claims)) = (&granted.act, claims.as_object_mut()) {
        claims.insert("act".to_owned(), act.clone());
    }
    claims
}

fn parse(scope: &str) -> Result<ScopeSet, Refusal> {
    ScopeSet::parse(scope).map_err(|error| Refusal::new("invalid_scope", error.to_string()))
}

fn registered(client: &Client, asked: &ScopeSet) -> Result<ScopeSet, Refusal> {
    let beyond = asked.beyond(&client.scopes);
    if beyond.is_empty() {
        Ok(asked.clone())
    } else {
        let text = format!("Scope '{beyond}' not allowed for client '{}'", client.id);
        Err(Refusal::new("invalid_scope", text))
    }
}
