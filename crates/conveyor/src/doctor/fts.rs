//! An FTS, and the token that it would get. FTS ignores a token that it does not believe and never says why (observed), so other
//! audiences are tried with `whoami`, which changes nothing.

use std::sync::Arc;

use daemon::doctor::look::{Method, look, why};
use daemon::doctor::{Asked, Examined, Finding, Offset, authorities, manners, of_refusal, of_token};
use fts_client::{FtsClient, FtsError, FtsSettings, WhoAmI};
use token_core::{AccessToken, Claims, Clock, ScopeSet, TokenError, TokenRequest, UnixSeconds};
use url::Url;

use super::rses::base;
use crate::access::{Access, Grantor};
use crate::settings::Settings;

const WHOAMI: &str = "whoami";
/// The schema that `token-exchange` works on, which came with FTS 3.14.
const SCHEMA: u32 = 10;
/// The audience that FTS takes if its operator sets none.
const SHIPPED: &str = "https://wlcg.cern.ch/jwt/v1/any";

/// An FTS, and the VO whose jobs it gets; no VO when its client can't be used.
pub(super) struct Place<'a> {
    pub(super) url: Url,
    pub(super) access: Option<&'a Access>,
}

/// Looks one over.
pub(super) async fn look_over(
    place: &Place<'_>,
    settings: &Settings,
    issuer: Option<&Examined>,
    clock: &dyn Clock,
) -> Vec<Finding> {
    let of = match place.access.filter(|_| settings.vo.len() > 1) {
        Some(access) => format!("FTS {} (VO {})", base(&place.url), access.vo),
        None => format!("FTS {}", base(&place.url)),
    };
    let mut findings = Vec::new();
    let token = match place.access {
        None => {
            findings.push(Finding::skipped(&of, "token", "our client can't be used"));
            None
        }
        Some(access) => token(&of, access, &place.url, issuer, clock, &mut findings).await,
    };
    let trusted = authorities(settings.fts.ca_file.as_deref());
    let http = match token_core::http::client(&settings.fts.http()) {
        Ok(http) => http,
        Err(error) => {
            findings.push(Finding::bad(&of, "ca_file", error.to_string(), "mend `fts.ca_file`"));
            return findings;
        }
    };
    let answered = match look(&http, Method::GET, &place.url, None, clock).await {
        Ok(answered) => answered,
        Err(none) => {
            findings.push(why(&of, &place.url, none, &trusted, clock.now()).await);
            findings.push(Finding::skipped(&of, WHOAMI, "there was no answer"));
            return findings;
        }
    };
    let name = place.access.map(|access| format!("issuer {}", access.grantor(&place.url).oauth.issuer()));
    let issuers = name.as_deref().zip(issuer.and_then(|issuer| issuer.offset));
    findings.extend(manners(&of, &place.url, &answered, issuers, clock.now()).await);
    findings.push(version(&of, &place.url, settings).await);
    match (token, place.access) {
        (Some(token), Some(access)) => {
            let grantor = access.grantor(&place.url);
            findings.push(whoami(&of, place, grantor, &token, settings, answered.offset, clock).await);
        }
        _ => findings.push(Finding::skipped(&of, WHOAMI, "there is no token to show")),
    }
    findings
}

/// The token for it, and what differs.
async fn token(
    of: &str,
    access: &Access,
    url: &Url,
    issuer: Option<&Examined>,
    clock: &dyn Clock,
    findings: &mut Vec<Finding>,
) -> Option<AccessToken> {
    let grantor = access.grantor(url);
    if issuer.is_some_and(|issuer| !issuer.usable) {
        findings.push(Finding::skipped(of, "token", "its issuer can't be used"));
        return None;
    }
    let (oauth, request) = (&grantor.oauth, grantor.request(url));
    let given = match oauth.client_credentials_as_given(&request).await {
        Ok(given) => given,
        Err(error) => {
            findings.push(of_refusal(of, &error, (oauth.client_id(), "its secret or key file")));
            findings.extend(refused_scopes(of, grantor, &request, &error).await);
            return None;
        }
    };
    let asked = Asked {
        of,
        issuer: oauth.issuer(),
        client_id: oauth.client_id(),
        request: &request,
        life: (access.min_life, "`fts.min_token_life_s`"),
        narrows: false,
        answer: oauth.answer(),
    };
    let keys = issuer.and_then(|issuer| issuer.keys.as_ref());
    findings.extend(of_token(&asked, &given, keys, clock.now()));
    Some(given.token)
}

