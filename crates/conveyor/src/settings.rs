//! The configuration file. Units stand in the names; every default is here.

mod share;
mod tokens;
mod vo;

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use daemon::http::ListenSettings;
use daemon::logs::LogSettings;
use daemon::settings::{CacheSettings, IssuerSettings};
use serde::Deserialize;
use token_core::ClientSecret;
use token_core::http::HttpSettings;

use crate::choose::{Rules, Schemes};
use crate::job::{GroupBy, JobRules};
use crate::rucio::DatabaseUrl;
use crate::tokens::{TokenRules, TokenSettings, WithoutToken};

pub use share::ShareSettings;
pub use tokens::StorageTokenSettings;
pub use vo::{InstanceSettings, VoSettings};

/// The whole file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Rucio's database.
    pub rucio: RucioSettings,
    /// The issuer of tokens, for every VO that has none of its own.
    #[serde(default)]
    pub issuer: Option<IssuerSettings>,
    /// VOs with settings of their own.
    #[serde(default)]
    pub vo: Vec<VoSettings>,
    /// FTS.
    #[serde(default)]
    pub fts: FtsSettings,
    /// Submitting.
    #[serde(default)]
    pub submit: SubmitSettings,
    /// The part of the queue that is ours.
    #[serde(default)]
    pub share: ShareSettings,
    /// Tokens for storages that jobs carry.
    #[serde(default)]
    pub storage_tokens: StorageTokenSettings,
    /// What the tokens of some RSEs have of their own.
    #[serde(default)]
    pub rse: Vec<TokenSettings>,
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

impl Settings {
    /// Every issuer that is named.
    pub(crate) fn issuers(&self) -> impl Iterator<Item = &IssuerSettings> {
        let of_vos = self.vo.iter().filter_map(|vo| vo.issuer.as_ref());
        let of_instances = self.fts.instance.iter().filter_map(|instance| instance.issuer.as_ref());
        self.issuer.iter().chain(of_vos).chain(of_instances)
    }
}

/// `[rucio]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RucioSettings {
    /// The database, written as in `rucio.cfg`: `postgresql://user:password@host/database` or `sqlite:////absolute/path`.
    #[serde(default)]
    pub database: Option<DatabaseUrl>,
    /// A file that holds that and nothing else, instead of `database`.
    #[serde(default)]
    pub database_file: Option<PathBuf>,
    /// The schema that Rucio's tables are in, as in `rucio.cfg`; without it the database user's search path decides.
    #[serde(default)]
    pub schema: Option<String>,
    /// The VO whose RSEs are served.
    #[serde(default = "default_vo")]
    pub vo: String,
    /// Several VOs, instead of `vo`; `*` alone is every VO that has RSEs when the daemon starts.
    #[serde(default)]
    pub vos: Vec<String>,
    /// How long RSEs, their attributes and protocols and the distances between them are believed before they are read again.
    #[serde(default = "default_topology_refresh")]
    pub topology_refresh_s: u64,
}

fn default_topology_refresh() -> u64 {
    300
}

fn default_vo() -> String {
    "def".into()
}

impl RucioSettings {
    /// The database, from the key or the file.
    ///
    /// # Errors
    /// One line that names the key.
    pub fn url(&self) -> Result<DatabaseUrl, String> {
        let known = |url: DatabaseUrl, key: &str| match url.is_supported() {
            true => Ok(url),
            false => Err(format!("`{key}` begins neither with `postgresql://` nor with `sqlite:////`")),
        };
        match (&self.database, &self.database_file) {
            (Some(url), None) => known(url.clone(), "rucio.database"),
            (None, Some(path)) => match ClientSecret::from_file(path) {
                Ok(url) => known(DatabaseUrl::new(url.expose()), "rucio.database_file"),
                Err(error) => Err(format!("`rucio.database_file`: {error}")),
            },
            (None, None) => Err("`rucio.database` is missing, and so is `rucio.database_file`".into()),
            (Some(_), Some(_)) => {
                Err("`rucio.database` and `rucio.database_file`: only one can count".into())
            }
        }
    }
}

