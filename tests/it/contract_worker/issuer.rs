//! The issuer of a recording, played from its script: plain HTTP on a loopback port, so that a connection can be closed at will.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result};
use serde_json::{Map, Value, json};
use testbed::mint::SigningKey;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use url::form_urlencoded;

use super::recording::{Recording, Response, Row, label, text};
use super::script::{Reply, Script};

/// A token exchange that was asked for.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// Label of the subject token.
    pub(crate) subject: String,
    pub(crate) scope: String,
    pub(crate) audience: String,
    /// The access token that was given.
    pub(crate) given: Option<String>,
}

/// A refresh that was asked for.
#[derive(Clone, Debug)]
pub(crate) struct Refreshed {
    /// The refresh token that was used.
    pub(crate) used: String,
    /// The access and the refresh token that were given.
    pub(crate) given: Option<(String, Option<String>)>,
}

/// A running issuer.
pub(crate) struct Issuer {
    pub(crate) name: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    refreshed: Arc<Mutex<Vec<Refreshed>>>,
    /// Whether it refreshes what it refused to before.
    mended: Arc<AtomicBool>,
    serving: Option<JoinHandle<()>>,
}

/// Mints the tokens of a recording.
pub(crate) struct Mint {
    key: SigningKey,
    issuer: String,
    /// Seconds from the recording to now.
    shift: i64,
    now: i64,
}

impl Mint {
    /// A token with recorded claims, as it would be today.
    fn today(&self, claims: &Row) -> Result<String> {
        let mut claims = claims.clone();
        for name in ["exp", "nbf", "iat"] {
            if let Some(at) = claims.get(name).and_then(Value::as_i64) {
                claims.insert(name.into(), json!(at + self.shift));
            }
        }
        let slash = claims.get("iss").and_then(Value::as_str).is_none_or(|iss| iss.ends_with('/'));
        let issuer = if slash { &self.issuer } else { self.issuer.trim_end_matches('/') };
        claims.insert("iss".into(), json!(issuer));
        self.key.sign(&Value::Object(claims))
    }

    fn granted(&self, audience: &str, scope: &str) -> Result<String> {
        let audiences: Vec<&str> = audience.split(' ').collect();
        let audience = if let [one] = audiences.as_slice() { json!(one) } else { json!(audiences) };
        let (nbf, exp) = (self.now - 60, self.now + 3600);
        self.key.sign(&json!({
            "iss": self.issuer, "sub": "rucio-client", "aud": audience, "scope": scope, "wlcg.ver": "1.0",
            "jti": token_core::random_hex(), "iat": self.now, "nbf": nbf, "exp": exp,
        }))
    }
}

/// Status, headers, body.
type Answer = (u16, Vec<(String, String)>, String);

struct Served {
    script: Script,
    recording: Arc<Recording>,
    mint: Mint,
    /// The tokens of the recording, by the label.
    subjects: BTreeMap<String, String>,
    asked: Arc<Mutex<Vec<Asked>>>,
    refreshed: Arc<Mutex<Vec<Refreshed>>>,
    mended: Arc<AtomicBool>,
}

