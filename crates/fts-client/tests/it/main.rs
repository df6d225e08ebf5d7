//! The client and the command against a server of their own, which answers what a test wants.
#![expect(clippy::unwrap_used, reason = "tests")]

#[path = "../support/mod.rs"]
mod support;

mod cli;
mod decoding;
mod wire;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use fts_client::{FtsClient, FtsSettings, JobId};
use token_core::http::{ClientCertificate, HttpSettings};
use token_core::{AccessToken, BearerFuture, BearerSource, Freshness};

use support::Server;

pub(crate) const ANON: &str = r#"{"user_dn":"anon","base_id":"01874efb-4735-4595-bc9c-591aef8240c9","vos":[],"delegation_id":null,"method":"unauthenticated"}"#;
pub(crate) const KNOWN: &str = r#"{"user_dn":"me","base_id":"01874efb-4735-4595-bc9c-591aef8240c9","vos":["vo"],"delegation_id":"63cc5e9ff48f9e6a","method":"oauth2"}"#;
pub(crate) const DENIED: &str = r#"{"status":"403 Forbidden","message":"Not enough permissions"}"#;

/// Gives `stale` until it is asked for a fresh token, then `good`.
#[derive(Default)]
pub(crate) struct Source {
    fresh: AtomicU64,
}

impl BearerSource for Source {
    fn bearer(&self, freshness: Freshness) -> BearerFuture<'_> {
        Box::pin(async move {
            let asked = match freshness {
                Freshness::Fresh => self.fresh.fetch_add(1, Ordering::Relaxed) + 1,
                Freshness::Kept => self.fresh.load(Ordering::Relaxed),
            };
            Ok(AccessToken::new(if asked > 0 { "good" } else { "stale" }).unwrap())
        })
    }
}

impl Source {
    pub(crate) fn fresh(&self) -> u64 {
        self.fresh.load(Ordering::Relaxed)
    }
}

pub(crate) fn settings(server: &Server) -> FtsSettings {
    let http = HttpSettings {
        ca_file: Some(server.ca_file()),
        timeout: Duration::from_secs(60),
        ..HttpSettings::default()
    };
    FtsSettings { http, ..FtsSettings::new(server.url.clone()) }
}

pub(crate) fn client(server: &Server) -> (FtsClient, Arc<Source>) {
    let source = Arc::new(Source::default());
    (FtsClient::new(&settings(server), Arc::<Source>::clone(&source)).unwrap(), source)
}

pub(crate) fn certificate(server: &Server) -> ClientCertificate {
    let file = |name: &str| server.folder.path().join(name);
    ClientCertificate { certificate: file("client.pem"), key: Some(file("client.key")) }
}

/// Ids that differ in their last digits.
pub(crate) fn job_ids(count: usize) -> Vec<JobId> {
    (0..count).map(|n| JobId::parse(&format!("00000000-0000-1000-8000-{n:012}")).unwrap()).collect()
}
