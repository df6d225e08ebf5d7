//! The issuers that we know, from our configuration and from FTS's `t_token_provider`, and the client that we are at each.

use std::sync::Arc;
use std::time::Duration;

use daemon::Failure;
use daemon::settings::{Authentication, IssuerSettings};
use token_core::http::HttpSettings;
use token_core::{ClientAuthentication, Clock, Issuer, IssuerKeys};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::command::ShownIssuer;
use crate::fts::provider::Provider;
use crate::plan::{IssuerRule, Mode};
use crate::settings::{ExchangeIssuer, Settings};
use crate::worker::IssuerClient;

const OURS: &str = "our configuration";
const FTS: &str = "t_token_provider";

/// An issuer, and where what we know of it comes from.
#[derive(Clone, Debug)]
pub struct KnownIssuer {
    /// How tokens of it are got.
    mode: Mode,
    min_given_life: Duration,
    shared: IssuerSettings,
    /// FTS's row for it.
    provider: Option<Provider>,
    /// Whether our configuration names it.
    configured: bool,
}

/// All of them: those that the configuration names, and FTS's own, of which the configuration may only name the issuer. Where both
/// say something, ours holds.
pub fn known(settings: &Settings, providers: &[Provider]) -> Vec<KnownIssuer> {
    let plain = |name: &str| name.trim_end_matches('/').to_owned();
    let row = |url: &str| providers.iter().find(|row| plain(&row.issuer) == plain(url)).cloned();
    let ours = settings.issuer.iter().map(|issuer: &ExchangeIssuer| KnownIssuer {
        mode: issuer.mode,
        min_given_life: Duration::from_secs(issuer.min_given_life_s),
        shared: issuer.shared.clone(),
        provider: row(&issuer.shared.url),
        configured: true,
    });
    let mut all: Vec<KnownIssuer> = ours.collect();
    if settings.providers.enabled {
        for row in providers {
            if all.iter().any(|known| plain(&known.shared.url) == plain(&row.issuer)) {
                continue;
            }
            let mut shared = IssuerSettings::named(row.issuer.as_str());
            shared.ca_file.clone_from(&settings.providers.ca_file);
            all.push(KnownIssuer {
                mode: Mode::Exchange,
                min_given_life: Duration::ZERO,
                shared,
                provider: Some(row.clone()),
                configured: false,
            });
        }
    }
    all
}

impl KnownIssuer {
    /// What the plan of a file has to know of it.
    pub fn rule(&self) -> IssuerRule {
        IssuerRule {
            issuer: self.shared.url.clone(),
            mode: self.mode,
            min_given_life: self.min_given_life,
            required_scope: self.provider.as_ref().and_then(|row| row.required_submission_scope.clone()),
        }
    }

    /// Whether id and secret of the client are FTS's: ours has no secret for it, and names no other client.
    fn is_ftss(&self) -> Option<&Provider> {
        let shared = &self.shared;
        let without_secret = shared.client_secret_file.is_none() && shared.private_key_file.is_none();
        let same = |row: &&Provider| shared.client_id.is_empty() || shared.client_id == row.client_id;
        self.provider.as_ref().filter(|_| without_secret).filter(same)
    }

    /// The client that we are there; none where tokens are used as they are, and for a row of FTS's that can't be used.
    ///
    /// # Errors
    /// When our configuration can't be used.
    pub fn client(
        &self,
        clock: &Arc<dyn Clock>,
        cancel: &CancellationToken,
    ) -> Result<Option<IssuerClient>, Failure> {
        let (url, mode) = (&self.shared.url, self.mode);
        if mode == Mode::Unmanaged {
            return Ok(None);
        }
        let made = match self.is_ftss() {
            None => {
                let client = self.shared.client(Arc::clone(clock), cancel.clone())?;
                Ok(IssuerClient::new(mode, client, None, self.shared.max_in_flight))
            }
            Some(row) => self.as_fts(row, clock, cancel),
        };
        match made {
            Ok(client) => {
                let shown = self.shown();
                info!(
                    issuer = url,
                    mode = mode.name(),
                    client = shown.client_id,
                    from = shown.client_from,
                    "issuer"
                );
                Ok(Some(client))
            }
            Err(error) if self.configured => Err(error),
            Err(error) => {
                warn!(issuer = url, %error, "t_token_provider names an issuer that can't be used; its tokens wait");
                Ok(None)
            }
        }
    }

