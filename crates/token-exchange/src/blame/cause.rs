//! What was wrong with the token of a failed transfer, as far as the rows tell. Pure.

use std::time::Duration;

use token_core::{ANY_AUDIENCE, Operation, Scope, ScopeSet, StoragePath, UnixSeconds};

use super::{What, blame};
use crate::endpoint::{Authority, Endpoints};
use crate::plan::Side;

/// A file that FTS has failed, and its tokens.
#[derive(Clone, Debug)]
pub struct Failure {
    /// `t_file.file_id`.
    pub file: i64,
    /// The reason of its first attempt, if there were several: a later one may speak of what the first left behind.
    pub reason: String,
    /// When its transfer began.
    pub started: Option<UnixSeconds>,
    /// When it ended.
    pub finished: Option<UnixSeconds>,
    /// URLs of source and destination.
    pub urls: [String; 2],
    /// Their tokens.
    pub tokens: [Option<UsedToken>; 2],
}

/// A token that a failed transfer had, as its row is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsedToken {
    /// `t_token.token_id`.
    pub id: String,
    /// Its issuer.
    pub issuer: String,
    /// Its audience, several separated by blanks.
    pub audience: String,
    /// Its scopes.
    pub scope: String,
    /// When what stands in the row ends. It may have been renewed since the transfer was started.
    pub expires_at: Option<UnixSeconds>,
    /// How long one of ours lives that `fts_url_copy` does not ask for again.
    pub unrenewed_life: Option<Duration>,
}

/// What was wrong with a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Cause {
    /// There was none.
    NoToken,
    /// It had ended before the transfer began.
    EndedBefore,
    /// It ended during the transfer.
    EndedDuring,
    /// It was the bearer of the submission, which is for FTS.
    Bearer,
    /// It is for another audience.
    Audience,
    /// Its scopes are not on the path, or not of the right kind.
    Scope,
    /// The reason says it all, or the row shows nothing wrong.
    Unseen,
}

impl Cause {
    /// In words; none when there is nothing to add to the reason.
    pub fn words(self) -> Option<&'static str> {
        Some(match self {
            Self::NoToken => "the file had no token",
            Self::EndedBefore => "the token had ended before the transfer began",
            Self::EndedDuring => "the token ended during the transfer",
            Self::Bearer => {
                "the token is the bearer of the submission, which is for FTS and not for a storage"
            }
            Self::Audience => "the token's audience is not this storage's",
            Self::Scope => "the token's scopes do not cover the path, or do not allow what was done there",
            Self::Unseen => return None,
        })
    }
}

/// A failure that was a token's.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fault {
    /// Whose side.
    pub side: &'static str,
    /// The storage, or what the URL says if it names none.
    pub endpoint: String,
    /// What happened.
    pub what: What,
    /// What was wrong with the token.
    pub cause: Cause,
}

impl Fault {
    /// In words.
    pub fn words(&self) -> String {
        match self.cause.words() {
            Some(cause) => format!("{}: {cause}", self.what.words()),
            None => self.what.words().to_owned(),
        }
    }
}

/// Whose token a failure is to be blamed on, and what was wrong with it; none when it is no token's.
pub fn fault(failure: &Failure, endpoints: &Endpoints) -> Option<Fault> {
    let (side, what) = blame(&failure.reason)?;
    let at = match side {
        Side::Source => 0,
        Side::Destination => 1,
    };
    let split = Authority::split(&failure.urls[at]);
    let endpoint = split.as_ref().map_or_else(|| "a URL without a storage".to_owned(), |(at, _)| at.origin());
    let cause = match what {
        What::NotGot | What::NotRenewed => Cause::Unseen,
        _ => match (&failure.tokens[at], split) {
            (None, _) => Cause::NoToken,
            (Some(_), None) => Cause::Unseen,
            (Some(token), Some((authority, path))) => {
                let shared = failure.tokens[0].as_ref().map(|token| &token.id)
                    == failure.tokens[1].as_ref().map(|token| &token.id);
                let known = endpoints.at(&authority, &token.issuer);
                let file =
                    StoragePath::from_url_path(path).ok().and_then(|path| path.below(&known.base_path));
                let audiences = [known.audience, authority.origin()];
                of(
                    token,
                    failure,
                    shared,
                    &audiences,
                    file.as_ref().map(|file| needed(file, side, what)).as_ref(),
                )
            }
        },
    };
    Some(Fault { side: side.name(), endpoint, what, cause })
}

