//! A grid in a box: an OAuth2 issuer, an FTS over its own database, storage endpoints that check every token and copy
//! from third parties, and a real Rucio database, all on loopback with TLS. See `src/main.rs` for the main job.

pub mod binaries;
pub mod content;
pub mod fts;
pub mod grid;
pub mod issuer;
pub mod job;
pub mod mint;
pub mod pki;
mod pool;
pub mod rucio;
pub mod server;
pub mod storage;
pub mod told;
pub mod xrootd;
