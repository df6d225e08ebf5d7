//! The worker that an FTS operator runs in place of FTS's `fts_token`: it exchanges the token that a job was submitted with
//! (RFC 8693) for one token per storage endpoint, and hands those to the transfers through FTS's own database.
//!
//! One natural way for a job: [`fts::lease`] takes it, [`plan`] says which tokens each of its files needs, [`worker`] gets
//! each *distinct* token once, [`decide`] says what becomes of each file, and [`fts::hand_over`] writes that down in one
//! transaction, which a worker whose lease has ended can't make.
//!
//! No change to FTS is needed: the hand-over was proven on FTS 3.14.4 (rows in `t_token` with `unmanaged` = 1, the files'
//! token ids, and `file_state` set to `file_state_initial`). FTS's own `fts_token` must not run beside it.

mod about;
pub mod api;
pub mod blame;
mod command;
pub mod decide;
mod doctor;
pub mod endpoint;
mod failed;
pub mod fresh;
pub mod fts;
pub mod fts3config;
pub mod issuers;
pub mod plan;
pub mod refresh;
pub mod retire;
mod run;
mod seen;
pub mod settings;
pub mod worker;

pub use run::{Arguments, run};