fn of(
    token: &UsedToken,
    failure: &Failure,
    shared: bool,
    audiences: &[String],
    needed: Option<&ScopeSet>,
) -> Cause {
    let has = |name: &str| token.scope.split(' ').any(|scope| scope == name);
    let for_it =
        token.audience.split(' ').any(|aud| aud == ANY_AUDIENCE || audiences.iter().any(|ours| ours == aud));
    if !for_it && (has("fts") || shared) {
        return Cause::Bearer;
    }
    if let (Some(started), Some(end)) = (failure.started, token.expires_at)
        && end <= started
    {
        return Cause::EndedBefore;
    }
    if let (Some(started), Some(finished)) = (failure.started, failure.finished) {
        let over = token.expires_at.is_some_and(|end| end <= finished);
        // One that was renewed in its row meanwhile was not renewed for the transfer.
        if over || token.unrenewed_life.is_some_and(|life| started.until(finished) >= life) {
            return Cause::EndedDuring;
        }
    }
    if !for_it {
        return Cause::Audience;
    }
    let held = ScopeSet::parse(&token.scope).ok();
    match (needed, held) {
        (Some(needed), Some(held)) if needed.beyond(&held).is_empty() => Cause::Unseen,
        _ => Cause::Scope,
    }
}

/// What FTS does with a token at least (observed).
fn needed(file: &StoragePath, side: Side, what: What) -> ScopeSet {
    let write = if what == What::Overwrite { Operation::Modify } else { Operation::Create };
    match side {
        Side::Source => vec![Scope::Storage(Operation::Read, file.clone())],
        Side::Destination => {
            vec![Scope::Storage(Operation::Read, file.parent()), Scope::Storage(write, file.clone())]
        }
    }
    .into_iter()
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::file::tests::endpoints;

    const REFUSED: &str = "DESTINATION [1] HTTP 403 : Permission refused ";
    const REFUSED_SOURCE: &str = "SOURCE [1] HTTP 403 : Permission refused ";

    fn token(id: &str, audience: &str, scope: &str, ends: i64) -> UsedToken {
        UsedToken {
            id: id.into(),
            issuer: "https://i/".into(),
            audience: audience.into(),
            scope: scope.into(),
            expires_at: Some(UnixSeconds(ends)),
            unrenewed_life: None,
        }
    }

    fn failed(reason: &str, source: Option<UsedToken>, destination: Option<UsedToken>) -> Failure {
        Failure {
            file: 1,
            reason: reason.into(),
            started: Some(UnixSeconds(100)),
            finished: Some(UnixSeconds(200)),
            urls: ["davs://s:1094/vo/data/f".into(), "davs://d:1094/vo/data/x/f".into()],
            tokens: [source, destination],
        }
    }

    fn cause(failure: &Failure) -> (String, Cause) {
        let fault = fault(failure, &endpoints("/vo", "/data", "endpoint")).unwrap();
        (format!("{} {}", fault.side, fault.endpoint), fault.cause)
    }

    #[test]
    fn the_rows_tell_what_was_wrong() {
        let good = |ends| token("s", "https://s:1094", "storage.read:/data", ends);
        let at_d = |scope: &str, ends| token("d", "https://d:1094", scope, ends);
        let modify = "storage.read:/data storage.modify:/data";
        let destination = |token: UsedToken| cause(&failed(REFUSED, Some(good(900)), Some(token))).1;
        let it_is = |side: &str, cause| (format!("{side}:1094"), cause);
        assert_eq!(cause(&failed(REFUSED_SOURCE, None, None)), it_is("SOURCE https://s", Cause::NoToken));
        assert_eq!(
            cause(&failed(REFUSED_SOURCE, Some(good(100)), None)),
            it_is("SOURCE https://s", Cause::EndedBefore)
        );
        assert_eq!(destination(at_d(modify, 150)), Cause::EndedDuring);
        assert_eq!(destination(at_d(modify, 900)), Cause::Unseen);
        let renewed = UsedToken { unrenewed_life: Some(Duration::from_secs(60)), ..at_d(modify, 900) };
        assert_eq!(destination(renewed), Cause::EndedDuring);
        assert_eq!(destination(token("d", "fts.example", "fts storage.modify:/", 900)), Cause::Bearer);
        let both = token("b", "fts.example", "storage.read:/ storage.modify:/", 900);
        assert_eq!(
            cause(&failed(REFUSED_SOURCE, Some(both.clone()), Some(both))),
            it_is("SOURCE https://s", Cause::Bearer)
        );
        assert_eq!(
            destination(token("d", "https://d:1094/", modify, 900)),
            Cause::Audience,
            "a slash too many"
        );
        for (scope, expected) in [
            ("storage.read:/data/x/f storage.modify:/data", Cause::Scope),
            ("storage.read:/data/x storage.create:/data/x/f", Cause::Unseen),
            ("storage.read:/data", Cause::Scope),
            ("storage.read:/vo/data storage.modify:/vo/data", Cause::Scope),
            ("storage.modify", Cause::Scope),
        ] {
            assert_eq!(destination(at_d(scope, 900)), expected, "{scope}");
        }
        let unlink = "DESTINATION [1] DavPosix::unlink  HTTP 403 : Permission refused ";
        let create = at_d("storage.read:/data storage.create:/data", 900);
        assert_eq!(cause(&failed(unlink, Some(good(900)), Some(create))).1, Cause::Scope);
        let late = "SOURCE [14] Failed to obtain refresh token for source";
        assert_eq!(cause(&failed(late, None, None)).1, Cause::Unseen);
        assert!(fault(&failed("SOURCE [2] no", None, None), &endpoints("/", "/", "file")).is_none());
    }
}
