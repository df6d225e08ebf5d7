//! A foreign database on MariaDB or MySQL: opened as it is, and looked at before it is used.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use sqlx::mysql::{MySqlConnectOptions, MySqlSslMode};
use sqlx::{AssertSqlSafe, Connection as _, MySqlConnection, MySqlPool};
use token_core::ClientSecret;
use url::{Host, Url};

use crate::pool::pool;
use crate::sqlite::Used;

/// Why a database can't be used. No variant holds the password.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The URL names no database we can open.
    #[error("the URL {0}; `mysql://user@host:3306/database` is expected")]
    Url(&'static str),
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

/// Whether an error is about the connection or the moment, and not about what was asked: the transaction is gone, and may be
/// made again.
pub fn is_transient(error: &sqlx::Error) -> bool {
    /// Too many connections, shutdown, aborted connection, lock wait time-out, deadlock, read-only (a replica after a
    /// fail-over), interrupted, changed since read, not ready (Galera), killed, idle too long.
    const NUMBERS: [u16; 13] = [1040, 1053, 1152, 1205, 1213, 1290, 1317, 1020, 1047, 1203, 1927, 1792, 4031];
    match error {
        // A certificate that is not the server's comes as invalid data, and will come again.
        sqlx::Error::Io(error) => error.kind() != std::io::ErrorKind::InvalidData,
        sqlx::Error::PoolTimedOut | sqlx::Error::WorkerCrashed => true,
        sqlx::Error::Database(error) => error
            .try_downcast_ref::<sqlx::mysql::MySqlDatabaseError>()
            .is_some_and(|error| NUMBERS.contains(&error.number())),
        _ => false,
    }
}

/// Where a database is, and as whom we go there.
#[derive(Clone)]
pub struct Server {
    user: String,
    password: Option<ClientSecret>,
    host: String,
    port: u16,
    socket: Option<PathBuf>,
    database: String,
}

/// How the way to the server is kept safe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tls {
    /// TLS, with the server's name verified by the usual authorities; not used on this host's own addresses or a socket.
    Verified,
    /// TLS everywhere, with the server's name verified by the authorities of a PEM file (or the usual ones).
    CaFile(PathBuf),
    /// None: for a network that nobody else listens in.
    Off,
}

impl Server {
    /// Reads `mysql://user[:password]@host[:port]/database[?socket=/path]`, also as `mariadb://` and with a driver as SQLAlchemy
    /// writes it.
    ///
    /// # Errors
    /// [`OpenError::Url`], which shows nothing of the URL.
    pub fn parse(text: &str) -> Result<Self, OpenError> {
        let (scheme, rest) = text.split_once("://").ok_or(OpenError::Url("has no scheme"))?;
        if !matches!(scheme.split('+').next(), Some("mysql" | "mariadb")) {
            return Err(OpenError::Url("is of another kind"));
        }
        let url = Url::parse(&format!("mysql://{rest}")).map_err(|_| OpenError::Url("can't be read"))?;
        let plain = |text: &str, what| decoded(text).ok_or(OpenError::Url(what));
        let user = plain(url.username(), "has a user that can't be read")?;
        let password = url.password().map(|text| plain(text, "has a password that can't be read"));
        let database = plain(url.path().trim_start_matches('/'), "has a name that can't be read")?;
        if user.is_empty() || database.is_empty() || database.contains('/') {
            return Err(OpenError::Url("names no user or no database"));
        }
        let mut socket = None;
        for (key, value) in url.query_pairs() {
            match &*key {
                "socket" | "unix_socket" => socket = Some(PathBuf::from(&*value)),
                _ => return Err(OpenError::Url("has a query with another key than `socket`")),
            }
        }
        let host = match url.host() {
            Some(Host::Ipv6(address)) => address.to_string(),
            Some(host) => host.to_string(),
            None => return Err(OpenError::Url("names no host")),
        };
        let password = password.transpose()?.map(ClientSecret::new);
        Ok(Self { user, password, host, port: url.port().unwrap_or(3306), socket, database })
    }

    /// Whether the URL held a password.
    pub fn has_password(&self) -> bool {
        self.password.is_some()
    }

