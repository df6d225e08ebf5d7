//! The configuration file. Units stand in the names; every default is here.

mod endpoints;
mod issuer;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use daemon::http::ListenSettings;
use daemon::logs::LogSettings;
use daemon::mysql::Tls;
use daemon::settings::CacheSettings;
use serde::Deserialize;
use token_core::ClientSecret;

pub use endpoints::{EndpointDefaults, EndpointSettings};
pub use issuer::{ExchangeIssuer, ProviderSettings};

use crate::api::ApiSettings;
use crate::fts::Place;
use crate::plan::{IssuerRule, Planning};
use crate::refresh::settings::RefreshSettings;
use crate::retire::RetireSettings;

/// The whole file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// FTS's database.
    #[serde(default)]
    pub fts: FtsSettings,
    /// The issuers whose tokens are exchanged, and our client at each. FTS's `t_token_provider` must have a row for each.
    #[serde(default)]
    pub issuer: Vec<ExchangeIssuer>,
    /// FTS's own clients at issuers.
    #[serde(default)]
    pub providers: ProviderSettings,
    /// What holds for endpoints without an entry of their own.
    #[serde(default)]
    pub endpoints: EndpointDefaults,
    /// Endpoints of their own.
    #[serde(default)]
    pub endpoint: Vec<EndpointSettings>,
    /// How the work is done.
    #[serde(default)]
    pub worker: WorkerSettings,
    /// How tokens that were handed over stay fresh.
    #[serde(default)]
    pub refresh: RefreshSettings,
    /// Old tokens in FTS's database.
    #[serde(default)]
    pub retire: RetireSettings,
    /// Tokens over HTTP, for transfer agents that are not FTS.
    #[serde(default)]
    pub api: ApiSettings,
    /// Where tokens outlive a restart; without it they live in memory.
    #[serde(default)]
    pub cache: Option<CacheSettings>,
    /// Where metrics and health are told.
    #[serde(default)]
    pub http: ListenSettings,
    /// Logs.
    #[serde(default)]
    pub log: LogSettings,
}

/// `[fts]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FtsSettings {
    /// The database: `mysql://user@host:3306/fts` (MariaDB too) or `sqlite:////absolute/path`.
    pub database: Option<Place>,
    /// A file that holds the database user's password and nothing else.
    pub password_file: Option<PathBuf>,
    /// The authorities of the server's certificate (PEM); with it, TLS is also used on this host's own addresses.
    pub ca_file: Option<PathBuf>,
    /// Whether a server on another host is only spoken to over TLS, with its name verified.
    pub tls: bool,
}

impl Default for FtsSettings {
    fn default() -> Self {
        Self { database: None, password_file: None, ca_file: None, tls: true }
    }
}

impl FtsSettings {
    /// The database with its password, and how the way there is kept safe. `other` is where it is by FTS's own configuration: it
    /// counts when ours does not say, and a password file of ours holds before the password there.
    ///
    /// # Errors
    /// One line that names the key.
    pub fn place(&self, other: Option<Place>) -> Result<(Place, Tls), String> {
        let tls = match (&self.ca_file, self.tls) {
            (Some(path), true) => {
                // Else it would look like a server that is away.
                std::fs::read(path)
                    .map_err(|error| format!("`fts.ca_file` = {}: {error}", path.display()))?;
                Tls::CaFile(path.clone())
            }
            (None, true) => Tls::Verified,
            (None, false) => Tls::Off,
            (Some(_), false) => return Err("`fts.ca_file` is set and `fts.tls` is false".into()),
        };
        let own =
            self.database.clone().or(other).ok_or("`fts.database` is missing: where FTS's database is")?;
        let place = match (own, &self.password_file) {
            (place, None) => place,
            (Place::Sqlite(_), Some(_)) => {
                return Err("`fts.password_file` is set, and SQLite has no passwords".into());
            }
            (Place::Mysql(server), Some(_)) if self.database.is_some() && server.has_password() => {
                return Err("`fts.database` holds a password, and so does `fts.password_file`".into());
            }
            (Place::Mysql(server), Some(path)) => {
                let password =
                    ClientSecret::from_file(path).map_err(|error| format!("`fts.password_file`: {error}"))?;
                Place::Mysql(server.with_password(password))
            }
        };
        Ok((place, tls))
    }
}

/// `[worker]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WorkerSettings {
    /// How long to rest when nothing waits. While files keep coming, they are gathered for up to 0.6 seconds.
    pub interval_ms: u64,
    /// Jobs leased at a time; at most 5000.
    pub batch: u32,
    /// How long a lease lasts; a worker that dies holds its jobs for as long.
    pub lease_s: u64,
    /// Exchanges at a time, over all issuers: each has a share, at most its `max_in_flight`.
    pub in_flight: usize,
    /// How long a kept token must still live to be handed over. A transfer waits and runs on it. Tokens that nobody renews and that
    /// live shorter are reported.
    pub min_token_life_s: u64,
}

