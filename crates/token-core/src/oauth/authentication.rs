//! How a client proves to the token endpoint who it is.

use serde_json::json;
use url::form_urlencoded::byte_serialize;
use zeroize::Zeroizing;

use super::key::AssertionKey;
use crate::clock::UnixSeconds;
use crate::hash::random_hex;
use crate::secret::ClientSecret;

const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// How long an assertion is good. It is made anew for every call.
const ASSERTION_LIFE_S: i64 = 60;

/// How a client proves who it is.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ClientAuthentication {
    /// Id and secret by HTTP Basic (RFC 6749 section 2.3.1), which every issuer with secrets must take.
    Basic(ClientSecret),
    /// Id and secret in the form (RFC 6749 section 2.3.1), for issuers that take nothing else.
    Post(ClientSecret),
    /// A JWT signed with the client's own key (RFC 7523 section 2.2): no secret leaves this host.
    PrivateKeyJwt(AssertionKey),
    /// Not at all: a public client (RFC 6749 section 2.1) sends its id only. Issuers let such clients use device codes and
    /// refresh tokens, which then have to rotate.
    Public,
}

/// By HTTP Basic.
impl From<ClientSecret> for ClientAuthentication {
    fn from(secret: ClientSecret) -> Self {
        Self::Basic(secret)
    }
}

/// What goes with one call.
pub(super) struct Proof {
    /// User name and password of HTTP Basic.
    pub(super) basic: Option<(Zeroizing<String>, Zeroizing<String>)>,
    pub(super) form: Vec<(&'static str, Zeroizing<String>)>,
}

impl ClientAuthentication {
    /// The client's secret, so that it can be kept out of errors.
    pub(super) fn secret(&self) -> Option<&str> {
        match self {
            Self::Basic(secret) | Self::Post(secret) => Some(secret.expose()),
            Self::PrivateKeyJwt(_) | Self::Public => None,
        }
    }

    /// The proof for a call now; `None` if the key can't sign.
    pub(super) fn proof(&self, client_id: &str, token_endpoint: &str, now: UnixSeconds) -> Option<Proof> {
        let plain = |text: &str| Zeroizing::new(text.to_owned());
        // RFC 6749 section 2.3.1: id and secret are form-encoded before they become user name and password.
        let encoded = |text: &str| Zeroizing::new(byte_serialize(text.as_bytes()).collect::<String>());
        Some(match self {
            Self::Basic(secret) => {
                Proof { basic: Some((encoded(client_id), encoded(secret.expose()))), form: Vec::new() }
            }
            Self::Post(secret) => Proof {
                basic: None,
                form: vec![("client_id", plain(client_id)), ("client_secret", plain(secret.expose()))],
            },
            Self::Public => Proof { basic: None, form: vec![("client_id", plain(client_id))] },
            Self::PrivateKeyJwt(key) => {
                let assertion = key.sign(&json!({
                    "iss": client_id, "sub": client_id, "aud": token_endpoint, "jti": random_hex(),
                    "iat": now, "exp": now.0.saturating_add(ASSERTION_LIFE_S),
                }))?;
                Proof {
                    basic: None,
                    form: vec![("client_assertion_type", plain(JWT_BEARER)), ("client_assertion", assertion)],
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    use super::*;
    use crate::jwt::take_apart;

    #[test]
    fn an_assertion_has_the_claims_of_rfc_7523_and_a_new_jti_each_time() {
        use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
        let der = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap().to_pkcs8v1().unwrap();
        let pem = format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----", STANDARD.encode(der));
        let way = ClientAuthentication::PrivateKeyJwt(AssertionKey::from_pem(&pem, None).unwrap());
        let claims = || {
            let proof = way.proof("c:1", "https://i/token", UnixSeconds(1000)).unwrap();
            assert!(proof.basic.is_none());
            assert_eq!(proof.form[0], ("client_assertion_type", Zeroizing::new(JWT_BEARER.to_owned())));
            let parts = take_apart(&proof.form[1].1).unwrap();
            assert!(parts.header.get("kid").is_none());
            parts.claims
        };
        let (first, second) = (claims(), claims());
        assert_eq!(
            (&first["iss"], &first["sub"], &first["aud"]),
            (&json!("c:1"), &json!("c:1"), &json!("https://i/token"))
        );
        assert_eq!((&first["iat"], &first["exp"]), (&json!(1000), &json!(1060)));
        assert_ne!(first["jti"], second["jti"]);
    }

    #[test]
    fn basic_is_form_encoded_and_post_is_not() {
        let secret = ClientSecret::new("p&= +%");
        let proof = ClientAuthentication::Basic(secret.clone()).proof("a:b", "", UnixSeconds(0)).unwrap();
        let (id, password) = proof.basic.unwrap();
        assert_eq!((id.as_str(), password.as_str()), ("a%3Ab", "p%26%3D+%2B%25"));
        let proof = ClientAuthentication::Post(secret).proof("a:b", "", UnixSeconds(0)).unwrap();
        let form: Vec<_> = proof.form.iter().map(|(name, value)| (*name, value.as_str())).collect();
        assert_eq!(form, [("client_id", "a:b"), ("client_secret", "p&= +%")]);
    }
}