    /// The same with this password.
    #[must_use]
    pub fn with_password(self, password: ClientSecret) -> Self {
        Self { password: Some(password), ..self }
    }

    fn is_here(&self) -> bool {
        let address = self.host.parse::<IpAddr>();
        self.socket.is_some()
            || self.host == "localhost"
            || address.is_ok_and(|address| address.is_loopback())
    }

    fn options(&self, tls: &Tls) -> MySqlConnectOptions {
        let options = MySqlConnectOptions::new()
            .host(&self.host)
            .port(self.port)
            .username(&self.user)
            .database(&self.database)
            .timezone(Some("+00:00".to_owned()));
        let options = match &self.password {
            Some(password) => options.password(password.expose()),
            None => options,
        };
        let options = match &self.socket {
            Some(path) => options.socket(path),
            None => options,
        };
        match tls {
            // sqlx adds the file to the usual authorities: without the host's name, anybody's certificate would do.
            Tls::CaFile(path) => options.ssl_mode(MySqlSslMode::VerifyIdentity).ssl_ca(path),
            Tls::Verified if !self.is_here() => options.ssl_mode(MySqlSslMode::VerifyIdentity),
            Tls::Verified | Tls::Off => options.ssl_mode(MySqlSslMode::Disabled),
        }
    }
}

/// The URL without the password.
impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { user, host, port, database, .. } = self;
        match &self.socket {
            Some(socket) => write!(f, "mysql://{user}@{host}/{database}?socket={}", socket.display()),
            None if host.contains(':') => write!(f, "mysql://{user}@[{host}]:{port}/{database}"),
            None => write!(f, "mysql://{user}@{host}:{port}/{database}"),
        }
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Server({self})")
    }
}

/// Undoes percent-encoding, once.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut plain = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        plain.push(match byte {
            b'%' => {
                let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
                let (high, low) = (digit(bytes.next())?, digit(bytes.next())?);
                u8::try_from(high * 16 + low).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(plain).ok()
}

/// Connections at a time: a daemon looks for work, writes results and keeps its leases at the same time, and one more is there
/// when one is lost and not yet known to be.
const CONNECTIONS: u32 = 5;
/// Longest wait for a connection.
const CONNECT: Duration = Duration::from_secs(10);
/// Whatever the server's defaults are: an update sees what others have committed meanwhile and locks no rows that it passes
/// over, a wait for a lock ends, and a value that does not fit is an error.
const SESSION: [&str; 2] = [
    "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
    "SET SESSION innodb_lock_wait_timeout = 10, sql_mode = CONCAT(@@sql_mode, ',STRICT_ALL_TABLES')",
];

/// An open database.
#[derive(Clone, Debug)]
pub struct Opened {
    /// Its connections.
    pub pool: MySqlPool,
    /// Whether the server knows `SKIP LOCKED` (MariaDB from 10.6, MySQL from 8.0.1).
    pub skip_locked: bool,
}

/// Opens a database and checks that all that is used is there.
///
/// # Errors
/// See [`OpenError`]; nothing is changed.
pub async fn open(server: &Server, tls: &Tls, used: &[Used]) -> Result<Opened, OpenError> {
    let options = server.options(tls);
    // A connection of its own, since the pool would try until its time is up and then not say why.
    let looked = tokio::time::timeout(CONNECT, async {
        let mut connection = MySqlConnection::connect_with(&options).await?;
        prepare(&mut connection).await?;
        let version = sqlx::query_scalar("SELECT CAST(version() AS CHAR)").fetch_one(&mut connection).await?;
        let missing = missing(&mut connection, used).await?;
        connection.close().await?;
        Ok::<(String, Option<String>), sqlx::Error>((version, missing))
    });
    let late = || Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into()));
    let opened = |source| OpenError::Open { server: server.to_string(), source };
    let (version, missing) = looked.await.unwrap_or_else(|_| late()).map_err(opened)?;
    if let Some(missing) = missing {
        return Err(OpenError::Schema { server: server.to_string(), missing });
    }
    let pool = pool(CONNECTIONS)
        .acquire_timeout(CONNECT)
        .after_connect(|connection, _| Box::pin(prepare(connection)))
        .connect_lazy_with(options);
    Ok(Opened { pool, skip_locked: skips_locked(&version) })
}