    /// With FTS's own id and secret. FTS writes every issuer with a slash at the end: which name it goes by itself is known from
    /// the tokens, so there is a client for each.
    fn as_fts(
        &self,
        row: &Provider,
        clock: &Arc<dyn Clock>,
        cancel: &CancellationToken,
    ) -> Result<IssuerClient, Failure> {
        if row.client_id.is_empty() || row.client_secret.expose().is_empty() {
            return Err(Failure::Configuration(format!("t_token_provider has no client for {}", row.issuer)));
        }
        let proof = match self.shared.authentication {
            Authentication::Basic => ClientAuthentication::Basic(row.client_secret.clone()),
            Authentication::Post => ClientAuthentication::Post(row.client_secret.clone()),
            Authentication::PrivateKeyJwt => {
                return Err(Failure::configuration(
                    "`issuer`: authentication private_key_jwt takes `private_key_file`; t_token_provider has a secret only",
                ));
            }
        };
        let guard = self.shared.guard();
        let client = |url: &str| {
            let shared = IssuerSettings { url: url.to_owned(), ..self.shared.clone() };
            let (proof, guard) = (proof.clone(), Arc::clone(&guard));
            shared.client_as(&row.client_id, proof, guard, Arc::clone(clock), cancel.clone())
        };
        let url = self.shared.url.as_str();
        let other = if self.configured { None } else { Some(client(url.trim_end_matches('/'))?) };
        Ok(IssuerClient::new(self.mode, client(url)?, other, self.shared.max_in_flight))
    }

    /// Whether tokens are got there at all.
    pub(crate) fn gives_tokens(&self) -> bool {
        self.mode != Mode::Unmanaged
    }

    /// The names that the `iss` of its tokens may have, each with its keys, of which none is fetched yet. That of an issuer which FTS's row alone
    /// names ends with a slash or not; one that can't be used is none.
    ///
    /// # Errors
    /// When our configuration can't be used.
    pub(crate) fn keys(&self, clock: &Arc<dyn Clock>) -> Result<Vec<(Issuer, IssuerKeys)>, Failure> {
        let http = HttpSettings {
            ca_file: self.shared.ca_file.clone(),
            connect_timeout: Duration::from_secs(self.shared.connect_timeout_s),
            timeout: Duration::from_secs(self.shared.timeout_s),
        };
        let client = token_core::http::client(&http).map_err(Failure::configuration)?;
        let url = self.shared.url.as_str();
        let names = match self.configured {
            true => vec![self.shared.issuer()?],
            false => [url, url.trim_end_matches('/')]
                .into_iter()
                .filter_map(|name| Issuer::new(name).ok())
                .collect(),
        };
        let keys = |name: Issuer| (name.clone(), IssuerKeys::new(name, client.clone(), Arc::clone(clock)));
        Ok(names.into_iter().map(keys).collect())
    }

    /// How it is reached, and our client there as far as we say.
    pub(crate) fn shared(&self) -> &IssuerSettings {
        &self.shared
    }

    /// How its tokens are got.
    pub(crate) fn mode(&self) -> Mode {
        self.mode
    }

    /// FTS's row for it.
    pub(crate) fn provider(&self) -> Option<&Provider> {
        self.provider.as_ref()
    }

    /// Whether our configuration names it.
    pub(crate) fn is_configured(&self) -> bool {
        self.configured
    }

