//! The clients of an issuer.

use std::time::Duration;

use jsonwebtoken::jwk::Jwk;
use token_core::{ClientSecret, ScopeSet};

/// A grant that a client may be allowed to use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GrantType {
    /// RFC 6749 section 4.4.
    ClientCredentials,
    /// RFC 8693.
    TokenExchange,
    /// RFC 6749 section 6.
    RefreshToken,
    /// RFC 8628.
    DeviceCode,
}

impl GrantType {
    pub(super) const ALL: [Self; 4] =
        [Self::ClientCredentials, Self::TokenExchange, Self::RefreshToken, Self::DeviceCode];

    /// Its name in `grant_type`.
    pub fn name(self) -> &'static str {
        match self {
            Self::ClientCredentials => "client_credentials",
            Self::TokenExchange => "urn:ietf:params:oauth:grant-type:token-exchange",
            Self::RefreshToken => "refresh_token",
            Self::DeviceCode => "urn:ietf:params:oauth:grant-type:device_code",
        }
    }
}

/// A registered client.
#[derive(Clone, Debug)]
pub struct Client {
    /// Its id.
    pub id: String,
    /// Its secret.
    pub secret: ClientSecret,
    /// Its public key: a client that has one signs assertions (RFC 7523), and its secret is not taken.
    pub key: Option<Jwk>,
    /// The scopes it may ask for: these, or below their paths.
    pub scopes: ScopeSet,
    /// The grants it may use.
    pub grants: Vec<GrantType>,
    /// How long its access tokens live.
    pub token_life: Duration,
}
