//! `token-exchange trace`: from a request of Rucio's, a job, a file or a token to all the others, as far as FTS's database knows.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use token_core::UnixSeconds;

use super::page::{Page, span};
use crate::fts::trace::{MOST, Sought, TracedFile};
use crate::fts::{DatabaseError, FtsDatabase};

/// Most tokens that are told.
const MOST_TOKENS: usize = 200;

/// Files and their tokens.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Trace {
    files: Vec<TracedFile>,
    /// By `token_id`, the tokens that these were made of among them.
    tokens: BTreeMap<String, TracedToken>,
    /// Whether there are, or may be, more than are told.
    cut: bool,
}

#[derive(Clone, Debug, Serialize)]
struct TracedToken {
    issuer: String,
    audience: String,
    scope: String,
    /// How long it still lives; 0 when it has ended.
    ends_in_s: Option<u64>,
    unmanaged: bool,
    /// How we got it; nothing when it came with a job.
    how: Option<String>,
    /// The token that it was exchanged for.
    made_of: Option<String>,
}

/// What an id can be of. With dashes, a job and a request look the same.
pub(super) fn kinds(id: &str) -> Vec<Sought> {
    let id = id.trim().to_ascii_lowercase();
    let plain: String = id.chars().filter(|sign| *sign != '-').collect();
    let hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
    match (id.len(), plain.len()) {
        (16, 16) if hex(&id) => vec![Sought::Token(id)],
        (32, 32) if hex(&id) => vec![Sought::Request(id)],
        (36, 32) if hex(&plain) => vec![Sought::Job(id), Sought::Request(plain)],
        _ => id.parse().map(Sought::File).into_iter().collect(),
    }
}

/// Looks; nothing when nothing is known of it.
pub(super) async fn trace(
    fts: &FtsDatabase,
    kinds: &[Sought],
    now: UnixSeconds,
) -> Result<Option<Trace>, DatabaseError> {
    let mut found = Trace { files: Vec::new(), tokens: BTreeMap::new(), cut: false };
    let mut ids = BTreeSet::new();
    for sought in kinds {
        if let Sought::Token(id) = sought {
            ids.insert(id.clone());
            ids.extend(fts.made_of(id).await?);
        }
        if found.files.is_empty() {
            found.files = fts.trace(sought).await?;
            found.cut = found.files.len() >= MOST;
        }
    }
    let of_files = |file: &TracedFile| [file.source_token.clone(), file.destination_token.clone()];
    ids.extend(found.files.iter().flat_map(of_files).flatten());
    while let Some(id) = ids.pop_first() {
        if found.tokens.contains_key(&id) {
            continue;
        }
        if found.tokens.len() >= MOST_TOKENS {
            found.cut = true;
            break;
        }
        let Some(token) = fts.token(&id).await? else { continue };
        let (how, made_of) = match fts.origin_of(&id).await? {
            Some((how, subject)) => (Some(how), Some(subject).filter(|subject| !subject.is_empty())),
            None => (None, None),
        };
        ids.extend(made_of.clone().filter(|subject| !found.tokens.contains_key(subject)));
        let token = TracedToken {
            issuer: token.issuer,
            audience: token.audience,
            scope: token.scope,
            ends_in_s: token.ends.map(|end| now.until(end).as_secs()),
            unmanaged: token.unmanaged,
            how,
            made_of,
        };
        found.tokens.insert(id, token);
    }
    Ok(Some(found).filter(|found| !found.files.is_empty() || !found.tokens.is_empty()))
}

impl Trace {
    /// For a person.
    pub(super) fn page(&self) -> Page {
        let mut page = Page::default();
        for file in &self.files {
            let request = file.request.as_ref().map_or_else(String::new, |id| format!(", request {id}"));
            page.line("file", format!("{} of job {}, {}{request}", file.file_id, file.job, file.state));
            page.more(format!("{} to {}", file.source, file.destination));
            for (what, at) in
                [("submitted", &file.submitted_at), ("began", &file.started_at), ("ended", &file.finished_at)]
            {
                if let Some(at) = at {
                    page.more(format!("{what} {at}"));
                }
            }
            for (side, id) in [("source", &file.source_token), ("destination", &file.destination_token)] {
                if let Some(id) = id {
                    page.more(format!("{side} token {id}"));
                }
            }
            if let Some(reason) = &file.reason {
                page.more(format!("reason: {reason}"));
            }
        }
        for (id, token) in &self.tokens {
            let ends = match token.ends_in_s {
                Some(0) => "has ended".to_owned(),
                Some(left) => format!("lives another {}", span(left)),
                None => "end not known".to_owned(),
            };
            page.line("token", format!("{id} for {} ({ends})", token.audience));
            page.more(format!("of {}, scope `{}`", token.issuer, token.scope));
            page.more(match (&token.how, &token.made_of) {
                (Some(how), Some(subject)) => format!("got by {how} of token {subject}"),
                (Some(how), None) => format!("got by {how}"),
                (None, _) => "came with a job".to_owned(),
            });
        }
        if self.cut {
            page.line("...", "only so many are told");
        }
        page
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_tells_what_it_can_be_of() {
        let uuid = "0D0E0F00-1111-5222-8333-444455556666";
        let plain = "0d0e0f00111152228333444455556666".to_owned();
        assert_eq!(kinds(uuid), [Sought::Job(uuid.to_lowercase()), Sought::Request(plain.clone())]);
        assert_eq!(kinds(&plain), [Sought::Request(plain.clone())]);
        assert_eq!(kinds("0123456789abcdef"), [Sought::Token("0123456789abcdef".into())]);
        assert_eq!((kinds("42"), kinds("nonsense"), kinds("")), (vec![Sought::File(42)], vec![], vec![]));
    }
}
