//! The refresh requests of `fts_url_copy`, which asks over ZeroMQ for a token that is about to end.

pub mod settings;
