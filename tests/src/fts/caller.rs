//! Who calls, what they may do, and the ids that follow from who they are.

use aws_lc_rs::digest;
use serde_json::{Value, json};
use token_core::{AccessToken, hex};
use url::Url;
use uuid::{Uuid, uuid};

use super::Provider;
use super::answer::Refusal;

/// Root of all deterministic ids.
const BASE_ID: Uuid = uuid!("01874efb-4735-4595-bc9c-591aef8240c9");

/// A caller: a user or, with a bad token or nothing, nobody.
#[derive(Clone, Debug)]
pub(super) enum Caller {
    /// No token, or one that FTS does not believe. It is never told so.
    Anonymous,
    /// Somebody.
    User(Box<User>),
}

/// How a user came in.
#[derive(Clone, Debug)]
pub(super) enum Method {
    /// With a bearer token. Such a user may do everything, to jobs of other VOs too (observed).
    Token {
        /// The token itself, for clients that send no others.
        bearer: AccessToken,
        scope: Option<String>,
        wlcg_profile: bool,
    },
    /// With an X.509 certificate. Such a user sees the jobs of the own VO, and configures nothing.
    Certificate,
}

/// A user.
#[derive(Clone, Debug)]
pub(super) struct User {
    /// `sub`, or the name in the certificate.
    pub(super) dn: String,
    pub(super) delegation_id: String,
    /// VOs; jobs belong to the first. Nobody sees to it that there is one.
    pub(super) vos: Vec<String>,
    pub(super) voms_cred: Vec<String>,
    pub(super) method: Method,
}

impl User {
    /// The first VO. The handlers take it without looking, and fall over when there is none.
    pub(super) fn vo(&self) -> Result<&str, Refusal> {
        self.vos.first().map(String::as_str).ok_or_else(Refusal::internal)
    }

    /// The bearer token of a token user.
    pub(super) fn bearer(&self) -> Option<&AccessToken> {
        match &self.method {
            Method::Token { bearer, .. } => Some(bearer),
            Method::Certificate => None,
        }
    }

    /// As `auth_method` has it.
    pub(super) fn method_name(&self) -> &'static str {
        if self.bearer().is_some() { "oauth2" } else { "certificate" }
    }

    /// Whether jobs of this VO and owner may be looked at and changed.
    pub(super) fn reaches(&self, vo: &str, owner: &str) -> bool {
        self.bearer().is_some() || self.dn == owner || self.vos.iter().any(|own| own == vo)
    }
}

impl Caller {
    /// The user, where an operation checks rights: 403 without a reason for anybody else.
    pub(super) fn user(&self) -> Result<&User, Refusal> {
        match self {
            Self::Anonymous => Err(Refusal::forbidden()),
            Self::User(user) => Ok(user),
        }
    }

    /// The user, where an operation looks at the VOs first: nobody has none, and the handler falls over (observed).
    pub(super) fn user_or_crash(&self) -> Result<&User, Refusal> {
        let user = self.user().map_err(|_| Refusal::internal())?;
        user.vo().map(|_| user)
    }

    /// The user, where configuration is changed: every token user, and no other.
    pub(super) fn administrator(&self) -> Result<&User, Refusal> {
        self.user().and_then(|user| user.bearer().map(|_| user).ok_or_else(Refusal::forbidden))
    }

    /// The answer of `/whoami`.
    pub(super) fn whoami(&self) -> Value {
        match self {
            Self::Anonymous => json!({
                "user_dn": "anon", "dn": ["anon"], "base_id": BASE_ID.to_string(), "voms_cred": [], "vos": [],
                "vos_id": [], "roles": [], "level": [], "delegation_id": null, "method": "unauthenticated",
                "is_root": false,
            }),
            Self::User(user) => {
                let mut answer = json!({
                    "user_dn": user.dn, "dn": [user.dn], "base_id": BASE_ID.to_string(), "voms_cred": user.voms_cred,
                    "vos": user.vos, "vos_id": user.vos.iter().map(|vo| vo_id(vo).to_string()).collect::<Vec<_>>(),
                    "roles": [], "level": {"transfer": "vo", "datamanagement": "all"},
                    "delegation_id": user.delegation_id, "method": user.method_name(), "is_root": false,
                });
                if let Method::Token { scope, wlcg_profile, .. } = &user.method {
                    answer["oauth2_scope"] = scope.as_deref().into();
                    answer["wlcg_profile"] = (*wlcg_profile).into();
                    answer["get_granted_level_for_overriden"] = json!({});
                    answer["get_granted_level_for"] = json!({});
                }
                answer
            }
        }
    }
}

/// The VO of the provider of that very name; else the token's groups; else the issuer's host. In the last two cases the
/// scopes become VOMS attributes.
pub(super) fn vos(
    claims: &Value,
    issuer: &str,
    scope: &str,
    providers: &[Provider],
) -> (Vec<String>, Vec<String>) {
    // Providers are kept with a slash at the end, so that an issuer without one is never found (observed).
    if let Some(provider) = providers.iter().find(|provider| provider.issuer == issuer) {
        return (vec![provider.vo.clone()], Vec::new());
    }
    let mut vos: Vec<String> = Vec::new();
    match claims["wlcg.groups"].as_array() {
        // A list that is there is taken, even when nothing is in it.
        Some(groups) => {
            for group in groups.iter().filter_map(Value::as_str) {
                let group = group.strip_prefix('/').unwrap_or(group).to_owned();
                if !vos.contains(&group) {
                    vos.push(group);
                }
            }
        }
        None => {
            let host = Url::parse(issuer).ok().and_then(|url| url.host_str().map(str::to_owned));
            vos.push(host.unwrap_or_default());
        }
    }
    (vos, scope.split_whitespace().map(str::to_owned).collect())
}

fn vo_id(vo: &str) -> Uuid {
    Uuid::new_v5(&BASE_ID, vo.as_bytes())
}

/// First 16 hex digits of SHA-1 of issuer and subject, or of nothing and the name in a certificate.
pub(super) fn delegation_id(issuer: &str, dn: &str) -> String {
    let digest = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, format!("{issuer}{dn}").as_bytes());
    hex(&digest.as_ref()[..8])
}

/// What `t_file.dest_surl_uuid` has for a destination where duplicates are looked for.
pub(super) fn destination_id(url: &str) -> String {
    Uuid::new_v5(&BASE_ID, url.as_bytes()).to_string()
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
        assert_eq!(delegation_id("", "/DC=rig/CN=user1"), "13113142cdb7b731");
        assert_eq!(
            destination_id("davs://dst.rig.test/dup-1795458021"),
            "f2ee571f-46e8-5fe6-a9fb-13143a4d7b00"
        );
        assert_eq!(deterministic_id("rigvo", "rig-1795458021"), "7dffad3b-77ac-562b-a66d-2e8c08133183");
    }

    #[test]
    fn an_issuer_without_slash_never_finds_its_provider() {
        let provider = Provider { issuer: "http://127.0.0.1:8181/".into(), ..Provider::example() };
        let vos = |issuer, claims| vos(&claims, issuer, "fts", std::slice::from_ref(&provider));
        assert_eq!(vos("http://127.0.0.1:8181/", json!({"wlcg.groups": ["/cms"]})).0, ["vo"]);
        assert_eq!(vos("http://127.0.0.1:8181", json!({})), (vec!["127.0.0.1".into()], vec!["fts".into()]));
        let groups = json!({"wlcg.groups": ["/cms", "/cms/prod", "cms"]});
        assert_eq!(vos("http://127.0.0.1:8181", groups).0, ["cms", "cms/prod"]);
    }
}
