//! Whom this daemon asks for tokens, and for which: per VO and, where a site wants it so, per FTS instance.

use std::sync::Arc;
use std::time::Duration;

use daemon::settings::IssuerSettings;
use daemon::{Failure, Shutdown};
use token_core::http::HttpSettings;
use token_core::{Clock, OAuthClient, ScopeSet, TokenRequest};
use url::Url;

use crate::settings::{FtsSettings, InstanceSettings, Settings, VoSettings};

/// What tokens for an FTS are asked for, and where.
#[derive(Clone)]
pub struct Grantor {
    /// The client at the issuer. VOs that share `[issuer]` share it, with its limits.
    pub oauth: Arc<OAuthClient>,
    audience: String,
    scope: ScopeSet,
}

impl Grantor {
    /// What a token for the FTS at `url` is asked for with.
    pub fn request(&self, url: &Url) -> TokenRequest {
        let audience =
            self.audience.replace("{host}", url.host_str().unwrap_or_default()).replace("{url}", &base(url));
        TokenRequest { audience, scope: self.scope.clone() }
    }
}

/// The ways of one VO to its tokens.
#[derive(Clone)]
pub struct Access {
    /// The VO.
    pub vo: String,
    /// TLS and time-outs towards FTS.
    pub http: HttpSettings,
    /// How long a token for FTS must still live when it is sent.
    pub min_life: Duration,
    usual: Grantor,
    instances: Vec<(String, Grantor)>,
}

impl Access {
    /// Who gives the tokens for the FTS at `url`.
    pub fn grantor(&self, url: &Url) -> &Grantor {
        let known = self.instances.iter().find(|(instance, _)| *instance == base(url));
        known.map_or(&self.usual, |(_, grantor)| grantor)
    }

    /// Its clients at issuers.
    pub fn clients(&self) -> impl Iterator<Item = &Arc<OAuthClient>> {
        std::iter::once(&self.usual)
            .chain(self.instances.iter().map(|(_, grantor)| grantor))
            .map(|grantor| &grantor.oauth)
    }

    /// The issuer that most of the VO's tokens come from, for logs.
    pub fn issuer(&self) -> String {
        self.usual.oauth.issuer().to_string()
    }
}

/// The ways of these VOs to their tokens; nothing is sent yet.
///
/// # Errors
/// When a VO has no issuer, an issuer or its secret can't be used, or the configuration names a VO that is not served.
pub fn of_vos(
    settings: &Settings,
    vos: &[String],
    clock: &Arc<dyn Clock>,
    shutdown: &Shutdown,
) -> Result<Vec<Access>, Failure> {
    let named = settings.vo.iter().map(|vo| vo.name.as_str());
    let stranger = named
        .chain(settings.fts.instance.iter().filter_map(|instance| instance.vo.as_deref()))
        .chain(settings.rse.iter().filter_map(|rse| rse.vo.as_deref()));
    if let Some(stranger) = stranger.into_iter().find(|name| !vos.iter().any(|vo| vo == name)) {
        return Err(Failure::Configuration(format!(
            "VO `{stranger}` has settings of its own, but is not among the VOs that are served: {}",
            vos.join(", ")
        )));
    }
    let client =
        |issuer: &IssuerSettings| issuer.client(Arc::clone(clock), shutdown.hard.clone()).map(Arc::new);
    let shared = settings.issuer.as_ref().map(client).transpose()?;
    vos.iter()
        .map(|name| {
            let of_this_vo = |failure: Failure| failure.at(&format!("VO `{name}`"));
            let mut entries = settings.vo.iter().filter(|vo| vo.name == *name);
            let own = entries.next();
            if entries.next().is_some() {
                return Err(Failure::Configuration(format!("`[[vo]]` with the name `{name}` stands twice")));
            }
            let issuer = own.and_then(|vo| vo.issuer.as_ref());
            let oauth = issuer.map(client).transpose().map_err(of_this_vo)?.or_else(|| shared.clone());
            let oauth = oauth.ok_or_else(|| {
                Failure::Configuration(format!(
                    "VO `{name}` has no issuer: give it one in a `[[vo]]`, or give `[issuer]` for all"
                ))
            })?;
            let usual = grantor(oauth, &settings.fts, own, None).map_err(of_this_vo)?;
            // An instance that names this VO counts before one for all VOs.
            let mut instances = Vec::new();
            for of_vo in [true, false] {
                let fitting = |instance: &&InstanceSettings| match &instance.vo {
                    Some(vo) => of_vo && vo == name,
                    None => !of_vo,
                };
                for instance in settings.fts.instance.iter().filter(fitting) {
                    let own_client = instance.issuer.as_ref().map(client).transpose().map_err(of_this_vo)?;
                    let oauth = own_client.unwrap_or_else(|| Arc::clone(&usual.oauth));
                    let grantor = grantor(oauth, &settings.fts, own, Some(instance)).map_err(of_this_vo)?;
                    instances.push((base(&instance.url), grantor));
                }
            }
            Ok(Access {
                vo: name.clone(),
                http: settings.fts.http(),
                min_life: Duration::from_secs(settings.fts.min_token_life_s),
                usual,
                instances,
            })
        })
        .collect()
}

