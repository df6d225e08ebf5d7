//! What the two daemons share: configuration files ([`config`]), logs ([`logs`]), signals ([`Shutdown`]), the sections of
//! the configuration that both have ([`settings`]), how a foreign database is opened ([`sqlite`], [`postgres`], [`mysql`]), and how a
//! process ends ([`Failure`]).

pub mod config;
mod failure;
pub mod logs;
pub mod mysql;
pub mod postgres;
pub mod settings;
mod shutdown;
pub mod sqlite;

pub use failure::Failure;
pub use shutdown::Shutdown;
