//! What the two daemons share: configuration files ([`config`]), logs ([`logs`]), signals ([`Shutdown`], [`Reload`]), the sections of
//! the configuration that both have ([`settings`]), how a foreign database is opened ([`sqlite`], [`postgres`], [`mysql`]), what can be
//! seen of a running daemon ([`Watch`], [`metrics`], [`http`]), what a set-up is looked over by ([`doctor`]), what is printed for a person ([`terminal`]),
//! and how a process ends ([`Failure`]).

pub mod config;
pub mod doctor;
mod failure;
pub mod http;
pub mod logs;
pub mod metrics;
pub mod mysql;
mod notify;
pub mod page;
mod pool;
pub mod postgres;
mod reload;
pub mod settings;
mod shutdown;
pub mod sqlite;
pub mod terminal;
mod vitals;
mod watch;

pub use failure::Failure;
pub use reload::Reload;
pub use shutdown::Shutdown;
pub use vitals::{Check, Vitals, Work};
pub use watch::{Observed, Watch};