/// The nearest setting counts: the instance's, the VO's, that of `[fts]`.
fn grantor(
    oauth: Arc<OAuthClient>,
    fts: &FtsSettings,
    vo: Option<&VoSettings>,
    instance: Option<&InstanceSettings>,
) -> Result<Grantor, Failure> {
    let nearest =
        |instance: Option<&String>, vo: Option<&String>, all: &String| instance.or(vo).unwrap_or(all).clone();
    let audience = nearest(
        instance.and_then(|instance| instance.audience.as_ref()),
        vo.and_then(|vo| vo.audience.as_ref()),
        &fts.audience,
    );
    let scope = nearest(
        instance.and_then(|instance| instance.scope.as_ref()),
        vo.and_then(|vo| vo.scope.as_ref()),
        &fts.scope,
    );
    let scope = match ScopeSet::parse(&scope) {
        Ok(scopes) if !scopes.is_empty() => scopes,
        Ok(_) => return Err(Failure::configuration("the `scope` of tokens for FTS is empty")),
        Err(error) => return Err(Failure::Configuration(format!("the `scope` of tokens for FTS: {error}"))),
    };
    Ok(Grantor { oauth, audience, scope })
}

/// A URL without a slash at its end.
fn base(url: &Url) -> String {
    url.as_str().trim_end_matches('/').to_owned()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use token_core::{ManualClock, UnixSeconds};

    use super::*;
    use crate::tokens::Carried;

    fn made(text: &str, vos: &[&str]) -> Result<Vec<Access>, Failure> {
        let folder = tempfile::tempdir().unwrap();
        let secret = folder.path().join("secret");
        std::fs::write(&secret, "s").unwrap();
        std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).unwrap();
        let text = text.replace("CLIENT", &format!("client_secret_file = \"{}\"", secret.display()));
        let path = folder.path().join("c.toml");
        std::fs::write(&path, format!("[rucio]\ndatabase = \"sqlite:////d\"\n{text}")).unwrap();
        let settings: Settings = daemon::config::load(&path, "NO_SUCH_PREFIX").unwrap();
        let vos: Vec<String> = vos.iter().map(|vo| (*vo).to_owned()).collect();
        let clock = Arc::new(ManualClock::new(UnixSeconds(0))) as Arc<dyn Clock>;
        of_vos(&settings, &vos, &clock, &Shutdown::default())
    }

    const THREE: &str = r#"
        [issuer]
        url = "https://all.example/"
        client_id = "c"
        CLIENT
        [[vo]]
        name = "cms"
        scope = "fts"
        audience = "{url}"
        [vo.issuer]
        url = "https://cms.example/"
        client_id = "c"
        CLIENT
        [[fts.instance]]
        url = "https://two.example:8446/"
        audience = "two"
        [[fts.instance]]
        url = "https://two.example:8446"
        vo = "cms"
        scope = "fts storage.read:/"
        [fts.instance.issuer]
        url = "https://two.cms.example/"
        client_id = "c"
        CLIENT
    "#;

    #[test]
    fn the_nearest_setting_counts() {
        let accesses = made(THREE, &["atl", "cms"]).unwrap();
        let seen: Vec<_> = accesses
            .iter()
            .flat_map(|access| {
                ["https://one.example:8446", "https://two.example:8446"].map(|url| (access, url))
            })
            .map(|(access, url)| {
                let url = Url::parse(url).unwrap();
                let grantor = access.grantor(&url);
                let TokenRequest { audience, scope } = grantor.request(&url);
                format!("{} {} {audience} {scope}", access.vo, grantor.oauth.issuer())
            })
            .collect();
        assert_eq!(
            seen,
            [
                "atl https://all.example/ one.example storage.read:/ storage.modify:/ fts",
                "atl https://all.example/ two storage.read:/ storage.modify:/ fts",
                "cms https://cms.example/ https://one.example:8446 fts",
                "cms https://two.cms.example/ https://two.example:8446 storage.read:/ fts",
            ]
        );
    }

    #[test]
    fn a_vo_may_send_other_tokens_and_have_rses_of_its_own() {
        let more = "[storage_tokens]\nsend = \"unmanaged\"\n[[rse]]\nvo = \"cms\"\n[[rse]]\nname = \"R\"\n[[vo]]\nname = \"atl\"\n\
                    send = \"managed\"\n";
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c.toml");
        std::fs::write(&path, format!("[rucio]\ndatabase = \"sqlite:////d\"\n{more}")).unwrap();
        let settings: Settings = daemon::config::load(&path, "NO_SUCH_PREFIX").unwrap();
        let rules = ["atl", "cms"].map(|vo| settings.token_rules(vo));
        let seen = rules.map(|rules| (rules.carried, rules.table.len()));
        assert_eq!(seen, [(Carried::Managed, 1), (Carried::Unmanaged, 2)]);
    }

    #[test]
    fn what_does_not_fit_is_one_line_that_names_the_vo() {
        let refused = |text: &str, vos: &[&str]| made(text, vos).map(drop).unwrap_err().to_string();
        assert!(refused(THREE, &["atl"]).contains("`cms`"));
        let (_, own) = THREE.split_once("[[vo]]").unwrap();
        let none = refused(&format!("[[vo]]{own}"), &["atl", "cms"]);
        assert!(none.contains("`atl` has no issuer"), "{none}");
        let wrong = refused(&THREE.replace("\"fts\"", "\"storage.read\""), &["atl", "cms"]);
        assert!(wrong.contains("VO `cms`") && wrong.contains("without a path"), "{wrong}");
        let twice = refused(&format!("{THREE}\n[[vo]]\nname = \"cms\""), &["atl", "cms"]);
        assert!(twice.contains("twice"), "{twice}");
        let rse = refused(&format!("{THREE}\n[[rse]]\nvo = \"alt\""), &["atl", "cms"]);
        assert!(rse.contains("`alt`"), "{rse}");
    }
}
