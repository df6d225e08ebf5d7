//! Which tokens a file needs: a pure function of its URLs, the tokens it was submitted with, the endpoint table, and how tokens
//! of each issuer are got.

use token_core::{ANY_AUDIENCE, Claims, Operation, Scope, ScopeError, ScopeSet, StoragePath, TokenRequest};

use crate::endpoint::{Authority, Endpoint, Endpoints, Granularity, Write};

mod asked;
pub(crate) mod file;

pub use asked::asked;
pub use file::{Identity, IssuerRule, Mode, Planning, Sided};

/// The scope by which a submitter says that FTS is to keep a token alive.
const OFFLINE: &str = "offline_access";
/// `t_token.scope` and `t_token.audience` hold this many characters.
const COLUMN: usize = 1024;

/// Source or destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Read from.
    Source,
    /// Written to.
    Destination,
}

impl Side {
    /// As FTS writes it at the start of a reason.
    pub fn name(self) -> &'static str {
        match self {
            Self::Source => "SOURCE",
            Self::Destination => "DESTINATION",
        }
    }
}

/// Why no token can be named for a URL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unplanned {
    /// The URL has no host, a strange port, or a scheme without tokens.
    #[error("its URL has no storage endpoint that takes tokens")]
    Url,
    /// The path climbs or can't stand in a scope.
    #[error("the path of its URL is not normal and cannot stand in a scope")]
    Path,
    /// The file is outside of what the storage gives to the issuer.
    #[error(
        "its path is not below the endpoint's `base_path`: no scope can reach it; FTS's operators set that in token-exchange's [[endpoint]]"
    )]
    Base,
    /// The file is outside of the area that tokens are made for.
    #[error(
        "its path is not below the endpoint's `area` (counted below `base_path`); FTS's operators set that in token-exchange's [[endpoint]]"
    )]
    Area,
    /// Tokens of the endpoint are narrower than the endpoint, and no path was named.
    #[error("a path is needed: tokens of this endpoint are for a {0} each (`granularity`)")]
    NoPath(Granularity),
    /// The scopes or the audience would be longer than FTS's columns.
    #[error(
        "its token's scope or audience would be longer than the {COLUMN} characters that FTS has room for"
    )]
    TooLong,
    /// The token it was submitted with holds a scope that the profile forbids.
    #[error("the token it was submitted with: {0}")]
    Scope(#[from] ScopeError),
    /// Tokens of its issuer are used as they are, and this one is not for the storage.
    #[error(
        "the token it was submitted with is not for this storage, and tokens of its issuer are used as they are \
         (`mode = \"unmanaged\"`): submit with a token whose audience is the storage's"
    )]
    NotForStorage,
    /// The token it was submitted with holds nothing that a storage could be asked for.
    #[error("the token it was submitted with has no scope")]
    NoScope,
}

/// A token that a file was submitted with, as far as it matters here.
#[derive(Clone, Copy, Debug)]
pub struct Submitted<'a> {
    /// What it says of itself.
    pub claims: &'a Claims,
    /// `t_token.unmanaged`: its submitter sees to it.
    pub unmanaged: bool,
    /// Whether it was exchanged before and has a refresh token.
    pub refreshable: bool,
    /// Whether it is the file's only token, for source and destination alike. FTS takes the bearer for both when a job comes
    /// without token lists; different tokens are a submitter's own choice, one a storage.
    pub on_both_sides: bool,
}

/// What becomes of a token that a file was submitted with.
#[derive(Clone, Debug, PartialEq)]
pub enum Wanted {
    /// The transfer uses it as it is.
    Given,
    /// This is got in its place.
    Made(TokenRequest),
}

