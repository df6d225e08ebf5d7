//! The commands that look at a token.

use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use token_core::http::{self, HttpSettings};
use token_core::{
    Action, Claims, Clock, Found, Issuer, IssuerKeys, KeysError, Places, Policy, Profile, Scope, StoragePath,
    SystemClock, UnixSeconds,
};

use super::{Failure, Which};

/// Arguments of `verify`.
#[derive(Args)]
pub(super) struct Verify {
    #[command(flatten)]
    which: Which,
    /// The issuer to trust, exactly as in `iss`: a slash at the end counts.
    #[arg(long)]
    issuer: String,
    /// Let the issuer be plain http on a loopback address.
    #[arg(long)]
    plain_http_on_loopback: bool,
    /// Take EdDSA signatures too, which the profile does not know.
    #[arg(long)]
    eddsa: bool,
    /// A name of the resource that the token is for; may be given several times.
    #[arg(long, required = true)]
    audience: Vec<String>,
    /// Take the any-audience of the profile too.
    #[arg(long)]
    any_audience: bool,
    /// The version of the profile that the resource implements: 1.0 to 1.3.
    #[arg(long, default_value = "1.3", value_parser = profile)]
    profile: Profile,
    /// A PEM file of certificate authorities to trust instead of the system's.
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
}

/// Arguments of `show`.
#[derive(Args)]
pub(super) struct Show {
    #[command(flatten)]
    which: Which,
    /// Show the signature too. Who reads it there has the whole token.
    #[arg(long)]
    signature: bool,
}

/// Arguments of `can`.
#[derive(Args)]
pub(super) struct Can {
    /// What is to be done.
    operation: Operation,
    /// On which path.
    path: String,
    #[command(flatten)]
    which: Which,
    /// The path that the storage gives to the issuer; scopes are relative to it.
    #[arg(long, default_value = "/")]
    base_path: String,
    /// The version of the profile that the resource implements: 1.0 to 1.3.
    #[arg(long, default_value = "1.3", value_parser = profile)]
    profile: Profile,
}

#[derive(Clone, Copy, ValueEnum)]
enum Operation {
    Read,
    Stat,
    Create,
    Mkdir,
    Overwrite,
    Delete,
    Stage,
    Poll,
}

fn profile(text: &str) -> Result<Profile, String> {
    Profile::parse(text).ok_or_else(|| "there are 1.0, 1.1, 1.2 and 1.3".to_owned())
}

/// `discover`.
pub(super) fn discover(as_json: bool) -> Result<String, Failure> {
    let Found { token, place } = Places::from_environment().discover().map_err(Failure::usage)?;
    let fingerprint = token.fingerprint();
    Ok(match as_json {
        true => line(&json!({"place": place, "fingerprint": fingerprint.as_str()})),
        false => format!("{place}\nfingerprint {fingerprint}\n"),
    })
}

/// `show`.
pub(super) fn show(arguments: &Show, as_json: bool) -> Result<String, Failure> {
    let Found { token, place } = arguments.which.token()?;
    let claims = Claims::peek(&token).map_err(Failure::usage)?;
    let signature = token.expose().rsplit('.').next().filter(|_| arguments.signature);
    let now = SystemClock.now();
    if as_json {
        let mut shown = describe(&claims);
        if let Some(signature) = signature {
            shown["signature"] = json!(signature);
        }
        return Ok(line(&shown));
    }
    let mut rows = vec![
        ("token", format!("{} from {place}", token.fingerprint())),
        ("issuer", claims.iss.clone()),
        ("subject", claims.sub.clone().unwrap_or_else(|| "none, which the profile asks for".into())),
        (
            "audience",
            if claims.aud.is_empty() { "none: no resource may take it".into() } else { claims.aud.join(" ") },
        ),
        ("profile", claims.version.clone().unwrap_or_else(|| "none: not a WLCG token".into())),
        ("expires", when(claims.exp, now)),
    ];
    rows.extend(claims.nbf.map(|nbf| ("not before", when(nbf, now))));
    rows.extend(claims.jti.clone().map(|jti| ("id", jti)));
    match claims.scopes() {
        Ok(scopes) => rows.extend(scopes.iter().map(|scope| ("allows", in_words(scope)))),
        Err(error) => rows.push(("scope", format!("refused as a whole: {error}"))),
    }
    let counts = claims.effective_groups().is_ok_and(|groups| !groups.is_empty());
    let note = if counts { "" } else { " (does not count: the token has capabilities)" };
    rows.extend(claims.groups.iter().map(|group| ("group", format!("{group}{note}"))));
    let mut text: String =
        rows.iter().map(|(name, value)| format!("{name:<11}{}\n", http::printable(value))).collect();
    if let Some(signature) = signature {
        text.push_str(&format!("signature  {signature}\n"));
    }
    Ok(text)
}

