//! `--rucio-cfg FILE`: what Rucio's own configuration says, beneath ours.
//!
//! | `rucio.cfg` | here |
//! |---|---|
//! | `[conveyor-database]`, else `[database]`: `default`, `schema` | `rucio.database`, `rucio.schema` |
//! | `[common] multi_vo` true | `rucio.vos = ["*"]` |
//! | `[oidc] idpsecrets` and `admin_issuer`: that entry's `issuer`, `client_id`, `client_secret` | `issuer.url`, `issuer.client_id`, the secret |
//! | `[conveyor] scheme` | `submit.schemes` |
//! | `[conveyor] max_time_in_queue` | `submit.max_time_in_queue_h` |
//! | `[conveyor] default-source-strategy` | `submit.selection_strategy` |
//! | `[conveyor] submit_timeout` | `fts.timeout_s`, rounded up |
//! | `[conveyor] partition_hash_var` | `share.partition_by` |
//!
//! What Rucio reads from its table `configs` (`[policy]`, `[hermes]`, `[transfers]`, `[conveyor]`), it takes from the file first, and so do
//! we. Other options of `[conveyor]`, `[transfers]` and `[oidc]` are named in one line at start. As in Rucio, an option that the file does not
//! have is looked for in the table `configs` (`[conveyor]` only), and the whole of `rucio.cfg` is read with `%%` for `%`. Rucio itself has no
//! variables of the environment over it; those of its containers are written into the file before a daemon starts.

mod ini;

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use daemon::config::{Answer, Beneath, Loaded};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use token_core::ClientSecret;

use crate::settings::Settings;
use crate::share::PartitionBy;
use crate::topology::Options;
use ini::Ini;

/// What `rucio.cfg` and `idpsecrets.json` say.
#[derive(Debug)]
pub(crate) struct RucioCfg {
    path: PathBuf,
    ini: Ini,
    client: Option<Client>,
    notes: Vec<String>,
}

/// The entry of `idpsecrets.json` that Rucio's daemons use.
#[derive(Debug)]
struct Client {
    file: PathBuf,
    nick: String,
    issuer: String,
    id: String,
    secret: ClientSecret,
}

#[derive(Deserialize)]
struct Entry {
    issuer: String,
    client_id: String,
    client_secret: String,
}

/// Options that are taken over, or that mean nothing to a submitter with tokens.
const KNOWN: [&str; 18] = [
    "scheme",
    "max_time_in_queue",
    "default-source-strategy",
    "submit_timeout",
    "partition_hash_var",
    "transfertool",
    "use_deterministic_id",
    "poller_oidc_support",
    "poll_timeout",
    "usercert",
    "idpsecrets",
    "admin_issuer",
    "use_preparer",
    // As they are in the table `configs`.
    "webdav_transfer_mode",
    "source_ranking_strategies",
    "hop_penalty",
    "multihop_rse_expression",
    "multihop_tombstone_delay",
];

/// Sections of which what the table `configs` could say as well is taken as it stands.
const AS_THEY_STAND: [&str; 4] = ["policy", "hermes", "transfers", "conveyor"];

impl RucioCfg {
    /// Reads the file, and the file of secrets that it names.
    ///
    /// # Errors
    /// One line that names the file and the option, and shows no value.
    pub(crate) fn read(path: &Path) -> Result<Self, String> {
        let shown = path.display();
        let text = std::fs::read_to_string(path).map_err(|error| format!("{shown}: {error}"))?;
        let ini = Ini::parse(&text).map_err(|error| format!("{shown}: {error}"))?;
        let mut notes = Vec::new();
        let option =
            |section: &str, key: &str| ini.get(section, key).map_err(|error| format!("{shown}: {error}"));
        let client = match (option("oidc", "idpsecrets")?, option("oidc", "admin_issuer")?) {
            (Some(file), Some(nick)) => {
                let file = path.parent().unwrap_or(Path::new("/")).join(file);
                if let Some(note) = open_to_others(&file) {
                    notes.push(note);
                }
                Some(Client::read(&file, &nick)?)
            }
            _ => None,
        };
        if let Some(tools) = option("conveyor", "transfertool")?
            && !tools.is_empty()
            && !tools.split(',').any(|tool| tool.trim() == "fts3")
        {
            return Err(format!(
                "{shown}: `[conveyor] transfertool` is without fts3, the only one that there is here"
            ));
        }
        for section in AS_THEY_STAND {
            for key in ini.keys(section) {
                option(section, key)?;
            }
        }
        Ok(Self { path: path.to_owned(), ini, client, notes })
    }