/// `[fts]`. Which FTS a transfer goes to is the destination RSE's `fts` attribute.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FtsSettings {
    /// Certificate authorities to trust instead of the system's: a PEM file, or a directory of them.
    pub ca_file: Option<PathBuf>,
    /// The audience of the token: `{host}` is the FTS's host name, as Rucio asks for; `{url}` is its base URL.
    pub audience: String,
    /// The scopes of the token: `fts`, and what the exchange may later narrow it to.
    pub scope: String,
    /// How long a token must still live when it is sent; FTS may keep it for as long as the exchange takes.
    pub min_token_life_s: u64,
    /// Longest wait for a connection.
    pub connect_timeout_s: u64,
    /// Longest wait for an answer.
    pub timeout_s: u64,
    /// FTS instances with settings of their own.
    pub instance: Vec<InstanceSettings>,
}

impl Default for FtsSettings {
    fn default() -> Self {
        Self {
            ca_file: None,
            audience: "{host}".into(),
            scope: "fts storage.read:/ storage.modify:/".into(),
            min_token_life_s: 600,
            connect_timeout_s: 5,
            timeout_s: 60,
            instance: Vec::new(),
        }
    }
}

impl FtsSettings {
    /// TLS and time-outs.
    pub fn http(&self) -> HttpSettings {
        HttpSettings {
            ca_file: self.ca_file.clone(),
            connect_timeout: Duration::from_secs(self.connect_timeout_s),
            timeout: Duration::from_secs(self.timeout_s),
        }
    }

    /// Looks whether each `[[fts.instance]]` is one FTS, and none is there twice.
    ///
    /// # Errors
    /// One line that names the key.
    pub fn check_instances(&self) -> Result<(), String> {
        let mut seen = HashSet::new();
        for instance in &self.instance {
            let url = instance.url.as_str().trim_end_matches('/');
            if instance.url.scheme() != "https" || !instance.url.has_host() {
                return Err(format!("`fts.instance.url` = {url}: `https://fts.example:8446` is expected"));
            }
            if !seen.insert((url, instance.vo.as_deref())) {
                return Err(format!("`[[fts.instance]]`: {url} is there twice"));
            }
        }
        Ok(())
    }
}

/// `[submit]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SubmitSettings {
    /// How many requests are looked at and claimed at a time; at most 5000.
    pub batch: u32,
    /// Most files in one job.
    pub files_per_job: usize,
    /// What the files of one job have in common, beside the parameters of the job.
    pub group_by: GroupBy,
    /// Most jobs being posted at a time.
    pub jobs_in_flight: usize,
    /// Schemes that transfers may use; empty: all.
    pub schemes: Vec<String>,
    /// The same for requests that were tried before; empty: as `schemes`.
    pub failover_schemes: Vec<String>,
    /// Sources named beside the main one; 0 switches multi-source jobs off.
    pub max_extra_sources: usize,
    /// Whether a request that was tried before takes the source again that failed, while it can be used.
    pub retry_same_source: bool,
    /// FTS's way to pick among several sources.
    pub selection_strategy: String,
    /// How long a file may take to come from tape.
    pub bring_online_s: i64,
    /// How long a file may take to get onto tape, instead of what the RSE attribute `archive_timeout` says where there is one; 0: no
    /// time is sent.
    pub archive_timeout_override_s: Option<i64>,
    /// Whether RSEs that are not available are submitted to and from all the same.
    pub ignore_availability: bool,
    /// Hours that a file may wait in FTS, by activity, `default` for the others.
    pub max_time_in_queue_h: BTreeMap<String, i64>,
    /// What becomes of a transfer that must not go by token.
    pub without_token: WithoutToken,
    /// How long to rest when the queue has been walked to its end.
    pub sleep_s: u64,
    /// How often to look for requests that have just come.
    pub look_every_s: u64,
}

impl Default for SubmitSettings {
    fn default() -> Self {
        Self {
            batch: 1000,
            files_per_job: 100,
            group_by: GroupBy::default(),
            jobs_in_flight: 8,
            schemes: Vec::new(),
            failover_schemes: Vec::new(),
            max_extra_sources: 5,
            retry_same_source: false,
            selection_strategy: "orderly".into(),
            bring_online_s: 43_200,
            archive_timeout_override_s: None,
            ignore_availability: false,
            max_time_in_queue_h: [("default".to_owned(), IN_QUEUE_H)].into(),
            without_token: WithoutToken::default(),
            sleep_s: 10,
            look_every_s: 1,
        }
    }
}

/// Hours that a file may wait in FTS when nothing is said for it, as in Rucio.
const IN_QUEUE_H: i64 = 168;

