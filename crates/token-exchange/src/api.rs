//! An HTTP service beside the work for FTS, for transfer agents that are not FTS: a token goes in, a token for one storage endpoint
//! comes out. Off unless it is told where to listen.
//!
//! `POST /v1/tokens` with the caller's token in `Authorization: Bearer` and `{"endpoint": "https://host[:port]", "operations": ["read"],
//! "path": "/vo/data/f"}`. What is asked of the issuer is the same as for a transfer of FTS's: the endpoint's audience, paths by its
//! granularity, never more than the caller's token holds, and each distinct token once.

mod answer;
mod gate;
mod listen;
mod question;
mod settings;
mod tls;

use std::sync::Arc;

use daemon::Failure;
use token_core::Clock;
use tokio_util::sync::CancellationToken;

use crate::issuers::KnownIssuer;
use crate::plan::Planning;
use crate::seen::Seen;
use crate::worker::Tokens;

pub use settings::ApiSettings;

use gate::Gate;
use listen::Listener;
use question::Service;

/// The service, ready to listen.
pub(crate) struct Api {
    listener: Listener,
    service: Arc<Service>,
}

impl Api {
    /// Reads all that the settings name; none when they don't say where to listen.
    ///
    /// # Errors
    /// One line that names the key.
    pub(crate) fn new(
        settings: &ApiSettings,
        issuers: &[KnownIssuer],
        planning: &Planning,
        tokens: &Arc<Tokens>,
        clock: &Arc<dyn Clock>,
        seen: &Arc<Seen>,
    ) -> Result<Option<Self>, Failure> {
        let Some(listener) = Self::listener(settings)? else { return Ok(None) };
        let service = Service {
            gate: Gate::new(settings.audience.clone(), issuers, clock)?,
            endpoints: planning.endpoints.clone(),
            tokens: Arc::clone(tokens),
            clock: Arc::clone(clock),
            seen: Arc::clone(seen),
            within: settings.timeout(),
            room: tokio::sync::Semaphore::new(settings.max_in_flight.max(1)),
        };
        Ok(Some(Self { listener, service: Arc::new(service) }))
    }

    /// Reads the files that the settings name, as a start does.
    ///
    /// # Errors
    /// One line that names the key.
    pub(crate) fn check(settings: &ApiSettings) -> Result<(), Failure> {
        Self::listener(settings).map(drop)
    }

    fn listener(settings: &ApiSettings) -> Result<Option<Listener>, Failure> {
        let listener = Listener::new(settings)?;
        if listener.is_some() && settings.audience.is_empty() {
            return Err(Failure::configuration(
                "`api.audience` is missing: the name that a caller's token must have among its audiences",
            ));
        }
        Ok(listener)
    }

    /// Answers until `stop` fires; what is being answered then is finished.
    ///
    /// # Errors
    /// When nobody can listen there.
    pub(crate) async fn run(&self, stop: &CancellationToken) -> Result<(), Failure> {
        self.listener.serve(question::router(Arc::clone(&self.service)), stop).await
    }
}
