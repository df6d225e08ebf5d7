//! A grid, and a `token-exchange` that is asked over HTTP.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testbed::grid::{Grid, GridSettings};
use token_core::AccessToken;
use tokio::process::Child;

pub(crate) const AUDIENCE: &str = "https://token-exchange.example";

pub(crate) struct Rig {
    _folder: tempfile::TempDir,
    pub(crate) grid: Grid,
    pub(crate) http: reqwest::Client,
}

/// What was answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) body: Value,
}

impl Answer {
    /// Status, error and who erred.
    pub(crate) fn refusal(&self) -> (u16, &str, &str) {
        assert!(!self.body["message"].as_str().unwrap().is_empty(), "{self:?}");
        (self.status, self.body["error"].as_str().unwrap(), self.body["erred"].as_str().unwrap())
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn token(&self) -> AccessToken {
        assert_eq!(self.status, 200, "{:?}", self.body["message"]);
        AccessToken::new(self.body["access_token"].as_str().unwrap()).unwrap()
    }
}

impl Rig {
    pub(crate) async fn start() -> Self {
        let folder = tempfile::Builder::new().prefix("api").tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let grid = Grid::start(GridSettings::new(folder.path().join("grid"))).await.unwrap();
        grid.fts.set_scheduler(false);
        let (certificate, key) = grid.pki.server_pem();
        std::fs::write(grid.folder.join("host.pem"), certificate).unwrap();
        std::fs::write(grid.folder.join("host.key"), key).unwrap();
        let settings = token_core::http::HttpSettings {
            ca_file: Some(grid.pki.ca_file().to_owned()),
            ..token_core::http::HttpSettings::default()
        };
        let http = token_core::http::client(&settings).unwrap();
        let rig = Self { _folder: folder, grid, http };
        rig.configure("[[issuer]]", "retry_total_s = 0");
        rig.listen("");
        rig
    }

    /// Says where to listen, and more.
    pub(crate) fn listen(&self, more: &str) {
        let folder = self.grid.folder.display();
        self.configure(
            "[api]",
            &format!(
                "listen = \"127.0.0.1:0\"\naudience = [\"{AUDIENCE}\"]\ncertificate_file = \"{folder}/host.pem\"\n\
                 key_file = \"{folder}/host.key\"\n{more}"
            ),
        );
    }

    /// Puts lines at the beginning of a section in place of those that are there for `[api]`, and besides them elsewhere.
    pub(crate) fn configure(&self, section: &str, lines: &str) {
        let mut text = std::fs::read_to_string(self.grid.exchange_config()).unwrap();
        if section == "[api]"
            && let Some(at) = text.find("[api]")
        {
            text.truncate(at);
        }
        let text = match text.split_once(section) {
            Some((before, after)) => format!("{before}{section}\n{lines}\n{after}"),
            None => format!("{text}\n{section}\n{lines}\n"),
        };
        std::fs::write(self.grid.exchange_config(), text).unwrap();
    }

    fn log_file(&self) -> PathBuf {
        self.grid.folder.join("api.log")
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    /// A daemon, and where its tokens are given.
    pub(crate) async fn worker(&self) -> (Child, String) {
        let _ = std::fs::remove_file(self.log_file());
        let mut command = self.grid.token_exchange(&[]);
        command.env("TOKEN_EXCHANGE__LOG__LEVEL", "trace");
        let mut child = self.grid.spawn(command, "api.log").unwrap();
        let end = Instant::now() + Duration::from_secs(30);
        loop {
            let log = self.log();
            if let Some(url) =
                log.split("tokens are given at ").nth(1).and_then(|rest| rest.split_whitespace().next())
            {
                return (child, url.to_owned());
            }
            assert!(Instant::now() < end && child.try_wait().unwrap().is_none(), "{log}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// A caller's token, with other claims where they are given.
    pub(crate) fn caller(&self, claims: &Value) -> AccessToken {
        let mut all = json!({"aud": AUDIENCE, "sub": "agent", "scope": "storage.read:/ storage.modify:/"});
        all.as_object_mut().unwrap().extend(claims.as_object().unwrap().clone());
        self.grid.issuer.mint(all).unwrap()
    }

    /// The URL of a storage of the grid.
    pub(crate) fn storage(&self, rse: &str) -> String {
        self.grid.storages[rse].url()
    }

    /// The area of a storage's files, as a scope and as a URL has it.
    pub(crate) fn area(&self, rse: &str) -> [String; 2] {
        let config = std::fs::read_to_string(self.grid.exchange_config()).unwrap();
        let entry = config.split(&format!("[[endpoint]] # {rse}\n")).nth(1).unwrap();
        let value = |key: &str| {
            let rest = entry.split(&format!("{key} = \"")).nth(1).unwrap();
            rest.split('"').next().unwrap().trim_end_matches('/').to_owned()
        };
        [value("area"), format!("{}{}", value("base_path"), value("area"))]
    }

    pub(crate) async fn ask(&self, url: &str, token: &str, question: &Value) -> Answer {
        self.send(self.http.post(url).bearer_auth(token).body(question.to_string())).await
    }

    #[expect(clippy::disallowed_methods, reason = "loopback, time-outs set, sizes known")]
    pub(crate) async fn send(&self, request: reqwest::RequestBuilder) -> Answer {
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = response.bytes().await.unwrap();
        Answer { status, headers, body: serde_json::from_slice(&body).unwrap() }
    }
}