/// The token that one side of a transfer is to use, of an issuer whose tokens are got by `mode`.
///
/// A token was meant for the storage if the file has different ones for its two sides, if its audience is the storage's or any,
/// or if FTS is to keep it alive (`offline_access`) and it is not for FTS itself. Such a token is used as it is, if it is
/// unmanaged or was exchanged before, and else exchanged for one of the same audience and scopes, which begins to live now. Any
/// other token is FTS's own, the bearer of the submission, and is exchanged for what [`need`] says.
///
/// With client credentials nothing is asked for but what [`need`] says: what the submitter's token holds is no measure then.
///
/// No refresh token is asked for: while nobody answers `fts_url_copy`'s refresh requests, it would only be one more secret.
///
/// # Errors
/// When no token can be named; that stays so.
pub fn wanted(
    token: &Submitted<'_>,
    leg: &Leg<'_>,
    mode: Mode,
    endpoints: &Endpoints,
) -> Result<Wanted, Unplanned> {
    let need = need(leg, &token.claims.iss, endpoints);
    let audience = need.as_ref().map(|need| need.audience.as_str()).unwrap_or_default();
    let holds = |name: &str| {
        let other = Scope::Other(name.to_owned());
        token.claims.scopes().is_ok_and(|scopes| scopes.iter().any(|scope| *scope == other))
    };
    // Newer REST servers may call the bearer of a submission unmanaged too. It goes to no storage: who has it there could be its
    // submitter to FTS.
    let for_fts = token.on_both_sides && holds("fts");
    let for_storage = !token.on_both_sides
        || token.claims.aud.iter().any(|aud| aud == ANY_AUDIENCE || aud == audience)
        || (holds(OFFLINE) && !for_fts);
    if for_storage && (token.unmanaged || token.refreshable || mode == Mode::Unmanaged) {
        return Ok(Wanted::Given);
    }
    if mode == Mode::Unmanaged {
        return Err(Unplanned::NotForStorage);
    }
    if !for_storage || mode == Mode::ClientCredentials {
        return need.map(Wanted::Made);
    }
    let offline = Scope::Other(OFFLINE.to_owned());
    let scope: ScopeSet = token.claims.scopes()?.iter().filter(|scope| **scope != offline).cloned().collect();
    if scope.is_empty() {
        return Err(Unplanned::NoScope);
    }
    fits(TokenRequest { audience: token.claims.aud.join(" "), scope }).map(Wanted::Made)
}

/// What of a transfer decides which token it needs.
#[derive(Clone, Copy, Debug)]
pub struct Leg<'a> {
    /// The side's URL.
    pub url: &'a str,
    /// Which side.
    pub side: Side,
    /// Whether the file is brought from tape first: FTS had planned `STAGING`.
    pub staging: bool,
    /// Whether the job may replace a file that is there.
    pub overwrites: bool,
}

/// The token that one side of a transfer needs, from `issuer`.
///
/// A source needs `storage.read` on the file, and `storage.stage` if it is to be brought from tape. A destination needs to look
/// at the file's directory, to make it, to write the file, and to remove what a failed try left: `storage.modify` and
/// `storage.read` on the directory is the least that does all of this with one token a directory (observed on FTS 3.14.4 with
/// XRootD 5.5.3); [`Write`] has the others.
///
/// # Errors
/// When no token can be named; that stays so.
pub fn need(leg: &Leg<'_>, issuer: &str, endpoints: &Endpoints) -> Result<TokenRequest, Unplanned> {
    let (authority, path) = Authority::split(leg.url).ok_or(Unplanned::Url)?;
    let endpoint = endpoints.at(&authority, issuer);
    let file = StoragePath::from_url_path(path).map_err(|_| Unplanned::Path)?;
    let file = file.below(&endpoint.base_path).ok_or(Unplanned::Base)?;
    let reach = endpoint.granularity.reach(&endpoint.area, &file).ok_or(Unplanned::Area)?;
    let directory = match endpoint.granularity {
        Granularity::File => Granularity::Directory.reach(&endpoint.area, &file).ok_or(Unplanned::Area)?,
        _ => reach.clone(),
    };
    let scope: ScopeSet = rights(leg, &endpoint, reach, directory)
        .into_iter()
        .map(|(operation, path)| Scope::Storage(operation, path))
        .collect();
    fits(TokenRequest { audience: endpoint.audience, scope })
}

