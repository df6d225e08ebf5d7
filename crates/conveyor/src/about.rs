//! What the shared commands need to know of this daemon.

use std::sync::Arc;

use daemon::config::{About, Configuration};
use daemon::settings::CacheSettings;
use daemon::{Failure, Shutdown};
use token_core::{Clock, SystemClock};
use tokio_util::sync::CancellationToken;

use crate::access;
use crate::settings::Settings;

/// This daemon.
pub(crate) const ABOUT: About = About {
    program: "conveyor",
    prefix: "CONVEYOR",
    annotated: include_str!("../../../config/conveyor.toml"),
};

impl Configuration for Settings {}

/// Reads what the settings name, as a start does; nobody is asked.
///
/// # Errors
/// One line that names the key.
pub(crate) fn check(settings: &Settings) -> Result<(), Failure> {
    let url = settings.rucio.url().map_err(Failure::configuration)?;
    if daemon::postgres::is_for_us(url.expose()) {
        daemon::postgres::check(url.expose())
            .map_err(|error| Failure::configuration(format!("`rucio.database`: {error}")))?;
    }
    daemon::logs::check(&settings.log)?;
    settings.share.share(settings.submit.ignore_availability).map_err(Failure::Configuration)?;
    settings.fts.check_instances().map_err(Failure::Configuration)?;
    settings.cache.as_ref().map_or(Ok(()), CacheSettings::check)?;
    token_core::http::client(&settings.fts.http())
        .map_err(|error| Failure::configuration(format!("`fts`: {error}")))?;
    for issuer in settings.issuers() {
        issuer.client(Arc::new(SystemClock), CancellationToken::new())?;
    }
    // Which VOs `*` is, the database knows.
    if settings.rucio.vos != ["*"] {
        let vos = match settings.rucio.vos.as_slice() {
            [] => std::slice::from_ref(&settings.rucio.vo),
            vos => vos,
        };
        access::of_vos(settings, vos, &(Arc::new(SystemClock) as Arc<dyn Clock>), &Shutdown::default())?;
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
        for shown in [
            "## `[submit]`",
            "- `batch` (default `1000`). Requests looked at",
            "`{ default = 168 }`",
            "One of `text`, `json`.",
            "- `ca_file` (not set; for example",
        ] {
            assert!(reference.contains(shown), "{shown}: {reference}");
        }
    }
}
