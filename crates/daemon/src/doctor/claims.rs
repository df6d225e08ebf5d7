//! What was given beside what was asked for: issuers narrow, widen and forget the audience without a word.

use std::time::Duration;

use token_core::{
    Answer, Claims, Given, Issuer, KeySet, Policy, Scope, ScopeSet, TokenRequest, UnixSeconds, verify,
};

use super::finding::Finding;
use super::print::words;

const CHECK: &str = "token";

/// What was asked for.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The party whose line it is.
    pub of: &'a str,
    /// The issuer.
    pub issuer: &'a Issuer,
    /// The client that asked.
    pub client_id: &'a str,
    /// What for.
    pub request: &'a TokenRequest,
    /// How long the token has to live, and the key that says so.
    pub life: (Duration, &'static str),
    /// Whether more than was asked for is wrong: an exchange only narrows.
    pub narrows: bool,
    /// What kind of token the issuer gives.
    pub answer: Answer,
}

/// Compares.
pub fn of_token(asked: &Asked<'_>, given: &Given, keys: Option<&KeySet>, now: UnixSeconds) -> Vec<Finding> {
    let token = &given.token;
    let bad = |found: String, todo: &str| Finding::bad(asked.of, CHECK, found, todo);
    let claims = match (Claims::peek(token), asked.answer) {
        (Ok(claims), Answer::WlcgJwt) => claims,
        (Err(error), Answer::WlcgJwt) => {
            let todo =
                "if this issuer's tokens are opaque, set `tokens = \"opaque\"`; no WLCG storage takes such";
            return vec![bad(format!("what came is no WLCG token: {error}"), todo)];
        }
        (_, Answer::Opaque) => {
            return vec![match &given.measured {
                Ok(grant) => Finding::good(
                    asked.of,
                    CHECK,
                    format!(
                        "opaque, so nothing is known but that it lives {} s",
                        now.until(grant.expires_at).as_secs()
                    ),
                ),
                Err(error) => bad(error.to_string(), "compare what is asked for with what the issuer gives"),
            }];
        }
    };
    let mut findings = differences(asked, &claims, now);
    if let Some(keys) = keys {
        findings.extend(signature(asked, given, &claims, keys, now));
    }
    if let (true, Err(error)) = (findings.is_empty(), &given.measured) {
        findings.push(bad(error.to_string(), "compare what is asked for with what the issuer gives"));
    }
    if findings.is_empty() {
        let found = format!(
            "given to `{}` for audience `{}` with scope `{}`, lives {} s ({})",
            asked.client_id,
            asked.request.audience,
            words(claims.scope.as_deref().unwrap_or_default()),
            now.until(claims.exp).as_secs(),
            token.fingerprint()
        );
        findings.push(Finding::good(asked.of, CHECK, found));
    }
    findings
}

fn differences(asked: &Asked<'_>, claims: &Claims, now: UnixSeconds) -> Vec<Finding> {
    let Asked { of, request, client_id, .. } = asked;
    let bad = |found: String, todo: String| Finding::bad(*of, CHECK, found, todo);
    let mut findings = Vec::new();
    if claims.iss != asked.issuer.as_str() {
        let named = words(&claims.iss);
        findings.push(bad(
            format!("its `iss` is `{named}`, not `{}`", asked.issuer),
            format!("set the issuer's `url = \"{named}\"`, to the last slash"),
        ));
    }
    let wanted: Vec<&str> = request.audiences().collect();
    if !wanted.iter().all(|one| claims.aud.iter().any(|aud| aud == one)) {
        let came = match claims.aud.as_slice() {
            [] => "none".to_owned(),
            some => format!("`{}`", words(&some.join(" "))),
        };
        findings.push(bad(
            format!("audience `{}` was asked for, and {came} given", request.audience),
            format!(
                "let the issuer give client `{client_id}` this audience; does it read another parameter (`audience_parameter`)?"
            ),
        ));
    }
    match claims.scopes() {
        Err(error) => {
            findings.push(bad(format!("its scope can't be used: {error}"), "tell its operators".into()));
        }
        Ok(held) => findings.extend(scopes(asked, &held)),
    }
    let (least, key) = asked.life;
    let life = now.until(claims.exp);
    if life < least {
        // The keeper takes a token that lives shorter by nature as it comes.
        findings.push(Finding::doubt(
            *of,
            CHECK,
            format!("it lives {} s, and {} s are wanted ({key})", life.as_secs(), least.as_secs()),
            format!("let the issuer give client `{client_id}` longer tokens: what waits or runs longer ends without one"),
        ));
    }
    for (claim, there) in [("nbf", claims.nbf.is_some()), ("wlcg.ver", claims.version.is_some())] {
        if !there {
            findings.push(bad(
                format!("it has no `{claim}`: FTS and storages refuse it"),
                format!("let the issuer give client `{client_id}` tokens of the WLCG profile"),
            ));
        }
    }
    findings
}

