//! FTS as a whole: its REST answers beside the recorded ones, and transfers between two storages.

mod bans;
mod refusals;
mod rest;
mod transfer;

use std::sync::Arc;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use token_core::http::{HttpSettings, client};
use token_core::{AccessToken, ManualClock, UnixSeconds};
use tokio_util::sync::CancellationToken;

use super::{Fts, FtsConfig, Provider};
use crate::issuer::Issuer;
use crate::pki::Pki;

const SOURCE: &str = "davs://src.rig.test:1094/data/f";
const DESTINATION: &str = "davs://dst.rig.test:1094/data/f";
const NOW: UnixSeconds = UnixSeconds(1_795_458_026);

struct Rig {
    pki: Pki,
    issuer: Issuer,
    fts: Fts,
    clock: Arc<ManualClock>,
    http: reqwest::Client,
    bearer: AccessToken,
    stop: CancellationToken,
    _folder: tempfile::TempDir,
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Rig {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let pki = Pki::create(folder.path()).unwrap();
        let (clock, stop) = (Arc::new(ManualClock::new(NOW)), CancellationToken::new());
        let issuer =
            Issuer::start(&pki, Vec::new(), Arc::<ManualClock>::clone(&clock), stop.clone()).await.unwrap();
        let provider = Provider { issuer: issuer.name().into(), vo: "rigvo".into(), ..Provider::example() };
        let config = FtsConfig {
            interval: Duration::from_millis(10),
            ..FtsConfig::new(folder.path().join("fts.sqlite"), vec![provider])
        };
        let fts = Fts::start(&pki, config, Arc::<ManualClock>::clone(&clock), stop.clone()).await.unwrap();
        let http =
            client(&HttpSettings { ca_file: Some(pki.ca_file().to_owned()), ..HttpSettings::default() })
                .unwrap();
        let bearer =
            json!({"aud": fts.url(), "sub": "rucio-client", "scope": "fts storage.read:/ storage.modify:/"});
        let bearer = issuer.mint(bearer).unwrap();
        Self { pki, issuer, fts, clock, http, bearer, stop, _folder: folder }
    }

    /// A token of the issuer for this audience.
    fn token(&self, audience: &str, scope: &str) -> String {
        self.issuer.mint(json!({"aud": audience, "scope": scope})).unwrap().expose().to_owned()
    }

    #[expect(clippy::disallowed_methods, reason = "a test of the server's own answers")]
    async fn call(
        &self,
        method: Method,
        path: &str,
        token: Option<&str>,
        body: Option<String>,
    ) -> (u16, String) {
        let mut request = self.http.request(method, format!("{}{path}", self.fts.url()));
        if let Some(token) = token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        if let Some(body) = body {
            request = request.header("Content-Type", "application/json").body(body);
        }
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    }

    /// A call with the bearer, and its JSON.
    async fn json(&self, method: Method, path: &str, body: Option<Value>) -> (u16, Value) {
        let body = body.map(|body| body.to_string());
        let (status, text) = self.call(method, path, Some(self.bearer.expose()), body).await;
        (status, serde_json::from_str(&text).unwrap_or(Value::Null))
    }

    /// Submits, and gives the job's id.
    async fn submit(&self, body: Value) -> String {
        let (status, answer) = self.json(Method::POST, "/jobs", Some(body)).await;
        assert_eq!(status, 200, "{answer}");
        answer["job_id"].as_str().unwrap().to_owned()
    }

    async fn job(&self, id: &str) -> Value {
        let fields = "file_id,file_state,file_state_initial,reason,recoverable,src_token_id,dst_token_id,filesize,retry";
        self.json(Method::GET, &format!("/jobs/{id}?files={fields},wibble"), None).await.1
    }

    async fn execute(&self, sql: &'static str, values: &[&str]) {
        let mut write = self.fts.inner.database.write().await.unwrap();
        let mut query = super::sql::statement(sql);
        for value in values {
            query = query.bind(*value);
        }
        query.execute(&mut write).await.unwrap();
        write.commit().await.unwrap();
    }
}

/// One file with this member set or, by null, taken away; and these params.
fn job(change: &Value, params: &Value, token: &str) -> Value {
    let mut file = json!({
        "sources": [SOURCE], "destinations": [DESTINATION], "source_tokens": [token], "destination_tokens": [token],
    });
    for (name, value) in change.as_object().unwrap() {
        file[name] = value.clone();
    }
    file.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    json!({"files": [file], "params": params})
}