async fn prepare(connection: &mut MySqlConnection) -> Result<(), sqlx::Error> {
    for statement in SESSION {
        sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut *connection).await?;
    }
    Ok(())
}

/// From the server's own word, `10.11.6-MariaDB` or `8.0.36` for example.
fn skips_locked(version: &str) -> bool {
    // What MariaDB says to old replicas begins with this.
    let version = version.strip_prefix("5.5.5-").unwrap_or(version);
    let mut numbers = version.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse().unwrap_or(0));
    let found: [u32; 3] = std::array::from_fn(|_| numbers.next().unwrap_or(0));
    found >= if version.contains("MariaDB") { [10, 6, 0] } else { [8, 0, 1] }
}

/// The first table or column that is not there.
async fn missing(connection: &mut MySqlConnection, used: &[Used]) -> Result<Option<String>, sqlx::Error> {
    for (table, used) in used {
        let columns: BTreeSet<String> = sqlx::query_scalar(
            "SELECT CAST(column_name AS CHAR) FROM information_schema.columns \
             WHERE table_schema = DATABASE() AND table_name = ?",
        )
        .bind(*table)
        .fetch_all(&mut *connection)
        .await?
        .into_iter()
        .collect();
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

    #[test]
    fn urls_are_read_and_shown_without_their_password() {
        for (url, shown) in [
            ("mysql://u:c%40nary@h/fts", "mysql://u@h:3306/fts"),
            ("mysql+pymysql://u:canary@h:3307/fts", "mysql://u@h:3307/fts"),
            ("mariadb://u@[::1]/fts", "mysql://u@[::1]:3306/fts"),
            ("mysql://u@localhost/fts?socket=/run/s", "mysql://u@localhost/fts?socket=/run/s"),
        ] {
            let server = Server::parse(url).unwrap();
            assert_eq!(server.to_string(), shown);
            assert_eq!(format!("{server:?}"), format!("Server({shown})"));
        }
        assert_eq!(Server::parse("mysql://u:c%40nary@h/fts").unwrap().password.unwrap().expose(), "c@nary");
    }

    #[test]
    fn what_can_not_be_read_is_refused_without_being_shown() {
        for url in [
            "canary",
            "postgresql://u:canary@h/d",
            "mysql://u:canary@h",
            "mysql://:canary@h/d",
            "mysql://u:canary@h/d?ssl-mode=DISABLED",
            "mysql://u:canary%@h/d",
            "mysql://u:canary@h:port/d",
        ] {
            let error = Server::parse(url).unwrap_err().to_string();
            assert!(!error.contains("canary"), "{error}");
        }
    }

    #[test]
    fn tls_is_left_out_only_on_this_host_or_when_asked_for() {
        let mode = |url: &str, tls| {
            let options = Server::parse(url).unwrap().options(&tls);
            matches!(options.get_ssl_mode(), MySqlSslMode::VerifyIdentity)
        };
        assert!(mode("mysql://u@db.example/fts", Tls::Verified));
        assert!(mode("mysql://u@127.0.0.1/fts", Tls::CaFile("/ca.pem".into())));
        assert!(!mode("mysql://u@127.0.0.1/fts", Tls::Verified));
        assert!(!mode("mysql://u@[::1]/fts", Tls::Verified));
        assert!(!mode("mysql://u@db.example/fts", Tls::Off));
    }

    #[test]
    fn servers_that_skip_locked_rows_are_known() {
        for version in
            ["10.6.0-MariaDB", "10.11.6-MariaDB-0+deb12u1", "5.5.5-11.4.2-MariaDB", "8.0.36", "9.1.0"]
        {
            assert!(skips_locked(version), "{version}");
        }
        for version in ["10.5.28-MariaDB", "5.7.44-log", "8.0.0", "unknown"] {
            assert!(!skips_locked(version), "{version}");
        }
    }
}
