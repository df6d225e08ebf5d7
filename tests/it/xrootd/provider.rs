//! npm's `oidc-provider` as the issuer of a grid.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use testbed::grid::OtherIssuer;
use testbed::pki::Pki;
use testbed::xrootd::TrustedIssuer;
use token_core::http::{HttpSettings, client};
use token_core::{ClientSecret, random_hex};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, Command};

/// A running provider; it ends when this is dropped, and by itself when the test's process does.
pub(crate) struct Provider {
    pub(crate) issuer: OtherIssuer,
    _process: Child,
}

impl Provider {
    /// Starts one from the packages in `modules`, that gives scopes in these areas for any server on loopback. `exchanged_life_s` is how long
    /// exchanged tokens live, if not as long as others.
    pub(crate) async fn start(
        modules: &Path,
        pki: &Pki,
        areas: &[String],
        folder: &Path,
        exchanged_life_s: Option<u64>,
    ) -> Self {
        let words = |path: &String| [format!("storage.read:{path}"), format!("storage.modify:{path}")];
        let scopes: Vec<String> = areas.iter().flat_map(words).collect();
        let scope = format!("fts {}", scopes.join(" "));
        let (certificate, key) = pki.server_pem();
        let [conveyor, exchange] =
            ["rucio-conveyor", "fts-exchange"].map(|id| (id.to_owned(), ClientSecret::new(random_hex())));
        let registered = |(id, secret): &(String, ClientSecret), grant: &str| {
            json!({
                "client_id": id, "client_secret": secret.expose(), "grant_types": [grant], "scope": scope,
                "token_endpoint_auth_method": "client_secret_basic", "redirect_uris": [], "response_types": [],
            })
        };
        let exchanging = "urn:ietf:params:oauth:grant-type:token-exchange";
        let wanted = json!({
            "tls": {"cert": certificate, "key": key},
            "clients": [registered(&conveyor, "client_credentials"), registered(&exchange, exchanging)],
            "scopes": scopes,
            "loopback": true,
            "lives": exchanged_life_s.map_or_else(|| json!({}), |life| json!({exchange.0.as_str(): life})),
        });
        let log = folder.join("oidc-provider.log");
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
        let name = said["issuer"].as_str().unwrap().to_owned();
        let jwks = keys(&name, pki).await;
        let issuer = OtherIssuer {
            trusted: TrustedIssuer { name, jwks },
            conveyor,
            exchange,
            scope,
            more: "audience_parameter = \"resource\"".into(),
        };
        Self { issuer, _process: process }
    }
}

/// Its keys, where its metadata says they are.
async fn keys(issuer: &str, pki: &Pki) -> Value {
    let settings = HttpSettings { ca_file: Some(pki.ca_file().to_owned()), ..HttpSettings::default() };
    let http = client(&settings).unwrap();
    #[expect(clippy::disallowed_methods, reason = "loopback, time-outs set, sizes known")]
    let get = async |url: &str| -> Value {
        let body = http.get(url).send().await.unwrap().bytes().await.unwrap();
        serde_json::from_slice(&body).unwrap()
    };
    let metadata = get(&format!("{issuer}/.well-known/openid-configuration")).await;
    get(metadata["jwks_uri"].as_str().unwrap()).await
}
