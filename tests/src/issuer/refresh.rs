//! Refresh tokens: opaque, good once.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::Value;
use token_core::{ScopeSet, UnixSeconds, random_hex};

/// The profile recommends 30 days (section "lifetimes" of 1.1 and later).
const LIFE: Duration = Duration::from_secs(30 * 24 * 3600);

/// What a refresh token stands for.
#[derive(Clone, Debug)]
pub(super) struct Refreshable {
    pub(super) client: String,
    pub(super) subject: String,
    pub(super) scope: ScopeSet,
    pub(super) audience: Vec<String>,
    pub(super) act: Option<Value>,
}

/// All refresh tokens that are alive.
#[derive(Default)]
pub(super) struct RefreshTokens(HashMap<String, (Refreshable, UnixSeconds)>);

impl RefreshTokens {
    /// Gives out a refresh token.
    pub(super) fn give(&mut self, what: Refreshable, now: UnixSeconds) -> String {
        let token = format!("rt-{}{}", random_hex(), random_hex());
        self.0.insert(token.clone(), (what, now.plus(LIFE)));
        token
    }

    /// What this token stands for, when it is alive and this client's.
    pub(super) fn find(&self, token: &str, client: &str, now: UnixSeconds) -> Option<&Refreshable> {
        self.0.get(token).filter(|(what, ends)| what.client == client && *ends > now).map(|(what, _)| what)
    }

    /// Ends a token.
    pub(super) fn end(&mut self, token: &str) {
        self.0.remove(token);
    }
}
