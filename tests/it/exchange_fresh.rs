//! Tokens that were handed over stay fresh while files wait: renewed in place, by one worker each, from a later token of the
//! submitter when the first has ended, and no longer than files wait.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

#[path = "exchange_fresh/long_transfers.rs"]
mod long_transfers;
#[path = "exchange_fresh/renewal.rs"]
mod renewal;
#[path = "exchange_fresh/rig.rs"]
mod rig;