impl Default for WorkerSettings {
    fn default() -> Self {
        Self { interval_ms: 200, batch: 500, lease_s: 120, in_flight: 64, min_token_life_s: 1800 }
    }
}

impl Settings {
    /// Which tokens files need, by the issuers' rules.
    ///
    /// # Errors
    /// One line that names the entry and what is wrong with it.
    pub fn planning(&self, issuers: Vec<IssuerRule>) -> Result<Planning, String> {
        let mut seen = BTreeSet::new();
        let twice =
            |issuer: &&ExchangeIssuer| !seen.insert(issuer.shared.url.trim_end_matches('/').to_owned());
        if let Some(issuer) = self.issuer.iter().find(twice) {
            return Err(format!("`[[issuer]]`: {} is there twice", issuer.shared.url));
        }
        Ok(Planning {
            endpoints: self.endpoints.table(&self.endpoint)?,
            issuers,
            needed_life: Duration::from_secs(self.worker.min_token_life_s),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Mode;

    /// Commented lines that show a possibility, not a default.
    const EXAMPLES: &[&str] = &[
        r#"audience = "https://a.storage.example""#,
        r#"issuer = "https://iam.example/""#,
        r#"granularity = "file""#,
        r#"write = "least""#,
        r#"database = "sqlite:////var/lib/fts/fts.sqlite""#,
        r#"messaging_directory = "/var/lib/fts3""#,
        "managed = true",
        r#"listen = "127.0.0.1:9771""#,
        r#"listen = "0.0.0.0:8443""#,
        r#"audience = ["https://token-exchange.example"]"#,
        r#"certificate_file = "/etc/grid-security/hostcert.pem""#,
        r#"key_file = "/etc/grid-security/hostkey.pem""#,
    ];

    fn load(text: &str) -> Result<Settings, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c.toml");
        std::fs::write(&path, text).unwrap();
        daemon::config::load::<Settings>(&path, "NO_SUCH_PREFIX").map_err(|error| error.to_string())
    }

    #[test]
    fn a_wrong_key_or_value_of_an_issuer_is_named_and_its_value_is_not() {
        let head = "[fts]\ndatabase = \"sqlite:////x\"\n[[issuer]]\nurl = \"https://i\"\nclient_id = \"c\"\n";
        let settings = load(&format!("{head}mode = \"client-credentials\"\ntimeout_s = 7\n")).unwrap();
        assert_eq!(
            (settings.issuer[0].mode, settings.issuer[0].shared.timeout_s),
            (Mode::ClientCredentials, 7)
        );
        for (line, named) in [
            ("nonsense = \"canary\"", "nonsense"),
            ("timeout_s = \"canary\"", "expected"),
            ("mode = \"canary\"", "mode"),
        ] {
            let error = load(&format!("{head}{line}\n")).unwrap_err();
            assert!(error.contains(named) && !error.contains("canary"), "{line}: {error}");
        }
    }

    #[test]
    fn the_annotated_file_shows_every_default() {
        let text = include_str!("../../../config/token-exchange.toml");
        let taken_in = daemon::config::with_defaults_taken_in(text, EXAMPLES);
        assert_ne!(text, taken_in);
        let [plain, full] = [text, &taken_in].map(|text| format!("{:?}", load(text).unwrap()));
        assert_eq!(plain, full);
    }

    #[test]
    fn the_databases_password_is_taken_from_one_place_and_never_shown() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("password");
        std::fs::write(&file, "canary\n").unwrap();
        let settings =
            |database: &str, password_file: Option<&PathBuf>, ca_file: Option<&str>, tls| FtsSettings {
                database: Some(database.to_owned().try_into().unwrap()),
                password_file: password_file.cloned(),
                ca_file: ca_file.map(Into::into),
                tls,
            };
        let named = settings("mysql://fts@h/fts", Some(&file), None, true);
        let (place, tls) = named.place(None).unwrap();
        assert!(matches!(&place, Place::Mysql(server) if server.has_password()));
        let whole = settings("mysql://fts:canary@h/fts", None, None, true);
        let shown = format!("{place} {named:?} {whole:?} {:?}", whole.place(None));
        assert!(shown.contains("mysql://fts@h:3306/fts") && !shown.contains("canary"), "{shown}");
        assert_eq!(tls, Tls::Verified);
        for wrong in [
            settings("mysql://fts:canary@h/fts", Some(&file), None, true),
            settings("sqlite:////fts", Some(&file), None, true),
            settings("mysql://fts@h/fts", Some(&folder.path().join("none")), None, true),
            settings("mysql://fts@h/fts", None, Some("/ca.pem"), false),
        ] {
            let error = wrong.place(None).unwrap_err();
            assert!(error.contains("_file`") && !error.contains("canary"), "{error}");
        }
        let error = Place::try_from("postgresql://fts:canary@h/fts".to_owned()).unwrap_err();
        assert!(!error.contains("canary"), "{error}");
    }
}