fn rights(
    leg: &Leg<'_>,
    endpoint: &Endpoint,
    reach: StoragePath,
    directory: StoragePath,
) -> Vec<(Operation, StoragePath)> {
    use Operation::{Create, Modify, Read, Stage};
    let single = endpoint.granularity == Granularity::File;
    match (leg.side, endpoint.write) {
        (Side::Source, _) if leg.staging => vec![(Read, reach.clone()), (Stage, reach)],
        (Side::Source, _) => vec![(Read, reach)],
        (Side::Destination, Write::Least) if single => {
            vec![(Read, directory.clone()), (Create, directory), (Modify, reach)]
        }
        (Side::Destination, write) => {
            let write = if write == Write::Create && !leg.overwrites { Create } else { Modify };
            vec![(Read, directory.clone()), (write, directory)]
        }
    }
}

/// What FTS has room for.
fn fits(request: TokenRequest) -> Result<TokenRequest, Unplanned> {
    let scope = request.scope.to_string();
    let long = [&request.audience, &scope].into_iter().any(|text| text.chars().count() > COLUMN);
    if long { Err(Unplanned::TooLong) } else { Ok(request) }
}

#[cfg(test)]
mod tests {
    use super::file::tests::{claims, endpoints, others};
    use super::*;
    use crate::endpoint::Entry;

    fn scope(url: &str, side: Side, endpoints: &Endpoints, overwrites: bool) -> Result<String, Unplanned> {
        let leg = Leg { url, side, staging: false, overwrites };
        need(&leg, "https://i", endpoints).map(|need| format!("{} {}", need.audience, need.scope))
    }

    #[test]
    fn a_file_whose_name_would_be_escaped_takes_its_directorys_token_and_no_wider_one() {
        let of = |write, side| {
            let endpoints = Endpoints::new(Entry { write, ..others("/vo", "/data", "file") });
            scope("davs://s/vo/data/a/per%25cent?copy_mode=push", side, &endpoints, false)
        };
        let is = |scope: &str| Ok(format!("https://s {scope}"));
        assert_eq!(of(Write::Modify, Side::Source), is("storage.read:/data/a"));
        assert_eq!(of(Write::Modify, Side::Destination), is("storage.read:/data/a storage.modify:/data/a"));
        let least = of(Write::Least, Side::Destination);
        assert_eq!(least, is("storage.read:/data/a storage.create:/data/a storage.modify:/data/a"));
    }

    #[test]
    fn the_needs_are_those_that_real_storage_accepted() {
        let url = "davs://s:1094/vo/data/e2e/f1";
        let (dir, file) = ("/data/e2e", "/data/e2e/f1");
        for (granularity, source, destination) in [
            ("file", file, dir),
            ("directory", dir, dir),
            ("prefix:1", dir, dir),
            ("endpoint", "/data", "/data"),
        ] {
            let with = |write| Endpoints::new(Entry { write, ..others("/vo", "/data", granularity) });
            let is = |scope: String| Ok(format!("https://s:1094 {scope}"));
            let modify = is(format!("storage.read:{destination} storage.modify:{destination}"));
            let create = is(format!("storage.read:{destination} storage.create:{destination}"));
            let table = with(Write::Modify);
            assert_eq!(scope(url, Side::Source, &table, false), is(format!("storage.read:{source}")));
            assert_eq!(scope(url, Side::Destination, &table, false), modify, "{granularity}");
            let table = with(Write::Create);
            assert_eq!(scope(url, Side::Destination, &table, false), create, "{granularity}");
            assert_eq!(scope(url, Side::Destination, &table, true), modify, "{granularity}");
            let least = if granularity == "file" {
                is(format!("storage.read:{dir} storage.create:{dir} storage.modify:{file}"))
            } else {
                modify
            };
            assert_eq!(scope(url, Side::Destination, &with(Write::Least), false), least, "{granularity}");
        }
        let tape = Leg { url, side: Side::Source, staging: true, overwrites: false };
        let need = need(&tape, "https://i", &endpoints("/vo", "/data", "file")).unwrap();
        assert_eq!(need.scope.to_string(), "storage.read:/data/e2e/f1 storage.stage:/data/e2e/f1");
    }

