//! Device codes (RFC 8628): given, decided by a person, polled.

use std::collections::HashMap;
use std::time::Duration;

use token_core::{ScopeSet, UnixSeconds, random_hex};
use tokio::time::Instant;

use super::client::{Client, GrantType};
use super::grant::Granted;
use super::refresh::Refreshable;
use super::request::{Form, Refusal};

/// What a person said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    Pending,
    /// Yes, as this subject.
    Approved(String),
    Denied,
}

struct Device {
    client: String,
    user_code: String,
    scope: ScopeSet,
    /// Whether a refresh token was asked for.
    offline: bool,
    audience: Vec<String>,
    ends: UnixSeconds,
    interval: Duration,
    polled: Option<Instant>,
    decision: Decision,
}

/// All device codes, and how new ones are made.
pub(super) struct Devices {
    by_code: HashMap<String, Device>,
    pub(super) life: Duration,
    /// None: not told, as at INDIGO IAM; it is five seconds then (section 3.2).
    pub(super) interval: Option<Duration>,
}

impl Default for Devices {
    fn default() -> Self {
        Self { by_code: HashMap::new(), life: Duration::from_secs(600), interval: None }
    }
}

impl Devices {
    /// Gives out a device code and its user code.
    pub(super) fn give(
        &mut self,
        client: &Client,
        (scope, offline): (ScopeSet, bool),
        audience: Vec<String>,
        now: UnixSeconds,
    ) -> (String, String) {
        let code = format!("dc-{}", random_hex());
        let user_code = random_hex()[..8].to_uppercase();
        let device = Device {
            client: client.id.clone(),
            user_code: user_code.clone(),
            scope,
            offline,
            audience,
            ends: now.plus(self.life),
            interval: self.interval.unwrap_or(Duration::from_secs(5)),
            polled: None,
            decision: Decision::Pending,
        };
        self.by_code.insert(code.clone(), device);
        (code, user_code)
    }

    /// Notes what a person said; false when there is no such code.
    pub(super) fn decide(&mut self, user_code: &str, decision: Decision) -> bool {
        let device = self.by_code.values_mut().find(|device| device.user_code == user_code);
        device.is_some_and(|device| {
            device.decision = decision;
            true
        })
    }

    /// Answers a poll (section 3.5). A code that led to a token or to an end is gone.
    pub(super) fn poll(
        &mut self,
        client: &Client,
        form: &Form,
        now: UnixSeconds,
    ) -> Result<Granted, Refusal> {
        let unknown = || Refusal::new("invalid_grant", "the device code is not known");
        let code = form.get("device_code");
        let code = code.ok_or_else(|| Refusal::new("invalid_request", "device_code is missing"))?;
        let device = self.by_code.get_mut(code).filter(|device| device.client == client.id);
        let device = device.ok_or_else(unknown)?;
        let early = device.polled.replace(Instant::now()).is_some_and(|at| at.elapsed() < device.interval);
        let refusal = if device.ends <= now {
            Refusal::new("expired_token", "")
        } else if early {
            device.interval += Duration::from_secs(5);
            return Err(Refusal::new("slow_down", ""));
        } else {
            match &device.decision {
                Decision::Pending => return Err(Refusal::new("authorization_pending", "")),
                Decision::Denied => Refusal::new("access_denied", "the user denied it"),
                Decision::Approved(subject) => {
                    let asked = form.audiences()?;
                    let audience = if asked.is_empty() { device.audience.clone() } else { asked };
                    let granted = Granted {
                        grant: GrantType::DeviceCode,
                        subject: subject.clone(),
                        scope: device.scope.clone(),
                        audience: audience.clone(),
                        act: None,
                        refresh: device.offline.then(|| Refreshable {
                            client: client.id.clone(),
                            subject: subject.clone(),
                            scope: device.scope.clone(),
                            audience,
                            act: None,
                        }),
                    };
                    self.by_code.remove(code);
                    return Ok(granted);
                }
            }
        };
        self.by_code.remove(code);
        Err(refusal)
    }
}
