//! The tokens that those which are to be renewed are exchanged for.
//!
//! Nobody can make a submitter's own token live longer but the submitter. When it has ended, another of the same submitter serves
//! that came with a later job: same issuer, same `sub`, same audience, and the scopes that are needed. It stands for the same
//! identity before the same service, so nothing is given that the submitter has not given since.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use token_core::{TokenRequest, UnixSeconds};

use crate::fts::remembered::Submitter;
use crate::fts::renew::Renewable;
use crate::fts::waiting::Subject;
use crate::fts::{DatabaseError, FtsDatabase};

/// A token that ends this soon is none to be exchanged.
const SOON: Duration = Duration::from_secs(2);

/// For each submitter the tokens that may serve, the best first.
pub(super) struct Subjects(BTreeMap<Submitter, Vec<Subject>>);

impl Subjects {
    /// Looks them up, once for each submitter.
    pub(super) async fn of(
        fts: &FtsDatabase,
        tokens: impl Iterator<Item = &Renewable>,
        now: UnixSeconds,
    ) -> Result<Self, DatabaseError> {
        let submitters: BTreeMap<&Submitter, &str> = tokens
            .filter(|token| token.refresh.is_none())
            .filter_map(|token| Some((token.origin.as_ref()?.submitter.as_ref()?, token.issuer.as_str())))
            .collect();
        let ids: BTreeSet<&str> = submitters.keys().map(|submitter| submitter.token_id.as_str()).collect();
        let mut own = fts.subjects(&ids.into_iter().collect::<Vec<_>>()).await?;
        let mut all = BTreeMap::new();
        for (submitter, issuer) in submitters {
            let living = now.plus(SOON);
            let first = own.remove(&submitter.token_id).filter(|subject| lives(subject, living));
            let candidates = match first {
                Some(subject) => {
                    own.insert(submitter.token_id.clone(), subject.clone());
                    vec![subject]
                }
                None => later(fts, submitter, issuer, living).await?,
            };
            all.insert(submitter.clone(), candidates);
        }
        Ok(Self(all))
    }

    /// The one to exchange for `request`, or why there is none.
    pub(super) fn covering(&self, token: &Renewable, request: &TokenRequest) -> Result<&Subject, String> {
        let Some(submitter) = token.origin.as_ref().and_then(|origin| origin.submitter.as_ref()) else {
            return Err("it was not got by token-exchange, and it has no refresh token".into());
        };
        let candidates = self.0.get(submitter).map(Vec::as_slice).unwrap_or_default();
        let covers = |subject: &&Subject| {
            let held = subject.token.as_ref().and_then(|(_, claims)| claims.scopes().ok());
            held.is_some_and(|held| request.scope.beyond(&held).is_empty())
        };
        candidates.iter().find(covers).ok_or_else(|| {
            "the token that it was submitted with has ended, and its submitter has given FTS no later one with these scopes"
                .to_owned()
        })
    }
}

async fn later(
    fts: &FtsDatabase,
    submitter: &Submitter,
    issuer: &str,
    living: UnixSeconds,
) -> Result<Vec<Subject>, DatabaseError> {
    let Some(sub) = &submitter.subject else { return Ok(Vec::new()) };
    let ids = fts.later_tokens(issuer, &submitter.audience, living).await?;
    let found = fts.subjects(&ids.iter().map(String::as_str).collect::<Vec<_>>()).await?;
    let same = |subject: &&Subject| {
        subject.token.as_ref().is_some_and(|(_, claims)| claims.sub.as_ref() == Some(sub))
    };
    let mut found: Vec<Subject> =
        found.values().filter(same).filter(|subject| lives(subject, living)).cloned().collect();
    found.sort_by_key(|subject| subject.token.as_ref().map(|(_, claims)| std::cmp::Reverse(claims.exp)));
    Ok(found)
}

fn lives(subject: &Subject, at: UnixSeconds) -> bool {
    subject.token.as_ref().is_some_and(|(_, claims)| claims.exp > at)
}
