//! Submits Rucio's queued transfer requests to FTS with an FTS-audience token.
//!
//! One natural way for a request: [`rucio::queue`] picks it, [`choose`] decides where it comes from and where it goes,
//! [`job`] puts it into an FTS job, [`rucio::claim`] takes it (`Q` to `G`, with the job's id), [`submit`] posts the job, and
//! [`rucio::settle`] closes the claim (`G` to `S`). A claim that a crash or a lost answer left open is resolved by its job
//! id ([`submit`] again).
//!
//! The statements and states are those of Rucio 41.5.1's own conveyor, so that its poller and finisher go on as if it had
//! submitted the job itself.

mod about;
pub mod access;
pub mod choose;
mod command;
mod doctor;
mod explain;
pub mod expression;
mod forever;
pub mod job;
mod name;
pub mod owner;
mod pulse;
pub mod request;
pub mod rucio;
mod rucio_cfg;
mod run;
pub mod seen;
pub mod settings;
mod shadow;
pub mod share;
pub mod submit;
pub mod tokens;
pub mod topology;
mod trace;

pub use command::Arguments;
pub use run::run;
