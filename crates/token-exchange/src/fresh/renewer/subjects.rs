//! The tokens that those which are to be renewed are exchanged for, and those of files that have waited for too long.
//!
//! Nobody can make a submitter's own token live longer but the submitter. When it has ended, another of the same submitter serves
//! that came with a later job: same issuer, same `sub`, same audience, and the scopes that are needed. It stands for the same
//! identity before the same service, so nothing is given that the submitter has not given since.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use token_core::{TokenRequest, UnixSeconds};

use crate::fts::later::PAGE;
use crate::fts::remembered::Submitter;
use crate::fts::renew::Renewable;
use crate::fts::waiting::Subject;
use crate::fts::{DatabaseError, FtsDatabase};

/// A token that ends this soon is none to be exchanged.
const SOON: Duration = Duration::from_secs(2);
/// So many tokens are looked through for a submitter's own.
const MOST_LATER: usize = 1000;
/// So many of a submitter's own are enough, with one page's more: the first that has the scopes is taken.
const ENOUGH: usize = 20;

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
            let first = own.remove(&submitter.token_id).filter(|subject| subject.lives(living));
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
        candidates.iter().find(|subject| covers(subject, request)).ok_or_else(|| {
            "the token that it was submitted with has ended, and its submitter has given FTS no later one with these scopes"
                .to_owned()
        })
    }
}

/// For each of `subjects` that has ended, by its id, what its submitter has given since. One look for each submitter.
pub(crate) async fn since(
    fts: &FtsDatabase,
    subjects: impl Iterator<Item = &Subject>,
    now: UnixSeconds,
) -> Result<HashMap<String, Arc<[Subject]>>, DatabaseError> {
    let living = now.plus(SOON);
    let ended = subjects.filter(|subject| !subject.lives(living));
    let mut submitters: BTreeMap<_, Vec<&Subject>> = BTreeMap::new();
    for (subject, claims) in ended.filter_map(|subject| Some((subject, subject.claims()?))) {
        let whose = (&subject.issuer, &claims.sub, &subject.audience);
        submitters.entry(whose).or_default().push(subject);
    }
    let mut since = HashMap::new();
    for ((issuer, sub, audience), ended) in submitters {
        let submitter = Submitter::new(String::new(), sub.as_deref(), audience.clone());
        let given: Arc<[Subject]> = later(fts, &submitter, issuer, living).await?.into();
        since.extend(ended.into_iter().map(|subject| (subject.id.clone(), Arc::clone(&given))));
    }
    Ok(since)
}

/// Which of the tokens that its submitter has given `since` is exchanged for `request` in place of one that has ended; none as long
/// as that lives.
pub(crate) fn in_place_of<'a>(
    subject: &Subject,
    since: &'a [Subject],
    request: &TokenRequest,
    now: UnixSeconds,
) -> Option<&'a Subject> {
    let living = now.plus(SOON);
    if subject.lives(living) {
        return None;
    }
    since.iter().find(|later| later.lives(living) && covers(later, request))
}

fn covers(subject: &Subject, request: &TokenRequest) -> bool {
    let held = subject.claims().and_then(|claims| claims.scopes().ok());
    held.is_some_and(|held| request.scope.beyond(&held).is_empty())
}

/// The tokens that the same submitter has given and that live at `living`, those that end last first. Of all submitters' tokens
/// for the same audience, [`MOST_LATER`] are looked through at most.
async fn later(
    fts: &FtsDatabase,
    submitter: &Submitter,
    issuer: &str,
    living: UnixSeconds,
) -> Result<Vec<Subject>, DatabaseError> {
    let Some(sub) = &submitter.subject else { return Ok(Vec::new()) };
    let same = |subject: &Subject| subject.claims().is_some_and(|claims| claims.sub.as_ref() == Some(sub));
    let (mut found, mut seen) = (Vec::new(), 0);
    while seen < MOST_LATER && found.len() < ENOUGH {
        let ids = fts.later_tokens(issuer, &submitter.audience, living, seen).await?;
        let page = fts.subjects(&ids.iter().map(String::as_str).collect::<Vec<_>>()).await?;
        found.extend(page.into_values().filter(|subject| same(subject) && subject.lives(living)));
        seen += ids.len();
        if ids.len() < PAGE {
            break;
        }
    }
    found.sort_by_key(|subject| subject.claims().map(|claims| Reverse(claims.exp)));
    Ok(found)
}

#[cfg(test)]
mod tests {
    use token_core::{Claims, ScopeSet};

    use super::*;

    fn subject(id: &str, exp: i64, scope: &str) -> Subject {
        let claims = format!(r#"{{"iss":"https://i","sub":"s","exp":{exp},"aud":"fts","scope":"{scope}"}}"#);
        let token = crate::plan::file::tests::unsigned(&claims);
        let claims = Claims::peek(&token).unwrap();
        Subject {
            id: id.into(),
            audience: "fts".into(),
            token: Some((token, claims)),
            issuer: "https://i/".into(),
            unmanaged: false,
            refreshable: false,
        }
    }

    #[test]
    fn a_bearer_that_ended_while_its_file_waited_is_followed_by_a_later_one_with_the_scopes() {
        let request = TokenRequest {
            audience: "https://s".into(),
            scope: ScopeSet::parse("storage.read:/data").unwrap(),
        };
        let since = [
            subject("narrow", 900, "storage.read:/other"),
            subject("ended", 90, "storage.read:/"),
            subject("later", 800, "storage.read:/"),
        ];
        let chosen = |exp, since: &[Subject]| {
            let first = subject("first", exp, "storage.read:/");
            in_place_of(&first, since, &request, UnixSeconds(100)).map(|subject| subject.id.clone())
        };
        assert_eq!(chosen(99, &since).as_deref(), Some("later"));
        assert_eq!(chosen(101, &since).as_deref(), Some("later"), "too soon to be exchanged");
        assert_eq!(chosen(200, &since), None, "it lives");
        assert_eq!(chosen(99, &since[..2]), None, "nothing to follow it");
    }

    #[tokio::test]
    async fn a_submitters_own_later_token_is_found_behind_those_of_others() {
        use crate::fts::tests::{NOW, run, start, token};
        let folder = tempfile::tempdir().unwrap();
        let (fts, pool) = start(folder.path()).await;
        for n in 0..150 {
            let (id, left) = (format!("{n:03}"), 4000 - n);
            let (sub, exp) = (if n == 140 { "s" } else { "other" }, NOW.0 + left);
            let claims =
                format!(r#"{{"iss":"https://i","sub":"{sub}","exp":{exp},"aud":"a","scope":"fts"}}"#);
            token(&pool, &id, left, "").await;
            let text = crate::plan::file::tests::unsigned(&claims);
            let put =
                format!("UPDATE t_token SET access_token = '{}' WHERE token_id = '{id}'", text.expose());
            run(&pool, &put).await;
        }
        let of = |id: &str, exp| Subject { audience: "a".into(), ..subject(id, exp, "fts") };
        let subjects = [of("ended", NOW.0 - 1), of("also", NOW.0), of("lives", NOW.0 + 60)];
        let since = since(&fts, subjects.iter(), NOW).await.unwrap();
        let ids =
            |id: &str| since.get(id).map(|found| found.iter().map(|one| one.id.clone()).collect::<Vec<_>>());
        assert_eq!((ids("ended"), ids("also")), (Some(vec!["140".to_owned()]), Some(vec!["140".to_owned()])));
        assert_eq!(ids("lives"), None);
    }
}
