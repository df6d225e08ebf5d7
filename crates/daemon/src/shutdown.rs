//! Signals: the first SIGTERM or SIGINT lets work in flight end, the second stops at once.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{Failure, notify};

/// When to stop.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    /// Begin nothing new.
    pub soft: CancellationToken,
    /// Drop what is in flight.
    pub hard: CancellationToken,
}

impl Shutdown {
    /// Listens for signals from now on.
    ///
    /// # Errors
    /// When the system gives no signal handler.
    pub fn on_signals() -> Result<Self, Failure> {
        let shutdown = Self::default();
        let mut terminate = signal(SignalKind::terminate()).map_err(Failure::runtime)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(Failure::runtime)?;
        let tokens = shutdown.clone();
        tokio::spawn(async move {
            for token in [&tokens.soft, &tokens.hard] {
                tokio::select! {
                    _ = terminate.recv() => (),
                    _ = interrupt.recv() => (),
                }
                if tokens.soft.is_cancelled() {
                    warn!("second signal: stopping now");
                } else {
                    notify::stopping();
                    info!("signal: finishing what is in flight; a second signal stops at once");
                }
                token.cancel();
            }
        });
        Ok(shutdown)
    }
}