    /// Takes options of `[conveyor]` in the table `configs` for those that the file has not. Returns whether any was new.
    pub(crate) fn complete(&mut self, options: Vec<(String, String)>) -> bool {
        let mut new = false;
        for (key, value) in options {
            new |= self.ini.add("conveyor", &key, value);
        }
        new
    }

    /// What a person should know, a line each.
    pub(crate) fn notes(&self) -> Vec<String> {
        let mut notes = self.notes.clone();
        let unmapped: Vec<_> = ["conveyor", "transfers", "oidc"]
            .into_iter()
            .flat_map(|section| self.ini.keys(section).map(move |key| (section, key)))
            .filter(|(_, key)| !KNOWN.contains(key))
            .map(|(section, key)| format!("[{section}] {key}"))
            .collect();
        if !unmapped.is_empty() {
            notes.push(format!("{}: not taken over: {}", self.path.display(), unmapped.join(", ")));
        }
        if self.options().keys().any(|(section, key)| section == "policy" && key.starts_with("package")) {
            notes.push(format!(
                "{}: `[policy] package` may name paths in its own way: files for RSEs whose paths are made by the default algorithm \
                 are left to Rucio's own submitter",
                self.path.display()
            ));
        }
        notes
    }

    /// What the table `configs` could say as well, and the file says before it.
    pub(crate) fn options(&self) -> Options {
        let keys = AS_THEY_STAND
            .into_iter()
            .flat_map(|section| self.ini.keys(section).map(move |key| (section, key)));
        let value = |(section, key): (&str, &str)| {
            let value = self.ini.get(section, key).ok().flatten()?;
            Some(((section.to_owned(), key.to_owned()), value))
        };
        keys.filter_map(value).collect()
    }

    /// Whether Rucio's preparer chooses sources before its submitter does.
    pub(crate) fn prepares(&self) -> bool {
        let option = self.ini.get("conveyor", "use_preparer").ok().flatten();
        option.is_some_and(|value| ini::truth(&value))
    }

    /// Our keys, beneath the file of ours.
    ///
    /// # Errors
    /// One line that names the option.
    pub(crate) fn keys(&self) -> Result<Value, String> {
        let failed = |error: String| format!("{}: {error}", self.path.display());
        let option = |section: &str, key: &str| {
            self.ini.get(section, key).map_err(failed).map(|value| value.filter(|value| !value.is_empty()))
        };
        let conveyor = |key: &str| option("conveyor", key);
        let mut keys = Map::new();
        let mut set = |section: &str, key: &str, value: Value| {
            keys.entry(section.to_owned()).or_insert_with(|| json!({}))[key] = value;
        };
        let own = option("conveyor-database", "default")?.is_some();
        let section = if own { "conveyor-database" } else { "database" };
        for (theirs, ours) in [("default", "database"), ("schema", "schema")] {
            if let Some(value) = option(section, theirs)? {
                set("rucio", ours, value.into());
            }
        }
        if option("common", "multi_vo")?.is_some_and(|value| ini::truth(&value)) {
            set("rucio", "vos", json!(["*"]));
        }
        if let Some(client) = &self.client {
            set("issuer", "url", client.issuer.as_str().into());
            set("issuer", "client_id", client.id.as_str().into());
        }
        if let Some(schemes) = conveyor("scheme")? {
            set(
                "submit",
                "schemes",
                schemes.split([',', '\n']).map(str::trim).filter(|s| !s.is_empty()).collect(),
            );
        }
        if let Some(strategy) = conveyor("default-source-strategy")? {
            set("submit", "selection_strategy", strategy.into());
        }
        if let Some(times) = conveyor("max_time_in_queue")? {
            let hours = hours(&times).ok_or_else(|| {
                failed("`[conveyor] max_time_in_queue` is no list of activity:hours".into())
            })?;
            set("submit", "max_time_in_queue_h", hours);
        }
        if let Some(seconds) = conveyor("submit_timeout")? {
            let seconds: f64 = seconds
                .parse()
                .ok()
                .filter(|s| *s > 0.0)
                .ok_or_else(|| failed("`[conveyor] submit_timeout` is no number of seconds".into()))?;
            set(
                "fts",
                "timeout_s",
                json!(std::time::Duration::try_from_secs_f64(seconds.ceil()).unwrap_or_default().as_secs()),
            );
        }
        if let Some(by) = conveyor("partition_hash_var")? {
            let by = PartitionBy::parse(&by)
                .ok_or_else(|| failed("`[conveyor] partition_hash_var` is none that is known here".into()))?;
            set("share", "partition_by", by.column().into());
        }
        Ok(Value::Object(keys))
    }

