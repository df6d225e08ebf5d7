//! The vectors of the profile: which scope allows what on which path, and which claims a resource must take or refuse.
//!
//! `TOKEN_VECTORS` names another folder with `scope-path.json` and `claims.json`. Prints `vectors: passed/total` and every case
//! that did not pass with its id and section.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use aws_lc_rs::encoding::AsDer as _;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey};
use serde::Deserialize;
use serde_json::{Value, json};
use token_core::{
    Action, ClaimsError, Compute, KeySet, Policy, Profile, ScopeSet, StoragePath, UnixSeconds, VerifyError,
    verify,
};

#[derive(Deserialize)]
struct Vectors<T> {
    cases: Vec<T>,
}

#[derive(Deserialize)]
struct ScopeCase {
    id: String,
    scope: String,
    op: String,
    path: Option<String>,
    allowed: bool,
    profiles: Vec<String>,
    #[serde(rename = "ref")]
    section: String,
    dst: Option<String>,
    #[serde(default)]
    dst_exists: bool,
    site_prefix: Option<String>,
    may: Option<String>,
}

#[derive(Deserialize)]
struct ClaimsCase {
    id: String,
    name: String,
    header: Value,
    claims: Value,
    expect: Expect,
    profiles: Vec<String>,
    result: String,
    #[serde(rename = "ref")]
    section: String,
    may: Option<String>,
}

#[derive(Deserialize)]
struct Expect {
    issuers: Vec<String>,
    audiences: Vec<String>,
    now: i64,
    jwks_kids: Vec<String>,
}

