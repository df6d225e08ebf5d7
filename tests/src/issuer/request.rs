//! A request to the token endpoint: its form, and which client sends it.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use url::Url;
use url::form_urlencoded;

use super::client::Client;
use super::encoding::decode;

const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// A refusal (RFC 6749 section 5.2). Its text holds no token and no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) code: &'static str,
    pub(super) text: String,
}

impl Refusal {
    /// A refusal with the status that INDIGO IAM gives this code.
    pub(super) fn new(code: &'static str, text: impl Into<String>) -> Self {
        let status = match code {
            "invalid_client" | "invalid_token" => StatusCode::UNAUTHORIZED,
            "access_denied" => StatusCode::FORBIDDEN,
            _ => StatusCode::BAD_REQUEST,
        };
        Self { status, code, text: text.into() }
    }
}

/// The parameters of a token request.
#[derive(Debug)]
pub(super) struct Form(HashMap<String, String>);

impl Form {
    /// Reads a body. A parameter may stand there once, and an empty one counts as absent (RFC 6749 section 3.2); only
    /// `resource` may stand there several times (RFC 8707 section 2).
    pub(super) fn read(headers: &HeaderMap, body: &[u8]) -> Result<Self, Refusal> {
        let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or("");
        if !kind.starts_with("application/x-www-form-urlencoded") {
            return Err(Refusal::new("invalid_request", "the body is not application/x-www-form-urlencoded"));
        }
        let mut form = HashMap::<String, String>::new();
        for (name, value) in form_urlencoded::parse(body).into_owned() {
            if value.is_empty() {
                continue;
            }
            match form.entry(name) {
                Entry::Vacant(place) => drop(place.insert(value)),
                Entry::Occupied(mut held) if held.key() == "resource" => {
                    held.get_mut().push(' ');
                    held.get_mut().push_str(&value);
                }
                Entry::Occupied(_) => {
                    return Err(Refusal::new("invalid_request", "a parameter stands twice"));
                }
            }
        }
        Ok(Self(form))
    }

    /// A parameter that is there and not empty.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// The audiences asked for: of `resource` (RFC 8707), `aud` and `audience` the first that is there wins, as in INDIGO
    /// IAM; separated by spaces.
    pub(super) fn audiences(&self) -> Result<Vec<String>, Refusal> {
        let of = |name| {
            self.get(name)
                .map(|list| list.split(' ').filter(|one| !one.is_empty()).map(str::to_owned).collect())
        };
        if let Some(resources) = of("resource") {
            let resources: Vec<String> = resources;
            let plain = |url: Url| url.query().is_none() && url.fragment().is_none();
            return if resources.iter().all(|one| Url::parse(one).is_ok_and(plain)) {
                Ok(resources)
            } else {
                Err(Refusal::new("invalid_target", "Not a valid URI"))
            };
        }
        Ok(of("aud").or_else(|| of("audience")).unwrap_or_default())
    }
}

/// Finds the client that sent the request: `client_secret_basic`, `client_secret_post` or `private_key_jwt`, only one of
/// them (RFC 6749 section 2.3). `signer` finds the client that signed an assertion.
pub(super) fn authenticate<'a>(
    clients: &'a HashMap<String, Client>,
    headers: &HeaderMap,
    form: &Form,
    signer: impl FnOnce(&str) -> Option<&'a Client>,
) -> Result<&'a Client, Refusal> {
    let unknown =
        || Refusal::new("invalid_client", "the client is unknown, or its secret or assertion is wrong");
    let ways = (headers.get(AUTHORIZATION), form.get("client_secret"), form.get("client_assertion"));
    let client = match ways {
        (None, None, Some(assertion)) if form.get("client_assertion_type") == Some(JWT_BEARER) => {
            signer(assertion).ok_or_else(unknown)?
        }
        (Some(header), None, None) => {
            let (id, secret) = basic(header.as_bytes()).ok_or_else(unknown)?;
            by_secret(clients, &id, &secret).ok_or_else(unknown)?
        }
        (None, Some(secret), None) => {
            form.get("client_id").and_then(|id| by_secret(clients, id, secret)).ok_or_else(unknown)?
        }
        (None, None, _) => return Err(unknown()),
        _ => return Err(Refusal::new("invalid_request", "the client authenticates in more than one way")),
    };
    if form.get("client_id").is_some_and(|named| named != client.id) {
        return Err(Refusal::new("invalid_client", "client_id is not the client that authenticated"));
    }
    Ok(client)
}

/// The client of this id, if that is its secret. A client with a key has none that counts.
fn by_secret<'a>(clients: &'a HashMap<String, Client>, id: &str, secret: &str) -> Option<&'a Client> {
    let client = clients.get(id).filter(|client| client.key.is_none())?;
    verify_slices_are_equal(client.secret.expose().as_bytes(), secret.as_bytes()).ok()?;
    Some(client)
}

/// User name and password, each form-encoded before it went into base64 (RFC 6749 section 2.3.1).
fn basic(header: &[u8]) -> Option<(String, String)> {
    let (scheme, rest) = std::str::from_utf8(header).ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let pair = decode(rest.trim())?;
    let (id, secret) = std::str::from_utf8(&pair).ok()?.split_once(':')?;
    Some((form_decode(id), form_decode(secret)))
}

/// `&` and `=` are no separators here: they are escaped before the text is read as one parameter's value.
fn form_decode(text: &str) -> String {
    let text = text.replace('&', "%26");
    form_urlencoded::parse(format!("v={text}").as_bytes()).map(|(_, value)| value.into_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(body: &str) -> Result<Form, Refusal> {
        let headers =
            HeaderMap::from_iter([(CONTENT_TYPE, "application/x-www-form-urlencoded".parse().unwrap())]);
        Form::read(&headers, body.as_bytes())
    }

    #[test]
    fn basic_is_form_decoded_after_base64() {
        // "a%3Ab:p%26%3D%2B+%25" in base64
        let header = b"Basic YSUzQWI6cCUyNiUzRCUyQislMjU=";
        assert_eq!(basic(header), Some(("a:b".to_owned(), "p&=+ %".to_owned())));
        assert_eq!(basic(b"Bearer YTpi"), None);
    }

    #[test]
    fn a_parameter_stands_once() {
        assert_eq!(form("scope=a&scope=b").unwrap_err().code, "invalid_request");
        assert_eq!(form("scope=&audience=b").unwrap().get("scope"), None);
    }

    #[test]
    fn resource_wins_over_audience_and_is_a_list() {
        assert_eq!(
            form("audience=x&resource=https://a+https://b").unwrap().audiences().unwrap(),
            ["https://a", "https://b"]
        );
        assert_eq!(
            form("resource=https://a&resource=https://b").unwrap().audiences().unwrap(),
            ["https://a", "https://b"]
        );
        assert_eq!(form("resource=a").unwrap().audiences().unwrap_err().code, "invalid_target");
        assert_eq!(form("audience=x").unwrap().audiences().unwrap(), ["x"]);
        assert!(form("").unwrap().audiences().unwrap().is_empty());
    }
}