impl Issuer {
    /// Starts the issuer of `recording`; returns also the recording's tokens as they would be today.
    pub(crate) async fn start(
        recording: Arc<Recording>,
        script: Script,
        now: i64,
    ) -> Result<(Self, BTreeMap<String, String>)> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let name = format!("http://{}/", listener.local_addr()?);
        let key = SigningKey::es256("k")?;
        let mint = Mint { key, issuer: name.clone(), shift: now - recording.recorded_at, now };
        let today = |(label, token): (&String, &super::recording::Token)| {
            Ok((label.clone(), mint.today(&token.claims)?))
        };
        let subjects: BTreeMap<String, String> = recording.tokens.iter().map(today).collect::<Result<_>>()?;
        let (asked, refreshed) = (Arc::<Mutex<_>>::default(), Arc::<Mutex<_>>::default());
        let mended = Arc::<AtomicBool>::default();
        let issuer = |serving| {
            let (asked, refreshed, mended) =
                (Arc::clone(&asked), Arc::clone(&refreshed), Arc::clone(&mended));
            Self { name: name.clone(), asked, refreshed, mended, serving }
        };
        if script.down {
            return Ok((issuer(None), subjects));
        }
        let served = Arc::new(Served {
            script,
            recording,
            mint,
            subjects: subjects.clone(),
            asked: Arc::clone(&asked),
            refreshed: Arc::clone(&refreshed),
            mended: Arc::clone(&mended),
        });
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let served = Arc::clone(&served);
                // A connection that fails is one that is closed.
                tokio::spawn(async move { served.answer(stream).await.ok() });
            }
        });
        Ok((issuer(Some(serving)), subjects))
    }

    /// The refreshes that were asked for.
    pub(crate) fn refreshed(&self) -> Vec<Refreshed> {
        self.refreshed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// From now on it refreshes whatever it is asked to.
    pub(crate) fn mend(&self) {
        self.mended.store(true, Ordering::Relaxed);
    }

    /// What was asked of the token endpoint.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Issuer {
    fn drop(&mut self) {
        if let Some(serving) = &self.serving {
            serving.abort();
        }
    }
}

impl Served {
    /// One request, and the connection is closed.
    async fn answer(&self, mut stream: TcpStream) -> Result<()> {
        let (head, body) = request(&mut stream).await?;
        let answer = match head.split(' ').nth(1) {
            Some("/.well-known/openid-configuration") => {
                let name = &self.mint.issuer;
                let metadata = json!({"issuer": name, "token_endpoint": format!("{name}token"), "jwks_uri": format!("{name}jwks")});
                (200, vec![("content-type".to_owned(), "application/json".to_owned())], metadata.to_string())
            }
            Some("/token") => match self.token(&body)? {
                Some(answer) => answer,
                None => return Ok(()),
            },
            _ => (404, Vec::new(), String::new()),
        };
        let (status, headers, body) = answer;
        let mut text =
            format!("HTTP/1.1 {status} Recorded\r\nconnection: close\r\ncontent-length: {}\r\n", body.len());
        headers.iter().for_each(|(name, value)| text.push_str(&format!("{name}: {value}\r\n")));
        stream.write_all(format!("{text}\r\n{body}").as_bytes()).await?;
        Ok(stream.shutdown().await?)
    }

    /// None: no answer.
    fn token(&self, body: &str) -> Result<Option<Answer>> {
        let form: BTreeMap<_, _> = form_urlencoded::parse(body.as_bytes()).into_owned().collect();
        match form.get("refresh_token") {
            Some(used) => self.refresh(used, &form),
            None => self.exchange(&form),
        }
    }

    fn refresh(&self, used: &str, form: &BTreeMap<String, String>) -> Result<Option<Answer>> {
        let reply = match self.mended.load(Ordering::Relaxed) {
            true => Reply::Granted,
            false => self.script.refreshes.get(used).cloned().unwrap_or(Reply::Granted),
        };
        let field = |name: &str| form.get(name).cloned().unwrap_or_default();
        let json = |body: &Value| {
            (200, vec![("content-type".to_owned(), "application/json".to_owned())], body.to_string())
        };
        let (answer, given) = match reply {
            Reply::Dropped => (None, None),
            Reply::Granted => {
                let token = self.mint.granted(&field("audience"), &field("scope"))?;
                let body = json!({"access_token": token, "token_type": "Bearer", "expires_in": 3600});
                (Some(json(&body)), Some((token, None)))
            }
            Reply::Recorded(response) => {
                let mut body = response.body.clone();
                let label = body.get("access_token").and_then(Value::as_str).and_then(label);
                match label.and_then(|label| self.recording.tokens.get(label)) {
                    None => (Some(plain(&response)), None),
                    Some(token) => {
                        let token = self.mint.today(&token.claims)?;
                        body["access_token"] = json!(token);
                        let next = body.get("refresh_token").and_then(Value::as_str).map(str::to_owned);
                        (Some(json(&body)), Some((token, next)))
                    }
                }
            }
        };
        let refreshed = Refreshed { used: used.to_owned(), given };
        self.refreshed.lock().unwrap_or_else(PoisonError::into_inner).push(refreshed);
        Ok(answer)
    }