#[expect(clippy::print_stdout, reason = "a test target with its own report")]
fn main() -> ExitCode {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    let folder = std::env::var_os("TOKEN_VECTORS").map_or(own, PathBuf::from);
    let mut report = Report::default();
    scope_path(&read(&folder.join("scope-path.json")), &mut report);
    claims(&read(&folder.join("claims.json")), &mut report);
    for failure in &report.failures {
        println!("  {failure}");
    }
    let (failed, total) = (report.failures.len(), report.total);
    println!("vectors: {}/{total}", total - failed);
    println!("{} passed, {failed} failed", total - failed);
    if failed == 0 && total > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[derive(Default)]
struct Report {
    total: usize,
    failures: Vec<String>,
}

impl Report {
    /// Counts a case; it passes when it has nothing to say.
    fn case(&mut self, id: &str, section: &str, wrong: Vec<String>) {
        self.total += 1;
        if !wrong.is_empty() {
            self.failures.push(format!("{id} (section {section}): {}", wrong.join("; ")));
        }
    }
}

#[expect(clippy::panic, reason = "without vectors there is no test")]
fn read<T: for<'a> Deserialize<'a>>(path: &Path) -> Vec<T> {
    let text = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let vectors: Vectors<T> =
        serde_json::from_slice(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    vectors.cases
}

fn scope_path(cases: &[ScopeCase], report: &mut Report) {
    for case in cases {
        let wrong = |profile: &String| {
            let allowed = Profile::parse(profile).is_some_and(|profile| allowed(case, profile));
            let differs = allowed != case.allowed && case.may.is_none();
            differs.then(|| format!("`{}` {} {:?} by {profile}: {allowed}", case.scope, case.op, case.path))
        };
        report.case(&case.id, &case.section, case.profiles.iter().filter_map(wrong).collect());
    }
}

/// Whether our answer is yes; a scope that is refused as a whole allows nothing.
fn allowed(case: &ScopeCase, profile: Profile) -> bool {
    let Ok(scopes) = ScopeSet::parse(&case.scope) else { return false };
    let job = |compute| scopes.permit(Action::Job(compute), profile).is_ok();
    match case.op.as_str() {
        "job.read" => return job(Compute::Read),
        "job.modify" => return job(Compute::Modify),
        "job.create" => return job(Compute::Create),
        "job.cancel" => return job(Compute::Cancel),
        _ => (),
    }
    let base = case.site_prefix.as_deref().unwrap_or("/");
    let place = |text: &str| StoragePath::from_request(text).ok()?.below(&StoragePath::parse(base).ok()?);
    let Some(path) = case.path.as_deref().and_then(place) else { return false };
    let to = case.dst.as_deref().and_then(place);
    let action = match case.op.as_str() {
        "read" => Action::Read(&path),
        "stat" => Action::Stat(&path),
        "create" => Action::Create(&path),
        "mkdir" => Action::MakeDirectory(&path),
        "overwrite" | "truncate" => Action::Overwrite(&path),
        "delete" => Action::Delete(&path),
        "rename" => match &to {
            Some(to) => Action::Rename { from: &path, to, replaces: case.dst_exists },
            None => return false,
        },
        "stage" | "cancel" | "evict" | "pin" => Action::Stage(&path),
        "poll" => Action::Poll(&path),
        _ => return false,
    };
    scopes.permit(action, profile).is_ok()
}

fn claims(cases: &[ClaimsCase], report: &mut Report) {
    let signer = Signer::new();
    for case in cases {
        let wrong = case.profiles.iter().filter_map(|profile| {
            let result =
                Profile::parse(profile).map_or_else(|| "no such profile".into(), |p| signer.result(case, p));
            let good = result == case.result || (case.may.is_some() && result == "accept");
            (!good).then(|| format!("{}: {result} by {profile}, not {}", case.name, case.result))
        });
        report.case(&case.id, &case.section, wrong.collect());
    }
}

/// Signs every case, so that the signature is good unless the header says otherwise.
struct Signer {
    rs256: EncodingKey,
    es256: EncodingKey,
}

impl Signer {
    #[expect(clippy::unwrap_used, reason = "without keys there is no test")]
    fn new() -> Self {
        use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
        let rsa = aws_lc_rs::rsa::KeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048).unwrap();
        let pkcs8: aws_lc_rs::encoding::Pkcs8V1Der<'_> = rsa.as_der().unwrap();
        // PKCS#8 of a 2048-bit key: 26 bytes of wrapping, then the RSAPrivateKey that jsonwebtoken wants.
        let rs256 = EncodingKey::from_rsa_der(&pkcs8.as_ref()[26..]);
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let es256 = EncodingKey::from_ec_der(pair.to_pkcs8v1().unwrap().as_ref());
        Self { rs256, es256 }
    }

    #[expect(clippy::unwrap_used, reason = "without keys there is no test")]
    fn result(&self, case: &ClaimsCase, profile: Profile) -> String {
        let (algorithm, key) = match case.header.get("alg").and_then(Value::as_str) {
            Some("ES256") => (Algorithm::ES256, &self.es256),
            _ => (Algorithm::RS256, &self.rs256),
        };
        let keys = case.expect.jwks_kids.iter().map(|kid| {
            let mut jwk = Jwk::from_encoding_key(key, algorithm).unwrap();
            jwk.common.key_id = Some(kid.clone());
            jwk
        });
        let keys = json!({ "keys": keys.collect::<Vec<_>>() });
        let keys = KeySet::parse(keys.to_string().as_bytes()).unwrap();
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(&case.header), part(&case.claims));
        let signature = jsonwebtoken::crypto::sign(signed.as_bytes(), key, algorithm).unwrap();
        let policy = Policy {
            issuers: case.expect.issuers.clone(),
            any_audience: true,
            profile,
            ..Policy::new("", case.expect.audiences.clone())
        };
        match verify(&format!("{signed}.{signature}"), &keys, &policy, UnixSeconds(case.expect.now)) {
            Ok(_) => "accept".into(),
            Err(error) => class(&error),
        }
    }
}

/// Our error in the words of the vectors.
fn class(error: &VerifyError) -> String {
    match error {
        VerifyError::Algorithm => "alg".into(),
        VerifyError::Critical => "crit".into(),
        VerifyError::NoKeyId | VerifyError::UnknownKey => "kid".into(),
        VerifyError::Issuer => "issuer".into(),
        VerifyError::Audience => "audience".into(),
        VerifyError::Expired => "expired".into(),
        VerifyError::NotYet => "not-yet-valid".into(),
        VerifyError::Lifetime => "lifetime".into(),
        VerifyError::Version => "version".into(),
        VerifyError::Claims(ClaimsError::Missing(name)) => format!("missing:{name}"),
        VerifyError::Claims(ClaimsError::Type(name)) => format!("type:{name}"),
        VerifyError::Claims(ClaimsError::Subject) => "sub".into(),
        VerifyError::Claims(ClaimsError::Group) => "group".into(),
        VerifyError::Claims(ClaimsError::Scope(_)) => "scope-path".into(),
        other => other.to_string(),
    }
}
