//! What the shared commands need to know of this daemon.

use std::sync::Arc;

use daemon::Failure;
use daemon::config::{About, Configuration, Flattened};
use daemon::settings::{CacheSettings, IssuerSettings};
use token_core::SystemClock;
use token_core::http::HttpSettings;
use tokio_util::sync::CancellationToken;

use crate::api::Api;
use crate::fts::Place;
use crate::settings::Settings;

/// This daemon.
pub(crate) const ABOUT: About = About {
    program: "token-exchange",
    prefix: "TOKEN_EXCHANGE",
    annotated: include_str!("../../../config/token-exchange.toml"),
};

impl Configuration for Settings {
    fn flattened() -> Vec<Flattened> {
        vec![Flattened::new::<IssuerSettings>("issuer", &["mode", "min_given_life_s"])]
    }
}

/// Reads what the settings name, as a start does; nobody is asked. `other` is FTS's own word for where its database is.
///
/// # Errors
/// One line that names the key.
pub(crate) fn check(settings: &Settings, other: Option<Place>) -> Result<(), Failure> {
    settings.planning(Vec::new()).map_err(Failure::configuration)?;
    settings.fts.place(other).map_err(Failure::configuration)?;
    let providers = HttpSettings { ca_file: settings.providers.ca_file.clone(), ..HttpSettings::default() };
    token_core::http::client(&providers)
        .map_err(|error| Failure::configuration(format!("`providers`: {error}")))?;
    daemon::logs::check(&settings.log)?;
    Api::check(&settings.api)?;
    settings.cache.as_ref().map_or(Ok(()), CacheSettings::check)?;
    for issuer in &settings.issuer {
        let url = issuer.shared.issuer()?;
        token_core::http::client(&issuer.shared.http())
            .map_err(|error| Failure::configuration(format!("`issuer` {url}: {error}")))?;
        // What is not said of a client is in FTS's database.
        if issuer.names_its_client() {
            issuer.shared.client(Arc::new(SystemClock), CancellationToken::new())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_annotated_file_speaks_of_every_key() {
        assert_eq!(ABOUT.undocumented::<Settings>(), Vec::<String>::new());
        let reference = ABOUT.reference::<Settings>();
        for shown in ["## `[[endpoint]]`", "- `batch` (default `500`). Jobs leased", "## `[log]`"] {
            assert!(reference.contains(shown), "{shown}: {reference}");
        }
    }
}