/// Which scopes of several the issuer does not give: each is asked for by itself.
async fn refused_scopes(
    of: &str,
    grantor: &Grantor,
    request: &TokenRequest,
    error: &TokenError,
) -> Option<Finding> {
    const MOST: usize = 10;
    let TokenError::Refused { code: token_core::OAuthCode::InvalidScope, .. } = error else { return None };
    if request.scope.iter().count() > MOST {
        return None;
    }
    let mut refused = Vec::new();
    for scope in request.scope.iter() {
        let one =
            TokenRequest { audience: request.audience.clone(), scope: ScopeSet::from_iter([scope.clone()]) };
        if matches!(grantor.oauth.client_credentials_as_given(&one).await, Err(TokenError::Refused { .. })) {
            refused.push(scope.clone());
        }
    }
    let refused = ScopeSet::from_iter(refused);
    let id = grantor.oauth.client_id();
    (!refused.is_empty()).then(|| {
        Finding::bad(
            of,
            "scope",
            format!("asked for one by one, client `{id}` does not get `{refused}`"),
            format!("register `{refused}` for client `{id}` at the issuer, or take it out of `scope`"),
        )
    })
}

/// What it is.
async fn version(of: &str, url: &Url, settings: &Settings) -> Finding {
    const CHECK: &str = "version";
    let fts = FtsSettings { http: settings.fts.http(), ..FtsSettings::new(url.clone()) };
    let asked = match FtsClient::without_token(&fts) {
        Ok(client) => client.server().await.map_err(|error| (error.verdict(), error.to_string())),
        Err(error) => Err((fts_client::Verdict::Mend, error.to_string())),
    };
    match asked {
        Ok(info) => {
            let found = format!("REST {}, schema {}", info.api, info.schema);
            match info.schema.major == SCHEMA {
                true => Finding::good(of, CHECK, found),
                false => Finding::doubt(
                    of,
                    CHECK,
                    format!("{found}; {SCHEMA} is the schema that token-exchange works on"),
                    "with this FTS, send storage tokens (`[storage_tokens]`), or bring it up to date",
                ),
            }
        }
        Err((fts_client::Verdict::Mend | fts_client::Verdict::Refused, error)) => {
            Finding::bad(of, CHECK, error, "is the RSE attribute `fts` the URL of an FTS's REST server?")
        }
        Err((_, error)) => Finding::passing(of, CHECK, error, "look again; else see its log"),
    }
}

async fn ask(url: &Url, token: &AccessToken, settings: &Settings) -> Result<WhoAmI, FtsError> {
    let fts = FtsSettings { http: settings.fts.http(), ..FtsSettings::new(url.clone()) };
    let client = FtsClient::new(&fts, Arc::new(token.clone())).map_err(|_| FtsError::BadAnswer {
        fts: base(url).to_owned(),
        call: WHOAMI,
        reason: "no client can be made".into(),
    })?;
    client.whoami().await
}

/// Whom it takes us for.
async fn whoami(
    of: &str,
    place: &Place<'_>,
    grantor: &Grantor,
    token: &AccessToken,
    settings: &Settings,
    offset: Option<Offset>,
    clock: &dyn Clock,
) -> Finding {
    match ask(&place.url, token, settings).await {
        Ok(who) => known(of, &who, grantor.oauth.issuer().as_str()),
        Err(FtsError::Anonymous { .. }) => {
            let Ok(claims) = Claims::peek(token) else {
                let found = "it takes us for anonymous: it believes no token that is not a JWT";
                return Finding::bad(of, WHOAMI, found, "let the issuer give JWTs of the WLCG profile");
            };
            let theirs = offset.map(|offset| UnixSeconds(clock.now().0 + offset.0));
            if let Some(finding) = theirs.and_then(|theirs| early_or_late(of, &claims, theirs)) {
                return finding;
            }
            let mut tried = Vec::new();
            let own = grantor.request(&place.url);
            for audience in audiences(&place.url, &own.audience) {
                let request = TokenRequest { audience: audience.clone(), scope: own.scope.clone() };
                let Ok(given) = grantor.oauth.client_credentials_as_given(&request).await else { continue };
                let believed = ask(&place.url, &given.token, settings).await.is_ok();
                tried.push((audience, believed));
                if believed {
                    break;
                }
            }
            anonymous(of, &claims, &tried)
        }
        Err(error) => {
            let words = error.to_string();
            let todo = if words.contains("Unsupported authentication method") {
                "set `OAuth2 = True` in its fts3restconfig"
            } else if words.contains("Invalid OAuth2 credentials") {
                "the token lacks the scope that its operator wants of this issuer (`<name>_OauthScopeFts`): see `scope`"
            } else if words.contains("authorized vo") {
                "its `AuthorizedVO` does not name the VO that it takes us for"
            } else {
                "see its log"
            };
            match error.verdict() {
                fts_client::Verdict::TryLater | fts_client::Verdict::OutcomeUnknown => {
                    Finding::passing(of, WHOAMI, words, "look again; else see its log")
                }
                _ => Finding::bad(of, WHOAMI, words, todo),
            }
        }
    }
}

fn known(of: &str, who: &WhoAmI, issuer: &str) -> Finding {
    let vo = who.vos.first().cloned().unwrap_or_default();
    let found = format!("`{}` of VO `{vo}`, by {}", who.user_dn, who.method);
    let host = Url::parse(issuer).ok().and_then(|url| url.host_str().map(str::to_owned));
    if host.is_some_and(|host| host == vo) && !issuer.ends_with('/') {
        let found = format!(
            "{found}: the VO is the issuer's host, since an issuer without a slash finds no `<name>_VO`"
        );
        return Finding::doubt(
            of,
            WHOAMI,
            found,
            "let its operator map the client in `t_gridmap` (dn = the token's `sub`)",
        );
    }
    Finding::good(of, WHOAMI, found)
}