    /// Gives the secret to the issuer that it is for, if our own configuration has no other, and lets a database of ours stand before
    /// Rucio's.
    pub(crate) fn over(&self, loaded: &mut Loaded<Settings>) {
        loaded.beneath =
            Beneath { file: self.path.display().to_string(), answers: Vec::new(), notes: self.notes() };
        if loaded.settings.rucio.database_file.is_some() {
            loaded.settings.rucio.database = None;
            loaded.outdo("rucio", "database");
        }
        // A secret goes to the issuer and client of its own entry only.
        if let (Some(issuer), Some(client)) = (&mut loaded.settings.issuer, &self.client)
            && (issuer.url.as_str(), issuer.client_id.as_str())
                == (client.issuer.as_str(), client.id.as_str())
            && issuer.client_secret_file.is_none()
            && issuer.private_key_file.is_none()
        {
            issuer.client_secret = Some(client.secret.clone());
            let secrets = client.file.display().to_string();
            let place = format!("{secrets}, entry `{}`", client.nick);
            let answers = [
                ("issuer.url", &client.issuer),
                ("issuer.client_id", &client.id),
                ("issuer.client_secret_file", &secrets),
            ];
            loaded.beneath.answers.extend(answers.map(|(key, shown)| Answer {
                key,
                shown: shown.clone(),
                place: place.clone(),
            }));
        }
    }
}

impl Client {
    fn read(file: &Path, nick: &str) -> Result<Self, String> {
        let shown = file.display();
        let text = ClientSecret::from_file(file).map_err(|error| error.to_string())?;
        // serde's own words could show a part of the file.
        let all: Map<String, Value> =
            serde_json::from_str(text.expose()).map_err(|_| format!("{shown}: not a JSON object"))?;
        let entry = all
            .get(nick)
            .ok_or_else(|| format!("{shown}: no entry `{nick}`, which `[oidc] admin_issuer` names"))?;
        let Entry { issuer, client_id, client_secret } = Entry::deserialize(entry).map_err(|_| {
            format!("{shown}: the entry `{nick}` lacks `issuer`, `client_id` or `client_secret`")
        })?;
        let (file, nick) = (file.to_owned(), nick.to_owned());
        Ok(Self { file, nick, issuer, id: client_id, secret: ClientSecret::new(client_secret) })
    }
}

/// Rucio's files are often mounted with such a mode, so it is said and not refused.
fn open_to_others(file: &Path) -> Option<String> {
    let mode = std::fs::metadata(file).ok()?.permissions().mode();
    (mode & 0o007 != 0).then(|| format!("{}: others may read it: take that right from them (chmod o-rwx), and leave it to the user or group of those that need it", file.display()))
}

/// `activity:hours,default:hours`.
fn hours(text: &str) -> Option<Value> {
    let mut hours = Map::new();
    for part in text.split(',') {
        let (activity, number) = part.split_once(':')?;
        hours.insert(activity.trim().to_owned(), number.trim().parse::<i64>().ok()?.into());
    }
    Some(Value::Object(hours))
}

#[cfg(test)]
mod tests;
