//! The path and the token of a request.

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use url::form_urlencoded;

/// A path of a request, decoded.
#[derive(Clone, Debug)]
pub(super) struct RequestPath {
    /// As the messages of the server show it.
    pub(super) shown: String,
    pub(super) elements: Vec<String>,
}

impl RequestPath {
    /// Reads the path of a URL. `Err` holds the decoded path when it has `..`, which XRootD disallows.
    pub(super) fn read(url_path: &str) -> Result<Self, String> {
        let shown = decode(url_path);
        let elements = elements(&shown);
        if elements.iter().any(|element| element == ".." || element == ".") {
            return Err(shown);
        }
        Ok(Self { shown, elements })
    }
}

/// Once percent-decoded. A plus is a plus in a path.
fn decode(path: &str) -> String {
    let text = format!("v={}", path.replace('+', "%2B").replace('&', "%26"));
    form_urlencoded::parse(text.as_bytes()).map(|(_, value)| value.into_owned()).collect()
}

/// The elements of a decoded path; slashes that stand double or at an end do not count.
pub(super) fn elements(path: &str) -> Vec<String> {
    path.split('/').filter(|element| !element.is_empty()).map(str::to_owned).collect()
}

/// The bearer token (RFC 6750 section 2.1).
pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_decoded_once_and_does_not_climb() {
        assert_eq!(RequestPath::read("/vo//per%2525+a%20b/").unwrap().elements, ["vo", "per%25+a b"]);
        assert_eq!(RequestPath::read("/vo/%2e%2e/x").unwrap_err(), "/vo/../x");
    }
}