/// A token that is not valid by FTS's own clock; it grants not a second (observed).
fn early_or_late(of: &str, claims: &Claims, theirs: UnixSeconds) -> Option<Finding> {
    let begins = claims.nbf.max(claims.iat);
    let todo =
        "mend the clock that is off: compare issuer and FTS with their time servers (`chronyc tracking`)";
    let found = match begins {
        Some(begins) if begins > theirs => {
            format!("it takes us for anonymous: by its clock the token begins in {} s", begins.0 - theirs.0)
        }
        _ if claims.exp <= theirs => {
            format!(
                "it takes us for anonymous: by its clock the token ended {} s ago",
                theirs.0 - claims.exp.0
            )
        }
        _ => return None,
    };
    Some(Finding::bad(of, WHOAMI, found, todo))
}

/// Audiences that FTS may have instead.
fn audiences(url: &Url, own: &str) -> Vec<String> {
    let host = url.host_str().unwrap_or_default();
    let base = base(url);
    let all =
        [host.to_owned(), base.to_owned(), format!("{base}/"), format!("https://{host}"), "fts".to_owned()];
    all.into_iter().filter(|audience| audience != own).collect()
}

fn anonymous(of: &str, claims: &Claims, tried: &[(String, bool)]) -> Finding {
    let own = claims.aud.join(" ");
    if let Some((audience, _)) = tried.iter().find(|(_, believed)| *believed) {
        return Finding::bad(
            of,
            WHOAMI,
            format!("it takes us for anonymous: it does not take audience `{own}`, and takes `{audience}`"),
            format!(
                "set `audience = \"{audience}\"` in [fts] or its [[fts.instance]], or let its `AuthorizedAudiences` hold `{own}`"
            ),
        );
    }
    let others: Vec<String> = tried.iter().map(|(audience, _)| format!("`{audience}`")).collect();
    let also = match others.is_empty() {
        true => String::new(),
        false => format!("; so it does with audience {}", others.join(", ")),
    };
    Finding::bad(
        of,
        WHOAMI,
        format!("it takes us for anonymous with audience `{own}`{also}"),
        format!(
            "either it does not know issuer `{}`: its [providers] must name it, it reads the issuer's metadata and keys only when \
             the REST server starts, so restart that; or its `AuthorizedAudiences` (shipped: `{SHIPPED}`) hold another name",
            claims.iss
        ),
    )
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use daemon::doctor::Level;

    use super::*;

    fn claims() -> Claims {
        let part = |json: &str| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(json);
        let payload = r#"{"iss":"https://i/","aud":"a","nbf":100,"iat":90,"exp":200}"#;
        let text = format!("{}.{}.c2ln", part(r#"{"alg":"ES256"}"#), part(payload));
        Claims::peek(&AccessToken::new(text).unwrap()).unwrap()
    }

    #[test]
    fn the_clock_is_the_reason_before_all_others() {
        let at = |now| early_or_late("f", &claims(), UnixSeconds(now)).map(|finding| finding.found);
        assert!(at(99).unwrap().ends_with("begins in 1 s"));
        assert_eq!(at(100), None);
        assert!(at(205).unwrap().ends_with("ended 5 s ago"));
    }

    #[test]
    fn anonymous_is_explained_by_what_is_believed_instead() {
        let told = |tried: &[(String, bool)]| {
            let finding = anonymous("f", &claims(), tried);
            format!("{} -> {}", finding.found, finding.todo.unwrap())
        };
        let audience = told(&[("x".into(), false), ("y".into(), true)]);
        assert!(audience.contains("does not take audience `a`, and takes `y`"), "{audience}");
        let issuer = told(&[("x".into(), false)]);
        assert!(issuer.contains("with audience `x`") && issuer.contains("does not know issuer `https://i/`"));
        let url = Url::parse("https://f:8446/").unwrap();
        assert_eq!(audiences(&url, "f"), ["https://f:8446", "https://f:8446/", "https://f", "fts"]);
    }

    #[test]
    fn a_vo_that_is_the_issuers_host_is_worth_a_word() {
        let who = |vo: &str| -> WhoAmI {
            let base_id = "01874efb-4735-4595-bc9c-591aef8240c9";
            let json =
                serde_json::json!({"user_dn": "c", "base_id": base_id, "vos": [vo], "method": "oauth2"});
            serde_json::from_value(json).unwrap()
        };
        assert_eq!(known("f", &who("i"), "https://i").level, Level::Yellow);
        assert_eq!(known("f", &who("i"), "https://i/").level, Level::Green);
        assert_eq!(known("f", &who("atlas"), "https://i").level, Level::Green);
    }
}
