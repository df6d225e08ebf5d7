//! What a running daemon tells over HTTP: metrics, health and its page.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Where a daemon tells.
#[derive(Clone, Copy, Debug)]
pub struct Told(pub SocketAddr);

impl Told {
    /// Where the daemon tells that writes this log; waits until it says so.
    ///
    /// # Errors
    /// When it does not say so within a minute.
    pub async fn by_log(log: &Path) -> Result<Self> {
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            let text = std::fs::read_to_string(log).unwrap_or_default();
            // The last, should it have been started several times.
            let line = text.lines().rev().find_map(|line| line.split_once("metrics and health at http://"));
            if let Some((address, _)) = line.and_then(|(_, rest)| rest.split_once('/')) {
                return Ok(Self(address.parse()?));
            }
            if Instant::now() > end {
                bail!("{} names no address: {text}", log.display());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Status and body of a `GET`.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn get(&self, path: &str, accept: &str) -> Result<(u16, String)> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\nAccept: {accept}\r\n\r\n", self.0);
        let answer = self.send(request.as_bytes()).await?;
        let (head, body) = answer.split_once("\r\n\r\n").context("an answer")?;
        let status = head.split(' ').nth(1).context("a status")?.parse()?;
        Ok((status, body.to_owned()))
    }

    /// The answer to these bytes, as it comes.
    ///
    /// # Errors
    /// When the connection breaks.
    pub async fn send(&self, request: &[u8]) -> Result<String> {
        let mut stream = TcpStream::connect(self.0).await?;
        stream.write_all(request).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        Ok(String::from_utf8(answer)?)
    }

    /// The metrics.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn metrics(&self) -> Result<String> {
        match self.get("/metrics", "*/*").await? {
            (200, body) => Ok(body),
            (status, body) => bail!("/metrics: {status}: {body}"),
        }
    }
}

/// The value of the sample that is written so, such as `x_total{a="b"}`.
pub fn sample(metrics: &str, written: &str) -> Option<f64> {
    let of = |line: &str| line.strip_prefix(written)?.strip_prefix(' ')?.parse().ok();
    metrics.lines().find_map(of)
}
