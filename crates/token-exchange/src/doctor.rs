//! `token-exchange doctor`: looks over FTS's database, its clients at issuers, each issuer, what an exchange gives, and each storage
//! with the token that it would get. Tokens are asked for; nothing is written.

mod database;
mod issuers;
mod storages;
mod subject;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use daemon::doctor::{Desk, Finding, Options, finish, secrets};
use daemon::{Failure, Shutdown};
use token_core::{Clock, SystemClock};

use crate::fts::Place;
use crate::settings::Settings;

/// Longest time that one token is tried for: a person waits.
const PATIENCE_S: u64 = 5;

/// What may be said on the command line.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Doctor {
    #[command(flatten)]
    pub(crate) options: Options,
    /// A file that holds a token as jobs are submitted with, such as `wlcg-token get` makes as the submitter's client. Without it, one
    /// that FTS holds is taken.
    #[arg(long, value_name = "FILE")]
    pub(crate) subject_token_file: Option<PathBuf>,
    /// Certificate authorities of storages: a PEM file or a directory of them. Without it those of the issuer, or the system's.
    #[arg(long, env = "X509_CERT_DIR", value_name = "PATH")]
    pub(crate) storage_ca_file: Option<PathBuf>,
    /// As one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Looks everything over and prints what was found.
///
/// # Errors
/// When something is red.
pub(crate) async fn run(
    asked: &Doctor,
    mut settings: Settings,
    theirs: Option<Place>,
) -> Result<(), Failure> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let shutdown = Shutdown::on_signals()?;
    for issuer in &mut settings.issuer {
        issuer.shared.retry_total_s = issuer.shared.retry_total_s.min(PATIENCE_S);
    }
    let desk = Desk::new(Duration::from_secs(asked.options.within));
    let mut findings = Vec::new();

    let files = settings.issuer.iter().flat_map(|issuer| issuer.shared.secret_files());
    findings.extend(secrets(files.chain(settings.fts.password_file.as_deref())));
    let looked = desk.look(database::OF, database::look_over(&settings, theirs, &*clock)).await;
    let mut seen = looked.unwrap_or_default();
    match seen.findings.is_empty() {
        true => findings.push(desk.late(database::OF, "connection")),
        false => findings.append(&mut seen.findings),
    }
    findings.extend(database::messages(&settings.refresh));

    let issuers = issuers::look_over(&settings, &seen, &desk, &clock, &shutdown).await;
    for issuer in &issuers {
        findings.extend(issuer.findings.clone());
    }
    let (subjects, lines) = subject::of_each(asked, &issuers, &seen, &clock).await;
    findings.extend(lines);

    let planning = settings.planning(issuers.iter().map(|issuer| issuer.known.rule()).collect());
    match planning {
        Err(line) => findings.push(Finding::bad(
            "our configuration",
            "endpoints",
            line,
            "mend `[endpoints]` or the `[[endpoint]]` that it names",
        )),
        Ok(planning) => {
            let storages =
                storages::Storages { asked, settings: &settings, planning: &planning, clock: &*clock };
            findings.extend(storages.look_over(&subjects, &issuers, &seen.urls, &desk).await);
        }
    }
    drop(desk);
    finish(&findings, asked.json)
}
