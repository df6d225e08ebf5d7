//! A foreign database on SQLite: opened as it is, and looked at before it is used.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use sqlx::SqlitePool;
use sqlx::sqlite::SqliteConnectOptions;

use crate::pool::pool;

/// Why a database can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The URL names no database we can open.
    #[error(
        "only `sqlite:////absolute/path` and `sqlite:///relative/path` are supported so far, written as SQLAlchemy does"
    )]
    Url,
    /// It is not there, or no database.
    #[error("cannot open the database {path}: {source}")]
    Open {
        /// The file.
        path: String,
        /// What SQLite said.
        source: sqlx::Error,
    },
    /// A table or column that is needed is not there.
    #[error("the database {path} lacks {missing}")]
    Schema {
        /// The file.
        path: String,
        /// What is not there.
        missing: String,
    },
}

/// A table, and the columns of it that are used.
pub type Used = (&'static str, &'static [&'static str]);

/// Opens the database that a SQLAlchemy URL names, never making one, and checks that all that is used is there, so that a
/// changed schema is found at start and not in the middle of work.
///
/// One connection: SQLite has one writer at a time, and a second connection of ours would only wait for the first.
///
/// # Errors
/// See [`OpenError`]; nothing is changed.
pub async fn open(url: &str, used: &[Used]) -> Result<SqlitePool, OpenError> {
    let path = url.strip_prefix("sqlite:///").filter(|path| !path.is_empty()).ok_or(OpenError::Url)?;
    let options = SqliteConnectOptions::new()
        .filename(PathBuf::from(path))
        .create_if_missing(false)
        .foreign_keys(true)
        .busy_timeout(Duration::from_secs(10));
    let opened = |source| OpenError::Open { path: path.to_owned(), source };
    let pool = pool(1).connect_with(options).await.map_err(opened)?;
    match missing(&pool, used).await.map_err(opened)? {
        Some(missing) => Err(OpenError::Schema { path: path.to_owned(), missing }),
        None => Ok(pool),
    }
}

/// The first table or column that is not there.
///
/// # Errors
/// When the file can't be read.
pub async fn missing(pool: &SqlitePool, used: &[Used]) -> Result<Option<String>, sqlx::Error> {
    for (table, used) in used {
        let columns: Vec<String> =
            sqlx::query_scalar("SELECT name FROM pragma_table_info($1)").bind(*table).fetch_all(pool).await?;
        let columns: BTreeSet<_> = columns.iter().map(String::as_str).collect();
        if columns.is_empty() {
            return Ok(Some(format!("table `{table}`")));
        }
        if let Some(column) = used.iter().find(|column| !columns.contains(**column)) {
            return Ok(Some(format!("column `{table}.{column}`")));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_not_there_is_named_and_nothing_is_made() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("db");
        let url = format!("sqlite:///{}", path.display());
        assert!(matches!(open(&url, &[]).await, Err(OpenError::Open { .. })));
        assert!(!path.exists());
        let options = SqliteConnectOptions::new().filename(&path).create_if_missing(true);
        let made = SqlitePool::connect_with(options).await.unwrap();
        sqlx::query("CREATE TABLE t (a, b)").execute(&made).await.unwrap();
        let named = async |used: &[Used]| match open(&url, used).await {
            Ok(_) => "all there".to_owned(),
            Err(OpenError::Schema { missing, .. }) => missing,
            Err(other) => other.to_string(),
        };
        assert_eq!(named(&[("t", &["a", "b"])]).await, "all there");
        assert_eq!(named(&[("t", &["a", "c"])]).await, "column `t.c`");
        assert_eq!(named(&[("u", &["a"])]).await, "table `u`");
        assert!(matches!(open("postgresql://h/rucio", &[]).await, Err(OpenError::Url)));
    }
}
