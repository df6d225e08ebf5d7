//! HTTP/1.1 over TLS on a loopback port, with a switch that takes the server away as a crash would: the port is closed and
//! every connection cut.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use axum::http::header::DATE;
use axum::middleware::map_response;
use axum::response::Response;
use axum::{Extension, Router};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use token_core::{Clock, SystemClock, UnixSeconds};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

/// The certificate that the client of a connection has shown: an extension of its requests.
#[derive(Clone)]
pub struct PeerCertificate(pub CertificateDer<'static>);

/// Cuts the connection that a request came by as a reset: an extension of requests.
#[derive(Clone)]
pub(crate) struct Connection {
    cut: CancellationToken,
    /// The same socket once more.
    socket: Arc<OwnedFd>,
}

impl Connection {
    /// Cuts it, whatever is on its way.
    pub(crate) async fn reset(&self) -> Response {
        // What is closed without lingering is reset.
        let _ = rustix::net::sockopt::set_socket_linger(&*self.socket, Some(Duration::ZERO));
        self.cut.cancel();
        std::future::pending().await
    }
}

/// A clock that is off by so many seconds.
#[derive(Clone, Copy, Debug)]
pub struct ClockOff(pub i64);

impl Clock for ClockOff {
    fn now(&self) -> UnixSeconds {
        UnixSeconds(SystemClock.now().0 + self.0)
    }
}

/// The same routes, whose answers tell the time of this clock in `Date`.
pub(crate) fn dated(router: Router, clock: Arc<dyn Clock>) -> Router {
    router.layer(map_response(move |mut response: Response| {
        let since = Duration::from_secs(u64::try_from(clock.now().0).unwrap_or(0));
        async move {
            let date = httpdate::fmt_http_date(std::time::UNIX_EPOCH + since);
            if let Ok(date) = date.parse() {
                response.headers_mut().insert(DATE, date);
            }
            response
        }
    }))
}

/// A running server.
#[derive(Clone)]
pub struct Server {
    address: SocketAddr,
    up: watch::Sender<bool>,
}

impl Server {
    /// Serves `router` on `port` of 127.0.0.1 (0: any free one) until `stop` fires.
    ///
    /// # Errors
    /// When the port can't be bound.
    pub async fn start(
        router: Router,
        tls: Arc<ServerConfig>,
        port: u16,
        stop: CancellationToken,
    ) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
        let address = listener.local_addr()?;
        let (up, watched) = watch::channel(true);
        tokio::spawn(run(listener, address, TlsAcceptor::from(tls), router, watched, stop));
        Ok(Self { address, up })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its URL, `https://127.0.0.1:<port>`.
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// Takes the server away, or brings it back on the same port. While away, connections are refused.
    pub fn set_up(&self, up: bool) {
        self.up.send_replace(up);
    }
}

async fn run(
    first: TcpListener,
    address: SocketAddr,
    tls: TlsAcceptor,
    router: Router,
    mut up: watch::Receiver<bool>,
    stop: CancellationToken,
) {
    let mut listener = Some(first);
    while !stop.is_cancelled() {
        let Some(listening) = listener.take() else {
            listener = TcpListener::bind(address).await.ok();
            tokio::time::sleep(Duration::from_millis(if listener.is_some() { 0 } else { 50 })).await;
            continue;
        };
        let cut = stop.child_token();
        loop {
            tokio::select! {
                accepted = listening.accept() => if let Ok((stream, _)) = accepted {
                    tokio::spawn(connection(stream, tls.clone(), router.clone(), cut.clone()));
                },
                () = down(&mut up) => break,
                () = stop.cancelled() => return,
            }
        }
        cut.cancel();
        drop(listening);
        tokio::select! {
            _ = up.wait_for(|up| *up) => (),
            () = stop.cancelled() => return,
        }
    }
}

/// Ends when the switch is off.
async fn down(up: &mut watch::Receiver<bool>) {
    if up.wait_for(|up| !*up).await.is_err() {
        std::future::pending::<()>().await;
    }
}

async fn connection(stream: TcpStream, tls: TlsAcceptor, router: Router, cut: CancellationToken) {
    let _ = stream.set_nodelay(true);
    let Ok(socket) = stream.as_fd().try_clone_to_owned() else { return };
    let own = Connection { cut: cut.child_token(), socket: Arc::new(socket) };
    let cut = own.cut.clone();
    let serving = async {
        let Ok(Ok(stream)) = tokio::time::timeout(Duration::from_secs(10), tls.accept(stream)).await else {
            return;
        };
        let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
        let router = router.layer(Extension(own));
        let router = match shown {
            None => router,
            Some(shown) => router.layer(Extension(PeerCertificate(shown.clone()))),
        };
        let _ = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
            .await;
    };
    tokio::select! {
        () = serving => (),
        () = cut.cancelled() => (),
    }
}
