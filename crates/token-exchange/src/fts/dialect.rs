//! What SQLite and MariaDB/MySQL say differently. All else in the statements is the same, placeholders (`?`) too.

/// The kind of database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    Sqlite,
    Mysql {
        /// Whether rows that another has locked can be passed over.
        skip_locked: bool,
    },
}

impl Dialect {
    /// Ends a `SELECT` of rows that must stay as they are until the transaction ends. SQLite has one writer anyway.
    pub(super) fn lock(self) -> &'static str {
        match self {
            Self::Sqlite => "",
            Self::Mysql { .. } => " FOR UPDATE",
        }
    }

    /// Ends a `SELECT` of rows that are to be changed, where those that another has in hand are passed over; none where the
    /// database can't, and the change itself has to see whether it still may.
    pub(super) fn lock_free_ones(self) -> Option<&'static str> {
        match self {
            Self::Mysql { skip_locked: true } => Some(" FOR UPDATE SKIP LOCKED"),
            Self::Mysql { skip_locked: false } | Self::Sqlite => None,
        }
    }

    /// Ends an `INSERT` of rows some of which may be there already.
    pub(super) fn or_update(self, key: &str, assignment: &str) -> String {
        match self {
            Self::Sqlite => format!(" ON CONFLICT ({key}) DO UPDATE SET {assignment}"),
            Self::Mysql { .. } => format!(" ON DUPLICATE KEY UPDATE {assignment}"),
        }
    }

    /// In the assignment of [`Self::or_update`]: what the row would have had in this column.
    pub(super) fn would_be(self, column: &str) -> String {
        match self {
            Self::Sqlite => format!("excluded.{column}"),
            Self::Mysql { .. } => format!("VALUES({column})"),
        }
    }

    /// An index on a column of a table of ours: what stands in its `CREATE TABLE` after the columns, or the statement that makes
    /// it afterwards.
    pub(super) fn index(self, table: &str, column: &str) -> (String, Option<String>) {
        match self {
            Self::Sqlite => {
                let make = format!("CREATE INDEX IF NOT EXISTS {table}_{column} ON {table} ({column})");
                (String::new(), Some(make))
            }
            Self::Mysql { .. } => (format!(", INDEX ({column})"), None),
        }
    }

    /// Ends a `CREATE TABLE` of ours; a row lock needs InnoDB, whatever the server's default is.
    pub(super) fn engine(self) -> &'static str {
        match self {
            Self::Sqlite => "",
            Self::Mysql { .. } => " ENGINE=InnoDB",
        }
    }
}
