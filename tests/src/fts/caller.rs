//! Who calls: authentication and VO mapping of fts-rest 3.13.4.

use aws_lc_rs::digest;
use axum::http::header::{AUTHORIZATION, HOST, ORIGIN};
use axum::http::{HeaderMap, StatusCode};
use serde_json::{Value, json};
use sqlx::Row as _;
use token_core::{AccessToken, hex};
use url::Url;
use uuid::{Uuid, uuid};

use super::answer::Refusal;
use super::{Inner, Provider};

/// Root of all deterministic ids.
const BASE_ID: Uuid = uuid!("01874efb-4735-4595-bc9c-591aef8240c9");

/// A caller: a token user or, with a bad token or none, nobody.
#[derive(Clone, Debug)]
pub(super) enum Caller {
    /// No token, or one that FTS does not believe. It is never told so.
    Anonymous,
    /// A token user. Every one may do everything, to jobs of other VOs too (observed).
    User(Box<User>),
}

/// A token user.
#[derive(Clone, Debug)]
pub(super) struct User {
    /// `sub`.
    pub(super) dn: String,
    /// First 16 hex digits of SHA-1 of issuer and subject.
    pub(super) delegation_id: String,
    /// VOs; jobs belong to the first.
    pub(super) vos: Vec<String>,
    /// The token itself, for clients that send no others.
    pub(super) bearer: AccessToken,
    scope: String,
    voms_cred: Vec<String>,
    wlcg_profile: bool,
}

impl Caller {
    /// Works out who sent these headers.
    pub(super) async fn of(headers: &HeaderMap, fts: &Inner) -> Result<Self, Refusal> {
        if let (Some(origin), Some(host)) = (headers.get(ORIGIN), headers.get(HOST)) {
            let origin = origin.to_str().ok().and_then(|text| Some(text.split_once("://")?.1));
            if origin != host.to_str().ok() {
                return Err(Refusal::Html(StatusCode::FORBIDDEN, "Host and Origin do not match"));
            }
        }
        let header = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        // Case-sensitive, against RFC 9110 section 11.1: a `bearer` is ignored.
        let token = header
            .and_then(|text| text.strip_prefix("Bearer "))
            .and_then(|t| AccessToken::new(t.trim()).ok());
        let Some(bearer) = token else { return Ok(Self::Anonymous) };
        let Some(claims) = fts.trust.validate(&bearer, Some(fts.audiences())).await else {
            return Ok(Self::Anonymous);
        };
        let (Some(dn), Some(issuer)) = (claims["sub"].as_str(), claims["iss"].as_str()) else {
            return Ok(Self::Anonymous);
        };
        let row = sqlx::query(
            "SELECT (SELECT vo FROM t_gridmap WHERE dn = ?1), EXISTS (SELECT 1 FROM t_bad_dns WHERE dn = ?1)",
        )
        .bind(dn)
        .fetch_one(&fts.database.reader)
        .await?;
        if row.get::<bool, _>(1) {
            return Err(Refusal::Html(StatusCode::FORBIDDEN, "The user has been banned"));
        }
        let scope = claims["scope"].as_str().unwrap_or_default();
        let (vos, voms_cred) = match row.get(0) {
            Some(vo) => (vec![vo], Vec::new()),
            None => vos(&claims, issuer, scope, &fts.config.providers),
        };
        let digest = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, format!("{issuer}{dn}").as_bytes());
        Ok(Self::User(Box::new(User {
            dn: dn.to_owned(),
            delegation_id: hex(&digest.as_ref()[..8]),
            vos,
            bearer,
            scope: scope.to_owned(),
            voms_cred,
            wlcg_profile: claims.get("wlcg.ver").is_some(),
        })))
    }

    /// The user, where an operation checks rights: 403 without a reason for anybody else.
    pub(super) fn user(&self) -> Result<&User, Refusal> {
        match self {
            Self::Anonymous => Err(Refusal::forbidden()),
            Self::User(user) => Ok(user),
        }
    }

    /// The user, where an operation looks at the VOs first: nobody has none, and the handler falls over (observed).
    pub(super) fn user_or_crash(&self) -> Result<&User, Refusal> {
        self.user().map_err(|_| Refusal::internal())
    }

    /// The answer of `/whoami`.
    pub(super) fn whoami(&self) -> Value {
        match self {
            Self::Anonymous => json!({
                "user_dn": "anon", "dn": ["anon"], "base_id": BASE_ID.to_string(), "voms_cred": [], "vos": [],
                "vos_id": [], "roles": [], "level": [], "delegation_id": null, "method": "unauthenticated",
                "is_root": false,
            }),
            Self::User(user) => json!({
                "user_dn": user.dn, "dn": [user.dn], "base_id": BASE_ID.to_string(), "voms_cred": user.voms_cred,
                "vos": user.vos, "vos_id": user.vos.iter().map(|vo| vo_id(vo).to_string()).collect::<Vec<_>>(),
                "roles": [], "level": {"transfer": "vo", "datamanagement": "all"},
                "delegation_id": user.delegation_id, "method": "oauth2", "is_root": false,
                "oauth2_scope": user.scope, "wlcg_profile": user.wlcg_profile,
                "get_granted_level_for_overriden": {}, "get_granted_level_for": {},
            }),
        }
    }
}

