//! The token that jobs are submitted with: what an exchange starts from.

use std::sync::Arc;

use daemon::doctor::{Finding, of_refusal};
use token_core::{
    ANY_AUDIENCE, AccessToken, Claims, Clock, OAuthCode, Operation, Places, Scope, ScopeSet, TokenError,
    TokenRequest, UnixSeconds,
};

use super::Doctor;
use super::database::Seen;
use super::issuers::Issuer;
use crate::plan::Mode;

const CHECK: &str = "submitted token";

/// A token that a job was submitted with, and its issuer among those that are known.
pub(super) struct Subject {
    pub(super) issuer: usize,
    pub(super) token: AccessToken,
    pub(super) claims: Claims,
}

/// One of each issuer, if there is one.
pub(super) async fn of_each(
    asked: &Doctor,
    issuers: &[Issuer],
    seen: &Seen,
    clock: &Arc<dyn Clock>,
) -> (Vec<Subject>, Vec<Finding>) {
    let (mut subjects, mut findings) = (Vec::new(), Vec::new());
    if let Some(path) = &asked.subject_token_file {
        let places = Places { token: None, file: Some(path.clone()), ..Places::from_environment() };
        let of = format!("token in {}", path.display());
        let read = places.discover().map_err(|error| error.to_string());
        let read = read.and_then(|found| {
            Claims::peek(&found.token).map(|claims| (found.token, claims)).map_err(|error| error.to_string())
        });
        match read {
            Err(error) => {
                findings.push(Finding::bad(of, CHECK, error, "give the file that `wlcg-token get` wrote"));
            }
            Ok((token, claims)) => match of_issuer(issuers, &claims.iss) {
                Some(issuer) => subjects.push(Subject { issuer, token, claims }),
                None => findings.push(Finding::bad(
                    of,
                    CHECK,
                    format!("its issuer `{}` is none of ours", claims.iss),
                    "name it in an [[issuer]] or in t_token_provider",
                )),
            },
        }
    } else {
        for (number, issuer) in issuers.iter().enumerate() {
            let of = format!("issuer {}", issuer.known.shared().url);
            match best(seen, &issuer.known.shared().url) {
                Some((token, claims)) => subjects.push(Subject { issuer: number, token, claims }),
                None if issuer.known.mode() == Mode::Exchange => {
                    findings.push(Finding::skipped(
                        &of,
                        CHECK,
                        "FTS holds no living token of a job: give one by --subject-token-file, or look again when a job is there",
                    ));
                    findings.extend(client_is_known(&of, issuer).await);
                }
                None => (),
            }
        }
    }
    let now = clock.now();
    for subject in &subjects {
        let issuer = &issuers[subject.issuer];
        findings.extend(suits(&subject.token, &subject.claims, issuer, now));
    }
    (subjects, findings)
}

fn of_issuer(issuers: &[Issuer], iss: &str) -> Option<usize> {
    let plain = |name: &str| name.trim_end_matches('/').to_owned();
    issuers.iter().position(|issuer| plain(&issuer.known.shared().url) == plain(iss))
}

/// That of them which looks most like a submission's bearer: it has the scope `fts`, and it lives longest.
fn best(seen: &Seen, issuer: &str) -> Option<(AccessToken, Claims)> {
    let plain = |name: &str| name.trim_end_matches('/').to_owned();
    let read = |token: &AccessToken| Some((token.clone(), Claims::peek(token).ok()?));
    let mut all: Vec<(AccessToken, Claims)> = seen.tokens.iter().filter_map(read).collect();
    all.retain(|(_, claims)| plain(&claims.iss) == plain(issuer));
    let for_fts = all.iter().position(|(_, claims)| {
        claims.scope.as_deref().is_some_and(|scope| scope.split(' ').any(|item| item == "fts"))
    });
    let at = for_fts.unwrap_or(0);
    (at < all.len()).then(|| all.swap_remove(at))
}

/// Whether it can be exchanged for what storages need.
fn suits(token: &AccessToken, claims: &Claims, issuer: &Issuer, now: UnixSeconds) -> Vec<Finding> {
    let of = format!("issuer {}", issuer.known.shared().url);
    let client = issuer.client.as_ref().map(|client| client.client_id().to_owned());
    let named = issuer.examined.name.as_deref();
    facts(&of, token, claims, named, client.as_deref(), issuer.known.mode(), now)
}

