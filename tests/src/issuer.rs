//! An OAuth2 issuer that gives WLCG tokens, modelled on INDIGO IAM, and stricter than IAM where a kind issuer would hide a
//! fault of ours: an exchange here only narrows.
//!
//! It answers discovery (OpenID Connect Discovery 1.0 section 4, RFC 8414), its keys (one RS256, one ES256; tokens are
//! signed by one and the other in turn), device codes (RFC 8628) and the token endpoint with four grants: client
//! credentials (RFC 6749 section 4.4), token exchange (RFC 8693), refresh (RFC 6749 section 6) and device code. [`Fault`]s
//! make it misbehave as issuers do.

mod assertion;
mod client;
mod device;
mod encoding;
mod endpoint;
mod fault;
mod grant;
mod refresh;
mod request;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Map, Value, json};
use token_core::{AccessToken, Clock, KeySet, random_hex};
use tokio_util::sync::CancellationToken;

pub use client::{Client, GrantType};
pub use fault::{Fault, TokenCalls};

use crate::mint::{SigningKey, jwks};
use crate::pki::Pki;
use crate::server::{Server, dated};
use assertion::Used;
use device::{Decision, Devices};
use fault::Faults;
use refresh::RefreshTokens;

/// How an issuer signs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Signs {
    /// By one key and the other in turn.
    #[default]
    InTurn,
    /// By RS256 only, as most issuers do.
    Rs256,
    /// By ES256 only.
    Es256,
}

/// A running issuer.
#[derive(Clone)]
pub struct Issuer(Arc<Inner>);

struct Inner {
    /// Known once the port is bound, and set before anyone can know the port.
    running: OnceLock<Running>,
    clients: HashMap<String, Client>,
    keys: [SigningKey; 2],
    jwks: Vec<u8>,
    key_set: KeySet,
    signed: AtomicU64,
    signs: Mutex<Signs>,
    given: Mutex<Option<HashMap<String, u64>>>,
    refresh_tokens: Mutex<RefreshTokens>,
    devices: Mutex<Devices>,
    used: Mutex<Used>,
    faults: Faults,
    clock: Arc<dyn Clock>,
}

struct Running {
    name: String,
    server: Server,
}

impl Issuer {
    /// Starts an issuer on a free loopback port, for these clients, until `stop` fires.
    ///
    /// # Errors
    /// When no port or no key can be had.
    pub async fn start(
        pki: &Pki,
        clients: Vec<Client>,
        clock: Arc<dyn Clock>,
        stop: CancellationToken,
    ) -> Result<Self> {
        let keys = [SigningKey::rs256("rs256-1")?, SigningKey::es256("es256-1")?];
        let jwks = serde_json::to_vec(&jwks(&keys)?)?;
        let issuer = Self(Arc::new(Inner {
            running: OnceLock::new(),
            clients: clients.into_iter().map(|client| (client.id.clone(), client)).collect(),
            keys,
            key_set: KeySet::parse(&jwks)?,
            jwks,
            signed: AtomicU64::new(0),
            signs: Mutex::default(),
            given: Mutex::new(None),
            refresh_tokens: Mutex::default(),
            devices: Mutex::default(),
            used: Mutex::default(),
            faults: Faults::default(),
            clock,
        }));
        let router = dated(endpoint::router(issuer.clone()), Arc::clone(&issuer.0.clock));
        let server = Server::start(router, pki.server(), 0, stop).await?;
        let name = format!("{}/", server.url());
        issuer.0.running.set(Running { name, server }).ok().context("an issuer starts once")?;
        Ok(issuer)
    }

    /// Its name, with a slash at the end as INDIGO IAM is mostly installed: `iss` of its tokens and `issuer` of its metadata.
    pub fn name(&self) -> &str {
        self.0.running.get().map_or("", |running| &running.name)
    }

    /// Its keys, as its JWKS endpoint has them.
    pub fn jwks(&self) -> Value {
        serde_json::from_slice(&self.0.jwks).unwrap_or_default()
    }

    /// Its server, to take it away and bring it back.
    ///
    /// # Panics
    /// Never: an issuer that was started has one.
    #[expect(clippy::expect_used, reason = "`start` hands out no issuer without its server")]
    pub fn server(&self) -> &Server {
        &self.0.running.get().expect("a started issuer").server
    }

