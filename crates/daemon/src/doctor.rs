//! What `doctor` of both daemons is made of: a set-up is looked over party by party, and each look is a line that says what was
//! found and what to do. Nothing is changed by it; tokens may be asked for.
//!
//! Asking is at the edge ([`look`], [`tls`]); what a set of answers means is decided by functions of these answers.

mod claims;
mod clock;
mod desk;
mod finding;
mod issuer;
pub mod look;
mod print;
mod refusal;
mod storage;
mod tls;

pub use claims::{Asked, of_token};
pub use clock::{Offset, between, own};
pub use desk::Desk;
pub use finding::{Finding, Level, listed, secrets};
pub use issuer::{Examined, Grant, authorities, examine, manners};
pub use print::finish;
pub use refusal::of_refusal;
pub use storage::{Door, Minter, PROBE, knock};

/// How `doctor` is run, in both daemons.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Options {
    /// Longest time for all of it; what was not looked at by then is named.
    #[arg(long, value_name = "SECONDS", default_value_t = 120, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub within: u64,
}
