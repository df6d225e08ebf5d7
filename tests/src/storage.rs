//! A storage endpoint: WebDAV with third-party copy, that checks the token of every request, as XRootD 5.5.3 with SciTokens
//! was observed to answer.
//!
//! Where it is stricter than what was observed: paths in scopes match at the boundaries of elements (5.5.3 compares
//! strings), a scope path with `..` has the token refused (5.5.3 resolves it, and dies of one that climbs over the root), and
//! an expired token is refused at once (5.5.3 keeps the rights of a token it has seen for 60 s). [`Storage::set_flaws`] brings
//! these three back. As observed, and unlike the profile, it refuses tokens without `nbf`, with another `wlcg.ver` than
//! 1.0, and compares the path of a scope, unescaped, with the decoded path of the URL.

mod access;
mod copy;
mod reply;
mod request;
mod rights;
mod tree;
mod webdav;

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use token_core::http::{HttpSettings, client};
use token_core::{Clock, Fingerprint, Issuer, IssuerKeys, Policy, UnixSeconds};
use tokio_util::sync::CancellationToken;

use crate::pki::Pki;
use crate::server::Server;
use rights::Rights;
use tree::Tree;

/// How many refusals are remembered in words.
const REMEMBERED: usize = 20;

/// What a site sets up for an issuer.
#[derive(Clone, Debug)]
pub struct StorageConfig {
    /// The trusted issuer, the exact string of `iss`.
    pub issuer: String,
    /// Where the paths of its scopes begin (profile section 2.2.3).
    pub base_path: String,
    /// Below the base path: what a scope's path has to be at or below of to give anything. Empty: no restriction.
    pub restricted_paths: Vec<String>,
    /// Names beside its own URL under which it is an audience.
    pub extra_audiences: Vec<String>,
    /// An audience instead of its own URL; `{port}` stands for its port.
    pub own_audience: Option<String>,
    /// Whether its own `roots` URL is an audience, as the recorded servers had it.
    pub roots_audience: bool,
    /// Whether the any-audience of the profile passes.
    pub any_audience: bool,
}

impl StorageConfig {
    /// For this issuer: base path `/vo`, nothing restricted, its own URL as the only audience.
    pub fn new(issuer: impl Into<String>) -> Self {
        Self {
            issuer: issuer.into(),
            base_path: "/vo".to_owned(),
            restricted_paths: Vec::new(),
            extra_audiences: Vec::new(),
            own_audience: None,
            roots_audience: false,
            any_audience: false,
        }
    }
}

/// What goes wrong when a file is read here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CopyFault {
    /// Nothing.
    #[default]
    None,
    /// The connection breaks off after so many bytes of a file.
    BreakAfter(usize),
    /// Each GET waits so long before it is answered.
    Slow(Duration),
    /// The bytes of a file come over so long a time.
    Trickle(Duration),
}

/// A running storage endpoint.
#[derive(Clone)]
pub struct Storage(Arc<Inner>);

struct Inner {
    /// Known once the port is bound, and set before anyone can know the port.
    running: OnceLock<Running>,
    base: Vec<String>,
    restricted: Vec<Vec<String>>,
    keys: IssuerKeys,
    /// Goes to the other side of a third-party copy.
    peer: reqwest::Client,
    clock: Arc<dyn Clock>,
    tree: Mutex<Tree>,
    copy_fault: Mutex<CopyFault>,
    flaws: AtomicBool,
    /// With the flaws on: the rights of tokens seen, and since when.
    seen: Mutex<HashMap<Fingerprint, (Rights, UnixSeconds)>>,
    accepted: AtomicU64,
    refused: AtomicU64,
    refusals: Mutex<VecDeque<String>>,
}

struct Running {
    server: Server,
    policy: Policy,
}

