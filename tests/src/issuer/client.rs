//! The clients of an issuer.

use std::time::Duration;

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
}

impl GrantType {
    pub(super) const ALL: [Self; 3] = [Self::ClientCredentials, Self::TokenExchange, Self::RefreshToken];

    /// Its name in `grant_type`.
    pub fn name(self) -> &'static str {
        match self {
            Self::ClientCredentials => "client_credentials",
            Self::TokenExchange => "urn:ietf:params:oauth:grant-type:token-exchange",
            Self::RefreshToken => "refresh_token",
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
    /// The scopes it may ask for: these, or below their paths.
    pub scopes: ScopeSet,
    /// The grants it may use.
    pub grants: Vec<GrantType>,
    /// How long its access tokens live.
    pub token_life: Duration,
}
