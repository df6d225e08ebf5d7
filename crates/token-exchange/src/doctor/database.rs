//! FTS's database: its schema, our tables in it, its clients at issuers, and who else works on it.

use std::path::Path;

use daemon::doctor::{Finding, Offset, own};
use rustix::fs::{Access, access};
use token_core::{AccessToken, Clock, UnixSeconds};

use crate::fts::provider::Provider;
use crate::fts::{DatabaseError, FtsDatabase, Place};
use crate::refresh::settings::RefreshSettings;
use crate::settings::Settings;

pub(super) const OF: &str = "FTS's database";
/// `fts_token` gives a sign of life at least every minute; after two it is dead (as at a start of ours).
const ALIVE_S: u64 = 120;
/// Tokens and files that are read.
const TOKENS: u32 = 50;
const FILES: u32 = 500;

/// What was seen.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) findings: Vec<Finding>,
    /// Whether it could be read.
    pub(super) opened: bool,
    pub(super) providers: Vec<Provider>,
    /// Tokens that jobs were submitted with.
    pub(super) tokens: Vec<AccessToken>,
    /// URLs of the last files.
    pub(super) urls: Vec<String>,
}

/// Looks it over.
pub(super) async fn look_over(settings: &Settings, theirs: Option<Place>, clock: &dyn Clock) -> Seen {
    let mut seen = Seen::default();
    let (place, tls) = match settings.fts.place(theirs) {
        Ok(place) => place,
        Err(line) => {
            seen.findings.push(Finding::bad(OF, "configuration", line, "mend `[fts]` or the file it names"));
            return seen;
        }
    };
    let fts = match FtsDatabase::open(&place, &tls).await {
        Ok(fts) => fts,
        Err(error) => {
            seen.findings.push(unusable("schema", &error));
            seen.findings.push(Finding::skipped(OF, "providers", "it was not opened"));
            return seen;
        }
    };
    if let Err(error) = read(&fts, clock, &mut seen).await {
        seen.findings.push(unusable("reading", &error));
    }
    seen
}

async fn read(fts: &FtsDatabase, clock: &dyn Clock, seen: &mut Seen) -> Result<(), DatabaseError> {
    let (schema, initialised) = fts.shape().await?;
    let found = format!("schema {schema}, every table and column that is used is there");
    seen.findings.push(Finding::good(OF, "schema", found));
    let before = clock.now();
    seen.findings.extend(fts.clock().await?.map(|time| own(OF, Offset::of(time, before))));
    seen.findings.push(match initialised {
        true => Finding::good(OF, "our tables", "there"),
        false => Finding::bad(
            OF,
            "our tables",
            "they are not there, or not all",
            "run `token-exchange --config FILE init-db` once, and after an update again",
        ),
    });
    seen.findings.push(fts_token(fts.fts_token_beat().await?, clock.now()));
    seen.providers = fts.providers().await?;
    seen.opened = true;
    seen.tokens = fts.submitted_tokens(clock.now(), TOKENS).await?;
    seen.urls = fts.last_urls(FILES).await?;
    Ok(())
}

fn unusable(check: &'static str, error: &DatabaseError) -> Finding {
    match error.is_transient() {
        true => Finding::passing(OF, check, error.to_string(), "is it up, and may this host and user in?"),
        false => Finding::bad(OF, check, error.to_string(), "mend `[fts]`, or ask its administrators"),
    }
}

/// FTS's own worker must not run beside us.
fn fts_token(beat: Option<(String, Option<UnixSeconds>)>, now: UnixSeconds) -> Finding {
    const CHECK: &str = "fts_token";
    match beat {
        Some((host, Some(at))) if at.until(now).as_secs() < ALIVE_S => Finding::bad(
            OF,
            CHECK,
            format!(
                "it runs on {host}, its last beat was {} s ago: both would exchange the same tokens",
                at.until(now).as_secs()
            ),
            "stop it there (`systemctl disable --now fts-token`) and wait two minutes",
        ),
        _ => Finding::good(OF, CHECK, "FTS's own worker does not run"),
    }
}

/// The folder in which `fts_url_copy` asks for tokens.
pub(super) fn messages(refresh: &RefreshSettings) -> Vec<Finding> {
    let Some(folder) = &refresh.messaging_directory else {
        return match refresh.managed() {
            false => Vec::new(),
            true => vec![Finding::bad(
                "FTS's messaging directory",
                "folder",
                "tokens are handed over managed, and `refresh.messaging_directory` is not set here",
                "set it where transfers run, or somebody else has to answer fts_url_copy there",
            )],
        };
    };
    let of = format!("FTS's messaging directory {}", folder.display());
    vec![folder_is_right(of, folder)]
}

fn folder_is_right(of: String, folder: &Path) -> Finding {
    const CHECK: &str = "folder";
    let same = "it is FTS's `MessagingDirectory` (fts3config) on this host";
    match std::fs::metadata(folder) {
        Err(error) => Finding::bad(of, CHECK, error.to_string(), same),
        Ok(found) if !found.is_dir() => Finding::bad(of, CHECK, "it is no folder", same),
        Ok(_) => match access(folder, Access::WRITE_OK | Access::EXEC_OK) {
            Ok(()) => Finding::good(
                of,
                CHECK,
                "this user can make a socket in it (a service of another user, or with ProtectSystem=, may not: fts3.conf)",
            ),
            Err(error) => Finding::bad(
                of,
                CHECK,
                format!("this user may not write there: {error}"),
                "run as a user of FTS's group, and let that group write there",
            ),
        },
    }
}

#[cfg(test)]
mod tests {
    use daemon::doctor::Level;

    use super::*;

    #[test]
    fn fts_token_is_alive_for_two_minutes() {
        let beat = |at: i64| fts_token(Some(("h".into(), Some(UnixSeconds(at)))), UnixSeconds(1000)).level;
        assert_eq!([beat(999), beat(881), beat(880)], [Level::Red, Level::Red, Level::Green]);
        assert_eq!(fts_token(None, UnixSeconds(0)).level, Level::Green);
    }

    #[test]
    fn a_messaging_directory_is_a_folder() {
        let folder = tempfile::tempdir().unwrap();
        let told = |path: &Path, managed| {
            let refresh = RefreshSettings {
                messaging_directory: Some(path.to_owned()),
                managed,
                ..RefreshSettings::default()
            };
            messages(&refresh)[0].clone()
        };
        assert_eq!(told(folder.path(), None).level, Level::Green);
        let file = folder.path().join("file");
        assert!(told(&file, None).found.contains("No such file"));
        std::fs::write(&file, "").unwrap();
        assert!(told(&file, None).found.contains("no folder"));
        assert!(messages(&RefreshSettings::default()).is_empty());
        let nobody = RefreshSettings { managed: Some(true), ..RefreshSettings::default() };
        assert_eq!(messages(&nobody)[0].level, Level::Red);
    }
}