impl Storage {
    /// Starts an endpoint on a free loopback port until `stop` fires. The base path and the restricted paths are there as
    /// directories.
    ///
    /// # Errors
    /// When no port can be had or the authority's certificate can't be read.
    pub async fn start(
        pki: &Pki,
        config: StorageConfig,
        clock: Arc<dyn Clock>,
        stop: CancellationToken,
    ) -> Result<Self> {
        let ca_file = Some(pki.ca_file().to_owned());
        // XRootD's third-party copy has no limit on the whole; 60 s without a byte end it.
        let slow = HttpSettings {
            ca_file: ca_file.clone(),
            timeout: Duration::from_secs(3600),
            ..HttpSettings::default()
        };
        // The time scitokens-cpp 0.7.3 gives a refresh of the keys.
        let patience = std::time::Duration::from_secs(4);
        let http = client(&HttpSettings { ca_file, connect_timeout: patience, timeout: patience })?;
        let base = request::elements(&config.base_path);
        let restricted: Vec<_> = config.restricted_paths.iter().map(|path| request::elements(path)).collect();
        let mut tree = Tree::default();
        tree.make_directories(&base);
        for path in &restricted {
            tree.make_directories(&[base.as_slice(), path].concat());
        }
        let storage = Self(Arc::new(Inner {
            running: OnceLock::new(),
            base,
            restricted,
            keys: IssuerKeys::new(Issuer::new(config.issuer.clone())?, http, Arc::clone(&clock)),
            peer: client(&slow)?,
            clock,
            tree: Mutex::new(tree),
            copy_fault: Mutex::default(),
            flaws: AtomicBool::new(false),
            seen: Mutex::default(),
            accepted: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            refusals: Mutex::default(),
        }));
        let server = Server::start(webdav::router(storage.clone()), pki.server(), 0, stop).await?;
        let mut audiences = config.extra_audiences;
        audiences.push(match config.own_audience {
            Some(own) => own.replace("{port}", &server.address().port().to_string()),
            None => server.url(),
        });
        if config.roots_audience {
            audiences.push(format!("roots://{}", server.address()));
        }
        let policy = Policy {
            any_audience: config.any_audience,
            lenient: true,
            ..Policy::new(config.issuer, audiences)
        };
        storage.0.running.set(Running { server, policy }).ok().context("a storage starts once")?;
        Ok(storage)
    }

    /// Fetches the issuer's keys, as a storage that has been up for a while has done.
    ///
    /// # Errors
    /// When the issuer does not give them.
    pub async fn fetch_keys(&self) -> Result<()> {
        self.0.keys.get(false).await?;
        Ok(())
    }

    /// Its URL, which is its audience: `https://127.0.0.1:<port>`.
    pub fn url(&self) -> String {
        self.server().url()
    }

    /// Its server, to take it away and bring it back.
    ///
    /// # Panics
    /// Never: a storage that was started has one.
    pub fn server(&self) -> &Server {
        &self.running().server
    }

    /// Puts a file there, with its directories.
    pub fn add_file(&self, path: &str, content: Bytes) {
        let path = request::elements(path);
        let mut tree = self.tree();
        tree.make_directories(path.split_last().map_or(&[], |(_, parent)| parent));
        tree.put(&path, content);
    }

    /// Makes a directory, with those above it.
    pub fn add_directory(&self, path: &str) {
        self.tree().make_directories(&request::elements(path));
    }

    /// The content of a file.
    pub fn read_file(&self, path: &str) -> Option<Bytes> {
        self.tree().file(&request::elements(path))
    }

    /// The paths of all files, sorted.
    pub fn paths(&self) -> Vec<String> {
        self.tree().files()
    }

    /// Makes reading misbehave from now on.
    pub fn set_copy_fault(&self, fault: CopyFault) {
        *lock(&self.0.copy_fault) = fault;
    }

    /// Whether it has the flaws of XRootD 5.5.3 that let more pass than the profile: string prefixes, `..` in scopes, and
    /// the rights of a token kept for 60 s. Off at the start.
    pub fn set_flaws(&self, flaws: bool) {
        self.0.flaws.store(flaws, Ordering::Relaxed);
        lock(&self.0.seen).clear();
    }

    /// How many requests had the right to what they asked for.
    pub fn accepted(&self) -> u64 {
        self.0.accepted.load(Ordering::Relaxed)
    }

    /// How many requests were refused for their token.
    pub fn refused(&self) -> u64 {
        self.0.refused.load(Ordering::Relaxed)
    }

    /// The last refusals in words: method, path and reason. A real storage tells its clients no reason.
    pub fn last_refusals(&self) -> Vec<String> {
        lock(&self.0.refusals).iter().cloned().collect()
    }

    #[expect(clippy::expect_used, reason = "`start` hands out no storage without its server")]
    fn running(&self) -> &Running {
        self.0.running.get().expect("a started storage")
    }

    fn tree(&self) -> MutexGuard<'_, Tree> {
        lock(&self.0.tree)
    }

    fn copy_fault(&self) -> CopyFault {
        *lock(&self.0.copy_fault)
    }

    fn note_accepted(&self) {
        self.0.accepted.fetch_add(1, Ordering::Relaxed);
    }

    fn note_refusal(&self, what: String) {
        self.0.refused.fetch_add(1, Ordering::Relaxed);
        let mut refusals = lock(&self.0.refusals);
        if refusals.len() == REMEMBERED {
            refusals.pop_front();
        }
        refusals.push_back(what);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