/// `verify`.
pub(super) async fn verify(arguments: &Verify, as_json: bool) -> Result<String, Failure> {
    let Found { token, .. } = arguments.which.token()?;
    let issuer = match arguments.plain_http_on_loopback {
        true => Issuer::on_loopback(arguments.issuer.as_str()),
        false => Issuer::new(arguments.issuer.as_str()),
    };
    let issuer = issuer.map_err(|error| Failure::usage(format!("--issuer: {error}")))?;
    let settings = HttpSettings { ca_file: arguments.ca_file.clone(), ..HttpSettings::default() };
    let client = http::client(&settings).map_err(Failure::usage)?;
    let keys = IssuerKeys::new(issuer, client, Arc::new(SystemClock));
    let policy = Policy {
        any_audience: arguments.any_audience,
        profile: arguments.profile,
        eddsa: arguments.eddsa,
        ..Policy::new(arguments.issuer.clone(), arguments.audience.clone())
    };
    match keys.verify(token.expose(), &policy).await {
        Ok(claims) if as_json => Ok(line(&json!({"valid": true, "claims": describe(&claims)}))),
        Ok(claims) => Ok(format!("valid: expires {}\n", when(claims.exp, SystemClock.now()))),
        Err(KeysError::Token(error)) => Err(Failure::refused(format!("not valid: {error}"))),
        Err(error) => Err(Failure::refused(error)),
    }
}

/// `can`.
pub(super) fn can(arguments: &Can, as_json: bool) -> Result<String, Failure> {
    let Found { token, .. } = arguments.which.token()?;
    let claims = Claims::peek(&token).map_err(Failure::usage)?;
    let base = StoragePath::parse(&arguments.base_path)
        .map_err(|error| Failure::usage(format!("--base-path: {error}")))?;
    let path = StoragePath::from_request(&arguments.path)
        .map_err(|error| Failure::usage(format!("PATH: {error}")))?;
    let path = path.below(&base).ok_or_else(|| {
        Failure::refused(format!(
            "no: {} is not below {}, which the storage gives to the issuer",
            path, arguments.base_path
        ))
    })?;
    let scopes = claims
        .scopes()
        .map_err(|error| Failure::refused(format!("no: the token is refused as a whole: {error}")))?;
    let action = match arguments.operation {
        Operation::Read => Action::Read(&path),
        Operation::Stat => Action::Stat(&path),
        Operation::Create => Action::Create(&path),
        Operation::Mkdir => Action::MakeDirectory(&path),
        Operation::Overwrite => Action::Overwrite(&path),
        Operation::Delete => Action::Delete(&path),
        Operation::Stage => Action::Stage(&path),
        Operation::Poll => Action::Poll(&path),
    };
    scopes.permit(action, arguments.profile).map_err(|denied| Failure::refused(format!("no: {denied}")))?;
    if claims.exp <= SystemClock.now() {
        return Err(Failure::refused("no: the token has expired"));
    }
    Ok(if as_json { line(&json!({"allowed": true})) } else { "yes\n".to_owned() })
}

fn describe(claims: &Claims) -> Value {
    json!({"iss": claims.iss, "sub": claims.sub, "aud": claims.aud, "exp": claims.exp, "nbf": claims.nbf, "iat": claims.iat,
        "jti": claims.jti, "wlcg.ver": claims.version, "scope": claims.scope, "wlcg.groups": claims.groups})
}

fn in_words(scope: &Scope) -> String {
    use token_core::Operation::{Create, Modify, Poll, Read, Stage};
    match scope {
        Scope::Storage(operation, path) => {
            let what = match operation {
                Read => "read",
                Create => "make new files and directories",
                Modify => "make, replace, rename and delete",
                Stage => "bring from tape",
                Poll => "ask whether a file is on disk",
                other => other.name(),
            };
            format!("{what}: {path} and below")
        }
        other => other.to_string(),
    }
}

/// Seconds since the epoch, and how far off that is.
fn when(time: UnixSeconds, now: UnixSeconds) -> String {
    let far = if time > now { now.until(time) } else { time.until(now) }.as_secs();
    let far = match far {
        0..=119 => format!("{far} s"),
        120..=7199 => format!("{} min", far / 60),
        7200..=172_799 => format!("{} h", far / 3600),
        _ => format!("{} d", far / 86_400),
    };
    if time > now { format!("in {far} ({})", time.0) } else { format!("{far} ago ({})", time.0) }
}

fn line(value: &Value) -> String {
    format!("{value}\n")
}
