//! The ways in which an issuer misbehaves, when, and what its token endpoint has answered.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use token_core::random_hex;

/// A misbehaviour of the token endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// None: it works.
    None,
    /// The whole server is gone: connections are refused.
    Down,
    /// It answers after a wait.
    Slow(Duration),
    /// 429 with `Retry-After`.
    TooManyRequests {
        /// Seconds in `Retry-After`.
        retry_after_s: u64,
    },
    /// A bare status.
    Status(u16),
    /// 200 with a page, as a login portal in front of an issuer does.
    Html,
    /// The connection breaks off in the middle of the answer.
    Reset,
    /// Nothing is said for so long, and then the connection breaks off.
    Silent(Duration),
    /// A page with this status.
    Page(u16),
    /// Now this, now that: so many of a hundred requests each meet 429, 500, a page with 503, a connection that breaks off, and
    /// silence; the others are answered.
    Mixed {
        /// Of a hundred.
        percent: u8,
        /// How long the silence lasts.
        silence: Duration,
    },
    /// The token and its answer silently lack the last of the storage scopes that were asked for (IAM's scope policies).
    NarrowScope,
    /// The token has `storage.read:/` besides what was asked for.
    WidenScope,
    /// The token is for another audience.
    WrongAudience,
    /// An OAuth error of this code.
    Refuse(&'static str),
}

impl Fault {
    /// What one request meets.
    pub(super) fn drawn(self) -> Self {
        let Self::Mixed { percent, silence } = self else { return self };
        let random = u32::from_str_radix(&random_hex()[..7], 16).unwrap_or_default() % 100;
        match random.checked_div(u32::from(percent)) {
            Some(0) => Self::TooManyRequests { retry_after_s: 1 },
            Some(1) => Self::Status(500),
            Some(2) => Self::Page(503),
            Some(3) => Self::Reset,
            Some(4) => Self::Silent(silence),
            _ => Self::None,
        }
    }
}

/// What the token endpoint has answered. Each request counts once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TokenCalls {
    /// Tokens given for client credentials.
    pub client_credentials: u64,
    /// Tokens given in exchange.
    pub exchange: u64,
    /// Tokens given for a refresh token.
    pub refresh: u64,
    /// Tokens given for a device code.
    pub device_code: u64,
    /// Requests refused by a rule.
    pub refused: u64,
    /// Requests that met a fault: their answer was replaced or falsified. A late answer ([`Fault::Slow`]) counts as what it is.
    pub faulted: u64,
}

impl TokenCalls {
    /// All requests that reached the token endpoint.
    pub fn total(&self) -> u64 {
        let given = self.client_credentials + self.exchange + self.refresh + self.device_code;
        given + self.refused + self.faulted
    }
}

/// A fault that is due.
#[derive(Clone, Debug)]
pub(super) struct Due {
    pub(super) fault: Fault,
    pub(super) lasts: Duration,
    /// Faults set later are not ended by the end of this one.
    pub(super) epoch: u64,
}

#[derive(Default)]
pub(super) struct Faults {
    state: Mutex<State>,
    turn: tokio::sync::Mutex<()>,
}

struct State {
    now: Fault,
    planned: Option<(u64, Fault, Duration)>,
    epoch: u64,
    calls: TokenCalls,
}

impl Default for State {
    fn default() -> Self {
        Self { now: Fault::None, planned: None, epoch: 0, calls: TokenCalls::default() }
    }
}

impl Faults {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// While a fault is planned, calls are answered one after the other: two at a time could both be the last before it.
    pub(super) async fn turn(&self) -> Option<tokio::sync::MutexGuard<'_, ()>> {
        if self.state().planned.is_some() { Some(self.turn.lock().await) } else { None }
    }

    /// The fault that a request meets now.
    pub(super) fn now(&self) -> Fault {
        self.state().now.clone()
    }

    /// Sets the fault, and calls a planned one off.
    pub(super) fn set(&self, fault: Fault) {
        let mut state = self.state();
        state.now = fault;
        state.planned = None;
        state.epoch += 1;
    }

    /// Plans a fault; it is due at once when no call is to be waited for.
    pub(super) fn plan(&self, after_calls: u64, fault: Fault, lasts: Duration) -> Option<Due> {
        let mut state = self.state();
        state.planned = Some((after_calls, fault, lasts));
        state.due()
    }

    /// Notes an answer; the planned fault may be due with it.
    pub(super) fn answered(&self, count: impl FnOnce(&mut TokenCalls)) -> Option<Due> {
        let mut state = self.state();
        count(&mut state.calls);
        if let Some((calls, ..)) = &mut state.planned {
            *calls = calls.saturating_sub(1);
        }
        state.due()
    }

    /// Ends a fault that was due, unless another was set since; tells whether it did.
    pub(super) fn end(&self, due: &Due) -> bool {
        let mut state = self.state();
        let ours = state.epoch == due.epoch;
        if ours {
            state.now = Fault::None;
        }
        ours
    }

    pub(super) fn is_current(&self, due: &Due) -> bool {
        self.state().epoch == due.epoch
    }

    pub(super) fn calls(&self) -> TokenCalls {
        self.state().calls
    }

    pub(super) fn reset_calls(&self) {
        self.state().calls = TokenCalls::default();
    }
}

impl State {
    fn due(&mut self) -> Option<Due> {
        let (_, fault, lasts) = self.planned.take_if(|(calls, ..)| *calls == 0)?;
        self.now = fault.clone();
        self.epoch += 1;
        Some(Due { fault, lasts, epoch: self.epoch })
    }
}