fn facts(
    of: &str,
    token: &AccessToken,
    claims: &Claims,
    named: Option<&str>,
    client: Option<&str>,
    mode: Mode,
    now: UnixSeconds,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut bad = |found: String, todo: String| findings.push(Finding::bad(of, CHECK, found, todo));
    if claims.exp <= now {
        let ago = claims.exp.until(now).as_secs();
        bad(format!("it ended {ago} s ago"), "take a fresh one".into());
    }
    if let Some(named) = named.filter(|named| *named != claims.iss) {
        bad(
            format!("its `iss` is `{}`, and the issuer names itself `{named}`", claims.iss),
            format!("set `url = \"{named}\"` where the submitter asks for it, to the last slash"),
        );
    }
    let submitter = claims.client_id.as_deref().or(claims.sub.as_deref());
    if mode == Mode::Exchange && client.is_some() && submitter == client {
        bad(
            format!("the submitter and we are the same client `{}`", client.unwrap_or_default()),
            "register a client of its own for token-exchange: INDIGO IAM refuses an exchange with `offline_access` to the subject \
             token's own client, and whoever runs FTS could submit as Rucio"
                .into(),
        );
    }
    match claims.scopes() {
        Err(error) => {
            bad(format!("its scope can't be used: {error}"), "let the submitter ask for others".into());
        }
        Ok(held) if mode == Mode::Exchange => {
            let root = token_core::StoragePath::root();
            let can = |operation| {
                held.iter().any(|scope| matches!(scope, Scope::Storage(own, _) if own.covers(operation)))
            };
            let lacking: ScopeSet = [Operation::Read, Operation::Create]
                .into_iter()
                .filter(|operation| !can(*operation))
                .map(|operation| match operation {
                    Operation::Read => Scope::Storage(Operation::Read, root.clone()),
                    _ => Scope::Storage(Operation::Modify, root.clone()),
                })
                .collect();
            if !lacking.is_empty() {
                bad(
                    format!(
                        "it holds `{held}` and so nothing to narrow to `{lacking}`: an exchange would have to widen it (upscoping)"
                    ),
                    format!(
                        "let the submitter ask for `{lacking}` too (conveyor: `[fts] scope`); issuers shut upscoping off, and it is never \
                         asked for here"
                    ),
                );
            }
        }
        Ok(_) => (),
    }
    if claims.aud.iter().any(|aud| aud == ANY_AUDIENCE) {
        findings.push(Finding::doubt(
            of,
            CHECK,
            "its audience is any: every storage takes it",
            "let the submitter ask for FTS as the audience (conveyor: `[fts] audience`)",
        ));
    }
    if findings.is_empty() {
        let found = format!(
            "of client `{}` for audience `{}` with scope `{}`, lives {} s ({})",
            submitter.unwrap_or("?"),
            claims.aud.join(" "),
            claims.scope.as_deref().unwrap_or_default(),
            now.until(claims.exp).as_secs(),
            token.fingerprint()
        );
        findings.push(Finding::good(of, CHECK, token_core::http::printable(&found)));
    }
    findings
}

/// Without a token to exchange, whether the issuer knows us at all: it looks at the client before the grant.
async fn client_is_known(of: &str, issuer: &Issuer) -> Option<Finding> {
    const CHECK: &str = "our client";
    let client = issuer.client.as_ref().filter(|_| issuer.examined.usable)?;
    let scope = ScopeSet::from_iter([Scope::Storage(Operation::Read, token_core::StoragePath::root())]);
    let request = TokenRequest { audience: "token-exchange-doctor".into(), scope };
    let id = client.client_id();
    Some(match client.client_credentials_as_given(&request).await {
        Err(error @ TokenError::Refused { code: OAuthCode::InvalidClient, .. }) => {
            of_refusal(of, &error, (id, "the secret in `client_secret_file` or t_token_provider"))
        }
        Ok(_) | Err(TokenError::Refused { .. }) => {
            Finding::good(of, CHECK, format!("it knows `{id}` and its secret"))
        }
        Err(error) => of_refusal(of, &error, (id, "its secret or key file")),
    })
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use daemon::doctor::Level;

    use super::*;

    fn told(payload: &str) -> Vec<(Level, String)> {
        let part = |json: &str| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(json);
        let text = format!("{}.{}.c2ln", part(r#"{"alg":"ES256"}"#), part(payload));
        let token = AccessToken::new(text).unwrap();
        let claims = Claims::peek(&token).unwrap();
        let named = Some("https://i/");
        let findings = facts("i", &token, &claims, named, Some("fts"), Mode::Exchange, UnixSeconds(1000));
        findings
            .into_iter()
            .map(|finding| (finding.level, format!("{} {:?}", finding.found, finding.todo)))
            .collect()
    }

    #[test]
    fn what_can_not_be_exchanged_is_said() {
        let good = r#"{"iss":"https://i/","sub":"rucio","aud":"f","exp":4600,"scope":"fts storage.read:/ storage.modify:/"}"#;
        assert_eq!(told(good)[0].0, Level::Green);
        for (old, new, words) in [
            ("4600", "999", "ended 1 s ago"),
            ("https://i/", "https://i", "names itself `https://i/`"),
            ("\"rucio\"", "\"fts\"", "the same client `fts`"),
            ("\"rucio\"", "\"rucio\",\"client_id\":\"fts\"", "the same client `fts`"),
            (
                " storage.read:/ storage.modify:/",
                "",
                "nothing to narrow to `storage.read:/ storage.modify:/`",
            ),
            (" storage.modify:/", "", "upscoping"),
            ("\"f\"", "\"https://wlcg.cern.ch/jwt/v1/any\"", "every storage takes it"),
        ] {
            let all = told(&good.replace(old, new));
            assert!(
                all.len() == 1 && all[0].0 != Level::Green && all[0].1.contains(words),
                "{words}: {all:?}"
            );
        }
    }
}
