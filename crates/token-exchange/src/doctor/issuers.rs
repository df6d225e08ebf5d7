//! The issuers that we know, our client at each, and FTS's own row for it.

use std::sync::Arc;

use daemon::Shutdown;
use daemon::doctor::{Desk, Examined, Finding, Grant, examine};
use token_core::{Clock, OAuthClient};

use super::PATIENCE_S;
use super::database::Seen;
use crate::fts::provider::Provider;
use crate::issuers::{KnownIssuer, known};
use crate::plan::Mode;
use crate::settings::Settings;

/// An issuer, and what was seen of it.
pub(super) struct Issuer {
    pub(super) known: KnownIssuer,
    pub(super) findings: Vec<Finding>,
    pub(super) examined: Examined,
    /// The client that we are there, by the name that the issuer has.
    pub(super) client: Option<Arc<OAuthClient>>,
}

/// Looks over each.
pub(super) async fn look_over(
    settings: &Settings,
    seen: &Seen,
    desk: &Desk,
    clock: &Arc<dyn Clock>,
    shutdown: &Shutdown,
) -> Vec<Issuer> {
    let known = known(settings, &seen.providers);
    desk.each(known, async |mut known| {
        known.be_impatient(PATIENCE_S);
        let of = format!("issuer {}", known.shared().url);
        let mut findings = rows(&of, &known, seen);
        let examined = match desk.look(&of, by_its_name(&known, &**clock)).await {
            Some(mut examined) => {
                findings.append(&mut examined.findings);
                examined
            }
            None => {
                findings.push(desk.late(&of, "metadata"));
                Examined::default()
            }
        };
        let client = match known.client(clock, &shutdown.hard) {
            Ok(client) => client.and_then(|client| {
                let named = examined.name.as_deref();
                client
                    .clients()
                    .find(|one| named.is_none_or(|name| one.issuer().as_str() == name))
                    .map(Arc::clone)
            }),
            Err(failure) => {
                let todo = "mend the configuration or the file that it names";
                findings.push(Finding::bad(&of, "our client", failure.to_string(), todo));
                None
            }
        };
        Issuer { known, findings, examined, client }
    })
    .await
}

/// By the name that it has: FTS's rows end with a slash, whether the issuer's name does or not.
async fn by_its_name(known: &KnownIssuer, clock: &dyn Clock) -> Examined {
    let grant = match known.mode() {
        Mode::Exchange => Some(Grant::Exchange),
        Mode::ClientCredentials => Some(Grant::ClientCredentials),
        Mode::Unmanaged => None,
    };
    let first = examine(known.shared(), grant, clock).await;
    let mut plain = known.shared().clone();
    plain.url = plain.url.trim_end_matches('/').to_owned();
    if first.usable || known.is_configured() || plain.url == known.shared().url {
        return first;
    }
    let second = examine(&plain, grant, clock).await;
    if second.usable { second } else { first }
}

/// FTS's row for it.
fn rows(of: &str, known: &KnownIssuer, seen: &Seen) -> Vec<Finding> {
    const CHECK: &str = "t_token_provider";
    if !seen.opened {
        return vec![Finding::skipped(of, CHECK, "FTS's database was not read")];
    }
    let Some(row) = known.provider() else {
        let others: Vec<&str> = seen.providers.iter().map(|row| row.issuer.as_str()).collect();
        return vec![Finding::bad(
            of,
            CHECK,
            format!("FTS has no row for it (it has: {})", daemon::doctor::listed(&others)),
            "let FTS's operator name it in fts3restconfig [providers] and in t_token_provider: FTS takes no job with its tokens",
        )];
    };
    vec![row_is_right(of, row, known)]
}

fn row_is_right(of: &str, row: &Provider, known: &KnownIssuer) -> Finding {
    const CHECK: &str = "t_token_provider";
    if !row.issuer.ends_with('/') {
        return Finding::bad(
            of,
            CHECK,
            format!("its row `{}` has `{}` without a slash at the end", row.name, row.issuer),
            "put the slash there: FTS looks for every issuer with one, whatever its tokens say",
        );
    }
    let ours = known.shown().client_from;
    if known.uses_row() && (row.client_id.is_empty() || row.client_secret.expose().is_empty()) {
        return Finding::bad(
            of,
            CHECK,
            format!("its row `{}` has no client id or no secret, and no [[issuer]] has them", row.name),
            "fill them in, or give the client in an [[issuer]]",
        );
    }
    let vo = row.vo_mapping.as_deref().map(|vo| format!(", VO `{vo}`")).unwrap_or_default();
    let required = row.required_submission_scope.as_deref();
    let required = required.map(|scope| format!(", wants the scope `{scope}`")).unwrap_or_default();
    let client =
        known.shown().client_id.map(|id| format!(", our client is `{id}` of {ours}")).unwrap_or_default();
    Finding::good(of, CHECK, format!("FTS knows it as `{}`{vo}{required}{client}", row.name))
}
