//! WLCG tokens: what a token says ([`Claims`], [`ScopeSet`]), whether it may be believed ([`verify`]), how to get
//! one ([`OAuthClient`]: client credentials, refresh, RFC 8693 token exchange and RFC 8628 device codes, within what a
//! [`Guard`] lets an issuer bear), and how to keep it ([`TokenKeeper`] over a [`TokenCache`]).
//!
//! The rules are those of the WLCG Common JWT Profiles, versions 1.0 to 1.3; sections named in these docs count as
//! in 1.1 and later. Where a library, an issuer or a storage is known to differ, the docs say so.
//!
//! Three habits hold throughout: the clock is a parameter ([`Clock`], [`UnixSeconds`]); a secret is a type without
//! `Display` and with a redacted `Debug` ([`AccessToken`], [`RefreshToken`], [`ClientSecret`], [`AssertionKey`]); and an
//! error says whether it is worth trying again ([`retry::Disposition`]).

#![forbid(unsafe_code)]

mod bearer;
mod cache;
mod claims;
mod clock;
mod error;
mod guard;
mod hash;
pub mod http;
mod issuer;
mod jwt;
mod keeper;
mod key_set;
mod keys;
mod metadata;
mod oauth;
mod path;
mod permit;
mod private_file;
mod profile;
pub mod retry;
mod scope;
mod secret;
mod verify;

pub use bearer::{BearerError, Found, Places};
pub use cache::{
    CacheError, CacheHealth, CacheKey, CachedToken, MemoryCache, SealKeys, SledCache, SledSettings, Tended,
    TokenCache,
};
pub use claims::{ANY_AUDIENCE, Claims, ClaimsError};
pub use clock::{Clock, ManualClock, SystemClock, UnixSeconds};
pub use error::{OAuthCode, TokenError};
pub use guard::{Guard, GuardSettings, GuardStatus};
pub use hash::{hex, random_hex};
pub use issuer::{Issuer, IssuerError};
pub use keeper::{BearerFuture, BearerSource, Freshness, Holding, KeeperCounts, TokenKeeper, TokenWish};
pub use key_set::KeySet;
pub use keys::{IssuerKeys, KeysError};
pub use metadata::{IssuerMetadata, discover};
pub use oauth::{
    Answer, AssertionKey, AudienceParameter, CallCounts, ClientAuthentication, ClientCredentials,
    DeviceAuthorization, Given, Grant, KeyError, OAuthClient, OAuthSettings, Refreshed, TokenRequest,
};
pub use path::{PathError, StoragePath};
pub use permit::{Action, Denied};
pub use profile::Profile;
pub use scope::{Compute, Operation, Scope, ScopeError, ScopeSet};
pub use secret::{AccessToken, ClientSecret, Fingerprint, RefreshToken, RefreshTokenFile, SecretError};
pub use verify::{Policy, VerifyError, check, verify};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExamples;
