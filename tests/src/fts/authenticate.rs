//! From a request to who sent it, in the order of fts-rest 3.13.4: origin, token or certificate, VO, ban.

use axum::http::header::{AUTHORIZATION, HOST, ORIGIN};
use axum::http::{HeaderMap, StatusCode};
use serde_json::Value;
use token_core::AccessToken;

use super::Inner;
use super::answer::Refusal;
use super::caller::{Caller, Method, User, delegation_id, vos};
use super::sql::statement;

/// Works out who sent these headers, over a connection with this certificate name.
pub(super) async fn caller(
    fts: &Inner,
    headers: &HeaderMap,
    certificate: Option<String>,
) -> Result<Caller, Refusal> {
    if let (Some(origin), Some(host)) = (headers.get(ORIGIN), headers.get(HOST)) {
        let origin = origin.to_str().ok().and_then(|text| Some(text.split_once("://")?.1));
        if origin != host.to_str().ok() {
            return Err(Refusal::Html(StatusCode::FORBIDDEN, "Host and Origin do not match"));
        }
    }
    let header = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    // Case-sensitive, against RFC 9110 section 11.1: a `bearer` is ignored.
    let caller = match (certificate, header.and_then(|text| text.strip_prefix("Bearer "))) {
        (Some(dn), _) => certified(fts, dn).await?,
        (None, Some(_)) if !fts.config.rest.oauth2 => {
            let message = "Unsupported authentication method: method=OAuth2";
            return Err(Refusal::Html(StatusCode::BAD_REQUEST, message));
        }
        (None, Some(token)) => bearer(fts, token.trim()).await?,
        (None, None) => Caller::Anonymous,
    };
    let (dn, vos) = match &caller {
        Caller::Anonymous => ("anon", &[][..]),
        Caller::User(user) => (user.dn.as_str(), user.vos.as_slice()),
    };
    if !fts.config.rest.authorizes(vos) {
        return Err(Refusal::Html(StatusCode::FORBIDDEN, "The user does not belong to any authorized vo"));
    }
    let banned = statement("SELECT 1 FROM t_bad_dns WHERE dn = ?").bind(dn);
    if banned.fetch_optional(&fts.database.reader).await?.is_some() {
        return Err(Refusal::Html(StatusCode::FORBIDDEN, "The user has been banned"));
    }
    Ok(caller)
}

/// A user with a certificate. Without VOMS attributes, which are not read here, the VO is one of the user's own.
async fn certified(fts: &Inner, dn: String) -> Result<Caller, Refusal> {
    let id = delegation_id("", &dn);
    let vo = gridmap(fts, &dn).await?.unwrap_or_else(|| id.clone());
    Ok(Caller::User(Box::new(User {
        dn,
        delegation_id: id,
        vos: vec![vo],
        voms_cred: Vec::new(),
        method: Method::Certificate,
    })))
}

/// A user with a token, if FTS believes it.
async fn bearer(fts: &Inner, token: &str) -> Result<Caller, Refusal> {
    let Ok(bearer) = AccessToken::new(token) else { return Ok(Caller::Anonymous) };
    let claims = if fts.config.rest.offline {
        fts.trust.validate(&bearer, Some(fts.audiences())).await
    } else {
        fts.trust.introspect(&bearer, &fts.config.providers).await
    };
    let Some(claims) = claims else { return Ok(Caller::Anonymous) };
    let (Some(dn), Some(issuer)) = (claims["sub"].as_str(), claims["iss"].as_str()) else {
        return Ok(Caller::Anonymous);
    };
    let scope = claims["scope"].as_str();
    let has = |wanted: &str| scope.unwrap_or_default().split_whitespace().any(|item| item == wanted);
    if fts.config.rest.required_scope(issuer).is_some_and(|wanted| !has(wanted)) {
        let message = "Invalid credentials (Invalid OAuth2 credentials)";
        return Err(Refusal::Html(StatusCode::FORBIDDEN, message));
    }
    let (vos, voms_cred) = match gridmap(fts, dn).await? {
        Some(vo) => (vec![vo], Vec::new()),
        None => vos(&claims, issuer, scope.unwrap_or_default(), &fts.config.providers),
    };
    Ok(Caller::User(Box::new(User {
        dn: dn.to_owned(),
        delegation_id: delegation_id(issuer, dn),
        vos,
        voms_cred,
        method: Method::Token {
            scope: scope.map(str::to_owned),
            wlcg_profile: claims.get("wlcg.ver").is_some_and(|version| *version != Value::Null),
            bearer,
        },
    })))
}

/// The VO that an operator has written down for this user.
async fn gridmap(fts: &Inner, dn: &str) -> Result<Option<String>, Refusal> {
    let row = statement("SELECT vo FROM t_gridmap WHERE dn = ?").bind(dn);
    Ok(row.fetch_optional(&fts.database.reader).await?.map(|row| row.get(0)))
}