    #[test]
    fn what_no_scope_can_reach_is_refused() {
        let table = endpoints("/vo", "/data", "endpoint");
        let refused = |url: &str| scope(url, Side::Source, &table, false).unwrap_err();
        assert_eq!(refused("davs://s/vo/data/../../etc"), Unplanned::Path);
        assert_eq!(refused("davs://s/other/f"), Unplanned::Base);
        assert_eq!(refused("davs://s/vo/database/f"), Unplanned::Area);
        assert_eq!(refused("mock://s"), Unplanned::Url);
        let long = format!("davs://s/vo/data/{}", "a".repeat(1010));
        assert!(scope(&long, Side::Source, &table, false).is_ok());
        let table = endpoints("/vo", "/data", "file");
        assert!(scope(&long, Side::Source, &table, false).is_err_and(|why| why == Unplanned::TooLong));
    }

    #[test]
    fn a_token_for_a_storage_keeps_its_audience_and_scopes_and_any_other_is_narrowed() {
        let table = endpoints("/", "/data", "endpoint");
        let wanted_by = |mode: Mode, aud: &str, scope: &str, both: bool, (unmanaged, refreshable)| {
            let claims = claims("https://i", aud, scope);
            let token = Submitted { claims: &claims, unmanaged, refreshable, on_both_sides: both };
            let leg = Leg { url: "davs://s/data/f", side: Side::Source, staging: false, overwrites: false };
            match wanted(&token, &leg, mode, &table) {
                Ok(Wanted::Given) => "given".to_owned(),
                Ok(Wanted::Made(request)) => format!("{} for {}", request.scope, request.audience),
                Err(error) => error.to_string(),
            }
        };
        let wanted = |aud: &str, scope: &str, both, state| wanted_by(Mode::Exchange, aud, scope, both, state);
        let (managed, unmanaged, refreshable) = ((false, false), (true, false), (false, true));
        let narrowed = "storage.read:/data for https://s";
        // What a submitter sent for this storage, also under a name that we don't know.
        let offline = "storage.read:/ offline_access";
        assert_eq!(wanted("x", offline, false, managed), "storage.read:/ for x");
        assert_eq!(wanted("https://s", offline, true, managed), "storage.read:/ for https://s");
        assert_eq!(
            wanted("x", "offline_access", false, managed),
            "the token it was submitted with has no scope"
        );
        for state in [unmanaged, refreshable] {
            assert_eq!(wanted("x", offline, false, state), "given");
            assert_eq!(wanted(ANY_AUDIENCE, offline, true, state), "given");
        }
        // The bearer of the submission.
        let bearer = "fts storage.read:/";
        for state in [managed, unmanaged, refreshable] {
            assert_eq!(wanted("fts.example", bearer, true, state), narrowed);
        }
        assert_eq!(wanted("fts.example", "storage.read:/", true, managed), narrowed);
        assert_eq!(wanted("fts.example", "storage.read:/", true, unmanaged), narrowed);
        assert_eq!(wanted("x", offline, true, managed), "storage.read:/ for x");
        assert!(wanted("x", "storage.read:/..", false, managed).contains("storage.read"));

        let own =
            |aud: &str, scope: &str, both, state| wanted_by(Mode::ClientCredentials, aud, scope, both, state);
        assert_eq!(own("x", offline, false, managed), narrowed, "no more than the transfer needs");
        assert_eq!(own("fts.example", "fts", true, managed), narrowed);
        assert_eq!(own("x", offline, false, unmanaged), "given");
        let as_is = |aud: &str, scope: &str, both| wanted_by(Mode::Unmanaged, aud, scope, both, managed);
        assert_eq!(as_is("x", "storage.read:/data", false), "given");
        assert_eq!(as_is(ANY_AUDIENCE, "storage.read:/", true), "given");
        assert!(as_is("fts.example", bearer, true).contains("is not for this storage"));
    }
}
