//! A foreign database on PostgreSQL: opened as it is, and looked at before it is used.

use std::collections::BTreeSet;
use std::str::FromStr as _;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgSslMode};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, PgPool};
use url::Url;

use crate::pool::pool;
use crate::sqlite::Used;

/// Why a database can't be used. No variant holds the password.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The URL names no database we can open.
    #[error("the URL {0}")]
    Url(String),
    /// `schema` is not the plain name of a schema.
    #[error("the schema is not a plain name (letters, digits and `_`)")]
    SchemaName,
    /// The server can't be reached, or does not let us in.
    #[error("cannot open the database {server}: {source}")]
    Open {
        /// User, host, port and name.
        server: String,
        /// What the server or the system said.
        source: sqlx::Error,
    },
    /// A table or column that is needed is not there, or may not be seen by this user.
    #[error("the database {server} lacks {missing}")]
    Schema {
        /// User, host, port and name.
        server: String,
        /// What is not there.
        missing: String,
    },
}

impl OpenError {
    /// Whether a later try may find it better: the server is away, starting, or has no connection left.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Open { source, .. } if is_transient(source))
    }
}

/// Whether an error is about the connection or the moment, and not about what was asked.
fn is_transient(error: &sqlx::Error) -> bool {
    match error {
        // A certificate that is not trusted comes as invalid data.
        sqlx::Error::Io(error) => error.kind() != std::io::ErrorKind::InvalidData,
        sqlx::Error::PoolTimedOut => true,
        // Connection exceptions, insufficient resources, operator intervention (PostgreSQL, appendix A).
        sqlx::Error::Database(error) => {
            error.code().is_some_and(|code| ["08", "53", "57"].iter().any(|class| code.starts_with(class)))
        }
        _ => false,
    }
}

/// Connections at a time: one for each page of work in hand (three), and one more when one is lost and not yet known to be.
const CONNECTIONS: u32 = 4;
/// Longest wait for a connection.
const CONNECT: Duration = Duration::from_secs(10);
/// Ends a statement, a wait for a lock and a forgotten transaction on the server; and whatever the role or the database sets,
/// an update sees what others have committed meanwhile, on which compare-and-swap stands.
const SESSION: &str = "SET statement_timeout = '60s'; SET lock_timeout = '20s'; \
                       SET idle_in_transaction_session_timeout = '60s'; \
                       SET default_transaction_isolation = 'read committed'";
/// What the query of the URL may hold.
const KEYS: [&str; 7] = ["sslmode", "sslrootcert", "sslcert", "sslkey", "host", "port", "application_name"];

/// Whether a URL is one for this module: `postgresql://…`, also with SQLAlchemy's driver, as in `postgresql+psycopg://…`.
pub fn is_for_us(url: &str) -> bool {
    scheme(url).is_some()
}

/// Opens the database that a SQLAlchemy URL names and checks that all that is used is there, in `schema` if one is named and else
/// where the user's search path leads. The server shows the connections under the name of the `program`. TLS is verified with `sslmode=verify-full`; as with libpq, `require` only encrypts.
///
/// # Errors
/// See [`OpenError`]; nothing is changed.
pub async fn open(
    url: &str,
    schema: Option<&str>,
    program: &str,
    used: &[Used],
) -> Result<PgPool, OpenError> {
    let options = options(url)?;
    let options = match options.get_application_name() {
        Some(_) => options,
        None => options.application_name(program),
    };
    let session = match schema {
        Some(name) if is_plain(name) => format!("{SESSION}; SET search_path = \"{name}\""),
        Some(_) => return Err(OpenError::SchemaName),
        None => SESSION.to_owned(),
    };
    let server = shown(&options);
    // A connection of its own, since the pool would try until its time is up and then not say why.
    let looked = tokio::time::timeout(CONNECT, async {
        let mut connection = PgConnection::connect_with(&options).await?;
        sqlx::raw_sql(AssertSqlSafe(session.clone())).execute(&mut connection).await?;
        let missing = match missing(&mut connection, used).await? {
            Some(what) => Some(what + &elsewhere(&mut connection, used).await?),
            None => None,
        };
        connection.close().await?;
        Ok(missing)
    });
    match looked.await.unwrap_or(Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into()))) {
        Ok(None) => (),
        Ok(Some(missing)) => return Err(OpenError::Schema { server, missing }),
        Err(source) => return Err(OpenError::Open { server, source }),
    }
    let pool = pool(CONNECTIONS).acquire_timeout(CONNECT).after_connect(move |connection, _| {
        let session = AssertSqlSafe(session.clone());
        Box::pin(async move { sqlx::raw_sql(session).execute(connection).await.map(drop) })
    });
    Ok(pool.connect_lazy_with(options))
}

/// What follows the scheme.
fn scheme(url: &str) -> Option<&str> {
    let (scheme, rest) = url.split_once("://")?;
    let base = scheme.split_once('+').map_or(scheme, |(base, _)| base);
    matches!(base, "postgresql" | "postgres").then_some(rest)
}

/// Looks whether a URL is one that can be opened, with the files that it names; nobody is asked.
///
/// # Errors
/// [`OpenError::Url`].
pub fn check(url: &str) -> Result<(), OpenError> {
    options(url).map(drop)
}