    fn exchange(&self, form: &BTreeMap<String, String>) -> Result<Option<Answer>> {
        let field = |name: &str| form.get(name).cloned().unwrap_or_default();
        let (subject, scope, audience) = (field("subject_token"), field("scope"), field("audience"));
        let subject =
            self.subjects.iter().find(|(_, token)| **token == subject).map(|(label, _)| label.clone());
        let subject = subject.context("a subject token of the recording")?;
        let json = |body: Value| {
            (200, vec![("content-type".to_owned(), "application/json".to_owned())], body.to_string())
        };
        let reply = self.script.replies.get(&subject).cloned().unwrap_or(Reply::Granted);
        let (answer, given) = match reply {
            Reply::Dropped => (None, None),
            Reply::Recorded(response) => match self.recorded(&subject, &response, &scope, &audience)? {
                Some((body, token)) => (Some(json(body)), Some(token)),
                None => (Some(plain(&response)), None),
            },
            Reply::Granted => {
                let token = self.mint.granted(&audience, &scope)?;
                let body = json!({"access_token": token, "token_type": "Bearer", "expires_in": 3600, "scope": scope});
                (Some(json(body)), Some(token))
            }
        };
        let asked = Asked { subject, scope, audience, given };
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).push(asked);
        Ok(answer)
    }

    /// A recorded answer with a token, as it would be to our question: without `offline_access` nobody gives a refresh token, and
    /// for another audience another token.
    fn recorded(
        &self,
        subject: &str,
        response: &Response,
        scope: &str,
        audience: &str,
    ) -> Result<Option<(Value, String)>> {
        let Some(placeholder) = response.body.get("access_token").and_then(Value::as_str) else {
            return Ok(None);
        };
        let token = label(placeholder).and_then(|label| self.recording.tokens.get(label));
        let mut claims = token.context("the claims of a token that was given")?.claims.clone();
        let mut body = response.body.as_object().cloned().unwrap_or_default();
        if !scope.split(' ').any(|word| word == "offline_access") {
            body.remove("refresh_token");
            [&mut claims, &mut body].into_iter().for_each(without_offline);
        }
        let asked_before = self.recording.before.subject(subject).and_then(|row| text(row, "audience"));
        let token = match asked_before == Some(audience) {
            true => self.mint.today(&claims)?,
            false => self.mint.granted(audience, scope)?,
        };
        body.insert("access_token".into(), json!(token));
        Ok(Some((Value::Object(body), token)))
    }
}

fn without_offline(object: &mut Map<String, Value>) {
    if let Some(scope) = object.get("scope").and_then(Value::as_str) {
        let rest: Vec<&str> = scope.split(' ').filter(|word| *word != "offline_access").collect();
        let rest = json!(rest.join(" "));
        object.insert("scope".into(), rest);
    }
}

/// A recorded answer without a token, word for word.
fn plain(response: &Response) -> Answer {
    let body = match &response.body {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let framing = ["content-length", "connection", "transfer-encoding", "keep-alive"];
    let headers =
        response.headers.iter().filter(|(name, _)| !framing.contains(&name.to_lowercase().as_str()));
    (response.status.unwrap_or(500), headers.map(|(n, v)| (n.clone(), v.clone())).collect(), body)
}

/// Reads one request: its first line, and its body.
async fn request(stream: &mut TcpStream) -> Result<(String, String)> {
    let (mut bytes, mut piece) = (Vec::new(), [0; 4096]);
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
            });
            if body.len() >= length.unwrap_or(0) {
                return Ok((head.lines().next().unwrap_or_default().to_owned(), body.to_owned()));
            }
        }
        let read = stream.read(&mut piece).await?;
        anyhow::ensure!(read > 0, "the request broke off");
        bytes.extend_from_slice(&piece[..read]);
    }
}
