//! How a grid is set up.

use std::path::{Path, PathBuf};
use std::time::Duration;

use token_core::ClientSecret;

use crate::fts::RestSettings;
use crate::pki::Pki;
use crate::xrootd::{TrustedIssuer, XrootdPrograms};

/// An issuer of another make.
#[derive(Clone, Debug)]
pub struct OtherIssuer {
    /// Its name and its keys.
    pub trusted: TrustedIssuer,
    /// `conveyor`'s client and its secret.
    pub conveyor: (String, ClientSecret),
    /// `token-exchange`'s client and its secret.
    pub exchange: (String, ClientSecret),
    /// The scope that `conveyor` is to ask for.
    pub scope: String,
    /// What else it wants to be told in the daemons' configuration, such as `audience_parameter = "resource"`.
    pub more: String,
}

/// How a grid is set up.
#[derive(Clone)]
pub struct GridSettings {
    /// Where its files go; made anew.
    pub folder: PathBuf,
    /// The Rucio database to copy.
    pub rucio: PathBuf,
    /// Or the URL of one on PostgreSQL, which is used as it is and changed.
    pub postgres: Option<String>,
    /// The `mysql://` URL of a database with FTS's tables, for FTS in place of a SQLite file.
    pub fts_mysql: Option<String>,
    /// How long the tokens of both clients live.
    pub token_life: Duration,
    /// Or, for those that `token-exchange` gets, how long they live.
    pub endpoint_token_life: Option<Duration>,
    /// Real XRootD servers in place of the grid's own storages.
    pub xrootd: Option<XrootdPrograms>,
    /// Another issuer in place of the grid's own, which is started all the same and trusted by nobody.
    pub issuer: Option<OtherIssuer>,
    /// The authority of every certificate, where something has one already.
    pub pki: Option<Pki>,
    /// What the FTS operator set.
    pub rest: RestSettings,
    /// An issuer that FTS's REST server knows instead of the grid's, with a slash at the end.
    pub fts_knows: Option<String>,
    /// Names in the certificate of FTS instead of those where it is, and whether it has expired.
    pub fts_certificate: Option<(Vec<String>, bool)>,
    /// By how many seconds the clocks of the issuer and of FTS are off.
    pub clocks_off: (i64, i64),
    /// The audience that storages take instead of their own URLs; `{port}` stands for the port.
    pub storage_audience: Option<String>,
    /// FTS's `TokenRefreshMarginPeriod`.
    pub refresh_margin: Duration,
    /// Whether there are storages; without, every storage in the database stays where it is, where nobody answers.
    pub storages: bool,
    /// Whether cargo shows how the daemons are built.
    pub show_build: bool,
}

impl GridSettings {
    /// A grid below `folder` over the database that comes with this package.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        let rucio = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/rucio-41.5.1.sqlite");
        Self {
            folder: folder.into(),
            rucio,
            postgres: None,
            fts_mysql: None,
            token_life: Duration::from_secs(3600),
            endpoint_token_life: None,
            xrootd: None,
            issuer: None,
            pki: None,
            rest: RestSettings::default(),
            fts_knows: None,
            fts_certificate: None,
            clocks_off: (0, 0),
            storage_audience: None,
            refresh_margin: Duration::from_secs(300),
            storages: true,
            show_build: false,
        }
    }
}