fn options(url: &str) -> Result<PgConnectOptions, OpenError> {
    let refused = |why: &str| OpenError::Url(why.to_owned());
    let rest = scheme(url).ok_or_else(|| refused("does not begin with `postgresql://`"))?;
    let url = Url::parse(&format!("postgresql://{rest}"))
        .map_err(|_| refused("is not `postgresql://user:password@host:port/database`"))?;
    if url.path().len() < 2 {
        return Err(refused("names no database"));
    }
    // sqlx writes a key that it does not know, and its value, to the log.
    if url.query_pairs().any(|(key, _)| !KEYS.contains(&&*key)) {
        return Err(OpenError::Url(format!("has a query with other keys than {}", KEYS.join(", "))));
    }
    let options = PgConnectOptions::from_str(url.as_str())
        .map_err(|_| refused("has a query with a value that cannot be read"))?;
    let root = url.query_pairs().any(|(key, _)| key == "sslrootcert");
    match options.get_ssl_mode() {
        // sqlx adds sslrootcert to the public authorities: without the host's name, anybody's certificate would do.
        PgSslMode::VerifyCa => {
            Err(refused("asks for sslmode=verify-ca, which is not supported; use verify-full"))
        }
        PgSslMode::VerifyFull => {
            // Else it would look like a server that is away.
            for (key, path) in url.query_pairs().filter(|(key, _)| key.starts_with("ssl") && key != "sslmode")
            {
                std::fs::read(&*path).map_err(|error| {
                    OpenError::Url(format!("names a file by `{key}` that cannot be read: {path}: {error}"))
                })?;
            }
            Ok(options)
        }
        // libpq would verify here, we would not.
        _ if root => Err(refused("names sslrootcert without sslmode=verify-full")),
        _ => Ok(options),
    }
}

fn shown(options: &PgConnectOptions) -> String {
    let place = match options.get_socket() {
        Some(socket) => socket.display().to_string(),
        None => options.get_host().to_owned(),
    };
    let (user, port) = (options.get_username(), options.get_port());
    format!("postgresql://{user}@{place}:{port}/{}", options.get_database().unwrap_or(user))
}

fn is_plain(name: &str) -> bool {
    !name.is_empty() && name.len() < 64 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// The first table or column that is not there.
/// The first table or column that is not there, or not for this role.
///
/// # Errors
/// When the server can't be asked.
pub async fn missing(connection: &mut PgConnection, used: &[Used]) -> Result<Option<String>, sqlx::Error> {
    let columns: Vec<(String, String)> = sqlx::query_as(
        "SELECT table_name::text, column_name::text FROM information_schema.columns \
         WHERE table_schema = ANY (current_schemas(false)::text[])",
    )
    .fetch_all(connection)
    .await?;
    let tables: BTreeSet<_> = columns.iter().map(|(table, _)| table.as_str()).collect();
    let columns: BTreeSet<_> =
        columns.iter().map(|(table, column)| (table.as_str(), column.as_str())).collect();
    for (table, used) in used {
        if !tables.contains(table) {
            return Ok(Some(format!("table `{table}`")));
        }
        if let Some(column) = used.iter().find(|column| !columns.contains(&(*table, **column))) {
            return Ok(Some(format!("column `{table}.{column}`")));
        }
    }
    Ok(None)
}

/// The schemas that have the first of these tables, in words: the one that is meant may be among them.
async fn elsewhere(connection: &mut PgConnection, used: &[Used]) -> Result<String, sqlx::Error> {
    let Some((table, _)) = used.first() else { return Ok(String::new()) };
    let schemas: Vec<String> = sqlx::query_scalar(
        "SELECT DISTINCT table_schema::text FROM information_schema.tables WHERE table_name = $1 \
         AND NOT table_schema = ANY (current_schemas(false)::text[]) ORDER BY 1 LIMIT 5",
    )
    .bind(table)
    .fetch_all(connection)
    .await?;
    Ok(match schemas.is_empty() {
        true => String::new(),
        false => format!(" (`{table}` is in schema `{}`)", schemas.join("`, `")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_as_rucio_cfg_writes_them() {
        let ca = tempfile::NamedTempFile::new().unwrap();
        let place =
            "postgresql+psycopg://rucio:s%40cret@db.example:5433/rucio?sslmode=verify-full&sslrootcert=";
        let url = &format!("{place}{}", ca.path().display());
        let read = options(url).unwrap();
        assert_eq!(shown(&read), "postgresql://rucio@db.example:5433/rucio");
        assert_eq!(options("postgres://u@h/d").map(|read| shown(&read)).unwrap(), "postgresql://u@h:5432/d");
        assert!(is_for_us(url) && !is_for_us("sqlite:////db") && !is_for_us("mysql+pymysql://h/d"));
    }

    #[tokio::test]
    async fn a_refusal_says_why_and_shows_no_password() {
        for (url, why) in [
            ("postgresql://u:canary@h:port/d", "user:password"),
            ("postgresql://u:canary@h", "names no database"),
            ("postgresql://u@h/d?passwort=canary", "other keys than"),
            ("postgresql://u:canary@h/d?sslmode=canary", "cannot be read"),
            ("postgresql://u:canary@h/d?sslmode=verify-ca", "use verify-full"),
            ("postgresql://u:canary@h/d?sslmode=verify-full&sslrootcert=/no/such.pem", "/no/such.pem"),
            ("postgresql://u:canary@h/d?sslmode=require&sslrootcert=/ca.pem", "without sslmode=verify-full"),
        ] {
            let error = open(url, None, "test", &[]).await.unwrap_err();
            let line = format!("{error} {error:?}");
            assert!(line.contains(why) && !line.contains("canary") && !error.is_transient(), "{url}: {line}");
        }
        let error = open("postgresql://u@h/d", Some("a; b"), "test", &[]).await.unwrap_err();
        assert!(matches!(error, OpenError::SchemaName));
        // Nobody listens on port 1.
        let error = open("postgresql://u:canary@127.0.0.1:1/d", None, "test", &[]).await.unwrap_err();
        let line = format!("{error} {error:?}");
        assert!(error.is_transient() && line.contains("127.0.0.1:1") && !line.contains("canary"), "{line}");
    }
}
