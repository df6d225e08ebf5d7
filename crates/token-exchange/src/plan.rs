//! Which tokens a file needs: a pure function of its URLs, the tokens it was submitted with, and the endpoint table.

use token_core::{ANY_AUDIENCE, Claims, Operation, Scope, ScopeError, ScopeSet, StoragePath, TokenRequest};

use crate::endpoint::{Authority, Endpoint, Endpoints, Granularity};

/// The scope by which a submitter says that FTS is to keep a token alive.
const OFFLINE: &str = "offline_access";

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
    #[error("its path is not below the endpoint's `base_path`: no scope can reach it")]
    Base,
    /// The file is outside of the area that tokens are made for.
    #[error("its path is not below the endpoint's `area`")]
    Area,
    /// The token it was submitted with holds a scope that the profile forbids.
    #[error("the token it was submitted with: {0}")]
    Scope(#[from] ScopeError),
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
    /// It is exchanged for this.
    Exchanged(TokenRequest),
}

/// The token that one side of a transfer is to use.
///
/// A token was meant for the storage if the file has different ones for its two sides, if its audience is the storage's or any,
/// or if FTS is to keep it alive (`offline_access`) and it is not for FTS itself. Such a token is used as it is, if it is
/// unmanaged or was exchanged before, and else exchanged for one of the same audience and scopes, which begins to live now. Any
/// other token is FTS's own, the bearer of the submission, and is exchanged for what [`need`] says.
///
/// No refresh token is asked for: while nobody answers `fts_url_copy`'s refresh requests, it would only be one more secret.
///
/// # Errors
/// When no token can be named; that stays so.
pub fn wanted(
    token: &Submitted<'_>,
    url: &str,
    side: Side,
    endpoints: &Endpoints,
) -> Result<Wanted, Unplanned> {
    let need = need(url, side, endpoints);
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
    if !for_storage {
        return need.map(Wanted::Exchanged);
    }
    if token.unmanaged || token.refreshable {
        return Ok(Wanted::Given);
    }
    let offline = Scope::Other(OFFLINE.to_owned());
    let scope: ScopeSet = token.claims.scopes()?.iter().filter(|scope| **scope != offline).cloned().collect();
    if scope.is_empty() {
        return Err(Unplanned::NoScope);
    }
    Ok(Wanted::Exchanged(TokenRequest { audience: token.claims.aud.join(" "), scope }))
}

/// The token that one side of a transfer needs.
///
/// A source needs `storage.read` on the file. A destination needs to look at the file's directory, to make it, to write the
/// file, and to remove what a failed try left: `storage.modify` and `storage.read` on the directory is the least that does
/// all of this (observed on FTS 3.14.4 with XRootD 5.5.3).
///
/// # Errors
/// When no token can be named; that stays so.
pub fn need(url: &str, side: Side, endpoints: &Endpoints) -> Result<TokenRequest, Unplanned> {
    let (authority, path) = Authority::split(url).ok_or(Unplanned::Url)?;
    let endpoint = endpoints.at(&authority);
    let file = StoragePath::from_url_path(path).map_err(|_| Unplanned::Path)?;
    let file = file.below(&endpoint.base_path).ok_or(Unplanned::Base)?;
    let path = reach(&endpoint, &file, side)?;
    let operations: &[Operation] = match side {
        Side::Source => &[Operation::Read],
        Side::Destination => &[Operation::Modify, Operation::Read],
    };
    let scope: ScopeSet =
        operations.iter().map(|operation| Scope::Storage(*operation, path.clone())).collect();
    Ok(TokenRequest { audience: endpoint.audience, scope })
}

fn reach(endpoint: &Endpoint, file: &StoragePath, side: Side) -> Result<StoragePath, Unplanned> {
    match (endpoint.granularity, side) {
        (Granularity::Endpoint, _) if endpoint.area.covers(file) => Ok(endpoint.area.clone()),
        (Granularity::Endpoint, _) => Err(Unplanned::Area),
        (Granularity::File, Side::Source) => Ok(file.clone()),
        (Granularity::Directory, _) | (Granularity::File, Side::Destination) => Ok(file.parent()),
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use token_core::{AccessToken, StoragePath};

    use super::*;

    fn scope(url: &str, side: Side, granularity: Granularity) -> Result<String, Unplanned> {
        let path = |text| StoragePath::parse(text).unwrap();
        let endpoints = Endpoints { known: [].into(), others: (path("/vo"), path("/data"), granularity) };
        need(url, side, &endpoints).map(|need| format!("{} {}", need.audience, need.scope))
    }

    #[test]
    fn the_needs_are_those_that_real_storage_accepted() {
        use Granularity::{Directory, Endpoint, File};
        let url = "davs://s:1094/vo/data/e2e/f1";
        let is = |text: &str| Ok(format!("https://s:1094 {text}"));
        assert_eq!(scope(url, Side::Source, File), is("storage.read:/data/e2e/f1"));
        assert_eq!(scope(url, Side::Source, Directory), is("storage.read:/data/e2e"));
        assert_eq!(scope(url, Side::Source, Endpoint), is("storage.read:/data"));
        let directory = is("storage.read:/data/e2e storage.modify:/data/e2e");
        assert_eq!(scope(url, Side::Destination, File), directory);
        assert_eq!(scope(url, Side::Destination, Directory), directory);
        assert_eq!(scope(url, Side::Destination, Endpoint), is("storage.read:/data storage.modify:/data"));
    }

    #[test]
    fn what_no_scope_can_reach_is_refused() {
        let refused = |url| scope(url, Side::Source, Granularity::Endpoint).unwrap_err();
        assert_eq!(refused("davs://s/vo/data/../../etc"), Unplanned::Path);
        assert_eq!(refused("davs://s/other/f"), Unplanned::Base);
        assert_eq!(refused("davs://s/vo/database/f"), Unplanned::Area);
        assert_eq!(refused("mock://s"), Unplanned::Url);
    }

    /// The claims of a JWT that nobody signed.
    fn claims(json: &str) -> Claims {
        let base64 = |text: &str| URL_SAFE_NO_PAD.encode(text);
        let text = format!("{}.{}.c2ln", base64(r#"{"alg":"RS256"}"#), base64(json));
        Claims::peek(&AccessToken::new(text).unwrap()).unwrap()
    }

    #[test]
    fn a_token_for_a_storage_keeps_its_audience_and_scopes_and_any_other_is_narrowed() {
        let path = |text| StoragePath::parse(text).unwrap();
        let others = (path("/"), path("/data"), Granularity::Endpoint);
        let endpoints = Endpoints { known: [].into(), others };
        let wanted = |aud: &str, scope: &str, both: bool, (unmanaged, refreshable)| {
            let claims = claims(&format!(r#"{{"iss":"https://i","exp":9,"aud":"{aud}","scope":"{scope}"}}"#));
            let token = Submitted { claims: &claims, unmanaged, refreshable, on_both_sides: both };
            match wanted(&token, "davs://s/data/f", Side::Source, &endpoints) {
                Ok(Wanted::Given) => "given".to_owned(),
                Ok(Wanted::Exchanged(request)) => format!("{} for {}", request.scope, request.audience),
                Err(error) => error.to_string(),
            }
        };
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
    }
}