    /// Makes the token endpoint misbehave from now on ([`Fault::Down`]: the whole server), or behave again
    /// ([`Fault::None`]). A planned fault is called off.
    pub fn set_fault(&self, fault: Fault) {
        self.server().set_up(!matches!(fault, Fault::Down));
        self.0.faults.set(fault);
    }

    /// Plans a fault: it begins right after the token endpoint has answered `after_calls` more calls, and ends by itself
    /// after `lasts`.
    pub fn plan_fault(&self, after_calls: u64, fault: Fault, lasts: Duration) {
        if let Some(due) = self.0.faults.plan(after_calls, fault, lasts) {
            self.begin(due);
        }
    }

    /// What the token endpoint has answered since the start or the last reset.
    pub fn token_calls(&self) -> TokenCalls {
        self.0.faults.calls()
    }

    /// Sets the counts to zero.
    pub fn reset_calls(&self) {
        self.0.faults.reset_calls();
    }

    /// Signs any claims: those that tests want and no grant would give. Where absent, `iss`, `sub`, `iat`, `nbf`, `exp`
    /// (one hour), `jti`, `wlcg.ver` and `scope` (`storage.read:/`) are filled in; a null takes a claim away.
    ///
    /// # Errors
    /// When `claims` is no object, or signing fails.
    pub fn mint(&self, claims: Value) -> Result<AccessToken> {
        let Value::Object(given) = claims else { anyhow::bail!("claims are an object") };
        let now = self.0.clock.now().0;
        let mut claims = Map::from_iter([
            ("iss".to_owned(), json!(self.name())),
            ("sub".to_owned(), json!("minted")),
            ("iat".to_owned(), json!(now)),
            ("nbf".to_owned(), json!(now)),
            ("exp".to_owned(), json!(now + 3600)),
            ("jti".to_owned(), json!(random_hex())),
            ("wlcg.ver".to_owned(), json!("1.0")),
            ("scope".to_owned(), json!("storage.read:/")),
        ]);
        claims.extend(given);
        claims.retain(|_, claim| !claim.is_null());
        self.sign(&Value::Object(claims))
    }

    /// Signs by what [`Self::sign_by`] says.
    fn sign(&self, claims: &Value) -> Result<AccessToken> {
        let turn = self.0.signed.fetch_add(1, Ordering::Relaxed).is_multiple_of(2);
        let [rsa, ec] = &self.0.keys;
        let key = match *self.0.signs.lock().unwrap_or_else(PoisonError::into_inner) {
            Signs::InTurn if turn => rsa,
            Signs::Rs256 => rsa,
            Signs::InTurn | Signs::Es256 => ec,
        };
        Ok(AccessToken::new(key.sign(claims)?)?)
    }

    /// Signs so from now on. ES256 takes a small part of the time of RS256.
    pub fn sign_by(&self, signs: Signs) {
        *self.0.signs.lock().unwrap_or_else(PoisonError::into_inner) = signs;
    }

    /// Notes from now on which tokens are given in exchange; see [`Self::given`].
    pub fn note_given(&self) {
        *self.0.given.lock().unwrap_or_else(PoisonError::into_inner) = Some(HashMap::new());
    }

    /// How often each token was given in exchange since [`Self::note_given`], by `client audience scope`.
    pub fn given(&self) -> HashMap<String, u64> {
        self.0.given.lock().unwrap_or_else(PoisonError::into_inner).clone().unwrap_or_default()
    }

    /// How new device codes are: how long they live, and the interval that is told (none, as at INDIGO IAM, means 5 s).
    pub fn set_device_codes(&self, life: Duration, interval: Option<Duration>) {
        let mut devices = self.devices();
        (devices.life, devices.interval) = (life, interval);
    }

    /// A person approves a device code as `subject`; false when there is no such code.
    pub fn approve(&self, user_code: &str, subject: &str) -> bool {
        self.devices().decide(user_code, Decision::Approved(subject.to_owned()))
    }

    /// A person denies a device code; false when there is no such code.
    pub fn deny(&self, user_code: &str) -> bool {
        self.devices().decide(user_code, Decision::Denied)
    }

    fn devices(&self) -> MutexGuard<'_, Devices> {
        self.0.devices.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn used(&self) -> MutexGuard<'_, Used> {
        self.0.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn refresh_tokens(&self) -> MutexGuard<'_, RefreshTokens> {
        self.0.refresh_tokens.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
