//! npm's `oidc-provider` as a process (tests/interop/oidc-provider/server.mjs), and token-core's clients at it.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use testbed::mint::SigningKey;
use token_core::http::HttpSettings;
use token_core::{
    AudienceParameter, ClientSecret, Clock, Issuer, IssuerKeys, OAuthClient, OAuthSettings, SystemClock,
};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

use crate::browser::Browser;
use crate::needed::needed;
use crate::tls::certify;

const CLIENT_CREDENTIALS: &str = "client_credentials";
const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const REFRESH: &str = "refresh_token";
const DEVICE: &str = "urn:ietf:params:oauth:grant-type:device_code";

const FULL: &str = "openid offline_access fts storage.read:/data storage.read:/data/a storage.create:/data \
    storage.modify:/data storage.modify:/data/a storage.stage:/data";
/// Without the right to stage.
const LESS: &str = "openid offline_access fts storage.read:/data storage.read:/data/a storage.create:/data \
    storage.modify:/data storage.modify:/data/a";

/// A running provider; it ends when this is dropped, and by itself when the test's process does.
pub(crate) struct Provider {
    pub(crate) issuer: String,
    pub(crate) ca_file: PathBuf,
    /// The keys of the clients `signer-rsa` and `signer-ec`.
    pub(crate) keys: [SigningKey; 2],
    pub(crate) folder: tempfile::TempDir,
    stop: CancellationToken,
    _process: Child,
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Provider {
    /// Starts one; `None` when it is not installed.
    pub(crate) async fn start() -> Option<Self> {
        let modules = needed("OIDC_PROVIDER", "npm's oidc-provider")?;
        let folder = tempfile::Builder::new().prefix("oidc").tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let keys = [SigningKey::rs256("r").unwrap(), SigningKey::es256("e").unwrap()];
        let tls = certify(folder.path());
        let wanted = json!({
            "tls": {"cert": tls.certificate, "key": tls.key},
            "clients": clients(&keys),
        });
        let log = folder.path().join("oidc-provider.log");
        let mut process = Command::new("node")
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("interop/oidc-provider/server.mjs"))
            .arg(modules)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(&log).unwrap())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        // It stays open until the child is dropped.
        process.stdin.as_mut().unwrap().write_all(format!("{wanted}\n").as_bytes()).await.unwrap();
        let mut said = BufReader::new(process.stdout.take().unwrap()).lines();
        let line = tokio::time::timeout(Duration::from_secs(60), said.next_line()).await;
        let Ok(Ok(Some(line))) = line else {
            panic!("oidc-provider did not start: {}", std::fs::read_to_string(&log).unwrap());
        };
        let said: Value = serde_json::from_str(&line).unwrap();
        Some(Self {
            issuer: said["issuer"].as_str().unwrap().to_owned(),
            ca_file: tls.ca_file,
            keys,
            folder,
            stop: CancellationToken::new(),
            _process: process,
        })
    }

    /// A client by its secret, asking for its audience by `resource`.
    pub(crate) fn settings(&self, id: &str) -> OAuthSettings {
        let issuer = Issuer::new(&self.issuer).unwrap();
        OAuthSettings {
            audience: AudienceParameter::Resource,
            http: HttpSettings { ca_file: Some(self.ca_file.clone()), ..HttpSettings::default() },
            ..OAuthSettings::new(issuer, id, secret(id))
        }
    }

    pub(crate) fn client(&self, id: &str) -> OAuthClient {
        self.of(self.settings(id), Arc::new(SystemClock))
    }

    pub(crate) fn of(&self, settings: OAuthSettings, clock: Arc<dyn Clock>) -> OAuthClient {
        OAuthClient::new(settings, clock, self.stop.child_token()).unwrap()
    }

    /// Its keys, by discovery and JWKS over TLS.
    pub(crate) fn issuer_keys(&self) -> IssuerKeys {
        let settings = HttpSettings { ca_file: Some(self.ca_file.clone()), ..HttpSettings::default() };
        let http = token_core::http::client(&settings).unwrap();
        IssuerKeys::new(Issuer::new(&self.issuer).unwrap(), http, Arc::new(SystemClock))
    }

    pub(crate) fn browser(&self) -> Browser {
        let settings = HttpSettings { ca_file: Some(self.ca_file.clone()), ..HttpSettings::default() };
        Browser::new(token_core::http::client(&settings).unwrap())
    }
}

/// Every character of it that HTTP Basic has to encode stands for a way to get that wrong (RFC 6749 section 2.3.1).
pub(crate) fn secret(id: &str) -> ClientSecret {
    ClientSecret::new(format!("{id}:&=+ %41/?\"#~"))
}

fn clients(keys: &[SigningKey; 2]) -> Value {
    let client = |id: &str, method: &str, grants: &[&str], scope: &str| {
        json!({
            "client_id": id, "token_endpoint_auth_method": method, "grant_types": grants, "scope": scope,
            "redirect_uris": [], "response_types": [],
        })
    };
    let with = |mut client: Value, name: &str, value: Value| {
        client[name] = value;
        client
    };
    let secretive = |client: Value| {
        let secret = secret(client["client_id"].as_str().unwrap()).expose().to_owned();
        with(client, "client_secret", json!(secret))
    };
    let signing = |client: Value, key: &SigningKey, algorithm: &str| {
        let client = with(client, "jwks", json!({"keys": [key.jwk().unwrap()]}));
        with(client, "token_endpoint_auth_signing_alg", json!(algorithm))
    };
    let own = [CLIENT_CREDENTIALS, EXCHANGE];
    json!([
        secretive(client("basic:1", "client_secret_basic", &own, LESS)),
        secretive(client("post", "client_secret_post", &own, FULL)),
        signing(client("signer-rsa", "private_key_jwt", &own, FULL), &keys[0], "RS256"),
        signing(client("signer-ec", "private_key_jwt", &own, FULL), &keys[1], "ES256"),
        secretive(client("exchanger", "client_secret_basic", &[EXCHANGE, REFRESH], LESS)),
        secretive(client("device", "client_secret_basic", &[DEVICE, REFRESH], FULL)),
        client("phone", "none", &[DEVICE, REFRESH], FULL),
        secretive(client("hasty", "client_secret_basic", &[DEVICE], FULL)),
    ])
}
