//! Pools of connections.

use sqlx::pool::PoolOptions;

/// A pool of at most so many connections, which live until they break: each is tried before it is used again.
///
/// Without ends of their own there is no task that looks for idle connections. The one of sqlx 0.9.0 counts them with a number that
/// may for a moment be one less than none, and whoever reads it then goes round for ever, with a thread of the runtime.
pub(crate) fn pool<DB: sqlx::Database>(most: u32) -> PoolOptions<DB> {
    PoolOptions::new().max_connections(most).idle_timeout(None).max_lifetime(None)
}
