//! Where FTS's database is, which may hold a password.

use std::fmt;

use daemon::mysql::Server;
use serde::Deserialize;

/// A database as the configuration names it: `mysql://user@host:3306/fts` (MariaDB too) or `sqlite:////absolute/path`. Shown
/// without its password.
#[derive(Clone, Deserialize)]
#[serde(try_from = "String")]
pub enum Place {
    /// A file, as SQLAlchemy writes it.
    Sqlite(String),
    /// A server.
    Mysql(Server),
}

impl TryFrom<String> for Place {
    type Error = String;

    /// The error shows nothing of the text: it may hold a password.
    fn try_from(text: String) -> Result<Self, String> {
        if text.starts_with("sqlite:") {
            return Ok(Self::Sqlite(text));
        }
        let server =
            Server::parse(&text).map_err(|error| format!("{error}, or `sqlite:////absolute/path`"))?;
        Ok(Self::Mysql(server))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(url) => f.write_str(url),
            Self::Mysql(server) => server.fmt(f),
        }
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Place({self})")
    }
}
