//! The token that somebody asks for by endpoint and operations, where there is no transfer.

use token_core::{Operation, Scope, StoragePath, TokenRequest};

use super::{Unplanned, fits};
use crate::endpoint::{Authority, Endpoints, Granularity};

/// The token of `issuer` for these operations at an endpoint (`https://host[:port]`), on as much around `path`, a path as in a
/// transfer's URL, as the endpoint's granularity says. Where that is the whole endpoint, no path is needed.
///
/// # Errors
/// When no token can be named; that stays so.
pub fn asked(
    (endpoint, path): (&str, Option<&str>),
    operations: &[Operation],
    issuer: &str,
    endpoints: &Endpoints,
) -> Result<TokenRequest, Unplanned> {
    let url = format!("{}/", endpoint.trim_end_matches('/'));
    let (authority, _) = Authority::split(&url)
        .filter(|(authority, rest)| *rest == "/" && authority.is_host_or_domain() && !endpoint.contains('*'))
        .ok_or(Unplanned::Url)?;
    let known = endpoints.at(&authority, issuer);
    let reach = match path {
        None if known.granularity == Granularity::Endpoint => known.area.clone(),
        None => return Err(Unplanned::NoPath(known.granularity)),
        Some(path) => {
            let file = StoragePath::from_url_path(path).map_err(|_| Unplanned::Path)?;
            let file = file.below(&known.base_path).ok_or(Unplanned::Base)?;
            known.granularity.reach(&known.area, &file).ok_or(Unplanned::Area)?
        }
    };
    let scope = operations.iter().map(|operation| Scope::Storage(*operation, reach.clone())).collect();
    fits(TokenRequest { audience: known.audience, scope })
}

#[cfg(test)]
mod tests {
    use super::super::file::tests::endpoints;
    use super::*;

    #[test]
    fn what_is_asked_for_is_as_wide_as_the_endpoints_tokens_are() {
        use Operation::{Modify, Read};
        let asked = |endpoint: &str, path: Option<&str>, granularity: &str| {
            let table = endpoints("/vo", "/data", granularity);
            let request = asked((endpoint, path), &[Read, Modify], "https://i", &table);
            request.map(|request| format!("{} {}", request.audience, request.scope))
        };
        let is = |path: &str| Ok(format!("https://s:1094 storage.read:{path} storage.modify:{path}"));
        let file = Some("/vo/data/d/f");
        assert_eq!(asked("https://s:1094", None, "endpoint"), is("/data"));
        assert_eq!(asked("davs://S:1094/", file, "endpoint"), is("/data"));
        assert_eq!(asked("https://s:1094", file, "directory"), is("/data/d"));
        assert_eq!(asked("https://s:1094", file, "file"), is("/data/d/f"));
        assert_eq!(asked("https://s:1094", None, "file"), Err(Unplanned::NoPath(Granularity::File)));
        for bad in ["s", "https://", "https://s/vo", "https://*.s", "ftp://s", "https://u@s"] {
            assert_eq!(asked(bad, file, "file"), Err(Unplanned::Url), "{bad}");
        }
        for (path, why) in [
            ("/vo/data/../f", Unplanned::Path),
            ("/elsewhere/f", Unplanned::Base),
            ("/vo/database/f", Unplanned::Area),
            ("", Unplanned::Base),
        ] {
            assert_eq!(asked("https://s", Some(path), "endpoint"), Err(why), "{path}");
        }
    }
}
