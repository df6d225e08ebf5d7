//! What an issuer can do: exchanges asked for by a plain load generator, so many at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::rig::Rig;

/// Exchanges a second at this issuer with so many in flight, each for another token.
pub(crate) async fn ceiling(rig: &Rig, issuer: usize, in_flight: usize, calls: usize) -> Result<f64> {
    let authority = reqwest::Certificate::from_pem(&std::fs::read(rig.folder.path().join("ca.pem"))?)?;
    #[expect(clippy::disallowed_methods, reason = "a client as plain as can be")]
    let client = reqwest::Client::builder()
        .tls_certs_only([authority])
        .pool_max_idle_per_host(in_flight)
        .timeout(Duration::from_secs(60))
        .build()?;
    let secret = std::fs::read_to_string(rig.folder.path().join("secret"))?;
    let url = format!("{}token", rig.issuers[issuer].name());
    let bearer = Arc::new(rig.bearers[issuer].expose().to_owned());
    let (left, began) = (Arc::new(AtomicUsize::new(calls)), Instant::now());
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..in_flight {
        let (client, url, secret) = (client.clone(), url.clone(), secret.clone());
        let (bearer, left) = (Arc::clone(&bearer), Arc::clone(&left));
        tasks.spawn(async move {
            while let Some(n) = next(&left) {
                let scope = format!("storage.read:/data/load/{n}");
                let form = [
                    ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
                    ("subject_token", bearer.as_str()),
                    ("subject_token_type", "urn:ietf:params:oauth:token-type:access_token"),
                    ("requested_token_type", "urn:ietf:params:oauth:token-type:access_token"),
                    ("scope", &scope),
                    ("audience", "https://load.example"),
                ];
                let request = client.post(&url).basic_auth("worker-0", Some(&secret)).form(&form);
                #[expect(clippy::disallowed_methods, reason = "on loopback, with a time-out")]
                let answer = request.send().await.context("an exchange")?;
                ensure!(answer.status() == 200, "the issuer answered {}", answer.status());
                answer.bytes().await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    Ok(rate(calls, began.elapsed()))
}

fn next(left: &AtomicUsize) -> Option<usize> {
    left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).ok()
}

/// So many a second.
#[expect(clippy::as_conversions, reason = "for people")]
pub(crate) fn rate(calls: usize, took: Duration) -> f64 {
    calls as f64 / took.as_secs_f64()
}
