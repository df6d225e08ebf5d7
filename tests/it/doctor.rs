//! `doctor` of both daemons names the cause in broken set-ups, each broken in one place only, and changes nothing.
#![expect(clippy::unwrap_used, reason = "tests")]

#[path = "doctor/conveyor.rs"]
mod conveyor;
#[path = "doctor/exchange.rs"]
mod exchange;
#[path = "doctor/fts.rs"]
mod fts;
#[path = "doctor/rig.rs"]
mod rig;
#[path = "doctor/storages.rs"]
mod storages;