fn scopes(asked: &Asked<'_>, held: &ScopeSet) -> Vec<Finding> {
    let Asked { of, request, client_id, .. } = asked;
    let mut findings = Vec::new();
    let real = |scope: &&Scope| !matches!(scope, Scope::Other(name) if name == "offline_access");
    let wanted: ScopeSet = request.scope.iter().filter(real).cloned().collect();
    let lacking = wanted.beyond(held);
    if !lacking.is_empty() {
        findings.push(Finding::bad(
            *of,
            CHECK,
            format!("narrowed: `{}` was asked for, `{held}` given; `{lacking}` is missing", request.scope),
            format!("register `{lacking}` for client `{client_id}`, and see the issuer's scope policies"),
        ));
    }
    let more = held.beyond(&request.scope);
    let rights: ScopeSet = more.iter().filter(|scope| matches!(scope, Scope::Storage(..))).cloned().collect();
    if !rights.is_empty() {
        let found = format!("widened: `{rights}` was given beyond what was asked for, `{}`", request.scope);
        let todo = format!("see which scopes the issuer gives client `{client_id}` by default");
        findings.push(match asked.narrows {
            true => Finding::bad(*of, CHECK, format!("{found}; such a token is not handed over"), todo),
            false => Finding::doubt(*of, CHECK, found, todo),
        });
    }
    findings
}

/// Whether those who take it can check it. Times are looked at elsewhere, by the clocks.
fn signature(
    asked: &Asked<'_>,
    given: &Given,
    claims: &Claims,
    keys: &KeySet,
    now: UnixSeconds,
) -> Option<Finding> {
    let policy =
        Policy { lenient: true, eddsa: true, ..Policy::new(claims.iss.as_str(), claims.aud.clone()) };
    // At a time at which it is good, if there is any.
    let at = claims.nbf.map_or(now, |nbf| now.max(nbf));
    let broken = match verify(given.token.expose(), keys, &policy, at) {
        Err(
            error @ (token_core::VerifyError::UnknownKey
            | token_core::VerifyError::Signature
            | token_core::VerifyError::Algorithm
            | token_core::VerifyError::NoKeyId
            | token_core::VerifyError::Type
            | token_core::VerifyError::Critical),
        ) => error,
        _ => return None,
    };
    let found = format!("it can't be checked with the issuer's own keys: {broken}");
    Some(Finding::bad(asked.of, CHECK, found, "tell the issuer's operators"))
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use token_core::AccessToken;

    use super::*;
    use crate::doctor::Level;

    fn given(claims: &str) -> Given {
        let part = |json: &str| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(json);
        let text = format!("{}.{}.c2ln", part(r#"{"alg":"ES256"}"#), part(claims));
        let token = AccessToken::new(text).unwrap();
        let expires_at = UnixSeconds(4600);
        Given { measured: Ok(token_core::Grant { token: token.clone(), expires_at }), token }
    }

    fn told(claims: &str, narrows: bool) -> Vec<(Level, String)> {
        let issuer = Issuer::new("https://i/").unwrap();
        let scope = ScopeSet::parse("fts storage.read:/ storage.modify:/a").unwrap();
        let request = TokenRequest { audience: "f".into(), scope };
        let asked = Asked {
            of: "FTS f",
            issuer: &issuer,
            client_id: "c",
            request: &request,
            life: (Duration::from_secs(600), "`fts.min_token_life_s`"),
            narrows,
            answer: Answer::WlcgJwt,
        };
        let findings = of_token(&asked, &given(claims), None, UnixSeconds(1000));
        findings.into_iter().map(|finding| (finding.level, finding.found)).collect()
    }

    const GOOD: &str = r#"{"iss":"https://i/","aud":"f","exp":4600,"nbf":900,"wlcg.ver":"1.0","scope":"fts storage.read:/ storage.modify:/a"}"#;

    #[test]
    fn each_difference_is_named() {
        let all = told(GOOD, true);
        assert!(all.len() == 1 && all[0].0 == Level::Green && all[0].1.contains("lives 3600 s"), "{all:?}");
        for (old, new, words) in [
            ("\"f\"", "\"g\"", "audience `f` was asked for, and `g` given"),
            (r#""aud":"f","#, "", "and none given"),
            (" storage.modify:/a", "", "`storage.modify:/a` is missing"),
            ("https://i/", "https://i", "its `iss` is `https://i`, not `https://i/`"),
            ("4600", "1599", "it lives 599 s, and 600 s are wanted (`fts.min_token_life_s`)"),
            (r#""nbf":900,"#, "", "has no `nbf`"),
            (r#""wlcg.ver":"1.0","#, "", "has no `wlcg.ver`"),
            ("storage.read:/ ", "storage.read:/.. ", "its scope can't be used"),
        ] {
            let all = told(&GOOD.replace(old, new), true);
            let level = if new == "1599" { Level::Yellow } else { Level::Red };
            assert!(all.len() == 1 && all[0].0 == level && all[0].1.contains(words), "{words}: {all:?}");
        }
    }

    #[test]
    fn more_is_wrong_in_an_exchange_and_doubtful_else() {
        let wide = GOOD.replace("storage.modify:/a", "storage.modify:/a storage.stage:/ openid");
        for (narrows, level) in [(true, Level::Red), (false, Level::Yellow)] {
            let all = told(&wide, narrows);
            assert!(all.len() == 1 && all[0].0 == level && all[0].1.contains("`storage.stage:/`"), "{all:?}");
        }
    }
}
