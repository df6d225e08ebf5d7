//! Pools of connections to the grid's databases.

use sqlx::pool::PoolOptions;

/// A pool of at most so many connections without ends of their own; why, stands in the daemons' `daemon::pool`.
pub(crate) fn pool<DB: sqlx::Database>(most: u32) -> PoolOptions<DB> {
    PoolOptions::new().max_connections(most).idle_timeout(None).max_lifetime(None)
}
