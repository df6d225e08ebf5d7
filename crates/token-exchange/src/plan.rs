//! Which tokens a file needs: a pure function of its URLs and the endpoint table.

use token_core::{Operation, Scope, ScopeSet, StoragePath, TokenRequest};

use crate::endpoint::{Authority, Endpoint, Endpoints, Granularity};

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
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
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
    use super::*;
    use token_core::StoragePath;

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
}