    /// Whether the client that we are there is FTS's.
    pub(crate) fn uses_row(&self) -> bool {
        self.mode != Mode::Unmanaged && self.is_ftss().is_some()
    }

    /// Tries for one token no longer than so many seconds, for a person who waits.
    pub(crate) fn be_impatient(&mut self, seconds: u64) {
        self.shared.retry_total_s = self.shared.retry_total_s.min(seconds);
    }

    /// What `status` tells of it.
    pub(crate) fn shown(&self) -> ShownIssuer {
        let (client_id, client_from) = match self.is_ftss() {
            _ if self.mode == Mode::Unmanaged => (None, OURS),
            Some(row) => (Some(row.client_id.clone()), FTS),
            None => (Some(self.shared.client_id.clone()), OURS),
        };
        ShownIssuer {
            url: self.shared.url.clone(),
            mode: self.mode,
            client_id,
            client_from,
            vo: self.provider.as_ref().and_then(|row| row.vo_mapping.clone()),
            required_scope: self.provider.as_ref().and_then(|row| row.required_submission_scope.clone()),
            max_in_flight: self.shared.max_in_flight,
            calls_per_s: self.shared.calls_per_s,
        }
    }
}

#[cfg(test)]
mod tests {
    use token_core::{ClientSecret, SystemClock};

    use super::*;

    fn settings(text: &str) -> Settings {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c.toml");
        std::fs::write(&path, format!("{text}\n[fts]\ndatabase = \"sqlite:////x\"\n")).unwrap();
        daemon::config::read::<Settings>(&path, "NO_SUCH_PREFIX").unwrap().settings
    }

    fn row(issuer: &str, client_id: &str) -> Provider {
        Provider {
            name: "n".into(),
            issuer: issuer.into(),
            client_id: client_id.into(),
            client_secret: ClientSecret::new("canary"),
            required_submission_scope: Some("fts".into()),
            vo_mapping: None,
        }
    }

    #[test]
    fn ours_wins_and_each_says_where_it_comes_from() {
        let rows = [row("https://a/", "fts-a"), row("https://b/", "fts-b"), row("http://c/", "fts-c")];
        let folder = tempfile::tempdir().unwrap();
        let secret = folder.path().join("secret");
        std::fs::write(&secret, "ours").unwrap();
        let own = format!(
            "[[issuer]]\nurl = \"https://a\"\nclient_id = \"own\"\nclient_secret_file = \"{}\"\n",
            secret.display()
        );
        let tell = |text: &str| {
            let (clock, cancel): (Arc<dyn Clock>, _) = (Arc::new(SystemClock), CancellationToken::new());
            let known = known(&settings(text), &rows);
            assert!(!format!("{known:?}").contains("canary"));
            let tell = |known: &KnownIssuer| {
                let shown = known.shown();
                let client = known.client(&clock, &cancel).map(|client| client.is_some());
                let client = client.unwrap_or_else(|error| {
                    assert!(error.to_string().contains("client"), "{error}");
                    false
                });
                format!("{} {} {client}", shown.client_id.unwrap_or_default(), shown.client_from)
            };
            known.iter().map(tell).collect::<Vec<_>>()
        };
        let theirs =
            ["fts-a t_token_provider true", "fts-b t_token_provider true", "fts-c t_token_provider false"];
        assert_eq!(tell(""), theirs);
        assert_eq!(tell(&own)[0], "own our configuration true");
        assert_eq!(tell(&own)[1..], theirs[1..]);
        assert_eq!(tell("[providers]\nenabled = false\n"), [""; 0]);
        let named = "[providers]\nenabled = false\n[[issuer]]\nurl = \"https://a\"\n";
        assert_eq!(tell(named), ["fts-a t_token_provider true"], "its name is ours, its client FTS's");
        assert_eq!(tell(&format!("{named}client_id = \"other\"\n")), ["other our configuration false"]);
        assert_eq!(tell(&format!("{named}mode = \"unmanaged\"\n")), [" our configuration false"]);
    }
}
