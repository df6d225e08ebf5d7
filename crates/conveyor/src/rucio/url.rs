//! Where Rucio's database is, which may hold a password.

use std::fmt;

use serde::Deserialize;

/// The database as `rucio.cfg` writes it (SQLAlchemy's URL): `postgresql://user:password@host:port/database`, with or without a
/// driver as in `postgresql+psycopg://`, or `sqlite:////absolute/path`. Shown with nothing but its scheme.
#[derive(Clone, Deserialize)]
#[serde(transparent)]
pub struct DatabaseUrl(String);

impl DatabaseUrl {
    /// Takes a URL.
    pub fn new(url: impl Into<String>) -> Self {
        Self(url.into())
    }

    /// Whether it is of a kind of database that we know.
    pub(crate) fn is_supported(&self) -> bool {
        self.0.starts_with("sqlite:") || daemon::postgres::is_for_us(&self.0)
    }

    /// The URL itself, to open the database only.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = self.0.split_once("://").map_or("", |(scheme, _)| scheme);
        write!(f, "DatabaseUrl({scheme}://[redacted])")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_is_not_shown() {
        let shown = |url: &str| format!("{:?}", DatabaseUrl::new(url));
        assert_eq!(shown("postgresql://u:canary@h/d"), "DatabaseUrl(postgresql://[redacted])");
        assert_eq!(shown("canary"), "DatabaseUrl(://[redacted])");
    }
}