/// The VO of the provider of that very name; else the token's groups; else the issuer's host. In the last two cases the
/// scopes become VOMS attributes.
fn vos(claims: &Value, issuer: &str, scope: &str, providers: &[Provider]) -> (Vec<String>, Vec<String>) {
    // Providers are kept with a slash at the end, so that an issuer without one is never found (observed).
    if let Some(provider) = providers.iter().find(|provider| provider.issuer == issuer) {
        return (vec![provider.vo.clone()], Vec::new());
    }
    let groups = claims["wlcg.groups"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut vos: Vec<String> = groups
        .iter()
        .filter_map(Value::as_str)
        .map(|group| group.strip_prefix('/').unwrap_or(group).to_owned())
        .collect();
    if vos.is_empty() {
        let host = Url::parse(issuer).ok().and_then(|url| url.host_str().map(str::to_owned));
        vos.push(host.unwrap_or_default());
    }
    (vos, scope.split_whitespace().map(str::to_owned).collect())
}

fn vo_id(vo: &str) -> Uuid {
    Uuid::new_v5(&BASE_ID, vo.as_bytes())
}

/// The job id that `sid` leads to: UUID 5 of the VO's id.
pub(super) fn deterministic_id(vo: &str, sid: &str) -> String {
    Uuid::new_v5(&vo_id(vo), sid.as_bytes()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_the_recorded_ones() {
        assert_eq!(vo_id("rigvo").to_string(), "227ce925-dfae-5484-ac3a-28be9286cd27");
        assert_eq!(deterministic_id("rigvo", "rig-1795458021"), "7dffad3b-77ac-562b-a66d-2e8c08133183");
    }

    #[test]
    fn an_issuer_without_slash_never_finds_its_provider() {
        let provider = Provider { issuer: "http://127.0.0.1:8181/".into(), ..Provider::example() };
        let vos = |issuer, claims| vos(&claims, issuer, "fts", std::slice::from_ref(&provider));
        assert_eq!(vos("http://127.0.0.1:8181/", json!({"wlcg.groups": ["/cms"]})).0, ["vo"]);
        assert_eq!(vos("http://127.0.0.1:8181", json!({})), (vec!["127.0.0.1".into()], vec!["fts".into()]));
        let groups = json!({"wlcg.groups": ["/cms", "/cms/prod"]});
        assert_eq!(vos("http://127.0.0.1:8181", groups).0, ["cms", "cms/prod"]);
    }
}
