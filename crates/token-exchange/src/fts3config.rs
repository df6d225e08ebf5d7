//! FTS's own configuration file, `fts3config`: lines of `Key = value`, a `#` and what follows it left out, as FTS's own reader does.

use std::collections::BTreeSet;
use std::path::Path;

use daemon::Failure;
use daemon::config::{Answer, Beneath};
use daemon::mysql::Server;
use token_core::ClientSecret;
use url::Url;
use zeroize::Zeroizing;

use crate::fts::Place;

/// What FTS's packaged file sets, so that it is nobody's choice: FTS polls so seldom because its polls are dear.
const PACKAGED_INTERVAL_S: u64 = 30;

/// What we take from the file.
#[derive(Debug, Default)]
pub struct Fts3Config {
    /// The database, with its password.
    pub place: Option<Place>,
    /// Keys of our own configuration that follow from it.
    pub keys: Vec<(&'static str, u64)>,
    /// Keys that are there and mean nothing to us.
    pub unmapped: Vec<String>,
}

/// Keys that are looked at together.
#[derive(Default)]
struct Database {
    kind: Option<String>,
    user: Option<String>,
    password: Option<ClientSecret>,
    connect: Option<String>,
}

impl Fts3Config {
    /// Reads the file.
    ///
    /// # Errors
    /// One line that names the file and the key, and shows no value.
    pub fn read(path: &Path) -> Result<Self, Failure> {
        let wrong = |what: String| Failure::Configuration(format!("{}: {what}", path.display()));
        let text = std::fs::read_to_string(path)
            .map(Zeroizing::new)
            .map_err(|error| wrong(format!("it can't be read: {error}")))?;
        Self::parse(&text).map_err(wrong)
    }

    /// What people are shown of it; `file` is its name.
    pub fn beneath(&self, file: String) -> Beneath {
        let place = format!("{file}, DbConnectString");
        let database = |known: &Place| Answer { key: "fts.database", shown: known.to_string(), place };
        let notes = match self.unmapped.as_slice() {
            [] => Vec::new(),
            keys => vec![format!("{file}: not taken over: {}", keys.join(", "))],
        };
        Beneath { answers: self.place.as_ref().map(database).into_iter().collect(), notes, file }
    }

    fn parse(text: &str) -> Result<Self, String> {
        let (mut config, mut database, mut section) = (Self::default(), Database::default(), String::new());
        let mut seen = BTreeSet::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or_default().trim();
            if line.is_empty() {
                continue;
            }
            if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                section = format!("{name}.");
                continue;
            }
            let Some((key, value)) = line.split_once('=') else {
                return Err(format!("line {} is no `Key = value`", number + 1));
            };
            let (key, value) = (format!("{section}{}", key.trim()), value.trim());
            if !seen.insert(key.clone()) {
                return Err(format!("`{key}` stands twice"));
            }
            config.take(&mut database, key, value)?;
        }
        config.place = database.place()?;
        Ok(config)
    }

    fn take(&mut self, database: &mut Database, key: String, value: &str) -> Result<(), String> {
        let text = || Some(value.to_owned()).filter(|text| !text.is_empty());
        let whole = |key: &str| -> Result<u64, String> {
            value.parse().map_err(|_| format!("`{key}` is no whole number of seconds or rows"))
        };
        match key.as_str() {
            "DbType" => database.kind = text(),
            "DbUserName" => database.user = text(),
            "DbPassword" => database.password = text().map(ClientSecret::new),
            "DbConnectString" => database.connect = text(),
            "TokenExchangeCheckInterval" => match whole(&key)? {
                PACKAGED_INTERVAL_S => (),
                seconds => self.keys.push(("worker.interval_ms", seconds.saturating_mul(1000))),
            },
            "TokenExchangeBulkSize" => self.keys.push(("worker.batch", whole(&key)?)),
            "TokenRefreshMarginPeriod" => self.keys.push(("refresh.margin_s", whole(&key)?)),
            _ => self.unmapped.push(key),
        }
        Ok(())
    }
}

impl Database {
    /// None when the file names none: another source may.
    fn place(self) -> Result<Option<Place>, String> {
        let Some(connect) = self.connect else { return Ok(None) };
        if self.kind.is_some_and(|kind| kind != "mysql") {
            return Err("`DbType` is not mysql, the only kind that FTS of schema 10 has".into());
        }
        let user = self.user.ok_or("`DbConnectString` is set and `DbUserName` is not")?;
        let wrong = || "`DbConnectString` is not `host/db` or `host:port/db`".to_owned();
        let mut url = Url::parse(&format!("mysql://{connect}")).map_err(|_| wrong())?;
        let plain = url.username().is_empty() && url.password().is_none() && url.query().is_none();
        if !plain || url.host().is_none() || url.path().len() < 2 {
            return Err(wrong());
        }
        url.set_username(&user).map_err(|()| wrong())?;
        let server = Server::parse(url.as_str()).map_err(|error| format!("`DbConnectString`: {error}"))?;
        Ok(Some(Place::Mysql(match self.password {
            Some(password) => server.with_password(password),
            None => server,
        })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_packaged_file_gives_the_database_and_names_what_means_nothing_to_us() {
        let text = "# Running user and group\nUser=fts3\nDbType=mysql\nDbUserName=fts@3\nDbPassword=ca=nary # not this\n\
            DbConnectString=db.example:3307/fts3\nMessagingDirectory=/var/lib/fts3\n#TokenExchangeBulkSize = 1\n\
            TokenExchangeCheckInterval = 30\nTokenExchangeBulkSize = 400\nTokenRefreshMarginPeriod = 200\n\
            [roles]\nPublic = all:*\n";
        let config = Fts3Config::parse(text).unwrap();
        let shown = format!("{config:?}");
        assert!(shown.contains("fts@3@db.example:3307/fts3") && !shown.contains("nary"), "{shown}");
        let Some(Place::Mysql(server)) = &config.place else { panic!("{shown}") };
        assert!(server.has_password());
        let keys = [("worker.batch", 400), ("refresh.margin_s", 200)];
        assert_eq!(config.keys, keys);
        assert_eq!(config.unmapped, ["User", "MessagingDirectory", "roles.Public"]);
        let quick = Fts3Config::parse("TokenExchangeCheckInterval = 5\n").unwrap();
        assert_eq!(quick.keys, [("worker.interval_ms", 5000)], "a choice is honoured");
        assert!(quick.place.is_none());
    }

    #[test]
    fn what_is_wrong_is_named_and_not_shown() {
        for (text, named) in [
            ("canary", "line 1"),
            ("DbType=oracle\nDbUserName=u\nDbConnectString=canary/x", "DbType"),
            ("DbUserName=u\nDbConnectString=canary", "DbConnectString"),
            ("DbUserName=u\nDbConnectString=u:canary@h/x", "DbConnectString"),
            ("DbConnectString=h/x\nDbPassword=canary", "DbUserName"),
            ("TokenExchangeBulkSize=canary", "TokenExchangeBulkSize"),
            ("DbPassword=canary\nDbPassword=canary", "twice"),
        ] {
            let error = Fts3Config::parse(text).unwrap_err();
            assert!(error.contains(named) && !error.contains("canary"), "{text}: {error}");
        }
    }
}
