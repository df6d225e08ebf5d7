//! The refresh requests of `fts_url_copy`. Before each step of a transfer whose managed token lives less than FTS's margin, it asks
//! on its own host, over ZeroMQ, for another: a REQ socket at `ipc://<MessagingDirectory>/url_copy-token-refresh.ipc`, one protobuf
//! message each way (FTS 3.14.4). It waits 60 s, and tries again for 300 s in all.
//!
//! An answer is at once there when a token in FTS's database will do ([`crate::fresh::will_do`]), and else after one renewal for all
//! who ask, on whatever host.

mod answer;
mod message;
pub mod service;
pub mod settings;
mod zmtp;