impl SubmitSettings {
    /// The rules of choice.
    pub fn rules(&self, tokens: Arc<TokenRules>) -> Rules {
        let carried = |schemes: &[String]| Schemes(schemes.to_vec()).carried();
        Rules {
            schemes: carried(&self.schemes),
            failover_schemes: carried(&self.failover_schemes),
            max_extra_sources: self.max_extra_sources,
            retry_same_source: self.retry_same_source,
            ignore_availability: self.ignore_availability,
            tokens,
        }
    }

    /// The rules of jobs.
    pub fn job_rules(&self) -> JobRules {
        let mut max_time_in_queue_h = self.max_time_in_queue_h.clone();
        max_time_in_queue_h.entry("default".into()).or_insert(IN_QUEUE_H);
        JobRules {
            files_per_job: self.files_per_job,
            max_time_in_queue_h,
            selection_strategy: self.selection_strategy.clone(),
            bring_online_s: self.bring_online_s,
            group_by: self.group_by,
            archive_timeout_override_s: self.archive_timeout_override_s,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// Commented lines that show a possibility, not a default.
    const EXAMPLES: &[&str] = &[
        r#"url = "https://fts.example:8446""#,
        r#"audience = "fts""#,
        r#"vo = "cms""#,
        r#"scope = "fts""#,
        r#"name = "cms""#,
        r#"send = "managed""#,
        r#"name = "CERN-DISK""#,
        r#"attribute = "storage=dcache""#,
        r#"oidc_support = true"#,
        r#"audience = "{url}/""#,
        r#"base_path = "/pnfs/example.org/data""#,
        r#"path = "/""#,
        r#"source = "storage.read""#,
        r#"destination = "storage.create storage.read""#,
        r#"audience = "{url}""#,
        r#"scope = "fts storage.read:/ storage.modify:/ storage.stage:/""#,
        r#"url = "https://cms-auth.example/""#,
        r#"client_id = "rucio-conveyor-cms""#,
        r#"client_secret_file = "/etc/token-conveyor/rucio-conveyor-cms.secret""#,
        r#"database = "sqlite:////var/lib/rucio/rucio.sqlite""#,
        r#"schema = "prod""#,
        r#"listen = "127.0.0.1:9770""#,
        r#"archive_timeout_override_s = 86400"#,
    ];

    #[test]
    fn the_annotated_file_shows_every_default() {
        let text = include_str!("../../../config/conveyor.toml");
        let taken_in = daemon::config::with_defaults_taken_in(text, EXAMPLES);
        assert_ne!(text, taken_in);
        let [plain, full] = [text, &taken_in].map(|text| {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("c.toml");
            std::fs::write(&path, text).unwrap();
            format!("{:?}", daemon::config::load::<Settings>(&path, "NO_SUCH_PREFIX").unwrap())
        });
        assert_eq!(plain, full);
    }

    #[test]
    fn hours_for_one_activity_leave_the_others_theirs() {
        let only = [("User".to_owned(), 24)].into();
        let rules = SubmitSettings { max_time_in_queue_h: only, ..SubmitSettings::default() }.job_rules();
        let hours: Vec<_> = rules.max_time_in_queue_h.into_iter().collect();
        assert_eq!(hours, [("User".to_owned(), 24), ("default".to_owned(), 168)]);
    }

    #[test]
    fn the_database_is_named_once_by_key_or_by_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("url");
        std::fs::write(&file, "postgresql://u:canary@h/d\n").unwrap();
        let settings = |database: Option<&str>, file: Option<&Path>| RucioSettings {
            database: database.map(DatabaseUrl::new),
            database_file: file.map(Path::to_owned),
            schema: None,
            vo: default_vo(),
            vos: Vec::new(),
            topology_refresh_s: default_topology_refresh(),
        };
        let named = settings(None, Some(&file));
        assert_eq!(named.url().unwrap().expose(), "postgresql://u:canary@h/d");
        assert!(!format!("{named:?} {:?}", named.url()).contains("canary"));
        assert_eq!(settings(Some("sqlite:////db"), None).url().unwrap().expose(), "sqlite:////db");
        for wrong in [settings(None, None), settings(Some("sqlite:////db"), Some(&file))] {
            assert!(wrong.url().unwrap_err().contains("rucio.database_file"));
        }
        std::fs::write(&file, "u:canary@h/d\n").unwrap();
        let line = settings(None, Some(&file)).url().unwrap_err();
        assert!(line.contains("`rucio.database_file` begins neither") && !line.contains("canary"), "{line}");
        assert!(settings(None, Some(&folder.path().join("none"))).url().unwrap_err().contains("none"));
    }
}
