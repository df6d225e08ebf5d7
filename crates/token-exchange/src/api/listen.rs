//! Listens, and keeps connections within bounds: their number, the time for a handshake and a header, and the end of all.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use daemon::Failure;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::settings::ApiSettings;
use super::tls;

/// Most connections; who comes when there are as many waits.
const CONNECTIONS: usize = 512;
/// The longest handshake, and the longest wait for the header of a question, also between two on one connection.
const SOON: Duration = Duration::from_secs(10);
/// Longest header, in bytes. A token may have 16 kB.
const HEADER: usize = 32 * 1024;
/// How long what is being answered may take when it is to end.
const GRACE: Duration = Duration::from_secs(10);

/// Where to listen, and how.
pub(super) struct Listener {
    listen: SocketAddr,
    /// None: plain http.
    tls: Option<TlsAcceptor>,
}

impl Listener {
    /// None when the settings don't say where.
    ///
    /// # Errors
    /// When it can't be done as they say.
    pub(super) fn new(settings: &ApiSettings) -> Result<Option<Self>, Failure> {
        let Some(listen) = settings.listen else { return Ok(None) };
        let tls = match (&settings.certificate_file, &settings.key_file) {
            (Some(certificate), Some(key)) => Some(TlsAcceptor::from(tls::server(certificate, key)?)),
            (None, None) if settings.plain_http_on_loopback && listen.ip().is_loopback() => None,
            _ => {
                return Err(Failure::configuration(
                    "`api.listen` is set: `api.certificate_file` and `api.key_file` are needed, or, on a loopback address, \
                     `api.plain_http_on_loopback = true`",
                ));
            }
        };
        Ok(Some(Self { listen, tls }))
    }

    /// Serves until `stop` fires, and then ends what is under way.
    ///
    /// # Errors
    /// When nobody can listen there.
    pub(super) async fn serve(&self, router: Router, stop: &CancellationToken) -> Result<(), Failure> {
        let bound = TcpListener::bind(self.listen).await;
        let listener = bound
            .map_err(|error| Failure::configuration(format!("`api.listen` = {}: {error}", self.listen)))?;
        let address = listener.local_addr().unwrap_or(self.listen);
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        info!("tokens are given at {scheme}://{address}/v1/tokens");
        let room = Arc::new(Semaphore::new(CONNECTIONS));
        let mut open = JoinSet::new();
        loop {
            while open.try_join_next().is_some() {}
            let place = tokio::select! {
                place = Arc::clone(&room).acquire_owned() => place,
                () = stop.cancelled() => break,
            };
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = stop.cancelled() => break,
            };
            match (accepted, place) {
                (Ok((stream, _)), Ok(place)) => {
                    let (router, tls, stop) = (router.clone(), self.tls.clone(), stop.clone());
                    open.spawn(async move {
                        converse(stream, tls, router, stop).await;
                        drop(place);
                    });
                }
                (Err(error), _) => {
                    // Out of file descriptors, for one: they come back.
                    warn!(%error, "a connection could not be taken");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                (_, Err(_)) => break,
            }
        }
        drop(listener);
        if tokio::time::timeout(GRACE, async { while open.join_next().await.is_some() {} }).await.is_err() {
            warn!(connections = open.len(), "questions that took too long were not answered");
        }
        Ok(())
    }
}

async fn converse(stream: TcpStream, tls: Option<TlsAcceptor>, router: Router, stop: CancellationToken) {
    let _ = stream.set_nodelay(true);
    match tls {
        None => talk(stream, router, stop).await,
        Some(tls) => match tokio::time::timeout(SOON, tls.accept(stream)).await {
            Ok(Ok(stream)) => talk(stream, router, stop).await,
            Ok(Err(error)) => debug!(%error, "no TLS came about"),
            Err(_) => debug!("no TLS came about in time"),
        },
    }
}

async fn talk(stream: impl AsyncRead + AsyncWrite + Unpin, router: Router, stop: CancellationToken) {
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(SOON)
            .max_buf_size(HEADER)
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
    );
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        debug!(%error, "a conversation broke off");
    }
}
