//! What can be seen of a running daemon: metrics, whether it lives and is ready, and one line in words.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::http::ListenSettings;
use crate::metrics::{Family, Issuers, of_process, text};
use crate::notify;
use crate::page::Section;
use crate::vitals::{Check, Vitals};

/// What takes statements is looked up at most so often, however often it is asked for.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// And given up after this: what is known from before is told then.
const LOOK_FOR: Duration = Duration::from_secs(5);

/// What a daemon tells of itself beside what all daemons do.
pub trait Observed: Send + Sync + 'static {
    /// Its own metrics.
    fn families(&self) -> Vec<Family>;

    /// Looks up what takes a statement, so that the others can tell it.
    fn look(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(std::future::ready(()))
    }

    /// What it does, in one line.
    fn line(&self) -> String;

    /// Its own tables of the status page.
    fn sections(&self) -> Vec<Section>;
}

/// A daemon that can be watched.
pub struct Watch {
    /// Its name.
    pub program: &'static str,
    /// Its version.
    pub version: &'static str,
    /// How it is.
    pub vitals: Vitals,
    /// The issuers that it asks.
    pub issuers: Issuers,
    /// What it tells itself.
    pub own: Arc<dyn Observed>,
    looked: Mutex<Option<Instant>>,
}

impl Watch {
    /// A program by its name and version.
    pub fn new(
        (program, version): (&'static str, &'static str),
        vitals: Vitals,
        issuers: Issuers,
        own: Arc<dyn Observed>,
    ) -> Self {
        Self { program, version, vitals, issuers, own, looked: Mutex::default() }
    }

    /// Tells whoever asks, at `port` when it is not said where, and the service manager, until `stop` fires. When `soft` fires the
    /// daemon is about to end.
    pub async fn run(
        self: Arc<Self>,
        http: &ListenSettings,
        port: u16,
        soft: &CancellationToken,
        stop: &CancellationToken,
    ) {
        tokio::join!(http.serve(port, Arc::clone(&self), stop), notify::accompany(&self, soft, stop));
    }

    /// All metrics, as Prometheus reads them.
    pub async fn metrics(&self) -> String {
        self.look().await;
        let mut families = of_process(self.program, self.version, &self.vitals);
        let ready = f64::from(u8::from(is_ready(&self.readiness())));
        families.push(
            Family::gauge(
                "token_daemon_ready",
                &[],
                "1 while `/readyz` says yes: the database can be used, and tokens can be had of one issuer at least",
            )
            .measure([], ready),
        );
        families.extend(self.issuers.families());
        families.extend(self.own.families());
        text(families)
    }

    /// Whether all work has moved lately.
    pub fn liveness(&self) -> Vec<Check> {
        self.vitals.live()
    }

    /// Whether work can be done: the database, and each issuer.
    pub fn readiness(&self) -> Vec<Check> {
        let mut checks = vec![self.vitals.database()];
        checks.extend(self.issuers.checks());
        checks
    }

    /// Looks up what takes statements, if that was not done just now.
    pub(crate) async fn look(&self) {
        let mut looked = self.looked.lock().await;
        if looked.is_none_or(|at| at.elapsed() >= LOOK_EVERY) {
            let _ = tokio::time::timeout(LOOK_FOR, self.own.look()).await;
            *looked = Some(Instant::now());
        }
    }
}

/// The database, which stands first, must be well, and one of the issuers: one that is down holds up no work for the others.
pub(crate) fn is_ready(checks: &[Check]) -> bool {
    match checks.split_first() {
        Some((database, issuers)) => {
            database.ok && (issuers.is_empty() || issuers.iter().any(|issuer| issuer.ok))
        }
        None => true,
    }
}
